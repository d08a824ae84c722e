//! The command flow of the real program, held by a host: what is asked is answered once, whatever else
//! goes on, and nothing that was not asked for rightly is done.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use infiniservice::commands::secret::Secret;
use infiniservice::host::{
    Host, Listener, RawCommand, Script, Settings, Shell, action, payload, uuid,
};
use infiniservice::wire::envelope;
use rustix::process::Signal;
use serde_json::json;
use support::{PATIENCE, Running};
use tempfile::TempDir;

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const METRICS: &str = r#"
[[collect]]
every = "200ms"
from = ["cpu", "memory", "load", "disk", "network"]
[batch]
max_items = 1
[serialize]
format = "infinibay"
[write]
port = "org.infinibay.agent"
"#;

const COMMANDS: &str = r#"
[receive]
port = "org.infinibay.agent"
[verify]
secret = "env:INFINISERVICE_SHARED_SECRET"
[enforce]
allow = ["*"]
deny = [{ action = "PackageRemove", package = "systemd*" }]
raw_shell = true
scripts = true
[execute]
parallel = 5
waiting = 64
"#;

/// An agent with its state, and the socket that its host listens at.
struct Lab {
    folder: TempDir,
    listener: Listener,
}

impl Lab {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let pipelines = folder.path().join("pipelines");
        std::fs::create_dir(&pipelines).unwrap();
        let state = folder.path().join("state");
        let agent = format!("[state]\nfolder = {:?}\n", state.display().to_string());
        for (name, text) in
            [("metrics.toml", METRICS), ("commands.toml", COMMANDS), ("agent.toml", &agent)]
        {
            std::fs::write(pipelines.join(name), text).unwrap();
        }
        let listener = Listener::bind(&folder.path().join("host.sock")).await.unwrap();
        Self { folder, listener }
    }

    fn start(&self, secret: Option<&str>) -> Running {
        let socket = self.folder.path().join("host.sock");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        command.args(["run", "--port", &format!("unix:{}", socket.display()), "--pipelines"]);
        command.arg(self.folder.path().join("pipelines")).env_clear();
        if let Some(secret) = secret {
            command.env("INFINISERVICE_SHARED_SECRET", secret);
        }
        let stdio = std::process::Stdio::piped();
        Running(command.stdin(std::process::Stdio::null()).stderr(stdio).spawn().unwrap())
    }

    async fn host(&self) -> Host {
        let secret = Secret::new(SECRET.as_bytes().to_vec());
        let settings = Settings { secret, keep_alive: None };
        tokio::time::timeout(PATIENCE, self.listener.accept(settings)).await.unwrap().unwrap()
    }

    fn state(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join("state").join(name)).unwrap_or_default()
    }
}

fn raw(command: &str) -> RawCommand {
    RawCommand {
        raw_command: command.to_owned(),
        shell: Some(Shell::Sh),
        working_dir: None,
        env_vars: BTreeMap::new(),
        run_as: None,
    }
}

fn script(id: &str, content: String) -> Script {
    Script {
        execution_id: id.to_owned(),
        script_id: "s".to_owned(),
        script_name: "test".to_owned(),
        script_content: content,
        shell: Shell::Sh,
        execution_type: "ON_DEMAND".to_owned(),
        input_values: BTreeMap::new(),
        timeout_seconds: 60,
        run_as: None,
    }
}

fn ask(name: &str) -> serde_json::Value {
    action(name, &[]).unwrap()
}

