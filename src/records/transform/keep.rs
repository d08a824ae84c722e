//! `keep`: leaves only the fields that it names.

use serde::Deserialize;
use tokio::time::Instant;

use super::fields::{Field, Fields};
use super::record::Record;
use super::{Example, Manual, Operator, Options, Verdict};
use crate::values::Problem;

pub(super) const MANUAL: Manual = Manual {
    name: "keep",
    takes: "table, `fields` = list of names",
    does: "keeps only these fields, in their order in the record",
    options: None,
    example: Example {
        file: "[[transform]]\nkeep = { fields = [\"level\", \"text\"] }",
        input: r#"{"text":"x","user":{"id":7},"level":"info"}"#,
        output: r#"{"text":"x","level":"info"}"#,
    },
};

/// The names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    fields: Vec<String>,
}

impl Options for Keep {
    fn build(&self, fields: &mut Fields) -> Result<Box<dyn Operator>, Problem> {
        Ok(Box::new(KeepFields(some(&self.fields, fields)?)))
    }
}

/// The fields of these names.
///
/// # Errors
/// There is no name.
pub(super) fn some(names: &[String], fields: &mut Fields) -> Result<Vec<Field>, Problem> {
    if names.is_empty() {
        return Err(Problem::new("names no field", "name one, or leave the stage out"));
    }
    names.iter().map(|name| fields.add(name)).collect()
}

struct KeepFields(Vec<Field>);

impl Operator for KeepFields {
    fn apply(&mut self, _now: Instant, record: &mut Record<'_>) -> Verdict {
        record.keep(&self.0);
        Verdict::Keep
    }
}
