//! `aggregate`: makes one record of many, with count, least, mean, most and 95th percentile of a field, by key.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::filter::number;
use super::fields::{Field, Fields};
use super::record::Record;
use super::text::write_text;
use super::{Example, Manual, Operator, Options, Verdict, key_of};
use crate::values::{Period, Problem};

/// Keys in a window; records of others are dropped.
pub(crate) const AGGREGATE_KEYS_MAX: usize = 1_024;

/// How many steps of 4 % are distinguished, either side of zero: from 10^-9 to 10^25.
const STEPS_MAX: i16 = 2_000;

/// The ratio of a step: its middle is at most 2 % away.
const STEP: f64 = 1.04;

/// Steps that are kept for a key. Beyond them a value is counted to the nearest one.
const KEPT_STEPS_MAX: usize = 512;

pub(super) const MANUAL: Manual = Manual {
    name: "aggregate",
    takes: "table, `of` = field, `every` = time, `by` = list of fields",
    does: "gives, each `every`, one record for each value of the fields `by`: these, `count`, and of the numbers in `of` their `_min`, `_mean`, `_max` and `_p95` (within 2 %); the records themselves end here, counted as `aggregated`. Beyond 1,024 values in a window records are dropped as `too_many_keys`",
    options: None,
    example: Example {
        file: "[[transform]]\naggregate = { of = \"ms\", every = \"10s\", by = [\"path\"] }",
        input: "{\"path\":\"/\",\"ms\":3}\n{\"path\":\"/\",\"ms\":1}\n{\"path\":\"/\",\"ms\":\"-\"}",
        output: "{\"path\":\"/\",\"count\":3,\"ms_min\":1,\"ms_mean\":2,\"ms_max\":3,\"ms_p95\":3}",
    },
};

/// Of what, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    of: String,
    every: Period,
    #[serde(default)]
    by: Vec<String>,
}

impl Options for Aggregate {
    fn build(&self, fields: &mut Fields) -> Result<Box<dyn Operator>, Problem> {
        let by = self.by.iter().map(|name| Ok((fields.add(name)?, name.clone())));
        let by = by.collect::<Result<Vec<_>, Problem>>()?;
        Ok(Box::new(Aggregated {
            of: fields.add(&self.of)?,
            name: self.of.clone(),
            every: self.every.get(),
            keys: by.iter().map(|(field, _)| *field).collect(),
            names: by.into_iter().map(|(_, name)| name).collect(),
            opened: None,
            groups: HashMap::new(),
            held: 0,
            key: Vec::new(),
            text: Vec::new(),
        }))
    }
}

struct Aggregated {
    of: Field,
    name: String,
    every: Duration,
    keys: Vec<Field>,
    names: Vec<String>,
    /// When the first record of the window came.
    opened: Option<Instant>,
    groups: HashMap<Box<[u8]>, Group>,
    held: u64,
    key: Vec<u8>,
    text: Vec<u8>,
}

/// The records of one key.
#[derive(Debug, Default)]
struct Group {
    /// The members of its key, as JSON, each with a comma.
    members: Vec<u8>,
    /// Its place among the others.
    nth: usize,
    count: u64,
    numbers: u64,
    min: f64,
    max: f64,
    sum: f64,
    /// How many numbers in each step, ascending.
    steps: Vec<(i16, u32)>,
}

impl Group {
    fn add(&mut self, value: f64) {
        (self.min, self.max) = match self.numbers {
            0 => (value, value),
            _ => (self.min.min(value), self.max.max(value)),
        };
        self.numbers += 1;
        self.sum += value;
        let step = step(value);
        match self.steps.binary_search_by_key(&step, |(step, _)| *step) {
            Ok(at) => self.steps[at].1 = self.steps[at].1.saturating_add(1),
            Err(at) if self.steps.len() < KEPT_STEPS_MAX => self.steps.insert(at, (step, 1)),
            Err(at) => {
                let at = at.min(KEPT_STEPS_MAX - 1);
                self.steps[at].1 = self.steps[at].1.saturating_add(1);
            }
        }
    }

