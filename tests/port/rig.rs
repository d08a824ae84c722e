//! A port over the model of a virtio-serial port, with both ends in the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::doubles::port::{self as model, ModelHost, ModelPort};
use bytes::Bytes;
use infiniservice::internals::commands::notify::control_messages::ControlMessages;
use infiniservice::internals::port::{
    AckTracker, Audience, Breaker, ControlLines, Counters, Inbound, Port, Summary, TrackedFrame,
};
use infiniservice::internals::spool::SessionIds;
use infiniservice::model::Frame;
use infiniservice::pipeline::{StageStats, StatsRegistry};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// A port with telemetry, replies and inbound channels, running over the model.
pub struct Rig {
    pub host: ModelHost,
    pub telemetry: mpsc::Sender<Frame>,
    pub replies: mpsc::Sender<Frame>,
    pub durable: mpsc::Sender<TrackedFrame>,
    /// The sequence number up to which durable frames are acknowledged.
    pub read: watch::Receiver<u64>,
    pub acks: AckTracker,
    pub inbound: mpsc::Receiver<Inbound>,
    pub closing: CancellationToken,
    pub node: Arc<StageStats>,
    pub counters: Arc<Counters>,
    pub running: JoinHandle<Summary>,
}

/// Spells the port's own lines.
pub struct Spelled;

impl ControlLines for Spelled {
    fn session(&mut self, connects: u64) -> Bytes {
        format!("{{\"session\":{connects}}}\n").into()
    }

    fn keep_alive(&mut self, number: u64) -> Bytes {
        format!("{{\"barrier\":{number}}}\n").into()
    }

    fn breaker(&mut self, breaker: &Breaker) -> Bytes {
        format!("{{\"breaker\":\"{:?}\"}}\n", breaker.state).into()
    }
}

impl Rig {
    /// A port without lines of its own.
    pub fn start() -> Self {
        Self::over(model::pair_with_buffer(1), false)
    }

    /// A port that writes session lines and barriers.
    pub fn asking() -> Self {
        Self::over(model::pair_with_buffer(1), true)
    }

    /// A port as the agent sets it up for today's host.
    pub fn quiet() -> Self {
        let rig = |port: &mut Port| {
            port.acks().listen();
            port.control_lines(ControlMessages::new(SessionIds::default(), None));
        };
        Self::with(model::pair(), rig)
    }

    pub fn over(pair: (ModelPort, ModelHost), asks: bool) -> Self {
        Self::with(pair, |port| {
            if asks {
                port.acks().set_own_host();
                port.acks().listen();
                port.control_lines(Spelled);
            }
        })
    }

    /// The same over `pair`, once `prepare` has made of the port what it is to be.
    pub fn with((guest, host): (ModelPort, ModelHost), prepare: impl FnOnce(&mut Port)) -> Self {
        let closing = CancellationToken::new();
        let mut port =
            Port::new(guest, StatsRegistry::default().node("port".into()), closing.clone());
        let (telemetry, lane) = mpsc::channel(4096);
        port.telemetry(ReceiverStream::new(lane));
        let (replies, inbound) = (port.replies(), port.inbound());
        let ((durable, read), acks) = (port.durable(), port.acks());
        prepare(&mut port);
        let (node, counters) = (port.node(), port.counters());
        let running = tokio::spawn(async move { port.run().await });
        Self {
            host,
            telemetry,
            replies,
            durable,
            read,
            acks,
            inbound,
            closing,
            node,
            counters,
            running,
        }
    }

    /// Sends a durable frame.
    pub fn durable(&self, seq: u64, text: impl Into<Bytes>) {
        self.durable
            .try_send(TrackedFrame {
                seq,
                frame: frame(text),
                redelivered: false,
                requested_at: None,
                audience: Audience::Any,
                sender_waits: false,
            })
            .unwrap();
    }

    /// A port that asks, with a host that has come.
    pub async fn met() -> Self {
        let rig = Self::asking();
        rig.host.connect();
        settle().await;
        rig
    }

    /// The last host answers every barrier it has got.
    pub fn answer(&self) {
        answer(&self.host, &self.acks, None);
    }

    /// The same, each over the connection of this number.
    pub fn answer_over(&self, connection: u64) {
        answer(&self.host, &self.acks, Some(connection));
    }

    pub fn send_telemetry(&self, text: impl Into<Bytes>) {
        self.telemetry.try_send(frame(text)).unwrap();
    }

    pub fn reply(&self, text: impl Into<Bytes>) {
        self.replies.try_send(frame(text)).unwrap();
    }

    /// What the last host got.
    pub fn seen(&self) -> String {
        seen(&self.host)
    }

    /// The same without the barriers.
    pub fn said(&self) -> String {
        let seen = self.seen();
        let lines = seen.split_inclusive('\n');
        lines.filter(|line| !line.starts_with("{\"barrier\"")).collect()
    }

    pub fn check_counters(&self) {
        let count = self.node.count();
        let lost = count.not_sent_total();
        assert_eq!(
            count.received,
            count.sent + lost + count.buffered,
            "taken = given + lost + held"
        );
    }

    pub async fn close(self) -> Summary {
        self.closing.cancel();
        drop((self.telemetry, self.replies, self.durable));
        tokio::time::timeout(Duration::from_secs(60), self.running).await.unwrap().unwrap()
    }
}

fn seen(host: &ModelHost) -> String {
    let last = host.sessions().pop().unwrap_or_default();
    String::from_utf8(last.received).unwrap()
}

/// The last host answers every barrier it has got.
pub fn answer(host: &ModelHost, acks: &AckTracker, connection: Option<u64>) {
    for line in seen(host).lines() {
        let number = line.strip_prefix("{\"barrier\":").and_then(|rest| rest.strip_suffix('}'));
        if let Some(number) = number {
            acks.on_ack(number.parse().unwrap(), connection);
        }
    }
}

pub fn frame(text: impl Into<Bytes>) -> Frame {
    Frame::new(text, 1, Instant::now())
}

pub fn get(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}

/// Lets every task run until all of them wait: paused time moves only then.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Waits until a reopening, with its delays, is complete.
pub async fn settle_long() {
    tokio::time::sleep(Duration::from_secs(90)).await;
}
