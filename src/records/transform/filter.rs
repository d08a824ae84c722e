//! `filter`: lets only the records on that a condition holds for.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

use super::pattern::Pattern;
use super::fields::{Field, Fields};
use super::record::Record;
use super::{Example, Manual, Operator, Options, Verdict};
use crate::values::Problem;

pub(super) const MANUAL: Manual = Manual {
    name: "filter",
    takes: "table, see below",
    does: "passes only records that match; the others are counted as `filtered`",
    options: None,
    example: Example {
        file: "[[transform]]\nfilter = { any = [{ field = \"level\", in = [\"warn\", \"error\"] }, { field = \"ms\", greater = 500 }] }",
        input: "{\"level\":\"info\",\"ms\":20}\n{\"level\":\"error\"}\n{\"level\":\"info\",\"ms\":5e2}\n{\"level\":\"info\",\"ms\":501}",
        output: "{\"level\":\"error\"}\n{\"level\":\"info\",\"ms\":501}",
    },
};

/// The condition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Filter(Box<Condition>);

/// A condition. With `field`, all checks of the table hold; without it, exactly one of `any`, `all` and `not` is there.
///
/// A field that is not there equals nothing, and is neither less nor greater. Numbers are compared by value, whole ones
/// exactly; texts byte for byte, without their escapes. Values of two kinds are not equal, and have no order.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Condition {
    field: Option<String>,
    equals: Option<Scalar>,
    not_equals: Option<Scalar>,
    less: Option<Scalar>,
    less_or_equal: Option<Scalar>,
    greater: Option<Scalar>,
    greater_or_equal: Option<Scalar>,
    r#in: Option<Vec<Scalar>>,
    exists: Option<bool>,
    prefix: Option<String>,
    regex: Option<String>,
    any: Option<Vec<Condition>>,
    all: Option<Vec<Condition>>,
    not: Option<Box<Condition>>,
}

/// A value to compare with.
#[derive(Debug, Clone, PartialEq)]
enum Scalar {
    Text(String),
    Whole(i64),
    Real(f64),
    Bool(bool),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number or true or false")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar::Whole(number))
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar::Real(number))
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Bool(value))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl Options for Filter {
    fn build(&self, fields: &mut Fields) -> Result<Box<dyn Operator>, Problem> {
        Ok(Box::new(Filtered { test: self.0.test(fields)?, text: Vec::new() }))
    }
}

