//! `rename`: gives fields other names.

use std::collections::BTreeMap;

use serde::Deserialize;
use tokio::time::Instant;

use super::fields::{Field, Fields};
use super::record::Record;
use super::{Example, Manual, Operator, Options, Verdict};
use crate::values::Problem;

pub(super) const MANUAL: Manual = Manual {
    name: "rename",
    takes: "table, old name = new name",
    does: "renames fields; they stay where they are, and replace a field that already has the new name",
    options: None,
    example: Example {
        file: "[[transform]]\nrename = { msg = \"message\" }",
        input: r#"{"msg":"x","level":"info"}"#,
        output: r#"{"message":"x","level":"info"}"#,
    },
};

/// The new name of each.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Rename(BTreeMap<String, String>);

impl Options for Rename {
    fn build(&self, fields: &mut Fields) -> Result<Box<dyn Operator>, Problem> {
        if self.0.is_empty() {
            return Err(Problem::new("names no field", "name one, or leave the stage out"));
        }
        let mut pairs = Vec::new();
        for (from, to) in &self.0 {
            let is_twice = self.0.values().filter(|other| *other == to).count() > 1;
            if is_twice || self.0.contains_key(to) {
                let what = format!("gives {to:?} to one field and takes it from another");
                let help = "rename one of them in a [[transform]] of its own, before or after this one";
                return Err(Problem::new(what, help));
            }
            pairs.push((fields.add(from)?, fields.add(to)?));
        }
        Ok(Box::new(RenameFields(pairs)))
    }
}

struct RenameFields(Vec<(Field, Field)>);

impl Operator for RenameFields {
    fn apply(&mut self, _now: Instant, record: &mut Record<'_>) -> Verdict {
        for (from, to) in &self.0 {
            record.rename(*from, *to);
        }
        Verdict::Keep
    }
}
