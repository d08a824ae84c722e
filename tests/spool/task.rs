//! The spool task, with both ends in the test.

use crate::doubles::faulty_disk::{Faults, FaultyDisk};
use std::sync::Arc;
use std::time::Duration;

use infiniservice::internals::port::TrackedFrame;
use infiniservice::internals::record_file::Storage;
use infiniservice::internals::spool::{
    DurableMessage, DurableSink, Machine, MessageKind, SIZE_MIN, Settings, Spool, SpoolStatus,
    SpoolTask, State, open,
};
use infiniservice::model::{Frame, Unacknowledged};
use infiniservice::pipeline::StageCounts;
use infiniservice::pipeline::{ExitStatus, Restart, Sink, StageStats, StatsRegistry, Task, run};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::rig::{NOW, message, settings, small, text};

/// A running spool task, and everything around it.
struct Rig {
    inbox: Option<mpsc::Sender<DurableMessage>>,
    port: mpsc::Receiver<TrackedFrame>,
    read: Option<watch::Sender<u64>>,
    backlog: SpoolStatus,
    became: watch::Sender<Option<Machine>>,
    node: Arc<StageStats>,
    task: JoinHandle<ExitStatus>,
}

impl Rig {
    fn with<S: Storage>(spool: Spool<S>, port: usize) -> Self {
        let (inbox, items) = mpsc::channel(100);
        let (to_port, port) = mpsc::channel(port);
        let (read, acknowledged) = watch::channel(0);
        let node = StatsRegistry::default().node("port/spool".into());
        let (spool_task, backlog, became) =
            SpoolTask::new(spool, items, to_port, acknowledged, node.clone());
        let task: Box<dyn Task> = Box::new(spool_task);
        let task = tokio::spawn(async move {
            run(vec![task], &Restart::default(), &CancellationToken::new(), Duration::ZERO)
                .await
                .end
        });
        Self { inbox: Some(inbox), port, read: Some(read), backlog, became, node, task }
    }

    fn on(disk: &FaultyDisk) -> Self {
        Self::with(Spool::open(disk.clone(), &settings(4 << 20), NOW).0, 64)
    }

    async fn send(&self, kind: MessageKind, text: impl Into<bytes::Bytes>) {
        self.inbox.as_ref().unwrap().send(message(kind, text)).await.unwrap();
    }

    async fn next(&mut self) -> (u64, String, bool) {
        let stored = timeout(Duration::from_secs(10), self.port.recv()).await.unwrap().unwrap();
        (stored.seq, String::from_utf8(stored.frame.bytes.to_vec()).unwrap(), stored.redelivered)
    }

    /// Waits until the task is idle: under a paused clock, time passes only then.
    async fn settle(&self) {
        sleep(Duration::from_millis(1)).await;
    }

    fn read(&self, seq: u64) {
        self.read.as_ref().unwrap().send_replace(seq);
    }

    fn counts(&self) -> StageCounts {
        let count = self.node.count();
        let lost = count.not_sent_total();
        assert_eq!(count.received, count.sent + lost + count.buffered, "{count:?}");
        count
    }