    /// The least value that 95 of a hundred are not above, within 2 %.
    fn p95(&self) -> f64 {
        let rank = (self.numbers * 95).div_ceil(100);
        let mut below = 0;
        for (step, count) in &self.steps {
            below += u64::from(*count);
            if below >= rank {
                return middle(*step).clamp(self.min, self.max);
            }
        }
        self.max
    }

    fn write(&self, name: &str, out: &mut Vec<u8>) {
        out.push(b'{');
        out.extend_from_slice(&self.members);
        out.extend_from_slice(format!("\"count\":{}", self.count).as_bytes());
        let figures = [
            ("min", self.min),
            ("mean", self.sum / self.numbers as f64),
            ("max", self.max),
            ("p95", self.p95()),
        ];
        for (figure, value) in figures.iter().filter(|_| self.numbers > 0) {
            out.push(b',');
            write_text(format!("{name}_{figure}").as_bytes(), out);
            out.push(b':');
            match value.is_finite() {
                true => out.extend_from_slice(value.to_string().as_bytes()),
                false => out.extend_from_slice(b"null"), // the sum of numbers near the largest one
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

/// The step that a number lies in.
fn step(value: f64) -> i16 {
    let size = (value.abs() / 1e-9).ln() / STEP.ln();
    if size < 1.0 || size.is_nan() {
        return 0;
    }
    let step = size.min(f64::from(STEPS_MAX)) as i16;
    if value < 0.0 { -step } else { step }
}

/// The number in the middle of a step.
fn middle(step: i16) -> f64 {
    let size = 1e-9 * STEP.powf(f64::from(step.unsigned_abs()) + 0.5);
    match step {
        0 => 0.0,
        ..0 => -size,
        _ => size,
    }
}

impl Operator for Aggregated {
    fn apply(&mut self, now: Instant, record: &mut Record<'_>) -> Verdict {
        key_of(record, &self.keys, &mut self.key, &mut self.text);
        if !self.groups.contains_key(self.key.as_slice()) {
            if self.groups.len() >= AGGREGATE_KEYS_MAX {
                return Verdict::Drop("too_many_keys");
            }
            let mut group = Group { nth: self.groups.len(), ..Group::default() };
            for (field, name) in self.keys.iter().zip(&self.names) {
                let Some(value) = record.value(*field) else { continue };
                write_text(name.as_bytes(), &mut group.members);
                group.members.push(b':');
                group.members.extend_from_slice(value);
                group.members.push(b',');
            }
            self.groups.insert(self.key.as_slice().into(), group);
        }
        let Some(group) = self.groups.get_mut(self.key.as_slice()) else { return Verdict::Keep };
        group.count += 1;
        self.held += 1;
        self.opened.get_or_insert(now);
        let value = record.value(self.of).and_then(|value| number(str::from_utf8(value).ok()?));
        if let Some(value) = value.filter(|value| value.is_finite()) {
            group.add(value);
        }
        Verdict::Hold
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.opened? + self.every)
    }

    fn release(&mut self, now: Instant, has_ended: bool, out: &mut Vec<u8>) {
        if !has_ended && self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let mut groups: Vec<Group> = self.groups.drain().map(|(_, group)| group).collect();
        groups.sort_unstable_by_key(|group| group.nth);
        groups.iter().for_each(|group| group.write(&self.name, out));
        (self.opened, self.held) = (None, 0);
    }

    fn held(&self) -> (u64, &'static str) {
        (self.held, "aggregated")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_the_step_of_a_number_is_at_most_2_percent_away() {
        for exponent in -60..170 {
            for value in [1.37_f64.powi(exponent), -(1.29_f64.powi(exponent))] {
                let away = (middle(step(value)) - value).abs() / value.abs();
                assert!(away <= 0.0201, "{value} {away}");
            }
        }
        assert_eq!((step(0.0), middle(0)), (0, 0.0));
        assert_eq!((step(f64::MAX), step(f64::MIN)), (STEPS_MAX, -STEPS_MAX));
    }
}
