//! New names for fields of a reading.

use std::collections::BTreeMap;

/// New names for fields of a reading, as a tree: groups, their fields, and the fields within those. The items of a list are
/// named by its name.
///
/// They travel with a reading and change nothing in it: `json-lines` writes them, other formats have names of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renames {
    new_name: Option<String>,
    inner: BTreeMap<String, Renames>,
}

impl Renames {
    /// The field at `path`, such as `disk.mounts.total_bytes`, is named `new_name` from now on.
    pub fn insert(&mut self, path: &str, new_name: &str) {
        let field =
            path.split('.').fold(self, |at, name| at.inner.entry(name.to_owned()).or_default());
        field.new_name = Some(new_name.to_owned());
    }

    /// All of `later` hold, too, and win where both name a field.
    pub fn extend(&mut self, later: &Self) {
        if later.new_name.is_some() {
            self.new_name.clone_from(&later.new_name);
        }
        for (name, inner) in &later.inner {
            self.inner.entry(name.clone()).or_default().extend(inner);
        }
    }

    /// Those of the field `name` of this group or field, and of what is in it.
    pub fn of(&self, name: &str) -> Option<&Self> {
        self.inner.get(name)
    }

    /// The new name; `None` where the field keeps its own.
    pub fn new_name(&self) -> Option<&str> {
        self.new_name.as_deref()
    }
}
