//! How an unusable spool is reported by the real program: to the host, in the log, and by `infiniservice spool`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use support::{Place, Running, line};

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const COMMANDS: &str = r#"
[receive]
port = "org.infinibay.agent"
[verify]
secret = "env:INFINISERVICE_SHARED_SECRET"
[enforce]
allow = ["*"]
"#;

/// An agent with its state in a folder that is there, and the folder.
fn agent(place: &Place, prepare: impl Fn(&Path)) -> (Running, PathBuf) {
    let state = place.folder.path().join("state");
    let pipelines = place.folder.path().join("pipelines");
    fs::create_dir(&state).unwrap();
    fs::create_dir(&pipelines).unwrap();
    prepare(&state.join("spool"));
    place.file("pipelines/commands.toml", COMMANDS);
    let agent = format!("host = \"own\"\n[state]\nfolder = {state:?}\n[reload]\nwatch = false\n");
    place.file("pipelines/agent.toml", &agent);
    (place.run(&pipelines, &[("INFINISERVICE_SHARED_SECRET", KEY)]), state)
}

/// The next event that begins like this.
fn event(host: &mut impl BufRead, begins: &str) -> Value {
    loop {
        let line: Value = serde_json::from_str(&line(host)).unwrap();
        if line["type"] == "agent_event"
            && line["message"].as_str().unwrap_or_default().contains(begins)
        {
            return line;
        }
    }
}

/// The exit code and the whole output.
fn spool(what: &str, state: &Path) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    let output = command.args(["spool", what, "--state"]).arg(state).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn an_unusable_spool_is_reported_to_the_host_and_the_cli_and_its_loss_is_logged() {
    let place = Place::new();
    let (agent, state) = agent(&place, |spool| fs::create_dir(spool).unwrap());
    let mut host = place.host();
    let reported = event(&mut host, "durable messages are kept in memory only");
    assert_eq!((&reported["source"], &reported["severity"]), (&"spool".into(), &"warn".into()));
    let message = reported["message"].as_str().unwrap();
    assert!(message.contains("state/spool: is a directory"), "{message}");
    assert_eq!(reported["context"]["state"], "memory");

    // The host answers no question, so that event is one of those that wait.
    let holds = |shown: &str| {
        let held = shown.split_once("the agent that runs holds ").unwrap().1;
        let count = held.split(' ').next().unwrap().parse::<u64>().unwrap();
        assert!(held.contains("in memory only: cannot use "), "{shown}");
        count
    };
    let (_, shown) = spool("ls", &state);
    assert!(holds(&shown) > 0 && !shown.contains("nothing waits"), "{shown}");
    fs::remove_dir(state.join("spool")).unwrap();
    for (what, expected) in [("ls", 0), ("check", 1)] {
        let (code, shown) = spool(what, &state);
        assert_eq!(code, expected, "{shown}");
        assert!(holds(&shown) > 0 && !shown.contains("nothing waits for"), "{shown}");
    }
    agent.signal(Signal::TERM);
    let (_, log) = agent.end();
    let last = "what was in memory only is lost with the agent";
    let line = log.lines().find(|line| line.contains(last)).expect(&log);
    assert!(line.contains("WARN") && line.contains("items="), "{line}");
}

#[test]
fn a_file_that_is_no_spool_is_set_aside_and_the_host_is_notified_of_the_loss() {
    let place = Place::new();
    let (agent, state) = agent(&place, |spool| fs::write(spool, "IBSPOOL\x02 and more").unwrap());
    let mut host = place.host();
    let reported = event(&mut host, "1 lost, most of them (1) at spool ");
    assert_eq!(reported["context"]["lost"][0]["reason"], "damaged");
    assert_eq!(fs::read(state.join("spool.damaged")).unwrap(), b"IBSPOOL\x02 and more");
    let (code, shown) = spool("check", &state);
    assert!(code == 0 && shown.contains(": ok ("), "{shown}");
    agent.signal(Signal::TERM);
    let (_, log) = agent.end();
    assert!(log.contains("it is kept as spool.damaged"), "{log}");
    assert!(!log.contains("is lost with the agent"), "{log}");
}
