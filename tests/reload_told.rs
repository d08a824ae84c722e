//! What a reload tells, by the real program: the host, the log, and who asked; and who is not taken for an agent.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;
use support::flows::{WHOLE, metrics};
use support::{PATIENCE, Place, Running, line};

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const COMMANDS: &str = r#"
[receive]
port = "org.infinibay.agent"
[verify]
secret = "env:INFINISERVICE_SHARED_SECRET"
[enforce]
allow = ["*"]
"#;

/// An agent's files, and the socket of its host.
struct Lab(Place);

impl Lab {
    fn new() -> Self {
        let lab = Self(Place::new());
        std::fs::create_dir(lab.pipelines()).unwrap();
        lab.write("commands.toml", COMMANDS);
        lab.write("agent.toml", &lab.agent(""));
        lab
    }

    fn pipelines(&self) -> PathBuf {
        self.0.folder.path().join("pipelines")
    }

    fn state(&self) -> PathBuf {
        self.0.folder.path().join("state")
    }

    fn agent(&self, more: &str) -> String {
        format!(
            "host = \"own\"\n[state]\nfolder = {:?}\n[reload]\nwatch = false\n{more}",
            self.state()
        )
    }

    fn write(&self, name: &str, text: &str) {
        self.0.file(&format!("pipelines/{name}"), text);
    }

    fn start(&self) -> Running {
        self.0.run(&self.pipelines(), &[("INFINISERVICE_SHARED_SECRET", KEY)])
    }

    /// Asks for a reload by where the agent's files are.
    fn reload(&self) -> Output {
        reload(&["--pipelines", self.pipelines().to_str().unwrap()])
    }
}

fn reload(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    command.arg("reload").args(arguments).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The next event of `source`.
fn event(host: &mut impl BufRead, source: &str) -> Value {
    let begun = Instant::now();
    loop {
        let line: Value = serde_json::from_str(&line(host)).unwrap();
        if line["type"] == "agent_event" && line["source"] == source {
            return line;
        }
        assert!(begun.elapsed() < PATIENCE, "no event of {source} comes; {line} does");
    }
}

#[test]
fn the_host_gets_an_event_for_invalid_files_and_one_when_they_are_valid_again() {
    let lab = Lab::new();
    let agent = lab.start();
    let mut host = lab.0.host();
    line(&mut host);
    lab.write("commands.toml", &COMMANDS.replace("allow", "alow"));
    for _ in 0..2 {
        assert_eq!(lab.reload().status.code(), Some(78));
    }
    assert_eq!(event(&mut host, "reload")["severity"], "warn");
    lab.write("commands.toml", COMMANDS);
    assert_eq!(text(&lab.reload().stdout), "unchanged: commands\n");
    lab.reload();
    // Ten seconds after the one before: how the files are then.
    let told = event(&mut host, "reload");
    assert_eq!(told["severity"], "info");
    assert_eq!(told["message"], "the pipeline files are right again, and say the same as before");
    agent.signal(Signal::TERM);
    let (code, log) = agent.end();
    assert_eq!(code, Some(0));
    assert_eq!(log.matches("configuration is unchanged").count(), 2, "{log}");
}

#[test]
fn a_value_above_its_threshold_is_an_event_at_the_host_and_a_line_of_the_log() {
    let lab = Lab::new();
    let threshold = "[[enrich]]\nthreshold = { of = \"memory\", above = 0 }\n[batch]";
    lab.write("metrics.toml", &metrics("20ms", WHOLE).replace("[batch]", threshold));
    let agent = lab.start();
    let event = event(&mut lab.0.host(), "threshold");
    assert_eq!(event["severity"], "warn");
    let message = event["message"].as_str().unwrap();
    assert!(message.starts_with("memory is above 0 %: "), "{message}");
    let context = &event["context"];
    assert_eq!((&context["pipeline"], &context["of"]), (&"metrics".into(), &"memory".into()));
    agent.signal(Signal::TERM);
    let (_, log) = agent.end();
    assert_eq!(log.matches("memory is above 0 %: ").count(), 1, "{log}");
}

#[test]
fn an_agent_without_commands_reports_drops_and_reloads_to_its_host() {
    let lab = Lab::new();
    let quick = metrics("20ms", WHOLE);
    std::fs::remove_file(lab.pipelines().join("commands.toml")).unwrap();
    lab.write("metrics.toml", &format!("{quick}keep = 2\n"));
    let numbers = lab.0.folder.path().join("numbers");
    let (flow, _) = quick.split_once("[write]").unwrap();
    let flow = flow.replace("infinibay", "json-lines");
    lab.write("numbers.toml", &format!("{flow}[write]\nfile = {{ path = {numbers:?} }}\n"));
    let aside = lab.0.folder.path().join("aside");
    std::fs::rename(lab.0.socket(), &aside).unwrap();
    let _agent = lab.start();
    let begun = Instant::now();
    while std::fs::read_to_string(&numbers).map_or(0, |text| text.lines().count()) < 20 {
        assert!(begun.elapsed() < PATIENCE, "nothing is read");
        std::thread::yield_now();
    }
    std::fs::rename(&aside, lab.0.socket()).unwrap();
    let mut host = lab.0.host();
    line(&mut host);
    lab.write("metrics.toml", "nonsense");
    assert_eq!(lab.reload().status.code(), Some(78));
    assert_eq!(event(&mut host, "reload")["severity"], "warn");
    let lost = event(&mut host, "infiniservice");
    let lost = lost["context"]["lost"].as_array().unwrap();
    assert!(lost.iter().any(|lost| lost["reason"] == "overwritten"), "{lost:?}");

    // What goes is told, after an error too.
    std::fs::remove_file(lab.pipelines().join("numbers.toml")).unwrap();
    lab.write("metrics.toml", &format!("{quick}keep = 2\n"));
    assert_eq!(lab.reload().status.code(), Some(0));
    let told = event(&mut host, "reload");
    let expected = "the pipeline files are right again: pipeline numbers was removed";
    assert_eq!(told["message"], expected);
    assert_eq!(told["context"]["removed"], serde_json::json!(["numbers"]));
}

#[test]
fn settings_that_apply_at_once_are_distinguished_from_those_that_need_a_restart() {
    let lab = Lab::new();
    let _agent = lab.start();
    let mut host = lab.0.host();
    line(&mut host);
    lab.write("agent.toml", &lab.agent("[memory]\nceiling = \"4MiB\"\n[spool]\nsize = \"1MiB\"\n"));
    let expected = "unchanged: commands\n[memory] has changed and holds from now on\n\
                    [spool] has changed and is read at a start: restart the agent\n";
    assert_eq!(text(&lab.reload().stdout), expected);
    let told = event(&mut host, "reload");
    assert_eq!(told["message"], "the agent's settings in [memory] have changed");
    assert_eq!(told["context"]["restart"], serde_json::json!(["[spool]"]));
}

#[test]
fn the_agent_is_found_by_settings_that_are_wrong_and_not_by_files_that_are_not_there() {
    let lab = Lab::new();
    let mut agent = lab.start();
    let mut log = agent.log();
    let mut host = lab.0.host();
    line(&mut host);
    lab.write("agent.toml", &lab.agent("[spool]\nsize = \"1KiB\"\n"));
    let output = lab.reload();
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("is too small"), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("the agent goes on as it was"));

    let missing = lab.pipelines().join("none.toml");
    for path in ["/nonexistent", missing.to_str().unwrap()] {
        let output = reload(&["--pipelines", path]);
        assert_eq!(output.status.code(), Some(78));
        let said = text(&output.stderr);
        assert!(
            said.starts_with(&format!("infiniservice: there is no {path}; name what")),
            "{said}"
        );
    }
    let mut line = String::new();
    while !line.contains("configuration not reloaded") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the agent was asked once");
    }
}

