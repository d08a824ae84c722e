//! Today's host at a port: no warnings, and correct figures.

use std::time::Duration;

use infiniservice::internals::commands::actions::LINE_MAX;
use infiniservice::internals::port::{Audience, TrackedFrame};
use infiniservice::internals::record_file::File;
use infiniservice::internals::spool::{
    DurableMessage, MessageKind, SIZE_MIN, Settings, Spool, SpoolTask,
};
use infiniservice::pipeline::Task;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::rig::{Rig, frame, settle};
use super::warnings::{Connection, REQUEST_EVERY};

/// A port and the host at it.
struct Met {
    rig: Rig,
    host: Connection,
    /// Bytes of the host's session that it has seen.
    seen: usize,
    next_request: Instant,
    /// How long each durable frame took until it was acknowledged.
    acknowledged: Vec<Duration>,
    waiting: Vec<(u64, Instant)>,
}

impl Met {
    /// The host was connected before the agent started, and has sent a keep-alive at an unknown time.
    async fn found() -> Self {
        let rig = Rig::quiet();
        rig.host.connect();
        settle().await;
        let mut host = Connection::default();
        host.request();
        let next_request = Instant::now() + REQUEST_EVERY * 2 / 3;
        Self { rig, host, seen: 0, next_request, acknowledged: Vec::new(), waiting: Vec::new() }
    }

    /// The host comes to an agent that waits.
    async fn came() -> Self {
        let rig = Rig::quiet();
        settle().await;
        rig.host.connect();
        settle().await;
        let next_request = Instant::now() + REQUEST_EVERY;
        let (host, acknowledged, waiting) = Default::default();
        Self { rig, host, seen: 0, next_request, acknowledged, waiting }
    }

    /// Lets time pass, in which the host does what it does.
    async fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if self.next_request <= Instant::now() {
                self.next_request += REQUEST_EVERY;
                self.rig.acks.on_request(self.host.request());
                self.rig.host.send(b"{}\n");
            }
            settle().await;
            while self.rig.inbound.try_recv().is_ok() {}
            let new = self.rig.host.received_after(self.seen);
            self.seen += new.len();
            for number in self.host.read(&new) {
                self.rig.acks.on_ack(number, None);
            }
            settle().await;
            let read = *self.rig.read.borrow();
            let (done, waiting) = self.waiting.drain(..).partition(|(seq, _)| *seq <= read);
            self.waiting = waiting;
            self.acknowledged.extend(done.into_iter().map(|(_, at): (u64, Instant)| at.elapsed()));
            tokio::time::sleep(Duration::from_millis(98)).await;
        }
    }

    /// The host asks for something and is answered with so many bytes.
    async fn command(&mut self, seq: u64, bytes: usize) {
        self.host.pending.insert(format!("c{seq}"));
        self.rig.host.send(b"{}\n");
        let requested_at = Some(Instant::now());
        settle().await;
        self.rig.durable.try_send(answer(seq, requested_at, bytes)).unwrap();
        self.waiting.push((seq, Instant::now()));
        self.pass(Duration::from_millis(200)).await;
    }
}

fn answer(seq: u64, requested_at: Option<Instant>, bytes: usize) -> TrackedFrame {
    let text = format!(
        "{{\"type\":\"response\",\"id\":\"c{seq}\",\"stdout\":\"{}\"}}\n",
        "x".repeat(bytes)
    );
    TrackedFrame {
        seq,
        frame: frame(text),
        redelivered: false,
        requested_at,
        audience: Audience::Requester,
        sender_waits: false,
    }
}

fn reading(bytes: usize) -> String {
    format!("{{\"type\":\"metrics\",\"data\":\"{}\"}}\n", "x".repeat(bytes))
}

#[tokio::test(start_paused = true)]
async fn nine_idle_minutes_cost_no_warning_and_leave_its_figures_true() {
    for mut met in [Met::found().await, Met::came().await] {
        for _ in 0..18 {
            met.rig.send_telemetry(reading(25_000));
            met.pass(Duration::from_secs(30)).await;
        }
        assert_eq!(met.host.warnings, [""; 0]);
        assert!(met.host.average() < Duration::from_millis(10), "{:?}", met.host.average());
        assert!(met.host.received <= met.host.sent, "each keep-alive is one that it asked for");
        assert!(met.host.received >= 4);
        // What no echo acknowledges is counted as lost when the host disconnects.
        for _ in 0..2 {
            met.rig.send_telemetry(reading(100));
            met.pass(Duration::from_secs(1)).await;
        }
        met.rig.host.leave();
        settle().await;
        let lost = met.rig.node.count().dropped;
        assert!(matches!(lost[..], [("unread", 2..=6)]), "{lost:?}");
        met.rig.check_counters();
    }
}

