//! `sample`: lets one in so many records on.

use serde::Deserialize;
use tokio::time::Instant;

use super::fields::{Field, Fields};
use super::record::Record;
use super::{Example, Manual, Operator, Options, Verdict, key_of};
use crate::values::{Count, Problem};

pub(super) const MANUAL: Manual = Manual {
    name: "sample",
    takes: "table, `one_in` = number, `by` = field",
    does: "passes one in `one_in` records, the first of each; with `by`, all or none of those with the same value there, the same ones on every machine. The others are counted as `sampled`",
    options: None,
    example: Example {
        file: "[[transform]]\nsample = { one_in = 2 }",
        input: "{\"n\":1}\n{\"n\":2}\n{\"n\":3}",
        output: "{\"n\":1}\n{\"n\":3}",
    },
};

/// How many.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    one_in: Count,
    by: Option<String>,
}

impl Options for Sample {
    fn build(&self, fields: &mut Fields) -> Result<Box<dyn Operator>, Problem> {
        let by = self.by.as_ref().map(|name| fields.add(name)).transpose()?;
        let (key, text) = (Vec::new(), Vec::new());
        Ok(Box::new(Sampled { one_in: self.one_in.get(), seen: 0, by, key, text }))
    }
}

struct Sampled {
    one_in: u32,
    /// Since the last one that went on.
    seen: u32,
    by: Option<Field>,
    key: Vec<u8>,
    text: Vec<u8>,
}

impl Operator for Sampled {
    fn apply(&mut self, _now: Instant, record: &mut Record<'_>) -> Verdict {
        let goes_on = match self.by {
            Some(field) => {
                key_of(record, &[field], &mut self.key, &mut self.text);
                crc32fast::hash(&self.key).is_multiple_of(self.one_in)
            }
            None => {
                let nth = self.seen;
                self.seen = (nth + 1) % self.one_in;
                nth == 0
            }
        };
        if goes_on { Verdict::Keep } else { Verdict::Discard("sampled") }
    }
}