async fn seen(path: &Path) -> String {
    let begun = Instant::now();
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.is_empty() => return text,
            _ => assert!(begun.elapsed() < PATIENCE, "{} never came", path.display()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn five_commands_in_one_burst_are_all_answered_and_each_as_itself() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let asked = ["SystemInfo", "OsInfo", "UserList", "CheckDiskSpace", "Nonsense"];
    let answers = join_all(asked.iter().map(|name| {
        let action = json!({ "action": name });
        let host = &host;
        async move { host.command(&action, PATIENCE).await.unwrap() }
    }))
    .await;
    for (name, answer) in asked.iter().zip(&answers) {
        assert_eq!(answer.command_type.as_deref(), Some(*name));
        assert_eq!(answer.success, *name != "Nonsense", "{answer:?}");
        assert_eq!(answer.error.is_some(), *name == "Nonsense");
    }
    assert_eq!(answers[0].data["kernel_version"].as_str().unwrap(), kernel());
    assert!(answers[2].data["count"].as_u64().unwrap() > 0);
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_command_behind_slow_ones_a_keep_alive_and_metrics_go_on_meanwhile() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let slow = raw("sleep 20");
    let slow = (0..4).map(|_| host.exec(&slow, Duration::from_secs(4)));
    let beside = async {
        let begun = Instant::now();
        host.command(&ask("SystemInfo"), PATIENCE).await.unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(1_000), "answered after {took:?} behind slow ones");
        host.send(payload::keep_alive_request(77, "2026-01-01T00:00:00.000Z")).await.unwrap();
        let (mut metrics, mut echoed) = (0, false);
        while metrics < 3 || !echoed {
            let message = host.next().await.unwrap();
            let body = message.body.clone();
            metrics += u32::from(body["type"] == "metrics");
            echoed |= body["type"] == "keep_alive" && body["sequence_number"] == 77;
        }
    };
    let (slow, ()) = tokio::join!(join_all(slow), beside);
    for answer in slow {
        let answer = answer.unwrap();
        assert_eq!((answer.success, answer.exit_code), (false, Some(124)), "{answer:?}");
        assert!(answer.error.unwrap().contains("time was over"));
    }
}

