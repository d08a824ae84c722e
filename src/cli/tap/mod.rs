//! `tap STAGE`: what comes out of a stage of the running agent, line by line. The agent is asked; the flow does not wait.

mod filter;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::paint::{Colour, Paint};
use super::running::{RunningAgent, another_question, unanswered, why_unanswered};
use super::{exit_code, print};
use crate::agent::control::{Answer, TapRequest, Tapped, look};
use crate::pipeline::tap::RATE_MAX;
use crate::wire::{shown, shown_json};
use filter::Filter;

/// How often the time is looked at.
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  infiniservice tap join
  infiniservice tap logs/filter --filter 'level = error and user.id > 5'
  infiniservice tap serialize --pipeline metrics --format json --for 1m | jq .

`infiniservice graph` shows the stages; the second one of a name is NAME#2.
For an unknown stage, the known ones are listed.")]
pub(super) struct Tap {
    /// The stage whose output is shown: NAME, or PIPELINE/NAME
    stage: String,

    /// The pipeline of the stage, where several have one of its name
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,

    /// Readable text, or each line as it is
    #[arg(long, value_enum, default_value_t = Format::Pretty)]
    format: Format,

    /// Show at most this many lines a second, 1 to 1000, and count the others
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    rate: u32,

    /// Show only lines that match; at most 1000 lines a second are examined
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<Filter>,

    /// End after this time [default: at Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,

    #[command(flatten)]
    agent: RunningAgent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Pretty,
    Json,
}

impl Tap {
    pub(super) fn main(self) -> ExitCode {
        let socket = match self.agent.socket() {
            Ok(socket) => socket,
            Err(code) => return code,
        };
        let request = TapRequest {
            stage: self.stage.clone(),
            pipeline: self.pipeline.clone(),
            // What the filter leaves out is not shown, so it may look at more.
            rate: if self.filter.is_some() { RATE_MAX } else { self.rate },
        };
        let mut view = View {
            paint: Paint::of_stdout(),
            format: self.format,
            filter: self.filter,
            rate: self.rate,
            second: Instant::now(),
            shown: 0,
            skipped: 0,
            total: 0,
        };
        let end = self.time.map(|time| Instant::now() + time);
        let mut code = ExitCode::SUCCESS;
        let looked = look(&socket, &request, PATIENCE, &mut |answer| {
            let mut goes_on = true;
            match answer {
                None => {}
                Some(Answer::Tapping(stage)) => view.print_start(&stage),
                Some(Answer::Tapped(tapped)) => {
                    let printed = print(view.text(&tapped).as_bytes());
                    goes_on = printed.is_ok();
                    code = exit_code(printed);
                }
                Some(Answer::Refused(why)) => {
                    code = unanswered(&format!("the agent refuses: {why}"));
                    goes_on = false;
                }
                Some(_) => {
                    code = another_question();
                    goes_on = false;
                }
            }
            goes_on && end.is_none_or(|end| Instant::now() < end)
        });
        match looked {
            Ok(()) => view.print_end(),
            Err(error) => return unanswered(&why_unanswered(&socket, &error, PATIENCE, "")),
        }
        code
    }
}

/// What is shown, and what was not.
struct View {
    paint: Paint,
    format: Format,
    filter: Option<Filter>,
    rate: u32,
    /// When the current second began, and how many lines were shown in it.
    second: Instant,
    shown: u32,
    /// Lines that were not shown since this was last said, and in all.
    skipped: u64,
    total: u64,
}

impl View {
    fn print_start(&self, stage: &str) {
        super::complain(&format!("infiniservice: looking at {}; Ctrl-C ends it", shown(stage)));
    }

    fn print_end(&self) {
        if self.total > 0 {
            super::complain(&format!("infiniservice: skipped in all: {}", self.total));
        }
    }

