//! Random fault scripts: no line is torn, duplicated unmarked, or lost uncounted.

use std::time::Duration;

use crate::doubles::port::ModelHost;
use infiniservice::internals::port::{DURABLE_KEPT, PortExit};
use proptest::prelude::*;

use super::rig::Rig;

#[derive(Debug, Clone)]
enum Op {
    Tell(usize),
    Reply(usize),
    DurableMessage(usize),
    Answer,
    Send(usize),
    TakeInbound,
    Connect,
    Leave,
    StopReading,
    ReadOn,
    Unplug,
    Plug,
    Hold(bool),
    TakeAtMost(usize),
    WriteZero(u32),
    FailOnce,
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => prop_oneof![4 => 1..300_usize, 1 => 30_000..90_000_usize].prop_map(Op::Tell),
        1 => (1..300_usize).prop_map(Op::Reply),
        3 => prop_oneof![4 => 1..300_usize, 1 => 30_000..90_000_usize].prop_map(Op::DurableMessage),
        5 => Just(Op::Answer),
        1 => (1..9_000_usize).prop_map(Op::Send),
        1 => Just(Op::TakeInbound),
        5 => Just(Op::Connect),
        3 => Just(Op::Leave),
        2 => Just(Op::StopReading),
        3 => Just(Op::ReadOn),
        1 => Just(Op::Unplug),
        2 => Just(Op::Plug),
        1 => any::<bool>().prop_map(Op::Hold),
        3 => prop_oneof![1..64_usize, Just(4096), Just(32 * 1024)].prop_map(Op::TakeAtMost),
        1 => (1..4_u32).prop_map(Op::WriteZero),
        1 => Just(Op::FailOnce),
        2 => (1..40_000_u64).prop_map(Op::Wait),
    ]
}

impl Op {
    fn apply(&self, rig: &mut Rig, sent: &mut Vec<String>) {
        let seq = sent.len() as u64 + 1;
        let mut line = |lane: char, bytes: usize| {
            let line = format!("{{\"{lane}\":\"{} {}\"}}", sent.len(), "-".repeat(bytes));
            sent.push(line.clone());
            line + "\n"
        };
        match self {
            Self::Tell(bytes) => rig.send_telemetry(line('t', *bytes) + &line('t', bytes / 3)),
            Self::Reply(bytes) => {
                if rig.replies.capacity() > 0 {
                    rig.reply(line('r', *bytes));
                }
            }
            Self::DurableMessage(bytes) => {
                if rig.durable.capacity() > 0 {
                    rig.durable(seq, line('m', *bytes));
                }
            }
            Self::Answer => rig.answer(),
            Self::Send(bytes) => rig.host.send(&vec![b'c'; *bytes]),
            Self::TakeInbound => while rig.inbound.try_recv().is_ok() {},
            Self::Connect => rig.host.connect(),
            Self::Leave => rig.host.leave(),
            Self::StopReading => rig.host.stop_reading(),
            Self::ReadOn => rig.host.read_on(),
            Self::Unplug => rig.host.unplug(),
            Self::Plug => rig.host.plug(),
            Self::Hold(is_held) => rig.host.hold(*is_held),
            Self::TakeAtMost(bytes) => rig.host.take_at_most(*bytes),
            Self::WriteZero(times) => rig.host.write_zero(*times),
            Self::FailOnce => rig.host.fail_once(),
            Self::Wait(_) => {}
        }
    }

    fn takes(&self) -> Duration {
        Duration::from_millis(if let Self::Wait(millis) = self { *millis } else { 1 })
    }
}