impl Condition {
    fn test(&self, fields: &mut Fields) -> Result<Test, Problem> {
        let tests = |list: &[Condition], fields: &mut Fields| -> Result<Vec<Test>, Problem> {
            if list.is_empty() {
                return Err(Problem::new("has an empty list of conditions", "add one, or leave it out"));
            }
            list.iter().map(|one| one.test(fields)).collect()
        };
        let mut groups = Vec::new();
        if let Some(any) = &self.any {
            groups.push(Test::Any(tests(any, fields)?));
        }
        if let Some(all) = &self.all {
            groups.push(Test::All(tests(all, fields)?));
        }
        if let Some(not) = &self.not {
            groups.push(Test::Not(Box::new(not.test(fields)?)));
        }
        let mut checks = Vec::new();
        let order = |value: &Option<Scalar>, is_met: fn(Ordering) -> bool| {
            value.clone().map(|value| Check::Order(value, is_met))
        };
        checks.extend(self.equals.clone().map(Check::Equals));
        checks.extend(self.not_equals.clone().map(Check::NotEquals));
        checks.extend(order(&self.less, Ordering::is_lt));
        checks.extend(order(&self.less_or_equal, Ordering::is_le));
        checks.extend(order(&self.greater, Ordering::is_gt));
        checks.extend(order(&self.greater_or_equal, Ordering::is_ge));
        checks.extend(self.r#in.clone().map(Check::In));
        checks.extend(self.exists.map(Check::Exists));
        checks.extend(self.prefix.clone().map(Check::Prefix));
        if let Some(expression) = &self.regex {
            checks.push(Check::Regex(Box::new(Pattern::new(expression)?)));
        }
        match (&self.field, groups.len(), checks.is_empty()) {
            (Some(name), 0, false) => Ok(Test::Field(fields.add(name)?, checks)),
            (None, 1, true) => groups.pop().ok_or_else(|| Problem::new("has no condition", HELP)),
            (Some(_), 0, true) => Err(Problem::new("does not say what the field must be", HELP)),
            (None, 0, false) => Err(Problem::new("names no field", HELP)),
            (None, 0, true) => Err(Problem::new("has no condition", HELP)),
            _ => Err(Problem::new("mixes conditions in one table", HELP)),
        }
    }
}

const HELP: &str = "write { field = \"level\", equals = \"error\" } (or not_equals, in, less, less_or_equal, greater, \
     greater_or_equal, exists, prefix, regex), or one of any = […], all = […], not = { … }";

enum Test {
    Any(Vec<Test>),
    All(Vec<Test>),
    Not(Box<Test>),
    /// All checks hold for the field.
    Field(Field, Vec<Check>),
}

enum Check {
    Exists(bool),
    Equals(Scalar),
    NotEquals(Scalar),
    In(Vec<Scalar>),
    Order(Scalar, fn(Ordering) -> bool),
    Prefix(String),
    Regex(Box<Pattern>),
}

struct Filtered {
    test: Test,
    /// A text without its escapes.
    text: Vec<u8>,
}

impl Operator for Filtered {
    fn apply(&mut self, _now: Instant, record: &mut Record<'_>) -> Verdict {
        match self.test.holds(record, &mut self.text) {
            true => Verdict::Keep,
            false => Verdict::Discard("filtered"),
        }
    }
}

impl Test {
    fn holds(&mut self, record: &Record<'_>, text: &mut Vec<u8>) -> bool {
        match self {
            Self::Any(tests) => tests.iter_mut().any(|test| test.holds(record, text)),
            Self::All(tests) => tests.iter_mut().all(|test| test.holds(record, text)),
            Self::Not(test) => !test.holds(record, text),
            Self::Field(field, checks) => {
                checks.iter_mut().all(|check| check.holds(record, *field, text))
            }
        }
    }
}

impl Check {
    fn holds(&mut self, record: &Record<'_>, field: Field, text: &mut Vec<u8>) -> bool {
        let mut compared = |value: &Scalar| value.compared(record, field, text);
        let is_equal = |order: Option<Ordering>| order == Some(Ordering::Equal);
        match self {
            Self::Exists(exists) => record.has(field) == *exists,
            Self::Equals(value) => is_equal(compared(value)),
            Self::NotEquals(value) => !is_equal(compared(value)),
            Self::In(values) => values.iter().any(|value| is_equal(compared(value))),
            Self::Order(Scalar::Bool(_), _) => false,
            Self::Order(value, is_met) => compared(value).is_some_and(is_met),
            Self::Prefix(prefix) => record
                .text(field, text)
                .is_some_and(|text| text.starts_with(prefix.as_bytes())),
            Self::Regex(pattern) => {
                record.text(field, text).is_some_and(|text| pattern.matches(text))
            }
        }
    }
}

impl Scalar {
    /// How the field stands to this value; `None` where they cannot be compared.
    fn compared(&self, record: &Record<'_>, field: Field, text: &mut Vec<u8>) -> Option<Ordering> {
        if let Self::Text(other) = self {
            return Some(record.text(field, text)?.cmp(other.as_bytes()));
        }
        let value = std::str::from_utf8(record.value(field)?).ok()?;
        match self {
            Self::Text(_) => None,
            Self::Bool(other) => Some(value.parse::<bool>().ok()?.cmp(other)),
            Self::Whole(other) => match value.parse::<i128>() {
                Ok(value) => Some(value.cmp(&i128::from(*other))),
                Err(_) => number(value)?.partial_cmp(&(*other as f64)),
            },
            Self::Real(other) => number(value)?.partial_cmp(other),
        }
    }
}

/// A JSON number. What Rust reads beside those, such as `inf`, is no JSON.
pub(super) fn number(value: &str) -> Option<f64> {
    let first = value.bytes().next()?;
    (first == b'-' || first.is_ascii_digit()).then(|| value.parse().ok())?
}
