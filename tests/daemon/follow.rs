//! The program follows files, is killed and started again, and no line is missing.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::given::until;
use super::support::{Place, Running};

fn agent(place: &Place, pipeline: &Path) -> Running {
    let mut agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    agent.args(["run", "--pipelines"]).arg(pipeline);
    agent.arg("--state").arg(place.folder.path().join("state"));
    Running(agent.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
}

fn pipeline(place: &Place, lines: &str) -> std::path::PathBuf {
    let folder = place.folder.path().display();
    let text = format!(
        "[[read]]\nlines = {{ file = \"{folder}/app.log*\"{lines} }}\n[batch]\nmax_delay = \"20ms\"\n\
         [write]\nfile = {{ path = \"{folder}/out\", max_size = \"1GiB\" }}\n"
    );
    place.file("logs.toml", &text)
}

/// The numbers of the lines in the output.
fn numbers(place: &Place) -> Vec<u64> {
    let text = fs::read_to_string(place.folder.path().join("out")).unwrap_or_default();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let number = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["n"].as_u64().unwrap()
    };
    whole.lines().map(number).collect()
}

#[test]
fn an_agent_that_is_killed_again_and_again_loses_no_line_and_keeps_their_order() {
    const LINES: u64 = 20_000;
    const KILLS: u64 = 8;
    let place = Place::new();
    let file = pipeline(&place, "");
    let (log, old) = (place.folder.path().join("app.log"), place.folder.path().join("app.log.1"));
    let mut running = Some(agent(&place, &file));
    let mut written = 0;
    for part in 1..=KILLS {
        let end = LINES * part / KILLS;
        while written < end {
            let mut writer = OpenOptions::new().append(true).create(true).open(&log).unwrap();
            for _ in 0..500 {
                writeln!(writer, "{{\"n\":{written}}}").unwrap();
                written += 1;
            }
            // What is rotated twice before it is read is gone for good.
            if written % 1500 == 0
                && (!old.exists() || numbers(&place).last() >= Some(&(written - 1500)))
            {
                fs::rename(&log, &old).unwrap();
            }
        }
        let seen = end - LINES / KILLS;
        until("lines are written", || numbers(&place).last() >= Some(&seen));
        if let Some(mut agent) = running.take() {
            agent.0.kill().unwrap();
            agent.0.wait().unwrap();
        }
        running = Some(agent(&place, &file));
    }
    until("the last line is written", || numbers(&place).last() == Some(&(LINES - 1)));
    let agent = running.take().unwrap();
    agent.signal(Signal::TERM);
    let (code, log) = agent.end();
    assert_eq!(code, Some(0), "{log}");
    let numbers = numbers(&place);
    let (mut next, mut again) = (0, 0);
    for pair in numbers.windows(2) {
        next = next.max(pair[0] + 1);
        assert!(pair[1] <= next, "{} is followed by {}", pair[0], pair[1]);
        again += u64::from(pair[1] != pair[0] + 1);
    }
    assert!(again <= KILLS, "lines come again after a kill only: {again}");

    // After an orderly end nothing comes again.
    let before = numbers.len();
    let agent = self::agent(&place, &pipeline(&place, ", until_end = true"));
    let (code, log) = agent.end();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(self::numbers(&place).len(), before);
}

#[test]
fn a_file_is_read_to_its_end_and_the_run_ends() {
    let place = Place::new();
    let log = place.folder.path().join("app.log");
    fs::write(&log, "{\"n\":0}\n{\"n\":1}\n{\"n\":2}").unwrap();
    for run in 1..=2 {
        let file = pipeline(&place, ", until_end = true, keep_position = false");
        let (code, log) = agent(&place, &file).end();
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(numbers(&place), [0, 1, 2].repeat(run));
    }
}
