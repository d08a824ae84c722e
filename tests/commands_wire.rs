//! The command flow on the wire: exact bytes both ways, and what nobody can make of it without the key.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use infiniservice::commands::decode::{Asked, Decode, RAW_COMMAND, Refusal};
use infiniservice::commands::frame::Frame;
use infiniservice::commands::outcome::Outcome;
use infiniservice::commands::reply::{CommandType, Reply, Told};
use infiniservice::commands::secret::{Secret, harden};
use infiniservice::commands::verify::Verify;
use infiniservice::pipeline::{Emit, Transform, Weigh};
use infiniservice::port::Inbound;
use infiniservice::wire::envelope::seal;
use infiniservice::wire::outbound::{
    AgentEvent, Breaker, BreakerState, ErrorReport, Gravity, Severity,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

/// What the host is given for a machine: 64 hex digits, used as they are.
const KEY: &[u8] = b"5f0a1c22b3d44e55f6a7788990aabbccddeeff00112233445566778899aabbcc";
const NOW: i64 = 1_784_023_200_250;

/// Frame, verify and decode, and the books of each.
struct Flow {
    frame: Frame,
    verify: Verify,
    now: Instant,
    /// What was lost, by reason.
    lost: Vec<(&'static str, u64)>,
}

impl Flow {
    fn new(key: &[u8]) -> Self {
        let verify = Verify::new(Secret::new(key.to_vec())).with_clock(|| NOW);
        Self { frame: Frame::new(), verify, now: Instant::now(), lost: Vec::new() }
    }

    /// Puts a chunk through; at every stage what went in came out or is lost with a reason.
    fn take(&mut self, chunk: Inbound) -> Vec<Asked> {
        let now = self.now;
        let lines = through(&mut self.frame, now, &[chunk], &mut self.lost);
        let messages = through(&mut self.verify, now, &lines, &mut self.lost);
        through(&mut Decode, now, &messages, &mut self.lost)
    }

    fn line(&mut self, line: &str) -> Vec<Asked> {
        self.take(Inbound::Bytes(Bytes::from(format!("{line}\n"))))
    }
}

fn through<T: Transform>(
    stage: &mut T,
    now: Instant,
    inputs: &[T::In],
    lost: &mut Vec<(&'static str, u64)>,
) -> Vec<T::Out> {
    let mut given = Vec::new();
    for input in inputs {
        let mut out = Emit::default();
        stage.apply(now, input, &mut out);
        lost.extend(out.lost());
        let dropped: u64 = out.lost().iter().map(|(_, weight)| weight).sum();
        let before = given.len();
        given.extend(out.drain());
        let passed: u64 = given[before..].iter().map(Weigh::weight).sum();
        assert_eq!(input.weight(), passed + dropped, "{}", stage.name());
    }
    given
}

/// One line of `tests/golden/inbound.jsonl` each, as today's host writes it, and what is made of it.
fn inbound() -> Vec<(Value, &'static str)> {
    let safe = |id: &str, command_type: Value, timeout: u32| json!({"type": "SafeCommand", "id": id, "command_type": command_type, "params": null, "timeout": timeout});
    let script = |id: &str, shell: &str| {
        json!({"execution_id": id, "script_id": "s1", "script_name": "Set up", "script_content": "echo \"é\"\n",
            "shell": shell, "execution_type": "FIRST_BOOT", "input_values": {"NAME": "lab"},
            "timeout_seconds": 600, "run_as": null})
    };
    let at = "2026-07-14T10:00:00.000Z";
    vec![
        (safe("c01", json!({"action": "SystemInfo"}), 30), "c01 30s SystemInfo"),
        (safe("c02", json!({"action": "OsInfo"}), 30), "c02 30s OsInfo"),
        (safe("c03", json!({"action": "ServiceList"}), 30), "c03 30s ServiceList"),
        (
            safe(
                "c04",
                json!({"action": "ServiceControl", "params": {"service": "nginx.service", "operation": "restart"}}),
                30,
            ),
            "c04 30s ServiceControl { service: ServiceName(\"nginx.service\"), operation: Restart }",
        ),
        (
            safe(
                "c05",
                json!({"action": "ServiceControl", "service_name": "nginx", "operation": "STOP"}),
                30,
            ),
            "c05 30s ServiceControl { service: ServiceName(\"nginx\"), operation: Stop }",
        ),
        (safe("c06", json!({"action": "PackageList"}), 45), "c06 45s PackageList"),
        (
            safe("c07", json!({"action": "PackageSearch", "query": "web server"}), 45),
            "c07 45s PackageSearch(Query(\"web server\"))",
        ),
        (
            safe("c08", json!({"action": "PackageInstall", "package": "libstdc++6"}), 120),
            "c08 120s PackageInstall(PackageName(\"libstdc++6\"))",
        ),
        (
            safe("c09", json!({"action": "PackageRemove", "package": "nano"}), 60),
            "c09 60s PackageRemove(PackageName(\"nano\"))",
        ),
        (
            safe("c10", json!({"action": "PackageUpdate", "package": "nano"}), 60),
            "c10 60s PackageUpdate(PackageName(\"nano\"))",
        ),
        (
            safe("c11", json!({"action": "PackageInstall", "package": ""}), 60),
            "c11 refused PackageInstall: a package is missing; name one",
        ),
        (
            safe("c12", json!({"action": "ProcessList", "limit": null}), 30),
            "c12 30s ProcessList { limit: None }",
        ),
        (
            safe("c13", json!({"action": "ProcessTop", "limit": 10, "sort_by": "memory"}), 30),
            "c13 30s ProcessTop { limit: Some(10), by: Memory }",
        ),
        (
            safe("c14", json!({"action": "ProcessKill", "pid": 4711, "force": true}), 30),
            "c14 30s ProcessKill { pid: 4711, force: true }",
        ),
        (
            safe("c15", json!({"action": "CheckDiskSpace"}), 60),
            "c15 60s CheckDiskSpace { warning_percent: 80.0, critical_percent: 90.0 }",
        ),
        (
            safe("c16", json!({"action": "CheckResourceOptimization"}), 240),
            "c16 240s CheckResourceOptimization",
        ),
        (safe("c17", json!({"action": "RunHealthCheck"}), 300), "c17 300s RunHealthCheck(None)"),
        (safe("c18", json!({"action": "RunAllHealthChecks"}), 300), "c18 300s RunAllHealthChecks"),
        (
            safe("c19", json!({"action": "DiskCleanup"}), 300),
            "c19 300s DiskCleanup { targets: [] }",
        ),
        (safe("c20", json!({"action": "CheckLinuxUpdates"}), 300), "c20 300s CheckLinuxUpdates"),
        (
            safe("c21", json!({"action": "GetInstalledApplicationsWMI"}), 180),
            "c21 180s GetInstalledApplicationsWMI",
        ),
        (
            safe("c22", json!({"action": "CheckApplicationUpdates"}), 180),
            "c22 180s CheckApplicationUpdates",
        ),
        (safe("c23", json!({"action": "GetUpdateHistory"}), 300), "c23 300s GetUpdateHistory"),
        (safe("c24", json!({"action": "UserList"}), 10), "c24 10s UserList"),
        (
            safe("c25", json!({"action": "RebootSystem", "force": false}), 30),
            "c25 30s RebootSystem { force: false }",
        ),
        (
            safe("c26", json!({"action": "UpdateSystemSoftware", "package": null}), 1800),
            "c26 1800s UpdateSystemSoftware(None)",
        ),
        (
            safe("c27", json!({"action": "CheckWindowsUpdates"}), 300),
            "c27 300s OtherSystem(\"CheckWindowsUpdates\")",
        ),
        (
            safe("c28", json!({"action": "CheckWindowsDefender"}), 300),
            "c28 300s OtherSystem(\"CheckWindowsDefender\")",
        ),
        (
            safe(
                "c29",
                json!({"action": "JoinDomain", "domain": "lab.example", "username": "ann", "password": "hunter2",
                "ou": null, "computer_name": null, "restart_after": true}),
                300,
            ),
            "c29 300s NotBuilt { name: \"JoinDomain\", why: \"joining a domain is not built in this agent yet\" }",
        ),
        (
            safe(
                "c30",
                json!({"action": "PrepareGoldenImage", "cleanup_level": "standard", "sanitize_user_data": true, "shutdown_after": true}),
                600,
            ),
            "c30 600s NotBuilt { name: \"PrepareGoldenImage\", why: \"preparing a golden image is not built in this agent yet\" }",
        ),
        (
            safe(
                "c31",
                json!({"action": "ExecutePowerShellScript", "script": "Get-Date", "script_type": "inline", "run_as_admin": false}),
                120,
            ),
            "c31 120s NotBuilt { name: \"ExecutePowerShellScript\", why: \"PowerShell scripts are for Windows guests; send an UnsafeCommand with shell BASH\" }",
        ),
        (
            safe(
                "c32",
                json!({"action": "RunMaintenanceTask", "task_type": "cleanup", "task_name": "tmp", "parameters": {"a": 1}, "validate_before": true, "validate_after": true}),
                30,
            ),
            "c32 30s NotBuilt { name: \"RunMaintenanceTask\", why: \"maintenance tasks are not built in this agent yet; send what they do as commands\" }",
        ),
        (
            safe("c33", json!({"action": "ValidateSystemHealth", "check_name": "disk_space"}), 30),
            "c33 30s RunHealthCheck(Some(\"disk_space\"))",
        ),
        (
            safe("c34", json!({"action": "CleanTemporaryFiles", "targets": ["temp_files"]}), 30),
            "c34 30s DiskCleanup { targets: [\"temp_files\"] }",
        ),
        (
            safe("c35", json!({"action": "RestartServices", "service_name": null}), 30),
            "c35 30s NotBuilt { name: \"RestartServices\", why: \"restarting every service at once is not done; name one\" }",
        ),
        (
            safe("c36", json!({"action": "CheckSystemIntegrity"}), 30),
            "c36 30s NotBuilt { name: \"CheckSystemIntegrity\", why: \"checking installed files is not built in this agent yet\" }",
        ),
        (
            safe("c37", json!({"action": "Teleport"}), 30),
            "c37 refused Teleport: the action \"Teleport\" is not known to this agent",
        ),
        (safe("c38", json!({"action": "SystemInfo"}), 0), "c38 1s SystemInfo"),
        (
            json!({"type": "UnsafeCommand", "id": "u01", "raw_command": "echo 'é' && uptime", "shell": "BASH", "timeout": 30,
                "working_dir": "/tmp", "env_vars": {"A": "1"}, "run_as": "ann"}),
            "u01 30s Raw echo 'é' && uptime Bash Some(\"/tmp\") {\"A\": \"1\"} Some(Account(\"ann\"))",
        ),
        (
            json!({"type": "UnsafeCommand", "id": "u02", "raw_command": "id", "timeout": 30}),
            "u02 30s Raw id Sh None {} None",
        ),
        (
            json!({"type": "keep_alive_request", "sequence_number": 1006, "timestamp": at}),
            "keep_alive 1006",
        ),
        (
            json!({"type": "keep_alive_response", "sequence_number": 2000, "timestamp": at}),
            "answered 2000",
        ),
        (json!({"type": "Metrics"}), "metrics"),
        (json!({"type": "pending_scripts_response", "timestamp": at, "scripts": []}), "scripts"),
        (
            json!({"type": "pending_scripts_response", "timestamp": at, "scripts": [script("e01", "BASH"), script("e02", "POWERSHELL")]}),
            "scripts; e01 600s Script Set up \"echo \\\"é\\\"\\n\" Bash {\"NAME\": \"lab\"} None; \
             e02 600s Script Set up \"echo \\\"é\\\"\\n\" PowerShell {\"NAME\": \"lab\"} None",
        ),
        (
            json!({"type": "Reformat", "id": "x01"}),
            "x01 refused Reformat: the message was not understood: its type is not known to this agent",
        ),
    ]
}

/// One line of `tests/golden/outbound.jsonl` each.
fn outbound() -> Vec<Told> {
    let response = |id: &str, action: &str, outcome: Outcome| Told::Response {
        id: id.to_owned(),
        action: action.to_owned(),
        outcome,
    };
    let took = Duration::from_millis(1_234);
    vec![
        response(
            "c02",
            "OsInfo",
            Outcome {
                took,
                ..Outcome::data(json!({"hostname": "café-😀", "nul": "a\0b", "n": 1.5}))
            },
        ),
        response(
            "u01",
            RAW_COMMAND,
            Outcome { exit_code: Some(0), took, ..Outcome::said("ünï\u{1b}[1m\t\"q\"\r\n\0") },
        ),
        response(
            "u03",
            RAW_COMMAND,
            Outcome {
                exit_code: Some(3),
                stderr: "no\nsuch thing\n".to_owned(),
                ..Outcome::default()
            },
        ),
        response(
            "u04",
            RAW_COMMAND,
            Outcome { exit_code: Some(124), ..Outcome::failed("its time of 30 s was over") },
        ),
        Refusal {
            id: "c37".to_owned(),
            action: "Teleport".to_owned(),
            error: "the action \"Teleport\" is not known to this agent".to_owned(),
        }
        .into(),
        Told::KeepAlive(1006),
        Told::KeepAlive(u64::MAX),
        Told::Completed {
            execution_id: "e01".to_owned(),
            outcome: Outcome { exit_code: Some(0), ..Outcome::said("done\n") },
        },
        Told::Completed {
            execution_id: "e02".to_owned(),
            outcome: Outcome::failed("PowerShell is not installed"),
        },
        Told::ScriptsPlease { vm_id: "2f1d4e7a-0000-4000-8000-000000000001".to_owned() },
        Told::Event(AgentEvent {
            severity: Severity::Info,
            source: "agent",
            message: "agent started".to_owned(),
            execution_id: None,
            context: None,
        }),
        Told::Event(AgentEvent {
            severity: Severity::Error,
            source: "scripts",
            message: "could not start".to_owned(),
            execution_id: Some("e02".to_owned()),
            context: Some(json!({"shell": "pwsh"})),
        }),
        Told::Breaker(Breaker {
            state: BreakerState::Closed,
            failure_count: 0,
            last_failure: None,
            recovery_eta: None,
        }),
        Told::Breaker(Breaker {
            state: BreakerState::HalfOpen,
            failure_count: 3,
            last_failure: Some(UNIX_EPOCH),
            recovery_eta: Some(Duration::from_secs(60)),
        }),
        Told::Fault(ErrorReport {
            error_type: "BROKEN_PIPE".to_owned(),
            gravity: Gravity::Recoverable,
            retry_attempt: 1,
            max_retries: 5,
            recovery_suggestion: Some("is the channel defined in the VM?".to_owned()),
            vm_id: "vm-1".to_owned(),
        }),
        Told::Fault(ErrorReport {
            error_type: "FILE_NOT_FOUND".to_owned(),
            gravity: Gravity::Temporary,
            retry_attempt: 0,
            max_retries: 0,
            recovery_suggestion: None,
            vm_id: String::new(),
        }),
    ]
}

/// What was asked, in one line.
fn told(asked: &Asked) -> String {
    use infiniservice::commands::request::{Request, What};
    let request = |request: &Request| {
        let what = match &request.what {
            What::Action(action) => format!("{action:?}"),
            What::Raw(raw) => format!(
                "Raw {} {:?} {:?} {:?} {:?}",
                raw.command, raw.shell, raw.working_dir, raw.environment, raw.run_as
            ),
            What::Script(script) => format!(
                "Script {} {:?} {:?} {:?} {:?}",
                script.name, script.content, script.shell, script.inputs, script.run_as
            ),
        };
        format!("{} {}s {what}", request.id, request.timeout.as_secs())
    };
    let refusal =
        |refusal: &Refusal| format!("{} refused {}: {}", refusal.id, refusal.action, refusal.error);
    match asked {
        Asked::Request(one) => request(one),
        Asked::Answer(one) => refusal(one),
        Asked::KeepAlive(number) => format!("keep_alive {number}"),
        Asked::KeepAliveAnswered(number) => format!("answered {number}"),
        Asked::MetricsNow => "metrics".to_owned(),
        Asked::Scripts(scripts) => scripts.iter().fold("scripts".to_owned(), |text, one| {
            let one = one.as_ref().map_or_else(refusal, request);
            format!("{text}; {one}")
        }),
    }
}

/// The golden file; written anew first, from what the code makes now, by `GOLDEN=write cargo test`.
fn golden(name: &str, now: &str) -> String {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("GOLDEN").is_some() {
        std::fs::write(&path, now).unwrap();
    }
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_message_of_the_host_is_read_from_its_exact_bytes() {
    let messages = inbound();
    let sealed = messages.iter().enumerate().map(|(number, (payload, _))| {
        let nonce = format!("00000000-0000-4000-8000-{number:012}");
        seal(KEY, NOW - 40, &nonce, &payload.to_string()) + "\n"
    });
    let file = golden("inbound.jsonl", &sealed.collect::<String>());
    assert_eq!(file.lines().count(), messages.len());
    let mut flow = Flow::new(KEY);
    for (line, (_, expected)) in file.lines().zip(&messages) {
        let asked = flow.line(line);
        assert_eq!(asked.iter().map(told).collect::<Vec<_>>(), [*expected], "{line}");
    }
    assert_eq!(flow.lost, []);
}

#[test]
fn every_message_to_the_host_is_exactly_this() {
    let mut reply = Reply::new(CommandType::Action)
        .with_clock(|| UNIX_EPOCH + Duration::from_millis(NOW.unsigned_abs()));
    let mut lost = Vec::new();
    let frames = through(&mut reply, Instant::now(), &outbound(), &mut lost);
    let now: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
    let now = String::from_utf8(now).unwrap();
    assert!(now.is_ascii() && !now.contains("\\u0000"));
    assert_eq!(now, golden("outbound.jsonl", &now));
}

/// As the router of today's host looks at a line: a `type` it knows, and a time it can read.
#[test]
fn every_message_to_the_host_is_one_it_knows_with_a_time_it_can_read() {
    let known = [
        "response",
        "keep_alive",
        "error_report",
        "circuit_breaker_state",
        "script_completion",
        "request_pending_scripts",
        "agent_event",
    ];
    for line in include_str!("golden/outbound.jsonl").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(known.contains(&line["type"].as_str().unwrap()));
        assert_eq!(line["timestamp"], "2026-07-14T10:00:00.250Z");
        assert_ne!(line["severity"], "Fatal");
        if line["success"] == false {
            assert!(line["error"].is_string());
        }
    }
}

#[test]
fn a_forged_replayed_stale_or_future_line_is_dropped_with_its_reason() {
    let payload = r#"{"type":"SafeCommand","id":"a1","command_type":{"action":"RebootSystem"},"timeout":600}"#;
    let good = seal(KEY, NOW, "n1", payload);
    for (line, reason) in [
        (seal(b"another key", NOW, "n2", payload), "forged"),
        (seal(&KEY[..63], NOW, "n2", payload), "forged"),
        (good.replace("RebootSystem", "RebootSysten"), "forged"),
        (good.replace("n1", "n2"), "forged"),
        (good.replacen("\"v\":1", "\"v\":2", 1), "version"),
        (seal(KEY, NOW - 300_001, "n2", payload), "stale"),
        (seal(KEY, NOW + 300_001, "n2", payload), "stale"),
        (payload.to_owned(), "unsigned"),
        (format!("{}x", good), "garbled"),
        (good[..good.len() - 1].to_owned(), "garbled"),
        (good.replacen("\"ts\"", "\"ts\":1,\"ts\"", 1), "unsigned"),
        (good.replacen("\"payload\"", "\"payload\":\"{}\",\"payload\"", 1), "unsigned"),
    ] {
        let mut flow = Flow::new(KEY);
        assert_eq!(flow.line(&line), [], "{line}");
        assert_eq!(flow.lost, [(reason, 1)], "{line}");
    }
    let mut flow = Flow::new(KEY);
    assert_eq!((flow.line(&good).len(), flow.line(&good).len()), (1, 0));
    assert_eq!(flow.lost, [("replayed", 1)]);
    let mut locked = Flow::new(b"");
    assert_eq!((locked.line(&good), &*locked.lost), (Vec::new(), &[("locked", 1)][..]));
}

#[test]
fn a_command_that_waited_longer_than_its_time_is_answered_and_not_run() {
    let payload = r#"{"type":"UnsafeCommand","id":"a1","raw_command":"reboot","timeout":30}"#;
    let asked = Flow::new(KEY).line(&seal(KEY, NOW - 200_000, "n1", payload));
    let [Asked::Answer(refusal)] = &asked[..] else { panic!("{asked:?}") };
    assert!(refusal.id == "a1" && refusal.error.starts_with("stale: it came 200 s after"));
}

#[test]
fn a_hardened_process_leaves_no_core_dump() {
    harden().unwrap();
    let behaviour = rustix::process::dumpable_behavior().unwrap();
    assert_eq!(behaviour, rustix::process::DumpableBehavior::NotDumpable);
}

#[test]
fn the_clock_of_replies_is_the_system_s_where_no_other_is_given() {
    let before = SystemTime::now();
    let mut out = Emit::default();
    Reply::new(CommandType::Safe).apply(Instant::now(), &Told::KeepAlive(1), &mut out);
    let line: Value = serde_json::from_slice(&out.drain().next().unwrap().bytes).unwrap();
    let told = humantime::parse_rfc3339(line["timestamp"].as_str().unwrap()).unwrap();
    assert!(told + Duration::from_millis(1) >= before && told <= SystemTime::now());
}

/// Payloads that look like commands, and ones that do not.
fn payloads() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\"type\":",
        "\"SafeCommand\"",
        "\"UnsafeCommand\"",
        "\"pending_scripts_response\"",
        "\"id\":",
        "\"a1\"",
        "\"command_type\":{\"action\":",
        "\"OsInfo\"",
        "\"ServiceControl\"",
        "\"params\":",
        "\"timeout\":",
        "-1",
        "1e309",
        "0",
        "null",
        "true",
        "\"é\\u0000\"",
    ]);
    let words = prop::collection::vec(word, 0..24).prop_map(|words| words.concat());
    let known = prop::sample::select(inbound()).prop_map(|(payload, _)| payload.to_string());
    prop_oneof![
        any::<String>(),
        words,
        known.clone(),
        (known, any::<prop::sample::Index>(), any::<char>()).prop_map(|(text, at, with)| {
            let mut text: Vec<char> = text.chars().collect();
            let at = at.index(text.len());
            text[at] = with;
            text.into_iter().collect()
        })
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_bytes_without_the_key_become_a_request(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        payload in payloads(),
        cut in 1..64_usize,
    ) {
        let mut flow = Flow::new(KEY);
        let mut all = bytes;
        all.push(b'\n');
        all.extend_from_slice(payload.as_bytes());
        all.push(b'\n');
        all.extend_from_slice(seal(b"a stranger's key", NOW, "n", &payload).as_bytes());
        all.push(b'\n');
        for chunk in all.chunks(cut) {
            let asked = flow.take(Inbound::Bytes(Bytes::copy_from_slice(chunk)));
            prop_assert_eq!(asked, vec![]);
        }
    }

    #[test]
    fn an_envelope_with_any_byte_changed_says_the_same_or_nothing(
        payload in payloads(),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let good = seal(KEY, NOW, "n1", &payload);
        let expected = Flow::new(KEY).line(&good);
        let mut bytes = good.into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = with }
        bytes.push(b'\n');
        let mut flow = Flow::new(KEY);
        let asked = flow.take(Inbound::Bytes(bytes.into()));
        let asked: Vec<_> = asked.iter().map(told).collect();
        prop_assert!(asked.is_empty() || asked == expected.iter().map(told).collect::<Vec<_>>());
    }

    #[test]
    fn whatever_the_host_signs_is_asked_once_or_counted_once(payload in payloads()) {
        let mut flow = Flow::new(KEY);
        // A line holds no NUL once it is sealed, and the seal is over what was.
        let payload = payload.replace('\0', "");
        let asked = flow.line(&seal(KEY, NOW, "n1", &payload));
        let counted = flow.lost.iter().filter(|lost| **lost == ("unreadable", 1)).count();
        prop_assert_eq!((asked.len() + counted, flow.lost.len()), (1, counted));
    }
}
