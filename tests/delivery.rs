//! Delivery by the real program: what no host is known to have read comes to the next one, over the death of
//! either side; and what was lost is told.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;
#[path = "support/todays_host.rs"]
mod todays_host;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Instant, SystemTime};

use infiniservice::host::{RawCommand, Script, Shell, payload};
use infiniservice::internals::commands::actions::registry::rules;
use infiniservice::wire::envelope::seal;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::flows::{COMMANDS, SECRET, WHOLE, metrics};
use support::{PATIENCE, Place, Running, line, raw};
use todays_host::Connection;

/// Two frames are kept, of readings that come fifty times a second.
fn quick() -> String {
    format!("{}keep = 2\n", metrics("20ms", WHOLE))
}

/// An agent's files, and the host's socket.
struct Lab(Place);

/// A host that does nothing by itself.
struct Host {
    stream: BufReader<UnixStream>,
    sent: u32,
    /// Keep-alives that it has not answered.
    unanswered: Vec<u64>,
}

impl Lab {
    /// Its hosts are one's own.
    fn new(files: &[(&str, &str)]) -> Self {
        Self::of("host = \"own\"\n", files)
    }

    fn of(host: &str, files: &[(&str, &str)]) -> Self {
        let place = Place::new();
        std::fs::create_dir(place.folder.path().join("pipelines")).unwrap();
        let state = place.folder.path().join("state").display().to_string();
        let agent = format!("{host}[state]\nfolder = {state:?}\n");
        for (name, text) in files.iter().copied().chain([("agent.toml", agent.as_str())]) {
            place.file(&format!("pipelines/{name}"), text);
        }
        Self(place)
    }

    fn start(&self) -> Running {
        let pipelines = self.0.folder.path().join("pipelines");
        self.0.run(&pipelines, &[("INFINISERVICE_SHARED_SECRET", SECRET)])
    }

    /// The next host, and the first line it is told.
    fn host(&self) -> (Host, Value) {
        let mut host = Host { stream: self.0.host(), sent: 0, unanswered: Vec::new() };
        let first = host.next();
        (host, first)
    }

    fn spool(&self, command: &str) -> String {
        self.program(&["spool", command])
    }

    /// What the program prints of the agent's state folder.
    fn program(&self, words: &[&str]) -> String {
        let state = self.0.folder.path().join("state");
        let mut program = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        let output = program.args(words).arg("--state").arg(state).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// How many readings have not come to the port yet, as the agent's `status` has it.
    fn behind(&self) -> u64 {
        let status: Value = serde_json::from_str(&self.program(&["status", "--json"])).unwrap();
        let stages = status["stages"].as_array().unwrap();
        let stage = |name: &str| stages.iter().find(|stage| stage["stage"] == name).unwrap();
        let count = |name: &str, what: &str| stage(name)[what].as_u64().unwrap();
        count("metrics/serialize", "sent").saturating_sub(count("metrics/port", "received"))
    }
}

impl Host {
    fn next(&mut self) -> Value {
        serde_json::from_str(&line(&mut self.stream)).unwrap()
    }

    fn until(&mut self, what: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let next = self.next();
            if next["type"] == "keep_alive" {
                self.unanswered.push(next["sequence_number"].as_u64().unwrap());
            }
            if what(&next) {
                return next;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not come; {next} does");
        }
    }

    /// Signs and sends; gives the line.
    fn says(&mut self, payload: &str) -> String {
        self.sent += 1;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let nonce = format!("{}-{}", now.as_nanos(), self.sent);
        let line = seal(SECRET.as_bytes(), now.as_millis() as i64, &nonce, payload);
        writeln!(self.stream.get_mut(), "{line}").unwrap();
        line
    }

    fn asks(&mut self, id: &str) {
        let asked = json!({ "action": "OsInfo" });
        self.says(&payload::safe_command(id, &asked, PATIENCE));
    }