#[tokio::test(start_paused = true)]
async fn ten_commands_cost_no_warning_and_its_own_request_brings_their_acknowledgement() {
    let mut met = Met::found().await;
    met.pass(REQUEST_EVERY).await;
    for seq in 1..=10 {
        met.pass(Duration::from_secs(7)).await;
        met.command(seq, 2_000).await;
    }
    assert_eq!(met.host.answered.len(), 10, "each is there at once");
    met.pass(REQUEST_EVERY).await;
    assert_eq!((&met.host.warnings[..], met.waiting.len()), (&[][..], 0));
    let slowest = met.acknowledged.iter().max().unwrap();
    assert!(*slowest <= REQUEST_EVERY + Duration::from_secs(1), "{slowest:?}");
    assert!(met.host.received <= met.host.sent + 1, "at most one question besides the echoes");
}

#[tokio::test(start_paused = true)]
async fn before_its_first_keep_alive_and_right_after_each_a_barrier_is_written_at_once() {
    let mut met = Met::came().await;
    met.pass(Duration::from_secs(30)).await;
    met.command(1, 100).await;
    assert_eq!(met.acknowledged.len(), 1, "it measures nothing yet");
    let left = met.next_request - Instant::now();
    met.pass(left + Duration::from_secs(1)).await;
    met.command(2, 100).await;
    assert_eq!(met.acknowledged.len(), 2, "a second after its request");
    met.pass(Duration::from_secs(10)).await;
    met.command(3, 100).await;
    assert_eq!((met.acknowledged.len(), met.waiting.len()), (2, 1), "later it waits for the next");
    met.pass(REQUEST_EVERY).await;
    assert_eq!((met.acknowledged.len(), &met.host.warnings[..]), (3, &[][..]));
}

#[tokio::test(start_paused = true)]
async fn long_answers_one_after_the_other_cost_no_warning() {
    let mut met = Met::found().await;
    met.pass(REQUEST_EVERY).await;
    for seq in 1..=10 {
        met.command(seq, LINE_MAX - 100).await;
        met.pass(Duration::from_secs(8)).await;
    }
    assert_eq!(met.host.answered.len(), 10);
    assert_eq!(met.host.warnings, [""; 0]);
    assert_eq!(met.rig.host.leaked(), 0);
}

