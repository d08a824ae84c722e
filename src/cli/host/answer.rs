//! Answers as text for a person. What a guest says may hold anything: names and values are shown without
//! what a terminal would obey, and so is the output of programs where a terminal shows it; only `exec` leaves that as
//! it is.

use std::io::{self, Write};

use serde_json::{Map, Value};

use super::{for_whom, say};
use crate::host::Response;
use crate::wire::plain;

/// The widest cell of a table.
const CELL_MAX: usize = 48;

/// The output and the result: lists of objects as a table, objects as lines of names and values.
pub(super) fn text(response: &Response) -> String {
    let mut text = for_whom(&response.stdout, &io::stdout());
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    // Some guests send the result twice, as data and as the same JSON in stdout.
    if serde_json::from_str::<Value>(&response.stdout).is_ok_and(|said| said == response.data) {
        text.clear();
    }
    if text.is_empty() && response.data.is_null() && response.success {
        return "done\n".to_owned();
    }
    value(&response.data, 0, &mut text);
    text
}

/// Standard error, and the reason for a failure.
pub(super) fn complain(what: &str, response: &Response) -> io::Result<()> {
    complain_with(what, response, for_whom(&response.stderr, &io::stderr()))
}

/// The same, with the program's standard error as it is.
pub(super) fn complain_raw(what: &str, response: &Response) -> io::Result<()> {
    complain_with(what, response, response.stderr.clone())
}

fn complain_with(what: &str, response: &Response, stderr: String) -> io::Result<()> {
    // A guest whose program says nothing says in both places why it was not done: some hosts read one, some the other.
    let error = response.error.as_deref().unwrap_or_default().trim();
    let is_guests_own = !error.is_empty() && response.stderr.trim() == error;
    if !is_guests_own {
        to_stderr(&stderr)?;
    }
    if response.success {
        return Ok(());
    }
    match (&response.error, response.exit_code) {
        (Some(error), code) if is_guests_own || matches!(code, None | Some(124)) => {
            say(&format!("{what} failed: {}", plain(error.trim_end())))
        }
        (Some(error), Some(_)) if !response.stderr.contains(error.trim()) => {
            say(&format!("{what} failed: {}", plain(error.trim_end())));
        }
        (None, None) => say(&format!("{what} failed, and the guest does not say why")),
        // The program's own words and exit code say it.
        _ => {}
    }
    Ok(())
}

/// A program's standard error, as it is.
pub(super) fn to_stderr(text: &str) -> io::Result<()> {
    let mut to = io::stderr().lock();
    to.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        to.write_all(b"\n")?;
    }
    Ok(())
}

fn value(of: &Value, depth: usize, text: &mut String) {
    match of {
        Value::Null => {}
        Value::Array(items) if items.iter().all(Value::is_object) && !items.is_empty() => {
            table(items, depth, text);
        }
        Value::Array(items) => {
            for item in items {
                indent(depth, text);
                text.push_str(&scalar(item));
                text.push('\n');
            }
        }
        Value::Object(fields) => object(fields, depth, text),
        plain => {
            indent(depth, text);
            text.push_str(&scalar(plain));
            text.push('\n');
        }
    }
}

fn object(fields: &Map<String, Value>, depth: usize, text: &mut String) {
    let width = fields.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, of) in fields {
        indent(depth, text);
        let name = plain(name);
        match of {
            Value::Array(items) if items.is_empty() => text.push_str(&format!("{name}: none\n")),
            Value::Object(fields) if fields.is_empty() => {
                text.push_str(&format!("{name}: none\n"));
            }
            Value::Array(_) | Value::Object(_) => {
                text.push_str(&format!("{name}:\n"));
                value(of, depth + 1, text);
            }
            of => {
                let pad = width.saturating_sub(name.chars().count());
                text.push_str(&format!("{name}: {:pad$}{}\n", "", scalar(of)));
            }
        }
    }
}

/// A row each; what names the thing comes first, the other columns in the order of their names.
fn table(items: &[Value], depth: usize, text: &mut String) {
    let mut columns: Vec<&str> = Vec::new();
    for item in items.iter().filter_map(Value::as_object) {
        for name in item.keys() {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
    }
    columns.sort_by_key(|name| (!matches!(*name, "pid" | "id" | "name"), *name));
    let head = columns.iter().map(|name| plain(name).to_uppercase()).collect();
    let row = |item: &Value| columns.iter().map(|name| cell(&item[*name])).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(items.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|column| width(column).unwrap_or(0)).collect();
    for row in &rows {
        indent(depth, text);
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn cell(of: &Value) -> String {
    let text = scalar(of);
    match text.char_indices().nth(CELL_MAX) {
        None => text,
        Some(_) => text.chars().take(CELL_MAX - 1).chain(['…']).collect(),
    }
}

fn scalar(of: &Value) -> String {
    match of {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

fn indent(depth: usize, text: &mut String) {
    text.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(data: Value) -> String {
        text(&Response { success: true, data, ..Response::default() })
    }

    #[test]
    fn a_list_of_objects_is_a_table_and_an_object_is_lines() {
        let services = json!([
            { "status": "running", "name": "ssh", "description": "a".repeat(60) },
            { "status": "stopped", "name": "cron.service", "can_stop": true },
        ]);
        let cut = format!("{}…", "a".repeat(47));
        assert_eq!(
            shown(json!({ "count": 2, "services": services, "none": [], "why": null })),
            format!(
                "count:    2\nnone: none\nservices:\n  \
                 NAME          CAN_STOP  DESCRIPTION                                       STATUS\n  \
                 ssh           -         {cut}  running\n  \
                 cron.service  yes       -                                                 stopped\n\
                 why:      -\n"
            )
        );
        assert_eq!(shown(json!(["a", 1])), "a\n1\n");
        assert_eq!(shown(Value::Null), "done\n");
    }

    #[test]
    fn no_text_of_a_guest_steers_the_terminal() {
        let shown = shown(json!({ "na\u{1b}[2Jme": "a\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\r\n" }));
        assert!(!shown.trim_end_matches('\n').chars().any(crate::wire::steers), "{shown:?}");
    }

    #[test]
    fn a_repeated_result_is_shown_once() {
        let data = json!({ "a": 1 });
        let stdout = data.to_string();
        let response = Response { success: true, data, stdout, ..Response::default() };
        assert_eq!(text(&response), "a: 1\n");
    }
}
