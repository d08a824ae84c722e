//! `throttle`: lets so many records in a time on, by key.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::fields::{Field, Fields};
use super::record::Record;
use super::{Example, Manual, Operator, Options, Verdict, key_of};
use crate::values::{Count, Period, Problem};

/// Keys that are counted apart at the same time; those beyond share one count.
pub(crate) const THROTTLE_KEYS_MAX: usize = 4_096;

pub(super) const MANUAL: Manual = Manual {
    name: "throttle",
    takes: "table, `records` = number, `every` = time, `by` = list of fields",
    does: "passes the first `records` in each period `every`, for each value of the fields `by`; the others are counted as `throttled`. Beyond 4,096 values at a time the rest share one count",
    options: None,
    example: Example {
        file: "[[transform]]\nthrottle = { records = 1, every = \"1s\", by = [\"unit\"] }",
        input: "{\"unit\":\"a\",\"n\":1}\n{\"unit\":\"b\",\"n\":2}\n{\"unit\":\"a\",\"n\":3}",
        output: "{\"unit\":\"a\",\"n\":1}\n{\"unit\":\"b\",\"n\":2}",
    },
};

/// How many, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    records: Count,
    every: Period,
    #[serde(default)]
    by: Vec<String>,
}

impl Options for Throttle {
    fn build(&self, fields: &mut Fields) -> Result<Box<dyn Operator>, Problem> {
        let by = self.by.iter().map(|name| fields.add(name)).collect::<Result<_, _>>()?;
        Ok(Box::new(Throttled {
            records: self.records.get(),
            every: self.every.get(),
            by,
            windows: HashMap::new(),
            shared: None,
            key: Vec::new(),
            text: Vec::new(),
        }))
    }
}

struct Throttled {
    records: u32,
    every: Duration,
    by: Vec<Field>,
    windows: HashMap<Box<[u8]>, Window>,
    /// Of all keys beyond.
    shared: Option<Window>,
    key: Vec<u8>,
    text: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    opened: Instant,
    count: u32,
}

impl Window {
    /// Counts one more; returns whether it is one of the first `records`.
    fn takes(&mut self, now: Instant, every: Duration, records: u32) -> bool {
        if now.saturating_duration_since(self.opened) >= every {
            *self = Self { opened: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= records
    }
}

impl Operator for Throttled {
    fn apply(&mut self, now: Instant, record: &mut Record<'_>) -> Verdict {
        key_of(record, &self.by, &mut self.key, &mut self.text);
        let (every, new) = (self.every, Window { opened: now, count: 0 });
        let is_open = |window: &Window| now.saturating_duration_since(window.opened) < every;
        self.shared = self.shared.filter(is_open);
        if !self.windows.contains_key(self.key.as_slice()) {
            if self.windows.len() >= THROTTLE_KEYS_MAX && self.shared.is_none() {
                self.windows.retain(|_, window| is_open(window));
            }
            if self.windows.len() < THROTTLE_KEYS_MAX {
                self.windows.insert(self.key.as_slice().into(), new);
            }
        }
        let window = match self.windows.get_mut(self.key.as_slice()) {
            Some(window) => window,
            None => self.shared.get_or_insert(new),
        };
        match window.takes(now, every, self.records) {
            true => Verdict::Keep,
            false => Verdict::Discard("throttled"),
        }
    }
}
