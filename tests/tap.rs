//! `infiniservice tap` of a running agent: flows of metrics and of records, and what looking costs.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A running agent, killed when this is dropped.
struct Agent {
    folder: TempDir,
    child: Child,
    stdin: ChildStdin,
}

impl Agent {
    /// Runs the files, and waits until it can be asked.
    fn run(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pipelines = folder.path().join("pipelines");
        std::fs::create_dir(&pipelines).unwrap();
        for (name, text) in files {
            std::fs::write(pipelines.join(name), text).unwrap();
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_infiniservice"))
            .args(["run", "--pipelines"])
            .arg(&pipelines)
            .arg("--state")
            .arg(folder.path().join("state"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        while !folder.path().join("state/control.sock").exists() {
            assert_eq!(child.try_wait().unwrap(), None, "it has ended");
            std::thread::yield_now();
        }
        Self { folder, child, stdin }
    }

    fn tap(&self, arguments: &[&str]) -> Command {
        let mut tap = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        tap.arg("tap").args(arguments).arg("--state").arg(self.folder.path().join("state"));
        tap.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        tap
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const METRICS: &str = "[[collect]]\nevery = \"100ms\"\nfrom = [\"load\"]\n[[enrich]]\ntags = { site = \"lab\" }\n\
    [batch]\nmax_items = 1\n[serialize]\nformat = \"influx\"\n[write]\nnull = true\n";
const RECORDS: &str = "[[read]]\nlines = { stdin = true }\n[[transform]]\nfilter = { field = \"n\", greater = 1 }\n\
    [[transform]]\ntags = { site = \"lab\" }\n[batch]\nmax_delay = \"10ms\"\n[write]\nnull = true\n";

/// Ends a look once it has shown `lines`, which are returned.
fn first_lines(mut tap: Command, lines: usize, mut when_begun: impl FnMut()) -> Vec<String> {
    let mut tap = tap.spawn().unwrap();
    let mut said = BufReader::new(tap.stderr.take().unwrap());
    let mut first = String::new();
    said.read_line(&mut first).unwrap();
    assert!(first.starts_with("infiniservice: looking at "), "{first}");
    when_begun();
    let out = BufReader::new(tap.stdout.take().unwrap());
    let shown: Vec<String> = out.lines().take(lines).map(Result::unwrap).collect();
    tap.kill().unwrap();
    tap.wait().unwrap();
    shown
}

#[test]
fn readings_are_shown_behind_each_stage_as_they_are_there() {
    let agent = Agent::run(&[("metrics.toml", METRICS)]);
    let lines = first_lines(agent.tap(&["tags", "--format", "json"]), 2, || {});
    let readings: Vec<Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let number = |reading: &Value| reading["sequence"].as_u64().unwrap();
    assert!(readings.iter().all(|reading| reading["tags"]["site"] == "lab"), "{readings:?}");
    assert_eq!(number(&readings[1]), number(&readings[0]) + 1);
    let before = first_lines(agent.tap(&["collect", "--format", "json"]), 1, || {});
    let frames = first_lines(agent.tap(&["metrics/serialize"]), 1, || {});
    assert!(frames[0].contains("load") && frames[0].contains("site=lab"), "{frames:?}");
    let reading: Value = serde_json::from_str(&before[0]).unwrap();
    assert!(reading.get("tags").is_none(), "{before:?}");
}

#[test]
fn records_are_shown_behind_each_transform_with_the_filter_and_the_count_of_the_rest() {
    let mut agent = Agent::run(&[("logs.toml", RECORDS)]);
    let lines = |from: u32| {
        (from..from + 50).map(|n| format!("{{\"n\":{n},\"odd\":{}}}\n", n % 2)).collect::<String>()
    };
    let tap = agent.tap(&["filter", "--pipeline", "logs", "--format", "json"]);
    let mut write = |from| agent.stdin.write_all(lines(from).as_bytes()).unwrap();
    let shown = first_lines(tap, 10, || write(0));
    assert_eq!(shown[0], "{\"n\":2,\"odd\":0}");
    assert!(shown.iter().all(|line| !line.contains("site")), "{shown:?}");
    let tap = agent.tap(&["tags", "--format", "json", "--filter", "odd = 1 and n > 125"]);
    let mut write = |from| agent.stdin.write_all(lines(from).as_bytes()).unwrap();
    let shown = first_lines(tap, 2, || write(100));
    assert_eq!(shown[0], "{\"n\":127,\"odd\":1,\"site\":\"lab\"}");
    assert_eq!(shown[1], "{\"n\":129,\"odd\":1,\"site\":\"lab\"}");
    let mut tap = agent.tap(&["tags", "--rate", "3"]);
    let mut tap = tap.spawn().unwrap();
    let mut said = BufReader::new(tap.stderr.take().unwrap());
    said.read_line(&mut String::new()).unwrap();
    agent.stdin.write_all(lines(200).as_bytes()).unwrap();
    let out = BufReader::new(tap.stdout.take().unwrap());
    let mut skipped = 0;
    for line in out.lines().map(Result::unwrap) {
        let count = line.strip_prefix("… skipped: ");
        skipped += count.map_or(0, |count| count.parse::<u32>().unwrap());
        if skipped == 47 {
            break;
        }
    }
    tap.kill().unwrap();
    tap.wait().unwrap();
}

#[test]
fn a_stage_that_is_not_there_is_refused_with_those_that_are() {
    let agent = Agent::run(&[("metrics.toml", METRICS)]);
    let output = agent.tap(&["rates"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("there is no stage rates; there are metrics/"), "{said}");
    let none = Command::new(env!("CARGO_BIN_EXE_infiniservice"))
        .args(["tap", "x", "--state"])
        .arg(Path::new("/nowhere"))
        .output()
        .unwrap();
    assert_eq!(none.status.code(), Some(1));
}
