//! `infiniservice test FILE…`: unit tests of pipelines. What is given goes through the real stages, and what comes out is
//! compared with what is expected.

mod diff;
mod flow;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::paint::{Colour, Paint};
use super::{report, say, unless};
use crate::config::{ConfigError, Expected, Matching, TestFile, load_tests, test_files};
use crate::wire::shown;
use diff::{Row, compare, differences, json};
use flow::{Flow, TestOutput};

/// A test has failed.
const EXIT_FAILED: u8 = 1;

/// Lines of one comparison that are shown; of more only the number.
const ROWS_MAX: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Test {
    /// Files of tests, or folders of them
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Test {
    pub(super) fn main(self) -> ExitCode {
        let (loaded, wrong) = load_all(&self.files);
        if !wrong.is_empty() {
            return report(&wrong);
        }
        let paint = Paint::of_stdout();
        let (mut text, mut failed, mut total) = (String::new(), 0, 0);
        for Loaded { origin, file, flow } in &loaded {
            let _ = writeln!(text, "{origin}"); // a text takes what is written
            for case in &file.test {
                total += 1;
                let failures = failures(flow, case, paint);
                let (word, colour) = match failures.is_empty() {
                    true => ("ok  ", Colour::Green),
                    false => ("FAIL", Colour::Red),
                };
                let _ = writeln!(text, "  {} {}", paint.in_colour(colour, word), case.name);
                text.push_str(&failures);
                failed += usize::from(!failures.is_empty());
            }
        }
        let tests = if total == 1 { "test" } else { "tests" };
        let _ = writeln!(text, "\n{total} {tests}, {failed} failed");
        unless(say(&text), if failed == 0 { 0 } else { EXIT_FAILED })
    }
}

/// A file of tests and its pipeline.
struct Loaded {
    origin: String,
    file: TestFile,
    flow: Flow,
}

/// All files of tests; and all that is wrong with them and with their pipelines.
fn load_all(paths: &[PathBuf]) -> (Vec<Loaded>, Vec<ConfigError>) {
    let (mut loaded, mut wrong) = (Vec::new(), Vec::new());
    for path in paths {
        match test_files(path) {
            Err(error) => wrong.push(error),
            Ok(files) => {
                for file in files {
                    match load_one(&file) {
                        Ok(one) => loaded.push(one),
                        Err(mistakes) => wrong.extend(mistakes),
                    }
                }
            }
        }
    }
    (loaded, wrong)
}

fn load_one(path: &Path) -> Result<Loaded, Vec<ConfigError>> {
    let (mut flow, mut of_pipeline) = (None, Vec::new());
    let read = load_tests(path, &|name| std::env::var(name).ok(), &mut |file| match Flow::load(
        path,
        &file.pipeline,
    ) {
        Ok(found) => flow.insert(found).mistakes(file),
        Err(wrong) => {
            of_pipeline = wrong;
            Vec::new()
        }
    });
    match (read, flow) {
        (Ok((origin, file)), Some(flow)) => Ok(Loaded { origin, file, flow }),
        (Ok((origin, file)), None) if of_pipeline.is_empty() => {
            let message = format!("{} holds no pipeline", file.pipeline.display());
            let help = "name a file that collects metrics or reads records";
            Err(vec![ConfigError::of_file(origin, message, Some(help))])
        }
        (Ok(_), None) => Err(of_pipeline),
        (Err(mut wrong), _) => {
            wrong.extend(of_pipeline);
            Err(wrong)
        }
    }
}

/// What is not as expected; empty where all is.
fn failures(flow: &Flow, case: &crate::config::TestCase, paint: Paint) -> String {
    let (stages, mut text) = (flow.stages(), String::new());
    for expected in &case.expect {
        let after = expected.after.as_deref().unwrap_or("serialize");
        let last = stages.iter().position(|stage| stage == after).unwrap_or(stages.len() - 1);
        let differences = differs(expected, &flow.run(case, last), paint);
        if !differences.is_empty() {
            let _ = writeln!(text, "       after {after}");
            text.push_str(&differences);
        }
    }
    text
}

/// In what the outcome is not as expected.
fn differs(expected: &Expected, output: &TestOutput, paint: Paint) -> String {
    let mut text = String::new();
    let mut tell = |colour: Option<Colour>, line: &str| paint.wrapped(&mut text, 9, colour, line);
    if let Some(lines) = &expected.lines {
        let rows = compare(&lines.0, &output.lines, expected.matching);
        let is_wrong = |row: &&Row<'_>| **row != Row::Same;
        let wrong = rows.iter().filter(is_wrong).count();
        for row in rows.iter().filter(is_wrong).take(ROWS_MAX) {
            match row {
                Row::Same => {}
                Row::Missing(line) => tell(Some(Colour::Red), &format!("- {}", shown(line))),
                Row::Extra(line) => tell(Some(Colour::Green), &format!("+ {}", shown(line))),
                Row::Changed(one, other) => changed(one, other, expected.matching, &mut tell),
            }
        }
        if wrong > 0 {
            let same = rows.len() - wrong;
            let more = wrong.saturating_sub(ROWS_MAX);
            let more = if more > 0 { format!("; {more} more differ") } else { String::new() };
            tell(
                None,
                &format!(
                    "expected {}, came {}; {same} as expected{more}",
                    lines.0.len(),
                    output.lines.len()
                ),
            );
        }
    }
    if let Some(dropped) = &expected.dropped
        && *dropped != output.dropped
    {
        let list = |counts: &std::collections::BTreeMap<String, u64>| match counts.is_empty() {
            true => "nothing".to_owned(),
            false => {
                let counts: Vec<String> =
                    counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
                counts.join(", ")
            }
        };
        tell(Some(Colour::Red), &format!("- dropped {}", list(dropped)));
        tell(Some(Colour::Green), &format!("+ dropped {}", list(&output.dropped)));
    }
    text
}

/// Shows a line that has another one in its place; of two objects only what differs.
fn changed(
    expected: &str,
    found: &str,
    matching: Matching,
    tell: &mut dyn FnMut(Option<Colour>, &str),
) {
    let differences = match (json(expected), json(found)) {
        (Some(expected), Some(found)) => differences(&expected, &found, matching),
        _ => Vec::new(),
    };
    if differences.is_empty() || differences.iter().any(|(way, ..)| way.is_empty()) {
        tell(Some(Colour::Red), &format!("- {}", shown(expected)));
        tell(Some(Colour::Green), &format!("+ {}", shown(found)));
        return;
    }
    for (way, expected, found) in differences {
        let text = |value: Option<Value>| match value {
            Some(value) => shown(&value.to_string()),
            None => "(nothing)".to_owned(),
        };
        tell(Some(Colour::Red), &format!("- {}: {}", shown(&way), text(expected)));
        tell(Some(Colour::Green), &format!("+ {}: {}", shown(&way), text(found)));
    }
}
