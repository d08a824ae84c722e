//! What a host can make the agent hold at once: the real program, against what `validate` promises and under a
//! limit of the kernel.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use infiniservice::host::Secret;
use infiniservice::host::{Host, Listener, Settings, payload};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::flows::{COMMANDS, SECRET, WHOLE, metrics};
use support::{PATIENCE, Running};
use tempfile::TempDir;

/// Lines with scripts: more than the ceiling has room for.
const MESSAGES: usize = 4;

/// Lines of 8 MiB, by a program that is not optimized, on a busy machine.
const SLOW: Duration = Duration::from_secs(240);

struct Lab {
    folder: TempDir,
    listener: Listener,
}

impl Lab {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let pipelines = folder.path().join("pipelines");
        fs::create_dir(&pipelines).unwrap();
        let state = format!("[state]\nfolder = {:?}\n", folder.path().join("state"));
        for (name, text) in [
            ("metrics", metrics("200ms", WHOLE)),
            ("commands", format!("{COMMANDS}scripts = true\n")),
            ("agent", state),
        ] {
            fs::write(pipelines.join(format!("{name}.toml")), text).unwrap();
        }
        let listener = Listener::bind(&folder.path().join("host.sock")).await.unwrap();
        Self { folder, listener }
    }

    /// The program, started by way of `shell` where something is to be done before.
    fn start(&self, before: &str) -> Running {
        let port = format!("unix:{}", self.folder.path().join("host.sock").display());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{before} exec \"$@\""), "sh"]);
        command.arg(env!("CARGO_BIN_EXE_infiniservice"));
        command.args(["run", "--port", &port, "--pipelines"]);
        command.arg(self.folder.path().join("pipelines")).env_clear();
        command.env("INFINISERVICE_SHARED_SECRET", SECRET).stdin(Stdio::null());
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        Running(command.stderr(log).spawn().unwrap())
    }

    async fn host(&self) -> Host {
        let secret = Secret::new(SECRET.as_bytes().to_vec());
        // A host that says often how far it has read: thousands of answers wait for that.
        let settings = Settings { secret, keep_alive: Some(Duration::from_millis(500)) };
        let host = tokio::time::timeout(PATIENCE, self.listener.accept(settings)).await;
        let host = host.unwrap().unwrap();
        host.clock_known(PATIENCE).await.unwrap();
        host
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// What `validate` says is held at most in addition to the program itself, in KiB.
    fn promised(&self) -> u64 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        let told =
            command.args(["validate", "-v"]).arg(self.folder.path().join("pipelines")).env_clear();
        let told = String::from_utf8(told.output().unwrap().stdout).unwrap();
        let (_, most) = told.split_once("memory: at most ").unwrap();
        (most.split(' ').next().unwrap().parse::<f64>().unwrap() * 1024.0) as u64
    }
}

