//! Lines that were expected and lines that came, side by side: which are missing, which are too many, and in what a line
//! differs from the one in its place.

use serde_json::{Number, Value};

use crate::config::Matching;

/// The most pairs of lines that are compared; longer lists are compared line by line.
const PAIRS_MAX: usize = 1_000_000;

/// One line of a comparison.
#[derive(Debug, PartialEq)]
pub(super) enum Row<'a> {
    /// As expected.
    Same,
    /// Expected, and not there.
    Missing(&'a str),
    /// There, and not expected.
    Extra(&'a str),
    /// Another one in its place: what was expected, and what came.
    Changed(&'a str, &'a str),
}

/// Compares two lists of lines, in their order.
pub(super) fn compare<'a>(
    expected: &'a [String],
    found: &'a [String],
    matching: Matching,
) -> Vec<Row<'a>> {
    let (rows, columns) = (expected.len(), found.len());
    if rows.saturating_mul(columns) > PAIRS_MAX {
        return line_by_line(expected, found, matching);
    }
    let is_same = |row: usize, column: usize| is_met(&expected[row], &found[column], matching);
    // The length of the longest common part of what follows a pair of places.
    let mut common = vec![vec![0_usize; columns + 1]; rows + 1];
    let mut same = vec![vec![false; columns]; rows];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            same[row][column] = is_same(row, column);
            common[row][column] = match same[row][column] {
                true => common[row + 1][column + 1] + 1,
                false => common[row + 1][column].max(common[row][column + 1]),
            };
        }
    }
    let (mut row, mut column, mut compared) = (0, 0, Vec::new());
    let (mut missing, mut extra) = (Vec::new(), Vec::new());
    while row < rows || column < columns {
        if row < rows && column < columns && same[row][column] {
            pair(&mut missing, &mut extra, &mut compared);
            compared.push(Row::Same);
            (row, column) = (row + 1, column + 1);
        } else if column >= columns
            || row < rows && common[row + 1][column] >= common[row][column + 1]
        {
            missing.push(expected[row].as_str());
            row += 1;
        } else {
            extra.push(found[column].as_str());
            column += 1;
        }
    }
    pair(&mut missing, &mut extra, &mut compared);
    compared
}

fn line_by_line<'a>(
    expected: &'a [String],
    found: &'a [String],
    matching: Matching,
) -> Vec<Row<'a>> {
    let row = |index: usize| match (expected.get(index), found.get(index)) {
        (Some(expected), Some(found)) if is_met(expected, found, matching) => Row::Same,
        (Some(expected), Some(found)) => Row::Changed(expected, found),
        (Some(expected), None) => Row::Missing(expected),
        (None, found) => Row::Extra(found.map(String::as_str).unwrap_or_default()),
    };
    (0..expected.len().max(found.len())).map(row).collect()
}

/// Lines that are missing where others came instead are changed lines.
fn pair<'a>(missing: &mut Vec<&'a str>, extra: &mut Vec<&'a str>, rows: &mut Vec<Row<'a>>) {
    let pairs = missing.len().min(extra.len());
    rows.extend(missing.drain(..pairs).zip(extra.drain(..pairs)).map(|(a, b)| Row::Changed(a, b)));
    rows.extend(missing.drain(..).map(Row::Missing));
    rows.extend(extra.drain(..).map(Row::Extra));
}

/// Whether a line is as expected.
fn is_met(expected: &str, found: &str, matching: Matching) -> bool {
    match (json(expected), json(found)) {
        (Some(expected), Some(found)) => differences(&expected, &found, matching).is_empty(),
        _ => match matching {
            Matching::Exact => expected == found,
            Matching::Contains => found.contains(expected),
        },
    }
}

/// A JSON object or list.
pub(super) fn json(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok().filter(|value: &Value| value.is_object() || value.is_array())
}

/// In what `found` is not as expected: the way to each place, what was expected there and what came; `None` is nothing.
pub(super) fn differences(
    expected: &Value,
    found: &Value,
    matching: Matching,
) -> Vec<(String, Option<Value>, Option<Value>)> {
    let mut differences = Vec::new();
    differ("", Some(expected), Some(found), matching, &mut differences);
    differences
}

fn differ(
    way: &str,
    expected: Option<&Value>,
    found: Option<&Value>,
    matching: Matching,
    differences: &mut Vec<(String, Option<Value>, Option<Value>)>,
) {
    let inner = |key: &str| if way.is_empty() { key.to_owned() } else { format!("{way}.{key}") };
    match (expected, found) {
        (None, None) => {}
        (None, Some(_)) if matching == Matching::Contains => {}
        (Some(Value::Object(expected)), Some(Value::Object(found))) => {
            for (key, value) in expected {
                differ(&inner(key), Some(value), found.get(key), matching, differences);
            }
            for (key, value) in found.iter().filter(|(key, _)| !expected.contains_key(*key)) {
                differ(&inner(key), None, Some(value), matching, differences);
            }
        }
        (Some(Value::Array(expected)), Some(Value::Array(found)))
            if expected.len() == found.len() =>
        {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                let way = format!("{way}[{index}]");
                differ(&way, Some(expected), Some(found), matching, differences);
            }
        }
        (Some(Value::Number(one)), Some(Value::Number(other))) if is_equal(one, other) => {}
        (expected, found) if expected == found => {}
        (expected, found) => differences.push((way.to_owned(), expected.cloned(), found.cloned())),
    }
}

/// Numbers are equal by value, however they are written.
fn is_equal(one: &Number, other: &Number) -> bool {
    one == other || one.as_f64().is_some_and(|one| other.as_f64() == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_told_apart_where_they_stand() {
        let expected = lines("a\n{\"n\":1,\"m\":2}\nb\nc");
        let found = lines("{\"m\":2,\"n\":1.0}\nx\nb\nd\ne");
        let rows = compare(&expected, &found, Matching::Exact);
        let changed = [Row::Changed("c", "d"), Row::Extra("e")];
        assert_eq!(rows[..4], [Row::Missing("a"), Row::Same, Row::Extra("x"), Row::Same]);
        assert_eq!(rows[4..], changed);
        let whole = line_by_line(&expected[2..], &found[2..], Matching::Exact);
        assert_eq!(whole, [Row::Same, changed.into_iter().next().unwrap(), Row::Extra("e")]);
    }

    #[test]
    fn a_line_contains_what_is_named_and_more() {
        let is_met = |expected, found| is_met(expected, found, Matching::Contains);
        assert!(is_met(r#"{"a":{"b":1}}"#, r#"{"a":{"b":1,"c":2},"d":3}"#));
        assert!(!is_met(r#"{"a":{"b":1}}"#, r#"{"a":{"c":1}}"#));
        assert!(is_met("load=1", "cpu load=1.5 x"));
        assert!(!is_met(r#"{"a":null}"#, "{}"), "null is a value");
    }

    #[test]
    fn a_difference_says_where_it_is() {
        let (one, other) = (r#"{"a":{"b":[1,2]},"c":1}"#, r#"{"a":{"b":[1,3]},"d":1}"#);
        let differences = differences(&json(one).unwrap(), &json(other).unwrap(), Matching::Exact);
        let differences: Vec<_> = differences.iter().map(|(way, ..)| way.as_str()).collect();
        assert_eq!(differences, ["a.b[1]", "c", "d"]);
    }
}
