//! `tags`: puts fixed fields on each record.

use std::collections::BTreeMap;

use serde::Deserialize;
use tokio::time::Instant;

use super::fields::{Field, Fields, Member};
use super::record::Record;
use super::{Example, Manual, Operator, Options, Verdict};
use crate::values::Problem;

pub(super) const MANUAL: Manual = Manual {
    name: "tags",
    takes: "table of texts",
    does: "sets fixed fields, and replaces fields of the same name",
    options: None,
    example: Example {
        file: "[[transform]]\ntags = { site = \"lab-1\" }",
        input: r#"{"level":"info"}"#,
        output: r#"{"level":"info","site":"lab-1"}"#,
    },
};

/// The fields, by name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Tags(BTreeMap<String, String>);

impl Options for Tags {
    fn build(&self, fields: &mut Fields) -> Result<Box<dyn Operator>, Problem> {
        let mut set = Vec::new();
        for (name, text) in &self.0 {
            let field = fields.add(name)?;
            set.push((field, fields.constant(field, text)));
        }
        Ok(Box::new(SetFields(set)))
    }
}

struct SetFields(Vec<(Field, Member)>);

impl Operator for SetFields {
    fn apply(&mut self, _now: Instant, record: &mut Record<'_>) -> Verdict {
        for (field, member) in &self.0 {
            record.put(*field, *member);
        }
        Verdict::Keep
    }
}
