//! Answers of actions that fit into a line the host takes without a warning. The one place that shortens them; what a
//! command line or a script prints is its own, and as long as `[execute] output` says.
//!
//! # What goes first
//! What the host reads stays longest: nulls, then long texts, then fields that it does not read go from the items of
//! lists, then those texts altogether, and only then the ends of lists. Lists have what matters first. What was left
//! out is reported, in `truncated` of the data and in a sentence.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::commands::outcome::Outcome;
use crate::wire::outbound::truncate as texts;

/// Characters of the whole line, escapes and line break included. Today's host warns where what it has of a line and
/// has read at once is more than 100,000; a keep-alive or two may be behind the line.
pub const LINE_MAX: usize = 99_000;

/// What stands around `data`, the texts and the error in a line: names, numbers, an id of 1 KiB.
const AROUND: usize = 3_000;

/// The most of each stream, where not everything fits.
const STREAM_MAX: usize = 16_000;

/// The most of an error, as it is spelled.
const ERROR_MAX: usize = 8 * 1024;

/// Texts of items that may be shortened, and left out.
const WORDY: [&str; 8] = [
    "description",
    "display_name",
    "command_line",
    "publisher",
    "vendor",
    "full_name",
    "message",
    "title",
];

/// Longest of those before they are left out, in characters.
const WORDS_MAX: usize = 80;

/// What the host does not read of the items of a list, by the list's name; a list that is the whole data has none.
const UNREAD: [(&str, &[&str]); 4] = [
    ("packages", &["architecture"]),
    ("", &["load_state", "active_state", "sub_state"]),
    ("processes", &["ppid"]),
    ("users", &["gid", "home", "shell"]),
];

/// Shortens an answer until its line is shorter than [`LINE_MAX`].
pub(super) fn shorten(outcome: &mut Outcome) {
    let error = outcome.error.as_deref().map_or(0, |error| texts::spelled(error).min(ERROR_MAX));
    // Where nothing is said on it, the error stands on standard error, too.
    let room = LINE_MAX - AROUND - 2 * error;
    let streams =
        |outcome: &Outcome| texts::spelled(&outcome.stdout) + texts::spelled(&outcome.stderr);
    let data = outcome.data.as_ref().map_or(0, weight);
    if streams(outcome) + data <= room {
        return;
    }
    for text in [&mut outcome.stdout, &mut outcome.stderr] {
        // A stream alone may take what there is.
        let most = if data == 0 { room / 2 } else { STREAM_MAX };
        *text = texts::fit(text, most).into_owned();
    }
    let room = room.saturating_sub(streams(outcome) + 200); // the sentence
    let Some(data) = &mut outcome.data else { return };
    if let Some(said) = fit(data, room) {
        let stdout = &mut outcome.stdout;
        if !stdout.is_empty() && !stdout.ends_with('\n') {
            stdout.push('\n');
        }
        stdout.push_str(&said);
    }
}

/// Shortens `data` to `room`, and says what is missing then; `None` where no item is.
fn fit(data: &mut Value, room: usize) -> Option<String> {
    let stages: [fn(&str, &mut Value); 4] = [no_nulls, shorter_texts, no_unread, no_texts];
    for stage in stages {
        if weight(data) <= room {
            return None;
        }
        each_list(data, "", stage);
    }
    let mut left_out = 0;
    // Each turn makes it smaller by the heaviest list or text; there are few that matter.
    for _ in 0..64 {
        let excess = weight(data).saturating_sub(room);
        if excess == 0 {
            break;
        }
        left_out += cut(data, excess);
    }
    if left_out == 0 {
        return None;
    }
    if let Some(object) = data.as_object_mut() {
        let before = object.get("truncated").and_then(Value::as_u64).unwrap_or_default();
        object.insert("truncated".to_owned(), (before + left_out).into());
    }
    Some(format!("{left_out} entries were left out: an answer has room for {LINE_MAX} characters"))
}

/// Calls `change` with each item of each list, and the list's name.
fn each_list(value: &mut Value, name: &str, change: fn(&str, &mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| change(name, item)),
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(name, value)| each_list(value, name, change));
        }
        _ => {}
    }
}

fn no_nulls(_: &str, item: &mut Value) {
    if let Value::Object(fields) = item {
        fields.retain(|_, value| !value.is_null());
    }
}

/// And of times the day.
fn shorter_texts(_: &str, item: &mut Value) {
    let Value::Object(fields) = item else { return };
    for (name, value) in fields {
        let most = match name.as_str() {
            "install_date" => 10,
            name if WORDY.contains(&name) => WORDS_MAX,
            _ => continue,
        };
        if let Value::String(text) = value
            && let Some((end, _)) = text.char_indices().nth(most)
        {
            text.truncate(end);
        }
    }
}

fn no_unread(list: &str, item: &mut Value) {
    if let Value::Object(fields) = item
        && let Some((_, unread)) = UNREAD.iter().find(|(name, _)| *name == list)
    {
        fields.retain(|name, _| !unread.contains(&name.as_str()));
    }
}

fn no_texts(_: &str, item: &mut Value) {
    if let Value::Object(fields) = item {
        fields.retain(|name, _| !WORDY.contains(&name.as_str()));
    }
}

