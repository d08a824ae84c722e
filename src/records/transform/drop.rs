//! `drop`: takes the fields out that it names.

use serde::Deserialize;
use tokio::time::Instant;

use super::keep::some;
use super::fields::{Field, Fields};
use super::record::Record;
use super::{Example, Manual, Operator, Options, Verdict};
use crate::values::Problem;

pub(super) const MANUAL: Manual = Manual {
    name: "drop",
    takes: "table, `fields` = list of names",
    does: "removes these fields",
    options: None,
    example: Example {
        file: "[[transform]]\ndrop = { fields = [\"password\"] }",
        input: r#"{"user":"ann","password":"x"}"#,
        output: r#"{"user":"ann"}"#,
    },
};

/// The names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drop {
    fields: Vec<String>,
}

impl Options for Drop {
    fn build(&self, fields: &mut Fields) -> Result<Box<dyn Operator>, Problem> {
        Ok(Box::new(DropFields(some(&self.fields, fields)?)))
    }
}

struct DropFields(Vec<Field>);

impl Operator for DropFields {
    fn apply(&mut self, _now: Instant, record: &mut Record<'_>) -> Verdict {
        for field in &self.0 {
            record.remove(*field);
        }
        Verdict::Keep
    }
}