#[tokio::test]
async fn what_the_host_did_not_sign_is_not_done_and_the_rest_still_is() {
    let lab = Lab::new().await;
    let mut agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let touched = lab.folder.path().join("touched");
    let command = raw(&format!("echo x >> {}", touched.display()));
    let payload = payload::unsafe_command(&uuid().unwrap(), &command, PATIENCE);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    let forged = envelope::seal(b"another key", now, "n1", &payload);
    let stale = envelope::seal(SECRET.as_bytes(), now - 301_000, "n2", &payload);
    let cut = &envelope::seal(SECRET.as_bytes(), now, "n3", &payload)[..200];
    for line in [payload.as_str(), &forged, &stale, cut, "{", "\u{fffd}", ""] {
        host.send_unsigned(line).await.unwrap();
    }
    let good = envelope::seal(SECRET.as_bytes(), now, "n4", &payload);
    for _ in 0..3 {
        host.send_unsigned(good.clone()).await.unwrap(); // and then twice replayed
    }
    assert!(host.command(&ask("SystemInfo"), PATIENCE).await.unwrap().success);
    assert_eq!(seen(&touched).await, "x\n", "the good one ran, once");
    agent.signal(Signal::TERM);
    let mut log = String::new();
    std::io::Read::read_to_string(&mut agent.log(), &mut log).unwrap();
    assert!(!log.contains("echo x") && !log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn an_id_that_comes_twice_is_answered_twice_and_run_once() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let touched = lab.folder.path().join("touched");
    let command = raw(&format!("echo x >> {}; echo done", touched.display()));
    let id = uuid().unwrap();
    for _ in 0..2 {
        let payload = payload::unsafe_command(&id, &command, PATIENCE);
        let answer = host.answer(payload, &id, PATIENCE).await.unwrap();
        assert_eq!((answer.success, answer.stdout.as_str()), (true, "done\n"));
    }
    assert_eq!(seen(&touched).await, "x\n");
}

#[tokio::test]
async fn a_script_runs_once_also_when_it_is_pushed_again_and_over_a_restart() {
    let lab = Lab::new().await;
    let ran = lab.folder.path().join("ran");
    let content = format!("echo ran >> {}\necho said\nexit 3\n", ran.display());
    let agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let done = host.script(&script("e-1", content.clone()), PATIENCE).await.unwrap();
    assert_eq!((done.exit_code, done.stdout.as_str()), (3, "said\n"));
    let again = host.script(&script("e-1", content.clone()), PATIENCE).await.unwrap();
    assert_eq!(again.exit_code, 3);
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
    drop(host);

    let interrupted = lab.start(Some(SECRET));
    let host = lab.host().await;
    let begun = lab.folder.path().join("begun");
    let slow = format!("echo begun >> {}\nsleep 60\n", begun.display());
    let slow_one = script("e-2", slow.clone());
    let begins = async {
        seen(&begun).await;
        interrupted.signal(Signal::KILL);
    };
    let (cut, ()) = tokio::join!(host.script(&slow_one, PATIENCE), begins);
    assert!(cut.is_err(), "the agent was killed in the middle: {cut:?}");
    drop(interrupted);
    drop(host);

    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let again = host.script(&script("e-1", content), PATIENCE).await.unwrap();
    assert_eq!(again.exit_code, 3, "over a restart");
    let cut = host.script(&script("e-2", slow), PATIENCE).await.unwrap();
    assert_eq!(cut.exit_code, -1);
    assert!(cut.stderr.contains("not run a second time"), "{}", cut.stderr);
    assert_eq!(seen(&ran).await, "ran\n");
    assert_eq!(seen(&begun).await, "begun\n");
}

#[tokio::test]
async fn without_a_secret_metrics_flow_and_commands_are_dropped_and_that_is_said_once() {
    let lab = Lab::new().await;
    let mut agent = lab.start(None);
    let host = lab.host().await;
    let touched = lab.folder.path().join("touched");
    let command = raw(&format!("echo x >> {}", touched.display()));
    for _ in 0..3 {
        let id = uuid().unwrap();
        host.send(payload::unsafe_command(&id, &command, PATIENCE)).await.unwrap();
    }
    let mut metrics = 0;
    while metrics < 4 {
        metrics += u32::from(host.next().await.unwrap().body["type"] == "metrics");
    }
    assert!(!touched.exists());
    agent.signal(Signal::TERM);
    let mut log = String::new();
    std::io::Read::read_to_string(&mut agent.log(), &mut log).unwrap();
    assert_eq!(log.matches("locked: the host sent a command").count(), 1, "{log}");
}

#[tokio::test]
async fn an_audit_that_cannot_be_written_is_told_at_the_start_and_then_nothing_runs() {
    let lab = Lab::new().await;
    std::fs::create_dir_all(lab.folder.path().join("state/audit.jsonl")).unwrap();
    let mut agent = lab.start(Some(SECRET));
    let _host = lab.host().await;
    agent.signal(Signal::TERM);
    let mut log = String::new();
    std::io::Read::read_to_string(&mut agent.log(), &mut log).unwrap();
    let told = "no command will run until it can be written down";
    assert!(log.contains(told) && log.contains("is a directory"), "{log}");

    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let answer = host.command(&ask("SystemInfo"), PATIENCE).await.unwrap();
    assert!(answer.error.unwrap().contains("nothing is run that cannot be written down"));
}

#[tokio::test]
async fn a_locked_agent_makes_nothing_of_what_only_commands_need() {
    let lab = Lab::new().await;
    let _agent = lab.start(None);
    let host = lab.host().await;
    while host.next().await.unwrap().body["type"] != "metrics" {}
    let state = std::fs::read_dir(lab.folder.path().join("state")).unwrap();
    let made: Vec<_> = state.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(made, ["control.sock"], "local control is there for every agent");
    drop(host);
    let _agent = lab.start(Some(SECRET));
    let _host = lab.host().await;
    assert!(lab.folder.path().join("state/audit.jsonl").exists(), "before the first command");
}

#[tokio::test]
async fn a_denial_names_its_rule_and_both_are_in_the_audit() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let remove = action("PackageRemove", &[("package".into(), "systemd-sysv".into())]).unwrap();
    let answer = host.command(&remove, PATIENCE).await.unwrap();
    assert!(!answer.success);
    let error = answer.error.unwrap();
    assert!(error.contains("commands.toml:8"), "{error}");
    let audit = lab.state("audit.jsonl");
    let line: serde_json::Value = serde_json::from_str(audit.lines().last().unwrap()).unwrap();
    assert_eq!(line["action"], "PackageRemove");
    assert_eq!(line["decision"], "denied");
    assert!(line["rule"].as_str().unwrap().ends_with("commands.toml:8"), "{line}");
}

#[tokio::test]
async fn a_thousand_commands_at_once_are_all_answered_or_refused_with_a_reason() {
    let lab = Lab::new().await;
    let agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    host.command(&ask("SystemInfo"), PATIENCE).await.unwrap();
    let rss = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", agent.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().to_owned();
        line.split_ascii_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let before = rss();
    let (action, host) = (ask("SystemInfo"), &host);
    let mut answered = 0;
    let answers = join_all((0..1_000).map(|_| host.command(&action, PATIENCE * 2))).await;
    for answer in answers {
        let answer = answer.unwrap();
        assert!(answer.success || answer.error.unwrap().contains("too many commands wait"));
        answered += 1;
    }
    assert_eq!(answered, 1_000);
    assert!(rss() < before + 16 * 1024, "{before} KiB grew to {} KiB", rss());
}