#[test]
fn the_level_of_the_log_changes_for_a_time_and_goes_back() {
    let lab = Lab::new();
    let mut agent = lab.start();
    let mut log = agent.log();
    line(&mut lab.0.host());
    let state = lab.state();
    let level = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        command.args(["log", "--state", state.to_str().unwrap()]).args(arguments);
        let output = command.env_clear().output().unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    assert_eq!(level(&[]), (Some(0), "info\n".to_owned()));
    let (code, said) = level(&["error,infiniservice::prot=debug", "--for", "5m"]);
    assert!(said.starts_with("error,infiniservice::prot=debug for 5m, then info\n"), "{said}");
    assert!(code == Some(0) && said.contains("did you mean"), "{said}");
    lab.reload(); // which is logged at info
    assert_eq!(level(&["reset"]), (Some(0), "info\n".to_owned()));
    lab.write("commands.toml", &COMMANDS.replace("[\"*\"]", "[]"));
    lab.reload();
    let (_, said) = level(&["warn", "--for", "1s"]);
    assert_eq!(said, "warn for 1s, then info\n");
    let mut lines = String::new();
    while !lines.contains("the log has its configured level again") {
        assert!(log.read_line(&mut lines).unwrap() > 0, "{lines}");
    }
    assert!(!lines.contains("configuration is unchanged"), "{lines}");
    assert!(lines.contains("commands"), "{lines}");
    for wrong in
        [&["loud"][..], &["port=loud"], &["debug", "--for", "0s"], &["debug", "--for", "25h"]]
    {
        assert_eq!(level(wrong).0, Some(78), "{wrong:?}");
    }
    assert_eq!(level(&[]), (Some(0), "info\n".to_owned()), "a wrong one changes nothing");
}

#[test]
fn a_second_agent_with_the_same_state_folder_does_not_start_and_one_that_does_nothing_does() {
    let lab = Lab::new();
    let first = lab.start();
    line(&mut lab.0.host());
    let (code, said) = lab.start().end();
    assert_eq!(code, Some(78));
    let folder = lab.state().display().to_string();
    let expected =
        format!("infiniservice: another agent runs with the state folder {folder}, and two");
    assert!(said.contains(&expected), "{said}");

    // Without a secret nothing is done for a host.
    let mut look = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    let metrics = "[[collect]]\nevery = \"20ms\"\nfrom = [\"load\"]\n[serialize]\nformat = \"json-lines\"\n[write]\nstdout = true\n";
    let metrics = lab.0.file("metrics.toml", metrics);
    look.args(["run", "--pipelines"]).arg(metrics).arg("--pipelines").arg(lab.pipelines());
    let port = format!("unix:{}", lab.0.socket().display());
    look.args(["--port", &port]).env_clear().stdin(Stdio::null());
    let pipes = look.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut look = Running(pipes.spawn().unwrap());
    assert!(line(&mut BufReader::new(look.0.stdout.take().unwrap())).contains("load"));
    drop(look);

    // Whoever is started after a `kill -9` finds the folder free.
    first.signal(Signal::KILL);
    first.end();
    let second = lab.start();
    line(&mut lab.0.host());
    drop(second);
}