/// Takes `excess` from the end of the heaviest list or text; how many items that were.
fn cut(value: &mut Value, excess: usize) -> u64 {
    match value {
        Value::Object(fields) => {
            let heaviest =
                fields.iter_mut().map(|(_, value)| value).max_by_key(|value| weight(*value));
            heaviest.map_or(0, |heaviest| cut(heaviest, excess))
        }
        Value::Array(items) => {
            let all: usize = items.iter().map(weight).sum();
            // One that is most of the list is the list, or text, to shorten.
            if let Some(item) = items.iter_mut().find(|item| weight(*item) > all / 2)
                && (item.is_array() || item.is_object())
            {
                return cut(item, excess);
            }
            let (mut gone, mut left_out) = (0, 0);
            while gone < excess
                && let Some(item) = items.pop()
            {
                gone += weight(&item);
                left_out += 1;
            }
            left_out
        }
        Value::String(text) => {
            *text = texts::fit(text, texts::spelled(text).saturating_sub(excess)).into_owned();
            0
        }
        _ => 0,
    }
}

/// At least the bytes of `value` in JSON of ASCII letters only, with a comma: each byte of another
/// letter becomes at most three (`é`, two bytes, is `\u00e9`).
pub(super) fn weight<T: Serialize>(value: &T) -> usize {
    struct Scale(usize);
    impl Write for Scale {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.iter().map(|byte| if byte.is_ascii() { 1 } else { 3 }).sum::<usize>();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut scale = Scale(1);
    match serde_json::to_writer(&mut scale, value) {
        Ok(()) => scale.0,
        Err(_) => usize::MAX / 1024, // what cannot be written cannot be sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::outbound::{Response, response};
    use serde_json::json;
    use std::time::{Duration, SystemTime};

    /// The line that the host gets.
    fn line(outcome: &Outcome) -> String {
        let id = "i".repeat(1_000);
        let answer = Response { took: Duration::ZERO, ..outcome.response(&id, "PackageList") };
        let mut line = Vec::new();
        response(&answer, SystemTime::UNIX_EPOCH, &mut line);
        String::from_utf8(line).unwrap()
    }

    fn shortened(mut outcome: Outcome) -> Outcome {
        shorten(&mut outcome);
        let line = line(&outcome);
        assert!(line.len() < LINE_MAX, "{}", line.len());
        assert!(
            serde_json::from_str::<Value>(&line).unwrap()["data"]
                == *outcome.data.as_ref().unwrap_or(&Value::Null)
        );
        outcome
    }

    fn packages(count: usize) -> Value {
        let package = |at| {
            json!({"name": format!("libpackage{at}"), "version": "1:2.3.4-1+deb12u1", "description": "é".repeat(120),
                "installed": true, "publisher": null, "source": "apt", "repository": null, "architecture": "amd64"})
        };
        json!({ "packages": (0..count).map(package).collect::<Vec<_>>(), "truncated": 3 })
    }

    #[test]
    fn what_fits_is_left_alone() {
        let outcome = Outcome { stdout: "fine".into(), ..Outcome::data(packages(50)) };
        assert_eq!(shortened(outcome.clone()), outcome);
    }

    #[test]
    fn a_list_loses_what_nobody_reads_before_it_loses_items_and_says_how_many() {
        let some = shortened(Outcome::data(packages(900)));
        let data = some.data.unwrap();
        assert_eq!(data["packages"].as_array().unwrap().len(), 900);
        assert_eq!(
            (&data["packages"][899]["name"], &data["truncated"]),
            (&"libpackage899".into(), &3.into())
        );
        assert_eq!(some.stdout, "");

        let many = shortened(Outcome::data(packages(5_000)));
        let data = many.data.unwrap();
        let kept = data["packages"].as_array().unwrap().len() as u64;
        assert!(kept > 900, "{kept}");
        assert_eq!(data["truncated"], 3 + 5_000 - kept);
        assert!(many.stdout.starts_with(&format!("{} entries were left out", 5_000 - kept)));
    }

    #[test]
    fn every_shape_of_an_answer_fits_also_one_that_is_a_list_or_a_map_of_checks() {
        let unit = |at| json!({"name": format!("u{at}"), "description": "x".repeat(300), "sub_state": "running"});
        let services = shortened(Outcome::data((0..9_000).map(unit).collect::<Vec<_>>().into()));
        assert!(services.stdout.contains("left out") && services.data.unwrap().is_array());
        let lines: Vec<Value> =
            (0..4_000).map(|at| format!("{at} {}", "é".repeat(60)).into()).collect();
        let check = json!({"status": "warning", "message": "many", "details": {"lines": lines}});
        let checks = shortened(Outcome::data(
            json!({"event_log_errors": check, "checks": [check], "overall_health": "Warning"}),
        ));
        assert_eq!(checks.data.unwrap()["event_log_errors"]["status"], "warning");
        shortened(Outcome::data(json!({"text": "\u{1}".repeat(200_000)})));
        let failed = Outcome {
            stdout: "x".repeat(256 * 1024),
            stderr: "é".repeat(256 * 1024),
            ..Outcome::failed("é".repeat(9_000))
        };
        assert!(shortened(failed.clone()).stdout.contains("bytes left out"));
        shortened(Outcome { data: Some(packages(5_000)), ..failed });
    }
}
