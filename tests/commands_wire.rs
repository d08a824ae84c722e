//! The command flow on the wire: exact bytes both ways, and what nobody can make of it without the key.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod golden;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use golden::{golden, inbound, outbound};
use infiniservice::host::Secret;
use infiniservice::internals::commands::decode::Decode;
use infiniservice::internals::commands::receive::line_framer::Frame;
use infiniservice::internals::commands::reply::{CommandType, Outbound, Reply};
use infiniservice::internals::commands::request::{HostMessage, Refusal};
use infiniservice::internals::commands::secret::harden;
use infiniservice::internals::commands::verify::{Verified, Verify};
use infiniservice::internals::port::Inbound;
use infiniservice::pipeline::{EventCount, MemoryBudget, Output, Transform};
use infiniservice::wire::envelope::seal;
use proptest::prelude::*;
use serde_json::Value;
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
    fn take(&mut self, chunk: Inbound) -> Vec<HostMessage> {
        let now = self.now;
        let lines = through(&mut self.frame, now, &[chunk], &mut self.lost);
        let messages = through(&mut self.verify, now, &lines, &mut self.lost);
        through(&mut Decode::default(), now, &messages, &mut self.lost)
    }

    fn line(&mut self, line: &str) -> Vec<HostMessage> {
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
        let mut out = Output::default();
        stage.apply(now, input, &mut out);
        lost.extend(out.dropped());
        let dropped = out.not_sent_total();
        let before = given.len();
        given.extend(out.drain());
        let passed: u64 = given[before..].iter().map(EventCount::weight).sum();
        assert_eq!(input.weight(), passed + dropped, "{}", stage.name());
    }
    given
}

/// What was asked, in one line.
fn told(asked: &HostMessage) -> String {
    use infiniservice::internals::commands::request::{Request, RequestKind};
    let request = |request: &Request| {
        let what = match &request.kind {
            RequestKind::Action(action) => format!("{action:?}"),
            RequestKind::Raw(raw) => format!(
                "Raw {} {:?} {:?} {:?} {:?}",
                raw.command, raw.shell, raw.working_dir, raw.environment, raw.run_as
            ),
            RequestKind::Script(script) => format!(
                "Script {} {:?} {:?} {:?} {:?}",
                script.name, script.content, script.shell, script.inputs, script.run_as
            ),
        };
        format!("{} {}s {what}", request.id, request.timeout.as_secs())
    };
    let refusal =
        |refusal: &Refusal| format!("{} refused {}: {}", refusal.id, refusal.action, refusal.error);
    match asked {
        HostMessage::Request(one) => request(one),
        HostMessage::Refused(one) => refusal(one),
        HostMessage::KeepAlive(number) => format!("keep_alive {number}"),
        HostMessage::KeepAliveAnswered(answer) => format!("answered {}", answer.number),
        HostMessage::Understands => "understands".to_owned(),
        HostMessage::MetricsNow => "metrics".to_owned(),
        HostMessage::Scripts(scripts) => scripts.iter().fold("scripts".to_owned(), |text, one| {
            let one = one.as_ref().map_or_else(refusal, request);
            format!("{text}; {one}")
        }),
    }
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
    let now: Vec<u8> = frames.iter().flat_map(|spoken| spoken.frame.bytes.to_vec()).collect();
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
    let [HostMessage::Refused(refusal)] = &asked[..] else { panic!("{asked:?}") };
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
    let mut out = Output::default();
    Reply::new(CommandType::Safe).apply(Instant::now(), &Outbound::KeepAlive(1), &mut out);
    let line: Value = serde_json::from_slice(&out.drain().next().unwrap().frame.bytes).unwrap();
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

#[test]
fn of_more_scripts_than_are_run_the_next_are_refused_and_without_memory_none_is_run() {
    let script = |number: usize| {
        let content = "x".repeat(400);
        serde_json::json!({"execution_id": format!("e{number}"), "script_content": content})
    };
    let scripts: Vec<_> = (0..1_400).map(script).collect();
    let payload = serde_json::json!({"type": "pending_scripts_response", "scripts": scripts});
    let payload = payload.to_string();
    let asked = |ceiling: usize| {
        let now = Instant::now();
        let (payload, age) = (payload.clone(), Duration::ZERO);
        let message = Verified { payload, sent_ms: 0, age, received: now };
        let (ledger, mut out) = (MemoryBudget::new(ceiling), Output::default());
        Decode::within(&ledger).apply(now, &message, &mut out);
        let Some(HostMessage::Scripts(scripts)) = out.drain().next() else { panic!() };
        let used = ledger.used();
        let run = scripts.iter().filter(|script| script.is_ok()).count();
        let refused = scripts.len() - run;
        drop(scripts);
        assert_eq!(ledger.used(), 0, "what is charged is given back");
        (run, refused, used > message.payload.len())
    };
    assert_eq!(asked(16 << 20), (256, 1_024, true));
    assert_eq!(asked(500_000), (0, 1_024, false));
    assert_eq!(asked(1_000), (0, 0, false));
}
