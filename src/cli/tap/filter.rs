//! `--filter`: which lines are shown, by the values in them.

use std::cmp::Ordering;
use std::str::FromStr;

use serde_json::Value;

use crate::cli::BadArgument;

/// Conditions that all hold, such as `level = error and user.id > 5`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filter(Vec<Condition>);

#[derive(Debug, Clone, PartialEq)]
struct Condition {
    /// The names on the path to the value.
    path: Vec<String>,
    operator: Operator,
    /// A number, a text, `true`, `false` or `null`.
    with: Value,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// A text has this text in it.
    Contains,
}

/// The longer ones first, of which others are a part.
const OPERATORS: [(&str, Operator); 7] = [
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("~", Operator::Contains),
];

const HELP: &str = "write NAME = VALUE (or !=, <, <=, >, >=, ~ for a part of a text), names inside others with a dot, and \
                    several with \"and\" between them, as in 'level = error and user.id > 5'";

impl FromStr for Filter {
    type Err = BadArgument;

    fn from_str(text: &str) -> Result<Self, BadArgument> {
        conditions(text).into_iter().map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// The conditions between the words `and` that stand in no quotes.
fn conditions(text: &str) -> Vec<&str> {
    let (mut conditions, mut start, mut is_quoted) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        is_quoted ^= letter == '"';
        if !is_quoted && at >= start && text[at..].starts_with(" and ") {
            conditions.push(&text[start..at]);
            start = at + " and ".len();
        }
    }
    conditions.push(&text[start..]);
    conditions
}

impl FromStr for Condition {
    type Err = BadArgument;

    fn from_str(text: &str) -> Result<Self, BadArgument> {
        let refuse = || BadArgument(format!("cannot read {text:?}: {HELP}"));
        let at = text.find(['!', '<', '>', '=', '~']).ok_or_else(refuse)?;
        let (path, rest) = text.split_at(at);
        let found = OPERATORS.into_iter().find(|(sign, _)| rest.starts_with(sign));
        let (sign, operator) = found.ok_or_else(refuse)?;
        let (path, value) = (path.trim(), rest[sign.len()..].trim());
        if path.is_empty() || value.is_empty() {
            return Err(refuse());
        }
        // What is no JSON is a text without its quotes.
        let with = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        let is_bare = !value.starts_with('"');
        if with.is_object() || with.is_array() || is_bare && value.contains(' ') {
            return Err(refuse());
        }
        Ok(Self { path: path.split('.').map(str::to_owned).collect(), operator, with })
    }
}

impl Filter {
    /// Whether a line is shown. One that is no JSON is not.
    pub(super) fn matches(&self, line: &str) -> bool {
        let Ok(value) = serde_json::from_str::<Value>(line) else { return false };
        self.0.iter().all(|condition| condition.matches(&value, &condition.path))
    }
}

impl Condition {
    /// Whether it holds for the value at the end of `path`, or of one of a list on the path.
    fn matches(&self, value: &Value, path: &[String]) -> bool {
        match (value, path.split_first()) {
            (Value::Array(items), _) => items.iter().any(|item| self.matches(item, path)),
            (Value::Object(members), Some((name, rest))) => {
                // A name may have dots itself.
                let whole = members.get(&path.join("."));
                match (members.get(name), whole) {
                    (Some(inner), _) => self.matches(inner, rest),
                    (None, Some(value)) => self.is_met(Some(value)),
                    (None, None) => self.is_met(None),
                }
            }
            (_, Some(_)) => self.is_met(None),
            (value, None) => self.is_met(Some(value)),
        }
    }

    fn is_met(&self, value: Option<&Value>) -> bool {
        let order = value.and_then(|value| order(value, &self.with));
        match self.operator {
            Operator::Equal => order == Some(Ordering::Equal),
            Operator::NotEqual => order != Some(Ordering::Equal),
            Operator::Less => order.is_some_and(Ordering::is_lt),
            Operator::LessOrEqual => order.is_some_and(Ordering::is_le),
            Operator::Greater => order.is_some_and(Ordering::is_gt),
            Operator::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
            Operator::Contains => {
                let part = self.with.as_str().map_or_else(|| self.with.to_string(), str::to_owned);
                value.and_then(Value::as_str).is_some_and(|text| text.contains(&part))
            }
        }
    }
}

/// How a value stands to another one; `None` where they cannot be operator.
fn order(value: &Value, other: &Value) -> Option<Ordering> {
    match (value, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64()?.partial_cmp(&other.as_f64()?),
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        // A text of digits, which was written without quotes: `pid = 7` of a journal.
        (Value::String(one), other @ (Value::Number(_) | Value::Bool(_))) => {
            let written = other.to_string();
            (written == *one).then_some(Ordering::Equal)
        }
        (one, other) => (one == other).then_some(Ordering::Equal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_hold_for_values_wherever_they_are() {
        let line = r#"{"level":"error","ms":5e2,"pid":"7","user":{"id":6},"a.b":1,"list":[{"n":1},{"n":3}],"none":null}"#;
        let holds = [
            "level = error",
            "level=\"error\" and ms >= 500",
            "level != info and user.id > 5 and user.id < 7",
            "level ~ rr",
            "pid = 7",
            "a.b = 1",
            "list.n = 3",
            "none = null",
            "gone != 1",
            "level ~ \"r\"",
        ];
        for text in holds {
            assert!(text.parse::<Filter>().unwrap().matches(line), "{text}");
        }
        let not = ["level = info", "ms > 500", "user.id <= 5", "list.n = 2", "gone = 1", "ms ~ 5"];
        for text in not {
            assert!(!text.parse::<Filter>().unwrap().matches(line), "{text}");
        }
        assert!(!"level = error".parse::<Filter>().unwrap().matches("level=error"), "no JSON");
        assert!("a = \"x and y\"".parse::<Filter>().unwrap().matches(r#"{"a":"x and y"}"#));
    }

    #[test]
    fn what_is_no_condition_is_refused_with_help() {
        for text in ["", "level", "= 5", "level =", "a ! b", "a = [1]", "a = 1 and"] {
            let why = text.parse::<Filter>().unwrap_err().to_string();
            assert!(why.contains("as in 'level = error"), "{text}: {why}");
        }
    }
}