/// With the spool in front of the port, whose bound on unacknowledged bytes is reached first.
#[tokio::test(start_paused = true)]
async fn more_answers_than_may_be_unacknowledged_wait_for_no_request_of_the_host() {
    let (large, small) = (4 << 20, SIZE_MIN);
    for (size, commands, at_once, bytes) in
        [(large, 60, 1, LINE_MAX - 100), (large, 5_000, 100, 300), (small, 500, 20, 2_000)]
    {
        let mut met = Met::found().await;
        let settings =
            Settings { size, identity: String::new(), boot_id: String::new(), tombstone: None };
        let (spool, _) = Spool::<File>::in_memory(&settings, 0);
        let (answers, inbox) = mpsc::channel(at_once);
        let (port, read) = (met.rig.durable.clone(), met.rig.read.clone());
        let (mut task, ..) = SpoolTask::new(spool, inbox, port, read, Default::default());
        tokio::spawn(async move { task.run().await });
        met.pass(REQUEST_EVERY).await;
        let echoes = met.host.received;
        for seq in 1..=commands {
            met.host.pending.insert(format!("c{seq}"));
            met.rig.host.send(b"{}\n");
            let TrackedFrame { frame, .. } = answer(seq, None, bytes);
            let answer = DurableMessage { frame, kind: MessageKind::Response, request: 0 };
            answers.send(answer).await.unwrap();
            if seq % at_once as u64 == 0 {
                met.pass(Duration::from_secs(1)).await;
                assert_eq!(met.host.answered.len() as u64, seq, "{bytes} bytes each");
            }
        }
        // This host takes each question for a late echo: one for each time that the bound is reached.
        let asked = u64::from(met.host.received - echoes);
        let at_most = commands * (bytes as u64 + 150) / (size / 4) + 1;
        assert!(
            (1..=at_most).contains(&asked),
            "{bytes} bytes each: {asked} of {at_most} questions"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn long_lines_at_once_with_its_own_request_behind_them_cost_no_warning() {
    let mut met = Met::found().await;
    met.pass(REQUEST_EVERY).await;
    for seq in 1..=10 {
        met.host.pending.insert(format!("c{seq}"));
        let requested_at = Some(Instant::now());
        met.rig.durable.try_send(answer(seq, requested_at, LINE_MAX - 100)).unwrap();
        met.rig.send_telemetry(reading(40_000));
        met.rig.send_telemetry(reading(20_000));
    }
    // It asks just when a long line is there, too.
    met.next_request = Instant::now();
    met.pass(REQUEST_EVERY).await;
    assert_eq!(met.host.answered.len(), 10);
    assert_eq!(met.host.warnings, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_host_without_keep_alives_gets_a_barrier_when_durable_data_has_waited_long_enough() {
    let mut met = Met::found().await;
    met.next_request += Duration::from_secs(100_000);
    met.command(1, 100).await;
    met.pass(Duration::from_secs(140)).await;
    assert_eq!(met.waiting.len(), 1);
    met.pass(Duration::from_secs(15)).await;
    assert_eq!(met.acknowledged.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_hangs_in_quiet_mode_costs_the_port_nothing() {
    let mut met = Met::found().await;
    met.pass(REQUEST_EVERY * 2).await;
    for round in 0..5 {
        met.rig.host.stop_reading();
        for _ in 0..200 {
            met.rig.send_telemetry(reading(8_000));
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        met.rig.host.leave();
        assert_eq!(met.rig.host.leaked(), 0, "round {round}");
        settle().await;
        met.rig.host.connect();
        (met.seen, met.host) = (0, Connection::default());
        met.next_request = Instant::now() + REQUEST_EVERY;
        met.pass(REQUEST_EVERY * 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_goes_only_to_the_connection_that_requested_it_and_a_script_completion_to_any() {
    let mut met = Met::found().await;
    // Of an earlier run of the agent, on what may be the same connection.
    met.host.pending.insert("c1".to_owned());
    met.rig.durable.try_send(answer(1, None, 10)).unwrap();
    met.pass(Duration::from_secs(1)).await;
    assert_eq!((&met.host.answered[..], &met.host.warnings[..]), (&["c1".to_owned()][..], &[][..]));

    let requested_at = Some(Instant::now());
    settle().await;
    met.rig.host.stop_reading();
    met.rig.durable.try_send(answer(2, requested_at, 10)).unwrap(); // written, and never read
    settle().await;
    met.rig.host.leave();
    settle().await;
    met.rig.durable.try_send(answer(3, requested_at, 10)).unwrap();
    met.rig.durable.try_send(answer(4, None, 10)).unwrap();
    let done = frame("{\"type\":\"script_completion\",\"execution_id\":\"s1\"}\n");
    let done = TrackedFrame {
        seq: 5,
        frame: done,
        redelivered: false,
        requested_at,
        audience: Audience::Any,
        sender_waits: false,
    };
    met.rig.durable.try_send(done).unwrap();
    met.rig.host.connect();
    (met.seen, met.host) = (0, Connection::default());
    met.pass(Duration::from_secs(1)).await;
    let seen = met.rig.seen();
    assert!(seen.contains("script_completion") && !seen.contains("response"), "{seen}");
    assert_eq!(met.host.warnings, [""; 0]);
    assert_eq!(*met.rig.read.borrow(), 5, "none of them waits any more");
    let lost = met.rig.node.count().dropped;
    assert!(lost.contains(&("host_left", 4)), "c1 to c4: {lost:?}");
    met.rig.check_counters();
}

#[tokio::test(start_paused = true)]
async fn events_and_the_session_line_go_to_a_host_that_announces_that_it_understands_them() {
    let mut met = Met::came().await;
    let event = |seq| {
        let frame = frame("{\"type\":\"agent_event\",\"message\":\"m\"}\n");
        TrackedFrame {
            seq,
            frame,
            redelivered: false,
            requested_at: None,
            audience: Audience::UnderstandsEvents,
            sender_waits: false,
        }
    };
    met.rig.durable.try_send(event(1)).unwrap();
    met.pass(Duration::from_secs(1)).await;
    assert!(!met.rig.seen().contains("agent_event"), "{}", met.rig.seen());
    assert_eq!(met.rig.node.count().discarded, [("not_understood", 1)]);
    met.rig.acks.on_events_understood();
    met.rig.durable.try_send(event(2)).unwrap();
    settle().await;
    let seen = met.rig.seen();
    let events: Vec<_> = seen.lines().filter(|line| line.contains("agent_event")).collect();
    assert!(events[0].contains("\"session\":1") && events[1].contains("\"m\""), "{seen}");
}