    /// The lines to print.
    fn text(&mut self, tapped: &Tapped) -> String {
        let mut text = String::new();
        self.skipped += tapped.skipped;
        for line in &tapped.lines {
            if self.filter.as_ref().is_some_and(|filter| !filter.matches(line)) {
                continue;
            }
            if self.second.elapsed() >= Duration::from_secs(1) {
                (self.second, self.shown) = (Instant::now(), 0);
            }
            if self.filter.is_some() && self.shown >= self.rate {
                self.skipped += 1;
                continue;
            }
            self.shown += 1;
            match self.format {
                Format::Json => text.push_str(&(shown_json(line) + "\n")),
                Format::Pretty => pretty(self.paint, line, &mut text),
            }
        }
        if self.skipped > 0 {
            self.total += self.skipped;
            let note = format!("… skipped: {}", std::mem::take(&mut self.skipped));
            match self.format {
                // Standard output is for lines.
                Format::Json => super::complain(&format!("infiniservice: {note}")),
                Format::Pretty => text.push_str(&(self.paint.in_colour(Colour::Dim, &note) + "\n")),
            }
        }
        text
    }
}

/// A line of JSON as `name=value`, what is inside an object under its name; any other line as it is.
fn pretty(paint: Paint, line: &str, text: &mut String) {
    let Ok(Value::Object(members)) = serde_json::from_str(line) else {
        return paint.wrapped(text, 0, None, &shown(line));
    };
    let is_group = |value: &Value| {
        value.is_object() || value.as_array().is_some_and(|list| list.iter().any(Value::is_object))
    };
    let plain: Vec<String> = members
        .iter()
        .filter(|(_, value)| !is_group(value))
        .map(|(name, value)| pair(name, value))
        .collect();
    let first = if plain.is_empty() { "{}".to_owned() } else { plain.join("  ") };
    paint.wrapped(text, 0, Some(Colour::Bold), &shown(&first));
    for (name, value) in members.iter().filter(|(_, value)| is_group(value)) {
        group(paint, name, value, text);
    }
}

/// The values inside of an object, or of each object of a list, on lines of their own.
fn group(paint: Paint, name: &str, value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                group(paint, &format!("{name}[{index}]"), item, text);
            }
        }
        value => {
            let mut pairs = Vec::new();
            flatten("", value, &mut pairs);
            paint.wrapped(text, 2, None, &shown(&format!("{name}: {}", pairs.join("  "))));
        }
    }
}

fn flatten(path: &str, value: &Value, pairs: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, pairs);
            }
        }
        value => pairs.push(pair(path, value)),
    }
}

fn pair(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(char::is_whitespace) => {
            format!("{name}={text}")
        }
        value if name.is_empty() => value.to_string(),
        value => format!("{name}={value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(format: Format, filter: Option<&str>) -> View {
        View {
            paint: Paint::fixed(false),
            format,
            filter: filter.map(|text| text.parse().unwrap()),
            rate: 2,
            second: Instant::now() + Duration::from_secs(3_600),
            shown: 0,
            skipped: 0,
            total: 0,
        }
    }

    fn tapped(lines: &[&str], skipped: u64) -> Tapped {
        Tapped { lines: lines.iter().map(ToString::to_string).collect(), skipped }
    }

    #[test]
    fn a_reading_is_shown_within_eighty_columns_and_nothing_of_it_moves_the_cursor() {
        let line = r#"{"timestamp":"2026-01-01T00:00:00.000Z","sequence":3,"cpu":{"usage_percent":5.0,"cores_usage_percent":[4.0,6.0],"seconds":{"user":1.5}},"disk":{"mounts":[{"mount_point":"/a b","filesystem":"ext4"}]},"ports":[{"port":22},{"port":80}],"tags":{"x":"\u001b[2J"}}"#;
        let expected = "\
sequence=3  timestamp=2026-01-01T00:00:00.000Z
  cpu: cores_usage_percent=[4.0,6.0]  seconds.user=1.5  usage_percent=5.0
  disk: mounts=[{\"filesystem\":\"ext4\",\"mount_point\":\"/a b\"}]
  ports[0]: port=22
  ports[1]: port=80
  tags: x=\\u{1b}[2J
… skipped: 7
";
        assert_eq!(view(Format::Pretty, None).text(&tapped(&[line], 7)), expected);
    }

    #[test]
    fn a_filter_leaves_lines_out_and_what_is_beyond_the_rate_is_counted() {
        let mut view = view(Format::Json, Some("n > 1"));
        let lines = [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#, r#"{"n":4}"#, "cpu n=5"];
        assert_eq!(view.text(&tapped(&lines, 1)), "{\"n\":2}\n{\"n\":3}\n");
        assert_eq!(view.total, 2);
    }
}
