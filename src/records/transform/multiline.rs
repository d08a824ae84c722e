//! `multiline`: joins lines that belong together, such as a stack trace.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::pattern::Pattern;
use super::fields::{Field, Fields};
use super::record::Record;
use super::text::{write_key, write_text};
use super::{Example, Manual, Operator, Options, Verdict};
use crate::values::{Count, Period, Problem};

/// The most bytes of text that are joined; longer ones are given in parts.
pub(crate) const JOINED_BYTES_MAX: usize = 256 * 1024;

pub(super) const MANUAL: Manual = Manual {
    name: "multiline",
    takes: "table, `field`, `begins` = regular expression, `max_lines` = number, `max_delay` = time",
    does: "joins texts in `field` (`message`): one that `begins` matches begins a record, those after it are joined to it with a newline, and end here, counted as `joined`; their other fields are dropped. A record leaves when the next one begins, after `max_delay` (`1s`), or with `max_lines` (500)",
    options: None,
    example: Example {
        file: "[[transform]]\nmultiline = { field = \"message\", begins = \"^[^ ]\" }",
        input: "{\"message\":\"panic at main.rs\"}\n{\"message\":\"  1: run\"}\n{\"message\":\"next\"}",
        output: "{\"message\":\"panic at main.rs\\n  1: run\"}\n{\"message\":\"next\"}",
    },
};

/// How records begin.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Multiline {
    #[serde(default = "message")]
    field: String,
    begins: String,
    #[serde(default = "five_hundred")]
    max_lines: Count,
    #[serde(default = "one_second")]
    max_delay: Period,
}

fn message() -> String {
    "message".to_owned()
}

fn five_hundred() -> Count {
    Count::fixed(500)
}

fn one_second() -> Period {
    Period::millis(1_000)
}

impl Options for Multiline {
    fn build(&self, fields: &mut Fields) -> Result<Box<dyn Operator>, Problem> {
        let mut key = Vec::new();
        write_key(self.field.as_bytes(), &mut key);
        Ok(Box::new(Joined {
            field: fields.add(&self.field)?,
            key,
            begins: Pattern::new(&self.begins)?,
            max_lines: self.max_lines.get().into(),
            max_delay: self.max_delay.get(),
            record: Vec::new(),
            joined: Vec::new(),
            lines: 0,
            opened: None,
            due: Vec::new(),
            text: Vec::new(),
        }))
    }
}

struct Joined {
    field: Field,
    /// `,"field":`
    key: Vec<u8>,
    begins: Pattern,
    max_lines: u64,
    max_delay: Duration,
    /// The record that has begun, without the field.
    record: Vec<u8>,
    joined: Vec<u8>,
    /// How many lines are in it.
    lines: u64,
    opened: Option<Instant>,
    /// Records that are complete.
    due: Vec<u8>,
    text: Vec<u8>,
}

impl Joined {
    /// The record that has begun is complete.
    fn end(&mut self) {
        if self.lines == 0 {
            return;
        }
        let members = self.record.strip_suffix(b"}\n").unwrap_or(&self.record);
        let is_first = members.len() == 1;
        self.due.extend_from_slice(members);
        self.due.extend_from_slice(&self.key[usize::from(is_first)..]);
        write_text(&self.joined, &mut self.due);
        self.due.extend_from_slice(b"}\n");
        (self.lines, self.opened) = (0, None);
    }
}

impl Operator for Joined {
    fn apply(&mut self, now: Instant, record: &mut Record<'_>) -> Verdict {
        let Some(text) = record.text(self.field, &mut self.text) else { return Verdict::Keep };
        let begins = self.begins.matches(text);
        let is_full = self.lines >= self.max_lines || self.joined.len() + text.len() > JOINED_BYTES_MAX;
        if self.lines > 0 && !begins && !is_full {
            self.joined.push(b'\n');
            self.joined.extend_from_slice(text);
            self.lines += 1;
            return Verdict::Hold;
        }
        let text = text.to_vec();
        let had = self.lines > 0;
        self.end();
        self.joined.clear();
        self.joined.extend_from_slice(&text);
        record.remove(self.field);
        self.record.clear();
        record.write(&mut self.record);
        (self.lines, self.opened) = (1, Some(now));
        if had { Verdict::Release } else { Verdict::Hold }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.opened? + self.max_delay)
    }

    fn release(&mut self, now: Instant, has_ended: bool, out: &mut Vec<u8>) {
        if has_ended || self.deadline().is_some_and(|deadline| deadline <= now) {
            self.end();
        }
        out.append(&mut self.due);
    }

    fn held(&self) -> (u64, &'static str) {
        (self.lines, "joined")
    }
}