    /// Ends the inbox, and the port after it.
    async fn end(mut self) -> Vec<TrackedFrame> {
        self.inbox = None;
        let mut rest = Vec::new();
        while let Some(stored) = self.port.recv().await {
            rest.push(stored);
        }
        self.read = None;
        assert_eq!(self.task.await.unwrap(), ExitStatus::Done);
        rest
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_on_disk_before_the_port_has_it_and_removed_when_it_is_acknowledged() {
    let disk = FaultyDisk::new(1);
    let mut rig = Rig::on(&disk);
    let empty = disk.bytes().len();
    for number in 1..=3 {
        rig.send(MessageKind::Response, text(number, 100)).await;
        assert_eq!(rig.next().await, (number, text(number, 100), false));
        let whole = text(number, 100);
        assert!(disk.bytes().windows(100).any(|part| part == whole.as_bytes()));
    }
    assert_eq!(rig.backlog.now().items, 3);
    rig.read(2);
    rig.settle().await;
    assert_eq!((rig.counts().sent, rig.counts().buffered, rig.backlog.now().items), (2, 1, 1));
    rig.read(3);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(disk.bytes().len(), empty, "nothing of it stays");
    assert_eq!((rig.counts().sent, rig.counts().buffered), (3, 0));
    assert_eq!(rig.backlog.now().oldest, None);
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_takes_fifty_milliseconds_at_most() {
    for (wait, stored) in [(60, 20), (0, 0)] {
        let disk = FaultyDisk::new(3);
        let rig = Rig::on(&disk);
        let steps = disk.steps();
        for number in 1..=20 {
            rig.send(MessageKind::Event, text(number, 2_000)).await;
            sleep(Duration::from_millis(1)).await;
        }
        assert!(disk.steps() <= steps + 20, "not a sync for each");
        sleep(Duration::from_millis(wait)).await;
        disk.power_cut();
        let (spool, _) = Spool::open(disk, &settings(4 << 20), NOW);
        let there = spool.waiting().len();
        assert!(if stored > 0 { there == stored } else { there < 20 }, "{there} after {wait} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_an_earlier_run_go_first_and_are_marked() {
    let disk = FaultyDisk::new(1);
    let mut rig = Rig::on(&disk);
    rig.send(MessageKind::Response, "one").await;
    rig.send(MessageKind::Response, "two").await;
    rig.send(MessageKind::Response, "three").await;
    rig.next().await;
    rig.read(1);
    assert_eq!(rig.end().await.len(), 2);

    let mut rig = Rig::on(&disk);
    rig.send(MessageKind::Response, "new").await;
    assert_eq!(rig.next().await, (2, "two".into(), true));
    assert_eq!(rig.next().await, (3, "three".into(), true));
    assert_eq!(rig.next().await, (4, "new".into(), false));
    assert_eq!((rig.counts().received, rig.counts().buffered), (3, 3));
    // The task records acknowledgements while it ends.
    rig.inbox = None;
    assert!(rig.port.recv().await.is_none());
    rig.read(4);
    rig.read = None;
    assert_eq!(rig.task.await.unwrap(), ExitStatus::Done);
    assert_eq!(Spool::open(disk, &settings(4 << 20), NOW).1.waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn an_absent_host_delays_no_sender_and_gets_all_in_order_when_it_connects() {
    let disk = FaultyDisk::new(1);
    let mut rig = Rig::with(Spool::open(disk, &settings(4 << 20), NOW).0, 4);
    let began = Instant::now();
    for number in 1..=1_000 {
        rig.send(MessageKind::Response, text(number, 1_500)).await;
    }
    rig.settle().await;
    assert!(began.elapsed() < Duration::from_secs(1), "nobody waited");
    assert_eq!((rig.backlog.now().items, rig.port.len()), (1_000, 4));
    for number in 1..=1_000 {
        assert_eq!(rig.next().await, (number, text(number, 1_500), false));
        rig.read(number);
    }
    rig.settle().await;
    assert_eq!((rig.counts().sent, rig.counts().buffered), (1_000, 0));
}

#[tokio::test(start_paused = true)]
async fn the_port_is_given_no_more_than_it_can_use() {
    let mut rig = Rig::on(&FaultyDisk::new(1));
    for number in 1..=20 {
        rig.send(MessageKind::Response, text(number, 60 << 10)).await;
    }
    rig.settle().await;
    // A quarter of the spool, which is a MiB.
    assert!(rig.port.len() <= 18, "{} frames of 60 KiB", rig.port.len());
    for number in 1..=20 {
        assert_eq!(rig.next().await.0, number);
        rig.read(number);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_reported_and_recovered_from_and_all_messages_arrive() {
    let disk = FaultyDisk::new(1);
    let mut rig = Rig::on(&disk);
    disk.set(Faults { space: Some(1_000), ..Faults::default() });
    for number in 1..=10 {
        rig.send(MessageKind::Response, text(number, 300)).await;
        assert_eq!(rig.next().await.0, number, "also from memory");
    }
    let waiting = rig.backlog.now();
    assert!(matches!(waiting.state, State::Failing(why) if Some(&why) == waiting.why.as_ref()));
    assert!(waiting.in_memory > 0 && waiting.in_memory < waiting.items, "some are on disk");
    disk.set(Faults::default());
    sleep(Duration::from_secs(3)).await;
    assert_eq!((rig.backlog.now().state, rig.counts().buffered), (State::Ok, 10));
    disk.power_cut();
    assert_eq!(Spool::open(disk, &settings(4 << 20), NOW).1.waiting, 10);
}

#[tokio::test(start_paused = true)]
async fn the_counters_add_up_where_tombstones_replace_evicted_replies() {
    let disk = FaultyDisk::new(1);
    let settings = Settings { tombstone: Some(|line, _| Some(line[..8].to_vec())), ..small() };
    let mut rig = Rig::with(Spool::open(disk.clone(), &settings, NOW).0, 1);
    for number in 1..=20 {
        rig.send(MessageKind::Response, text(number, 10_000)).await;
        rig.settle().await;
        rig.counts();
    }
    let evicted = rig.counts().dropped[0].1;
    assert!(evicted > 10 && rig.counts().buffered == 20 - evicted, "{:?}", rig.counts());
    let mut tombstones = 0;
    while rig.backlog.now().items > 0 {
        let (seq, line, _) = rig.next().await;
        tombstones += u64::from(line.len() == 8);
        rig.read(seq);
        rig.settle().await;
    }
    assert_eq!((tombstones, rig.counts().sent), (evicted, 20 - evicted));
}

#[tokio::test(start_paused = true)]
async fn without_a_file_messages_are_in_bounded_memory() {
    let (spool, _) = Spool::<FaultyDisk>::in_memory(&settings(SIZE_MIN), NOW);
    let mut rig = Rig::with(spool, 1);
    for number in 1..=200 {
        rig.send(MessageKind::Event, text(number, 1_000)).await;
        rig.settle().await;
    }
    rig.settle().await;
    let counts = rig.counts();
    assert_eq!((rig.backlog.now().state, counts.received), (State::Memory, 200));
    assert!(rig.backlog.now().bytes <= SIZE_MIN);
    assert_eq!(counts.dropped, [("spool full", 200 - counts.buffered)]);
    assert_eq!(rig.next().await.0, 1, "what the port has is not taken back");
    let second = rig.next().await;
    assert_eq!(second.1, text(second.0, 1_000));
    rig.send(MessageKind::Completion, vec![b'x'; 1 << 20]).await;
    rig.read(200);
    rig.settle().await;
    rig.counts();
}

#[tokio::test(start_paused = true)]
async fn a_frame_longer_than_the_spool_passes_through_memory() {
    let (spool, _) = Spool::open(FaultyDisk::new(1), &settings(SIZE_MIN), NOW);
    let mut rig = Rig::with(spool, 64);
    for number in 1..=3 {
        rig.send(MessageKind::Response, text(number, 1 << 20)).await;
        assert_eq!(rig.next().await.1.len(), 1 << 20);
        rig.send(MessageKind::Event, "small").await;
        rig.read(2 * number - 1);
        assert_eq!(rig.next().await, (2 * number, "small".into(), false));
        rig.read(2 * number);
    }
    rig.settle().await;
    assert_eq!((rig.counts().sent, rig.backlog.now().bytes), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn a_machine_with_a_new_identity_drops_what_waits() {
    let disk = FaultyDisk::new(1);
    let mut rig = Rig::on(&disk);
    rig.send(MessageKind::Response, "of the first").await;
    rig.next().await;
    rig.became.send_replace(Some(Machine { life: 1, identity: "another".into() }));
    rig.settle().await;
    assert_eq!((rig.counts().dropped, rig.backlog.now().items), (vec![("cloned", 1)], 0));
    rig.send(MessageKind::Response, "of the second").await;
    assert_eq!(rig.next().await.1, "of the second");
    rig.end().await;
    let (_, opened) = Spool::open(disk.clone(), &settings(4 << 20), NOW);
    assert!(opened.cloned && opened.dropped == 1, "the file is the second's");
}

#[tokio::test(start_paused = true)]
async fn the_task_stores_messages_after_the_port_has_ended() {
    let disk = FaultyDisk::new(1);
    let rig = Rig::on(&disk);
    let Rig { inbox, port, read, task, .. } = rig;
    drop((port, read));
    let inbox = inbox.unwrap();
    for number in 0..300 {
        inbox.send(message(MessageKind::Completion, text(number, 10))).await.unwrap();
    }
    drop(inbox);
    assert_eq!(task.await.unwrap(), ExitStatus::Done);
    disk.power_cut();
    assert_eq!(Spool::open(disk, &settings(4 << 20), NOW).1.waiting, 300);
}

/// A disk whose calls panic now and then.
struct Panics(FaultyDisk, u32);

impl Storage for Panics {
    fn length(&mut self) -> std::io::Result<u64> {
        self.0.length()
    }
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_at(offset, into)
    }
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1 += 1;
        assert!(!self.1.is_multiple_of(5), "made up");
        self.0.append(bytes)
    }
    fn truncate(&mut self, length: u64) -> std::io::Result<()> {
        self.0.truncate(length)
    }
    fn sync(&mut self) -> std::io::Result<()> {
        self.0.sync()
    }
    fn set_aside(&mut self) -> std::io::Result<()> {
        self.0.set_aside()
    }
    fn begin(&mut self) -> std::io::Result<()> {
        self.0.begin()
    }
    fn append_beside(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.append_beside(bytes)
    }
    fn commit(&mut self) -> std::io::Result<()> {
        self.0.commit()
    }
    fn abandon(&mut self) {
        self.0.abandon();
    }
    fn exchanged(&self) -> bool {
        self.0.exchanged()
    }
    fn blocks(&self) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_middle_loses_and_doubles_nothing() {
    let disk = FaultyDisk::new(1);
    let (spool, _) = Spool::open(Panics(disk.clone(), 0), &settings(4 << 20), NOW);
    let mut rig = Rig::with(spool, 64);
    for number in 1..=30 {
        rig.send(MessageKind::Response, text(number, 50)).await;
        assert_eq!(rig.next().await, (number, text(number, 50), false));
        sleep(Duration::from_secs(20)).await;
    }
    assert!(rig.counts().failed >= 5);
    rig.end().await;
    assert_eq!(Spool::open(disk, &settings(4 << 20), NOW).1.waiting, 30);
}

/// Also the measurement that the module's documentation shows: run it with `--nocapture`.
#[tokio::test]
async fn the_hop_through_a_real_file_is_short() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, opened) = open(&folder.path().join("state"), &settings(4 << 20), NOW);
    assert_eq!(opened.trouble, None);
    let mut rig = Rig::with(spool, 64);
    let mut took = Vec::new();
    for number in 1..=1_000_u64 {
        let body = text(number, 2_000);
        let began = Instant::now();
        rig.send(MessageKind::Response, body).await;
        rig.next().await;
        took.push(began.elapsed());
        rig.read(number);
        sleep(Duration::from_millis(1 + number % 3)).await;
    }
    took.sort_unstable();
    let at = |percent: usize| took[took.len() * percent / 100 - 1];
    println!("one at a time: median {:?}, 99 % {:?}, most {:?}", at(50), at(99), at(100));
    assert!(at(50) < Duration::from_millis(20), "{:?}", at(50));

    let began = Instant::now();
    for number in 1_001..=6_000_u64 {
        rig.send(MessageKind::Response, text(number, 2_000)).await;
        while rig.backlog.now().items > 500 || !rig.port.is_empty() {
            let seq = rig.next().await.0;
            rig.read(seq);
        }
    }
    let mut seq = 0;
    while seq < 6_000 {
        seq = rig.next().await.0;
        rig.read(seq);
    }
    println!("5,000 in a row: {:?}", began.elapsed());
    assert_eq!(rig.counts().dropped, []);
}

/// Writes records of 10 kB, each with its number as its position, until there are `count`.
fn write_records(rig: &Rig, count: u64, stop: &CancellationToken) -> Unacknowledged<u64> {
    let (inbox, status) = (rig.inbox.clone().unwrap(), rig.backlog.clone());
    let mut sink = DurableSink::new("port".into(), inbox, status, stop);
    let positions = Unacknowledged::default();
    let source = positions.clone();
    tokio::spawn(async move {
        for number in 0..count {
            let receipt = source.receipt(number);
            let frame = Frame { receipt, ..Frame::new(text(number, 10_000), 1, Instant::now()) };
            sink.write(&frame).await.unwrap();
        }
    });
    positions
}

/// Records, unlike readings, can wait at their source: none is evicted, and each is acknowledged once it is on disk.
#[tokio::test(start_paused = true)]
async fn records_wait_for_room_and_are_acknowledged_once_they_are_on_disk() {
    let disk = FaultyDisk::new(1);
    let mut rig = Rig::with(Spool::open(disk.clone(), &settings(256 << 10), NOW).0, 64);
    let positions = write_records(&rig, 50, &CancellationToken::new());
    rig.settle().await;
    assert_eq!(positions.take(), None, "nothing is synced yet");
    sleep(Duration::from_secs(3600)).await;
    let waiting = rig.counts().received;
    assert!((8..12).contains(&waiting), "half of it holds {waiting}");
    assert_eq!(positions.take(), Some(waiting - 1));
    for number in 0..50 {
        let (seq, line, _) = rig.next().await;
        assert!(line.starts_with(&format!("{number} ")), "in order: {line:.10}");
        rig.read(seq);
    }
    sleep(Duration::from_secs(1)).await;
    let counts = rig.counts();
    assert_eq!((counts.dropped, counts.sent), (vec![], 50));
    assert_eq!((positions.take(), positions.is_settled()), (Some(49), true));
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn records_that_find_no_room_before_the_end_stay_at_their_source_in_order() {
    let disk = FaultyDisk::new(1);
    let rig = Rig::with(Spool::open(disk.clone(), &settings(256 << 10), NOW).0, 64);
    let stop = CancellationToken::new();
    let positions = write_records(&rig, 50, &stop);
    sleep(Duration::from_secs(1)).await;
    let waiting = rig.counts().received;
    stop.cancel();
    tokio::task::yield_now().await;
    rig.read(waiting); // room comes too late: what is skipped would come after what is behind it
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.counts().received, waiting);
    assert_eq!(positions.take(), Some(waiting - 1));
    assert!(positions.is_stopped());
    rig.end().await;
}