/// 200 secrets: in command lines, in variables, in the texts and inputs of scripts, in passwords of
/// actions, in the script of an action for PowerShell. While all of it runs, every process that the agent has started
/// is looked at.
#[tokio::test]
async fn secrets_in_commands_reach_no_log_no_audit_and_no_argument_of_any_process() {
    let lab = Lab::new().await;
    let mut agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let mut planted = 0;
    let mut canary = || {
        planted += 1;
        format!("canary-{planted}-tweet")
    };
    // All say so when they run, and wait until they have been looked at.
    let (ready, go) = (lab.folder.path().join("ready"), lab.folder.path().join("go"));
    let stay =
        format!("echo >> {}; until [ -e {} ]; do sleep 0.02; done", ready.display(), go.display());
    let mut lines = Vec::new();
    for shell in [Shell::Sh, Shell::Bash, Shell::Sh] {
        let secrets: Vec<String> = (0..25).map(|_| canary()).collect();
        let mut line = raw(&format!("x='{}'; {stay}; echo done", secrets.join(" ")));
        line.shell = Some(shell);
        line.env_vars = (0..25).map(|number| (format!("SECRET_{number}"), canary())).collect();
        lines.push(line);
    }
    let content = format!("y='{}'; {stay}; echo done", canary());
    let mut pushed = script("e-canary", content);
    pushed.script_name = format!("deploy --password {}", canary());
    pushed.input_values = (0..25).map(|number| (format!("INPUT_{number}"), canary())).collect();
    let mut actions = Vec::new();
    for _ in 0..6 {
        actions.push(json!({ "action": "JoinDomain", "domain": "lab", "username": "u",
            "password": canary(), "restart_after": false }));
        actions.push(json!({ "action": "ExecutePowerShellScript", "script": canary(),
            "script_type": "inline", "environment_vars": { "TOKEN": canary() } }));
        actions.push(
            json!({ "action": "PackageInstall", "package": format!("--password={}", canary()) }),
        );
    }
    assert!(planted >= 200, "{planted}");

    let asked = async {
        let (lines, completed) = tokio::join!(
            join_all(lines.iter().map(|line| host.exec(line, PATIENCE))),
            host.script(&pushed, PATIENCE)
        );
        for answer in lines {
            let answer = answer.unwrap();
            assert_eq!((answer.success, answer.stdout.as_str()), (true, "done\n"), "{answer:?}");
        }
        assert_eq!(completed.unwrap().stdout, "done\n");
        for action in &actions {
            assert!(!host.command(action, PATIENCE).await.unwrap().success, "{action}");
        }
    };
    let looked = async {
        let begun = Instant::now();
        let mut seen = String::new();
        while std::fs::read(&ready).map_or(0, |said| said.len()) < 4 {
            seen += &arguments_below(agent.0.id()); // the step in between is short
            assert!(begun.elapsed() < PATIENCE, "not all four run");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        seen += &arguments_below(agent.0.id());
        std::fs::write(&go, "").unwrap();
        seen
    };
    let ((), seen) = tokio::join!(asked, looked);
    assert!(seen.contains("bash\0-c\0eval") && seen.contains(".sh\0"), "{seen:?}");

    agent.signal(Signal::TERM);
    let mut log = String::new();
    std::io::Read::read_to_string(&mut agent.log(), &mut log).unwrap();
    for place in [log, lab.state("audit.jsonl"), lab.state("scripts.jsonl"), seen] {
        let found = place.split("canary-").nth(1).map(|rest| rest.split('\n').next());
        assert_eq!(found, None);
        assert!(!place.contains(SECRET));
    }
    let left = std::fs::read_dir(lab.folder.path().join("state/scripts")).unwrap().count();
    assert_eq!(left, 0, "the text of a script goes when it has ended");
}

/// The arguments of a process and of all its descendants, each ended by a NUL, as `/proc/PID/cmdline` shows
/// them to everybody.
fn arguments_below(root: u32) -> String {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let parent =
            after.split_ascii_whitespace().nth(1).and_then(|word| word.parse::<u32>().ok());
        parents.insert(pid, parent.unwrap_or(0));
    }
    let below = |mut pid: u32| loop {
        match parents.get(&pid) {
            _ if pid == root => return true,
            Some(parent) if *parent != pid && pid > 1 => pid = *parent,
            _ => return false,
        }
    };
    let ours = parents.keys().copied().filter(|pid| below(*pid));
    let read = |pid| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    ours.map(|pid| String::from_utf8_lossy(&read(pid)).into_owned() + "\n").collect()
}