/// A message with scripts, the first of which runs for longer than the test.
fn many_scripts(message: usize, count: usize) -> String {
    let script = |number: usize| {
        let content = if number == 0 { "sleep 90" } else { "" };
        format!(r#"{{"execution_id":"{message}-{number:06}","script_content":"{content}"}}"#)
    };
    let scripts = (0..count).map(script).collect::<Vec<_>>().join(",");
    format!(r#"{{"type":"pending_scripts_response","scripts":[{scripts}]}}"#)
}

#[tokio::test]
async fn lines_of_130_000_scripts_hold_what_validate_promises() {
    let lab = Lab::new().await;
    let agent = lab.start("");
    let host = lab.host().await;
    while host.next().await.unwrap().body["type"] != "metrics" {}
    let rest = agent.status("VmRSS:");
    let promised = lab.promised();
    let send = async {
        for message in 0..MESSAGES {
            let payload = many_scripts(message, 130_000);
            host.send(payload).await.unwrap();
        }
    };
    let mut refused = BTreeSet::new();
    let hear = async {
        while refused.len() < MESSAGES * 1_024 {
            let message = tokio::time::timeout(SLOW, host.next()).await.unwrap().unwrap();
            if let Some(id) = message.body["execution_id"].as_str() {
                assert_eq!(message.body["exit_code"], -1, "{}", message.body);
                refused.insert(id.to_owned());
            }
        }
        // Metrics flow on.
        while host.next().await.unwrap().body["type"] != "metrics" {}
    };
    tokio::join!(send, hear);
    let held = agent.status("VmHWM:") - rest;
    assert!(held < promised, "{held} KiB were held, {promised} are promised");
    for message in 0..MESSAGES {
        let of = refused.iter().filter(|id| id.starts_with(&format!("{message}-"))).count();
        assert_eq!(of, 1_024, "of message {message}");
    }
    assert!(refused.contains("0-000256") && !refused.contains("0-000255"));
    let log = lab.log();
    assert!(log.contains("more scripts came at once than are run"), "{log}");
    agent.signal(Signal::TERM);
    agent.end();
}

/// Signed messages of nearly 8 MiB, each of which took a multiple of that when it was made into values.
fn costly() -> Vec<(&'static str, String)> {
    let raw = |id: &str, more: &str| {
        format!(r#"{{"type":"UnsafeCommand","id":"{id}","raw_command":"true",{more}}}"#)
    };
    let safe = |id: &str, arguments: &str| {
        format!(
            r#"{{"type":"SafeCommand","id":"{id}","command_type":{{"action":"DiskCleanup",{arguments}}}}}"#
        )
    };
    let members = (0..400_000).map(|n| format!(r#""k{n:06}":0"#)).collect::<Vec<_>>().join(",");
    let zeros = format!("[{}0]", "0,".repeat(3_900_000));
    let text = "A".repeat(7_900_000);
    let escapes = r"\n".repeat(2_600_000);
    vec![
        ("members", raw("members", &format!(r#""env_vars":{{{members}}}"#))),
        ("values", raw("values", &format!(r#""env_vars":{{"A":{zeros},"=":0}}"#))),
        (
            "deep",
            raw("deep", &format!(r#""x":{}{}"#, "[".repeat(3_900_000), "]".repeat(3_900_000))),
        ),
        ("kind", raw("kind", &format!(r#""timeout":"{text}""#))),
        ("shell", raw("shell", &format!(r#""shell":"{text}""#))),
        ("folder", raw("folder", &format!(r#""working_dir":"/{text}""#))),
        ("escapes", raw("escapes", &format!(r#""timeout":"{escapes}""#))),
        ("targets", safe("targets", &format!(r#""targets":{zeros}"#))),
        ("limit", safe("limit", &format!(r#""limit":"{escapes}""#))),
        ("broken", raw("broken", &format!(r#""x":"{text}","y":"#))),
        (
            "unknown",
            safe("unknown", &format!(r#""x":0}},"y":{{{members}"#)).replace("DiskCleanup", "Dance"),
        ),
    ]
}

#[tokio::test]
async fn a_message_is_looked_through_before_anything_is_built_of_it() {
    let lab = Lab::new().await;
    let agent = lab.start("");
    let host = lab.host().await;
    while host.next().await.unwrap().body["type"] != "metrics" {}
    let (rest, promised) = (agent.status("VmRSS:"), lab.promised());
    for (id, payload) in costly() {
        agent.forget_peak();
        host.send(payload).await.unwrap();
        let answer = loop {
            let message = tokio::time::timeout(SLOW, host.next()).await.unwrap().unwrap();
            if message.body["id"] == id {
                break message.body;
            }
        };
        assert!(answer["success"] == false || id == "deep", "{answer}");
        assert!(answer["error"].as_str().is_none_or(|error| error.len() < 300), "{answer}");
        let held = agent.status("VmHWM:") - rest;
        // The line, its text, and what the text was made of: no more of it at any time.
        assert!(held < 20 << 10, "{id}: {held} KiB were held");
        assert!(held < promised, "{id}: {held} KiB were held, {promised} are promised");
    }
    agent.signal(Signal::TERM);
    agent.end();
}

/// A control group with a memory limit, where one can be made.
struct Limited(PathBuf);

impl Limited {
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("infiniservice-test.{}", std::process::id());
        let tries =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        tries.iter().find_map(|(parent, file)| {
            let group = Self(Path::new(parent).join(&name));
            fs::create_dir(&group.0).ok()?;
            // Where the file is not there already, the controller is not for us.
            let limit = group.0.join(file);
            (limit.exists() && fs::write(limit, bytes.to_string()).is_ok()).then_some(group)
        })
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let begun = Instant::now();
        while fs::remove_dir(&self.0).is_err() && begun.elapsed() < Duration::from_secs(2) {
            std::thread::yield_now();
        }
    }
}

#[tokio::test]
async fn in_a_control_group_of_16_mib_long_lines_and_a_flood_leave_the_agent_alive() {
    let Some(group) = Limited::new(16 << 20) else {
        eprintln!("skipped: no control group with a memory limit can be made here");
        return;
    };
    let lab = Lab::new().await;
    let mut agent = lab.start(&format!("echo $$ > {}/cgroup.procs &&", group.0.display()));
    let host = lab.host().await;
    let log = lab.log();
    assert!(log.contains("the memory limit is small") && log.contains("16.0 MiB"), "{log}");
    host.send(many_scripts(0, 130_000)).await.unwrap();
    let command = |id: String| {
        let env = json!({ "A": "x".repeat(100_000) });
        json!({"type": "UnsafeCommand", "id": id, "raw_command": "sleep 90", "env_vars": env, "timeout": 90})
    };
    let send = async {
        for number in 0..200 {
            host.send(command(format!("c{number}")).to_string()).await.unwrap();
        }
        for number in 0..3_000 {
            let action = json!({"action": "SystemInfo"});
            let id = format!("s{number}");
            host.send(payload::safe_command(&id, &action, PATIENCE)).await.unwrap();
        }
    };
    let mut answers = BTreeSet::new();
    let hear = async {
        while !answers.contains("s2999") {
            let message = tokio::time::timeout(SLOW, host.next()).await;
            let body: std::sync::Arc<Value> = match message {
                Ok(Ok(message)) => message.body,
                gone => panic!("the host lost the agent: {:?}", gone.map(|one| one.is_ok())),
            };
            if let Some(id) = body["id"].as_str() {
                answers.insert(id.to_owned());
            }
        }
    };
    tokio::join!(send, hear);
    assert!(agent.0.try_wait().unwrap().is_none(), "{}", lab.log());
    agent.signal(Signal::TERM);
    agent.end();
}