    /// Answers all keep-alives up to the next one, as today's host does: all before it was read.
    fn answers(&mut self) {
        self.until(|line| line["type"] == "keep_alive");
        for number in std::mem::take(&mut self.unanswered) {
            self.says(&payload::keep_alive_response(number, "2026-01-01T00:00:00.000Z", None));
        }
    }
}

/// Kinds of lines that today's host knows, and that are not the echo of a keep-alive.
const KNOWN: [&str; 4] = ["metrics", "response", "script_completion", "request_pending_scripts"];

#[test]
fn todays_host_gets_no_line_that_it_warns_of() {
    let lab = Lab::of("", &[("commands.toml", COMMANDS), ("metrics.toml", &quick())]);
    let _agent = lab.start();
    let (mut host, first) = lab.host();
    assert!(first["timestamp"].is_string(), "from that it learns the clock: {first}");
    let (mut seen, mut answered) = (Vec::new(), 0);
    let harmless = ["OsInfo", "SystemInfo", "UserList", "ProcessList", "ServiceList", "Nonsense"];
    for action in harmless {
        let asked = json!({ "action": action });
        host.says(&payload::safe_command(action, &asked, PATIENCE));
    }
    host.says(&payload::keep_alive_request(7, "2026-01-01T00:00:00.000Z"));
    host.says(&payload::pending_scripts(&[], "2026-01-01T00:00:00.000Z"));
    while answered < harmless.len() {
        let next = host.next();
        answered += usize::from(next["type"] == "response");
        seen.push(next);
    }
    for _ in 0..100 {
        seen.push(host.next()); // two seconds of metrics
    }
    let others: Vec<_> = seen
        .iter()
        .filter(|line| !KNOWN.contains(&line["type"].as_str().unwrap_or_default()))
        .map(|line| (line["type"].clone(), line["sequence_number"].clone()))
        .collect();
    assert_eq!(others, [("keep_alive".into(), 7.into())], "the echo, and nothing else");
    assert!(seen.iter().all(|line| line["timestamp"].is_string()));
    assert!(seen.iter().all(|line| line.to_string().len() <= 100_000));
}

/// Actions that only look, and at this machine alone; every other one is denied.
const LOOKS: [&str; 30] = [
    "UnsafeCommand",
    "Script",
    "SystemInfo",
    "OsInfo",
    "UserList",
    "ServiceList",
    "PackageList",
    "PackageSearch",
    "ProcessList",
    "ProcessTop",
    "CheckDiskSpace",
    "CheckResourceOptimization",
    "GetInstalledApplications",
    "GetInstalledApplicationsWMI",
    "GetApplicationDetails",
    "GetUpdateHistory",
    "GetLinuxUpdateHistory",
    "EstimateDiskCleanup",
    "CheckSecurityModules",
    "GetFirewallStatus",
    "CheckFirewallStatus",
    "CheckWindowsUpdates",
    "CheckWindowsDefender",
    "GetDefenderStatus",
    "GetThreatHistory",
    "RunDefenderQuickScan",
    "AutoFixWindowsUpdates",
    "AutoFixDefender",
    "AutoOptimizeDisk",
    "ExecutePowerShellScript",
];

/// Every action as today's host spells it, and those that it spells no more without arguments.
fn every_action() -> Vec<(String, String)> {
    let spelled = include_str!("golden/inbound.jsonl").lines();
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let spelled = spelled.map(|line| value(value(line)["payload"].as_str().unwrap()));
    let mut actions: Vec<Value> = spelled
        .filter(|payload| payload["type"] == "SafeCommand")
        .map(|payload| payload["command_type"].clone())
        .collect();
    let known: Vec<Value> = actions.iter().map(|action| action["action"].clone()).collect();
    let rest = rules().filter(|(name, _)| !known.contains(&json!(name)));
    actions.extend(rest.map(|(name, _)| json!({ "action": name })));
    let numbered = actions.iter().enumerate().map(|(number, action)| {
        let id = format!("a{number}-{}", action["action"].as_str().unwrap());
        let payload = payload::safe_command(&id, action, PATIENCE);
        (id, payload)
    });
    numbered.collect()
}

#[test]
fn a_run_of_every_action_costs_todays_host_no_warning() {
    let commands = COMMANDS.replace("[\"*\"]", &format!("{LOOKS:?}"));
    let commands = format!("{commands}scripts = true\n[execute]\nwaiting = 1000\n");
    let lab = Lab::of("", &[("commands.toml", &commands), ("metrics.toml", &quick())]);
    let _agent = lab.start();
    let (mut host, _) = lab.host();
    let mut known = Connection::default();
    let now = "2026-01-01T00:00:00.000Z";
    host.says(&payload::keep_alive_request(known.request(), now));
    let actions = every_action();
    assert!(actions.len() > rules().count());
    for (id, payload) in &actions {
        known.pending.insert(id.clone());
        host.says(payload);
    }
    known.pending.insert("raw".to_owned());
    host.says(&payload::unsafe_command("raw", &raw("echo raw"), PATIENCE));
    host.says(&payload::pending_scripts(&[script("e1")], now));
    let begun = Instant::now();
    while !known.pending.is_empty() || known.completed == 0 {
        let bytes = host.stream.fill_buf().unwrap().to_vec();
        host.stream.consume(bytes.len());
        for number in known.read(&bytes) {
            host.says(&payload::keep_alive_response(number, now, None));
        }
        assert!(begun.elapsed() < 2 * PATIENCE, "not answered: {:?}", known.pending);
    }
    assert_eq!(known.answered.len(), actions.len() + 1);
    assert_eq!(known.warnings, [""; 0]);
}

fn script(execution_id: &str) -> Script {
    Script {
        execution_id: execution_id.to_owned(),
        script_id: "s1".to_owned(),
        script_name: "script".to_owned(),
        script_content: "echo script".to_owned(),
        shell: Shell::Sh,
        execution_type: "ON_DEMAND".to_owned(),
        input_values: BTreeMap::new(),
        timeout_seconds: 60,
        run_as: None,
    }
}

fn is_response(id: &str) -> impl Fn(&Value) -> bool {
    move |line| line["type"] == "response" && line["id"] == id
}

#[test]
fn an_answer_that_no_host_is_known_to_have_read_comes_again_over_the_death_of_either_side() {
    let lab = Lab::new(&[("commands.toml", COMMANDS)]);
    let agent = lab.start();
    let (mut first, session) = lab.host();
    assert_eq!(session["context"]["session"], 1);
    first.asks("a");
    let answer = first.until(is_response("a"));
    assert_eq!(answer.get("redelivered"), None);
    first.until(|line| line["type"] == "keep_alive");
    drop(first); // it crashed: whether it has done anything with the answer, nobody knows

    let (mut second, session) = lab.host();
    assert_eq!(session["context"]["session"], 2);
    let again = second.until(is_response("a"));
    assert_eq!((&again["redelivered"], &again["data"]), (&json!(true), &answer["data"]));
    assert!(lab.spool("ls").contains("response"), "{}", lab.spool("ls"));
    agent.signal(Signal::KILL);
    drop((agent, second));

    let epoch = session["context"]["epoch"].as_u64().unwrap();
    let agent = lab.start();
    let (mut third, session) = lab.host();
    assert!(session["context"]["epoch"].as_u64().unwrap() > epoch, "over a restart too");
    let again = third.until(is_response("a"));
    assert_eq!((&again["redelivered"], &again["data"]), (&json!(true), &answer["data"]));
    third.answers();
    third.asks("b");
    third.until(is_response("b"));
    third.answers();
    let begun = Instant::now();
    while lab.spool("ls").contains("response") {
        assert!(begun.elapsed() < PATIENCE, "{}", lab.spool("ls"));
    }
    drop(third);
    let (mut fourth, _) = lab.host();
    fourth.asks("c");
    let next = fourth.until(|line| line["type"] == "response");
    assert_eq!(next["id"], "c", "what was read does not come again");
    drop(agent);
}

#[test]
fn what_an_agent_says_when_it_stops_and_the_host_has_read_does_not_come_again() {
    let lab = Lab::new(&[("commands.toml", COMMANDS)]);
    let agent = lab.start();
    let (mut host, _) = lab.host();
    host.asks("a");
    host.until(is_response("a"));
    host.answers();
    let slow = RawCommand {
        raw_command: "sleep 600".to_owned(),
        shell: None,
        working_dir: None,
        env_vars: BTreeMap::new(),
        run_as: None,
    };
    host.says(&payload::unsafe_command("slow", &slow, PATIENCE));
    host.asks("b"); // answered while the other one runs
    host.until(is_response("b"));
    host.answers();
    agent.signal(Signal::TERM);
    let stopped = host.until(is_response("slow"));
    assert_eq!(stopped["success"], false, "{stopped}");
    host.answers();
    assert_eq!(agent.end().0, Some(0));
    assert!(lab.spool("ls").starts_with("nothing waits"), "{}", lab.spool("ls"));
}

#[test]
fn readings_that_were_overwritten_while_no_host_read_are_told_to_it() {
    // With processes, a few readings fill the window of a host that does not read.
    let long = metrics("20ms", &format!("{WHOLE}, \"processes\"")) + "keep = 2\n";
    let lab = Lab::new(&[("commands.toml", COMMANDS), ("metrics.toml", &long)]);
    let agent = lab.start();
    let (mut first, _) = lab.host();
    first.until(|line| line["type"] == "metrics");
    drop(first);
    // Nobody comes for a while; then somebody does.
    let begun = Instant::now();
    let idle = lab.0.listener.try_clone().unwrap();
    let mut waiting = Vec::new();
    idle.set_nonblocking(true).unwrap();
    while lab.behind() < 30 {
        assert!(begun.elapsed() < PATIENCE, "the port takes everything");
        waiting.extend(idle.accept().map(|(stream, _)| stream));
    }
    drop(waiting);
    let (mut next, _) = lab.host();
    let lost = |line: &Value| line["type"] == "agent_event" && line["context"]["lost"].is_array();
    let told = next.until(lost);
    let kinds = told["context"]["lost"].as_array().unwrap();
    let gap = kinds.iter().find(|kind| kind["reason"] == "overwritten").expect("a gap");
    assert!(gap["count"].as_u64().unwrap() > 10 && told["severity"] == "warn", "{told}");
    drop(agent);
}

#[test]
fn metrics_that_must_be_read_are_kept_over_a_restart() {
    let must = metrics("200ms", WHOLE) + "delivery = \"durable\"\n";
    let lab = Lab::new(&[("metrics.toml", &must)]);
    let agent = lab.start();
    let (mut first, _) = lab.host();
    let reading = first.until(|line| line["type"] == "metrics");
    drop(first);
    agent.signal(Signal::KILL);
    drop(agent);
    let _agent = lab.start();
    let (mut second, _) = lab.host();
    let again = second.until(|line| line["type"] == "metrics");
    assert_eq!(again["redelivered"], true);
    assert_eq!(again["timestamp"], reading["timestamp"]);
}

#[test]
fn a_spool_that_somebody_removes_is_made_anew_with_what_comes_next() {
    let lab = Lab::new(&[("commands.toml", COMMANDS)]);
    let agent = lab.start();
    let (mut first, _) = lab.host();
    first.asks("a");
    first.until(is_response("a"));
    std::fs::remove_file(lab.0.folder.path().join("state/spool")).unwrap();
    first.asks("b");
    first.until(is_response("b"));
    let begun = Instant::now();
    while !lab.spool("ls").contains(" b") {
        assert!(begun.elapsed() < PATIENCE, "{}", lab.spool("ls"));
    }
    drop(agent);
}

#[test]
fn a_file_in_the_place_of_the_state_folder_is_told_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spool");
    std::fs::write(&file, "").unwrap();
    for command in [&["ls"][..], &["check"], &["drop", "--all"]] {
        let mut spool = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        let output = spool.arg("spool").args(command).arg("--state").arg(&file).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && said.contains("is a file; name the state folder"),
            "{said}"
        );
    }
}

