//! `dedupe`: drops records like one that came a short time before.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::keep::some;
use super::fields::{Field, Fields};
use super::record::Record;
use super::{Example, Manual, Operator, Options, Verdict, key_of};
use crate::values::{Period, Problem};

/// Records that are remembered; beyond them the oldest is forgotten early.
pub(crate) const DEDUPE_KEYS_MAX: usize = 16_384;

pub(super) const MANUAL: Manual = Manual {
    name: "dedupe",
    takes: "table, `by` = list of fields, `within` = time",
    does: "drops a record whose fields `by` equal those of one that passed less than `within` before; it is counted as `duplicate`. The last 16,384 are remembered",
    options: None,
    example: Example {
        file: "[[transform]]\ndedupe = { by = [\"unit\", \"msg\"], within = \"10s\" }",
        input: "{\"unit\":\"a\",\"msg\":\"x\",\"n\":1}\n{\"unit\":\"a\",\"msg\":\"x\",\"n\":2}\n{\"unit\":\"b\",\"msg\":\"x\",\"n\":3}",
        output: "{\"unit\":\"a\",\"msg\":\"x\",\"n\":1}\n{\"unit\":\"b\",\"msg\":\"x\",\"n\":3}",
    },
};

/// What is compared, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dedupe {
    by: Vec<String>,
    within: Period,
}

impl Options for Dedupe {
    fn build(&self, fields: &mut Fields) -> Result<Box<dyn Operator>, Problem> {
        Ok(Box::new(Deduped {
            by: some(&self.by, fields)?,
            within: self.within.get(),
            state: RandomState::new(),
            seen: HashSet::new(),
            order: VecDeque::new(),
            key: Vec::new(),
            text: Vec::new(),
        }))
    }
}

/// Keys are remembered by a hash of 64 bits with a secret: among 16,384 two are the same once in 10^11 records.
struct Deduped {
    by: Vec<Field>,
    within: Duration,
    state: RandomState,
    seen: HashSet<u64>,
    /// Oldest first.
    order: VecDeque<(Instant, u64)>,
    key: Vec<u8>,
    text: Vec<u8>,
}

impl Operator for Deduped {
    fn apply(&mut self, now: Instant, record: &mut Record<'_>) -> Verdict {
        while let Some((when, hash)) = self.order.front().copied() {
            let is_old = now.saturating_duration_since(when) >= self.within;
            if !is_old && self.order.len() < DEDUPE_KEYS_MAX {
                break;
            }
            self.order.pop_front();
            self.seen.remove(&hash);
        }
        key_of(record, &self.by, &mut self.key, &mut self.text);
        let hash = self.state.hash_one(&self.key);
        if !self.seen.insert(hash) {
            return Verdict::Discard("duplicate");
        }
        self.order.push_back((now, hash));
        Verdict::Keep
    }
}