/// Runs the script, then removes all faults and closes. Returns what was sent, how many readings are counted as
/// unread, and what was received.
async fn play(script: &[Op]) -> (Vec<String>, u64, ModelHost) {
    let (mut rig, mut sent) = (Rig::asking(), Vec::new());
    for op in script {
        op.apply(&mut rig, &mut sent);
        tokio::time::sleep(op.takes()).await;
        rig.check_counters();
    }
    for op in [
        Op::Plug,
        Op::Hold(false),
        Op::WriteZero(0),
        Op::TakeAtMost(32 * 1024),
        Op::Connect,
        Op::Wait(90_000),
    ] {
        op.apply(&mut rig, &mut sent);
        tokio::time::sleep(op.takes()).await;
    }
    for _ in 0..60 {
        rig.host.read_on();
        rig.answer();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(
        rig.durable.capacity() == DURABLE_KEPT && rig.node.count().buffered == 0,
        "all was written"
    );
    let last = sent.iter().enumerate().rfind(|(_, line)| line.starts_with("{\"m"));
    assert_eq!(*rig.read.borrow(), last.map_or(0, |(index, _)| index as u64 + 1), "all was read");
    let host = rig.host.clone();
    let summary = rig.close().await;
    let dropped: u64 = summary.dropped.iter().map(|(_, weight)| weight).sum();
    assert_eq!((summary.end, summary.sent + dropped), (PortExit::Flushed, summary.received));
    let known = |reason: &str| ["session", "unread"].contains(&reason);
    assert!(summary.dropped.iter().all(|(reason, _)| known(reason)), "{:?}", summary.dropped);
    let unread = summary.dropped.iter().find(|(reason, _)| *reason == "unread");
    (sent, unread.map_or(0, |(_, weight)| *weight), host)
}

const MARK: &str = "\"redelivered\":true,";

/// Whether a cut line may be the beginning of one of ours.
fn begins_a_line(body: &str, sent: &[String]) -> bool {
    let bare = body.replacen(MARK, "", 1);
    let own = ["{\"session\":", "{\"barrier\":", "{\"breaker\":", "{\"redelivered\":true,"];
    sent.iter().any(|known| known.starts_with(&bare))
        || own.iter().any(|own| own.starts_with(body) || body.starts_with(own))
}

/// Whole lines only, but for the last of a host and the last before an open, which a host can't see.
fn whole_lines(host: &ModelHost, sent: &[String]) -> Vec<String> {
    let mut whole = Vec::new();
    for session in host.sessions() {
        let text = String::from_utf8(session.received).unwrap();
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let end = at + line.len();
            let body = line.trim_end_matches('\n');
            let is_known = sent.contains(&body.replacen(MARK, "", 1));
            let was_cut = !line.ends_with('\n') || session.opened_at.contains(&(end - 1));
            if is_known && line.ends_with('\n') {
                whole.push(body.to_owned());
            } else {
                let is_own =
                    body.is_empty() || serde_json::from_str::<serde_json::Value>(body).is_ok();
                assert!(begins_a_line(body, sent), "of no line: {body:.40}");
                assert!(was_cut || is_own, "torn: {body:.40} ({} bytes)", body.len());
            }
            at = end;
        }
        assert!(text.is_empty() || text.starts_with('\n'), "a newline first");
    }
    whole
}

fn of(lane: char, lines: &[String]) -> Vec<String> {
    let is_of = |line: &&String| line.replacen(MARK, "", 1).starts_with(&format!("{{\"{lane}"));
    lines.iter().filter(is_of).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_no_line_is_torn_doubled_or_lost_unless_in_flight(script in prop::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (sent, unread, host) = runtime.block_on(play(&script));
        let whole = whole_lines(&host, &sent);
        let waited: u64 = script.iter().map(|op| op.takes().as_millis() as u64).sum();
        for lane in ['t', 'r'] {
            let (sent, got) = (of(lane, &sent), of(lane, &whole));
            let mut rest = sent.iter();
            prop_assert!(got.iter().all(|line| rest.any(|known| known == line)), "in order, none twice");
            let missing: usize = sent.iter().filter(|line| !got.contains(line)).map(|line| line.len()).sum();
            // Of a line that was cut by an unplug the host may have got the beginning.
            let received: usize = host.sessions().iter().map(|session| session.received.len()).sum();
            let cut = received - whole.iter().map(String::len).sum::<usize>();
            let gone = host.discarded() + cut as u64;
            prop_assert!(lane == 'r' || missing as u64 <= gone, "{missing} bytes are missing, {gone} were in flight");
            // Two lines to a reading. A host that never answers is believed after a second.
            let missing = sent.iter().filter(|line| !got.contains(line)).count() as u64;
            prop_assert!(lane == 'r' || waited > 900 || missing <= 2 * unread, "{missing} lines are missing, {unread} readings are booked");
        }

        // A durable line is marked when it is redelivered, and first deliveries are in order.
        let (sent, got) = (of('m', &sent), of('m', &whole));
        let mut first = Vec::new();
        for line in &got {
            let bare = line.replacen(MARK, "", 1);
            if !first.contains(&bare) {
                first.push(bare);
            } else {
                prop_assert!(line.contains(MARK), "twice and not marked: {line:.40}");
            }
        }
        // A host that never answers is believed after 30 s, so in a long script it may be believed wrongly.
        let is_in_order = sent.iter().filter(|line| first.contains(line)).eq(&first);
        prop_assert!(is_in_order, "in order");
        prop_assert!(waited > 25_000 || first.len() == sent.len(), "{} of {} came", first.len(), sent.len());
    }
}
