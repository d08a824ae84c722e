//! Prometheus' own programs, of Debian's package `prometheus`.

use std::io::Write;
use std::process::{Command, Stdio};

/// Whether `tool` is there, with a line that says so where not. Where everything must run (`CI`, `INFINISERVICE_REQUIRE_VM`), a
/// missing one fails.
pub fn has(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok();
    let is_set =
        |name| std::env::var(name).is_ok_and(|value| !["", "0", "false"].contains(&&*value));
    let must = is_set("CI") || is_set("INFINISERVICE_REQUIRE_VM");
    assert!(there || !must, "{tool} is missing");
    if !there {
        eprintln!("NOT RUN: {tool} is missing");
    }
    there
}

/// Holds what is served to Prometheus against its own checker, where there is one.
pub fn check_metrics(text: &str) {
    if has("promtool") {
        promtool(&["check", "metrics"], text);
    }
}

/// `promtool` with these words and `input`; it must find nothing wrong.
pub fn promtool(words: &[&str], input: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(words);
    let pipes = promtool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = pipes.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = promtool.wait_with_output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{}\n{input}", String::from_utf8_lossy(&said));
}
