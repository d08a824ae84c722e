//! Old names in files. Each means the same as its new name, with a warning.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::explain::Explained;

/// A key of a section: its old name and its new one.
const KEYS: [(&str, &str, &str); 1] = [("runtime", "flavour", "kind")];

/// A value of a key: its old name and its new one.
const VALUES: [(&str, &str, &str, &str); 4] = [
    ("write", "delivery", "must", "durable"),
    ("write", "delivery", "newest", "latest"),
    ("reply", "delivery", "must", "durable"),
    ("reply", "delivery", "newest", "latest"),
];

/// Replaces old names, and returns a warning for each. If a table has both names of a key, the old one stays and is an
/// unknown key.
pub(super) fn modernize(document: &mut DeTable<'_>) -> Vec<Explained> {
    let mut warnings = Vec::new();
    for (section, value) in document.iter_mut() {
        let section = section.get_ref().to_string();
        match value.get_mut() {
            DeValue::Table(table) => modernize_section(&section, table, &mut warnings),
            DeValue::Array(list) => {
                for item in list.iter_mut() {
                    if let DeValue::Table(table) = item.get_mut() {
                        modernize_section(&section, table, &mut warnings);
                    }
                }
            }
            _ => {}
        }
    }
    warnings
}

fn modernize_section(section: &str, table: &mut DeTable<'_>, warnings: &mut Vec<Explained>) {
    for (_, old, new) in KEYS.into_iter().filter(|(of, ..)| *of == section) {
        if table.contains_key(new) {
            continue;
        }
        if let Some((key, value)) = table.remove_entry(old) {
            warnings.push(renamed(key.span(), old, new));
            table.insert(Spanned::new(key.span(), Cow::Borrowed(new)), value);
        }
    }
    for (_, key, old, new) in VALUES.into_iter().filter(|(of, ..)| *of == section) {
        let Some(value) = table.get_mut(key) else { continue };
        let span = value.span();
        if let DeValue::String(word) = value.get_mut()
            && word == old
        {
            *word = Cow::Borrowed(new);
            warnings.push(renamed(span, old, new));
        }
    }
}

fn renamed(span: std::ops::Range<usize>, old: &str, new: &str) -> Explained {
    Explained {
        span,
        message: format!("\"{old}\" is the old name of \"{new}\""),
        help: Some(format!("write {new:?}; the old name means the same")),
    }
}