/// What lies in the place of the request log when the program starts.
struct Found<'a> {
    put: Box<dyn Fn() + 'a>,
    logged: &'a str,
    /// It says what ran before.
    is_read: bool,
    /// A log can be written in its place, so scripts run.
    is_written: bool,
}

#[test]
fn whatever_lies_in_the_place_of_the_request_log_is_told_and_not_trusted() {
    let lab = Lab::new(&[("commands.toml", &format!("{COMMANDS}scripts = true\n"))]);
    let at = |name: &str| lab.0.folder.path().join(name);
    let (path, other, ran) = (at("state/requests.log"), at("other"), at("ran"));
    let runs = || std::fs::read_to_string(&ran).unwrap_or_default().lines().count();
    let append = raw(&format!("echo x >> {}", ran.display()));
    let agent = lab.start();
    let (mut host, _) = lab.host();
    let first = host.says(&payload::unsafe_command("first", &append, PATIENCE));
    host.until(is_response("first"));
    host.answers();
    agent.signal(Signal::TERM);
    drop(host);
    assert_eq!((agent.end().0, runs()), (Some(0), 1));
    let good = std::fs::read(&path).unwrap();

    let write = |bytes: &[u8]| -> Box<dyn Fn()> {
        let (path, bytes) = (path.clone(), bytes.to_vec());
        Box::new(move || std::fs::write(&path, &bytes).unwrap())
    };
    let (mut flipped, mut version) = (good.clone(), good.clone());
    *flipped.last_mut().unwrap() ^= 4; // in the record of the orderly end
    version[7] = 2;
    let foreign = b"#!/bin/sh\nexit 1\n";
    const DAMAGED: &str = "the request log is damaged";
    const UNUSABLE: &str = "the request log cannot be used";
    let damaged = |put, is_read| Found { put, logged: DAMAGED, is_read, is_written: true };
    let unusable = |put| Found { put, logged: UNUSABLE, is_read: false, is_written: false };
    let mut all = vec![
        damaged(write(&flipped), true),
        damaged(write(&good[..good.len() - 7]), true),
        damaged(write(&version), true),
        damaged(write(foreign), false),
        unusable(Box::new(|| std::os::unix::fs::symlink(&other, &path).unwrap())),
        unusable(Box::new(|| std::fs::create_dir(&path).unwrap())),
        unusable(Box::new(|| std::fs::hard_link(&other, &path).unwrap())),
    ];
    if rustix::process::geteuid().is_root() {
        all.push(unusable(Box::new(|| {
            std::fs::write(&path, &good).unwrap();
            std::os::unix::fs::chown(&path, Some(1), None).unwrap();
        })));
    }
    for (number, found) in all.into_iter().enumerate() {
        std::fs::write(&other, "other").unwrap();
        std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).unwrap();
        let _ = std::fs::remove_file(&ran);
        (found.put)();
        let agent = lab.start();
        let (mut host, _) = lab.host();
        writeln!(host.stream.get_mut(), "{first}").unwrap();
        let execution = format!("e{number}");
        host.says(&payload::pending_scripts(&[script(&execution)], ""));
        let done = host.until(|line| line["execution_id"] == execution);
        let is_refused =
            done.to_string().contains("it cannot be written down that the script begins");
        assert_eq!(
            (done["exit_code"] == 0, is_refused),
            (found.is_written, !found.is_written),
            "case {number}: {done}"
        );
        host.answers();
        host.asks(&format!("a{number}"));
        host.until(is_response(&format!("a{number}")));
        host.answers();
        assert_eq!(runs(), 0, "case {number}: an envelope of before is taken again");
        if found.is_read {
            host.says(&payload::unsafe_command("first", &append, PATIENCE));
            let again = host.until(is_response("first"));
            assert_eq!((runs(), &again["success"]), (0, &json!(true)), "case {number}: {again}");
            host.answers();
        }
        agent.signal(Signal::TERM);
        drop(host);
        let (code, log) = agent.end();
        assert_eq!(code, Some(0), "case {number}: {log}");
        assert_eq!(log.matches("the request log ").count(), 1, "case {number}: {log}");
        assert!(log.contains(found.logged), "case {number}: {log}");
        assert_eq!(std::fs::read(&other).unwrap(), b"other", "case {number}");
    }
    assert_eq!(std::fs::read(at("state/requests.damaged")).unwrap(), foreign, "for a person");
}
