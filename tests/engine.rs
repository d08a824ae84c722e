//! The engine held from both ends: what goes in, what comes out, and the books, under faults.
//! Each flow runs under both runtimes where that can make a difference.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use futures::{Stream, stream};
use infiniservice::model::NodeCount;
use infiniservice::pipeline::{
    Emit, End, Fault, Handler, Health, Pipeline, Places, Restart, Ring, Sink, Source, Transform,
    Weigh,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, PartialEq)]
struct Number(u64);
impl Weigh for Number {}

#[derive(Debug, Clone, PartialEq)]
struct Pair(Vec<u64>);
impl Weigh for Pair {
    fn weight(&self) -> u64 {
        self.0.len() as u64
    }
}

/// Counts up to `end`; the next number lives in `self`, so a fault does not start it anew.
struct Count {
    next: u64,
    end: u64,
    panic_at: Option<u64>,
    then_wait: bool,
}
fn count(end: u64) -> Count {
    Count { next: 0, end, panic_at: None, then_wait: false }
}
impl Source for Count {
    type Out = Number;
    fn open(&mut self) -> impl Stream<Item = Result<Number, Fault>> + Send + '_ {
        stream::unfold(self, |this| async move {
            if this.panic_at == Some(this.next) {
                this.panic_at = None;
                panic!("the source trips at {}", this.next);
            }
            if this.next == this.end {
                if this.then_wait {
                    std::future::pending::<()>().await;
                }
                return None;
            }
            this.next += 1;
            Some((Ok(Number(this.next - 1)), this))
        })
    }
}

/// Panics on chosen numbers, so often each.
struct Brittle(Vec<(u64, u32)>);
impl Transform for Brittle {
    type In = Number;
    type Out = Number;
    fn apply(&mut self, _now: Instant, input: &Number, out: &mut Emit<Number>) {
        out.push(input.clone()); // given, then taken back when the call breaks
        if let Some((_, times)) = self.0.iter_mut().find(|(n, times)| *n == input.0 && *times > 0) {
            *times -= 1;
            panic!("brittle at {}", input.0);
        }
    }
}

/// Drops odd numbers and says so.
struct Even;
impl Transform for Even {
    type In = Number;
    type Out = Number;
    fn apply(&mut self, _now: Instant, input: &Number, out: &mut Emit<Number>) {
        if input.0.is_multiple_of(2) { out.push(input.clone()) } else { out.lose("odd", 1) }
    }
}

/// Holds one back to make pairs; hands the odd one over at the end, or after a second.
#[derive(Default)]
struct Pairs(Option<(u64, Instant)>);
impl Transform for Pairs {
    type In = Number;
    type Out = Pair;
    fn apply(&mut self, now: Instant, input: &Number, out: &mut Emit<Pair>) {
        match self.0.take() {
            Some((first, _)) => out.push(Pair(vec![first, input.0])),
            None => self.0 = Some((input.0, now)),
        }
    }
    fn deadline(&self) -> Option<Instant> {
        self.0.map(|(_, since)| since + Duration::from_secs(1))
    }
    fn expire(&mut self, _now: Instant, out: &mut Emit<Pair>) {
        self.finish(out);
    }
    fn finish(&mut self, out: &mut Emit<Pair>) {
        out.items_from(self.0.take());
    }
    fn held(&self) -> u64 {
        u64::from(self.0.is_some())
    }
}
trait ItemsFrom {
    fn items_from(&mut self, first: Option<(u64, Instant)>);
}
impl ItemsFrom for Emit<Pair> {
    fn items_from(&mut self, first: Option<(u64, Instant)>) {
        if let Some((number, _)) = first {
            self.push(Pair(vec![number]));
        }
    }
}

/// Hands everything to the test; fails chosen writes first.
struct Tell<T> {
    to: mpsc::Sender<T>,
    fail: Vec<u32>,
    writes: Arc<AtomicU32>,
}
impl<T: Clone + Weigh + Send + Sync + 'static> Sink for Tell<T> {
    type In = T;
    async fn write(&mut self, item: &T) -> Result<(), Fault> {
        let write = self.writes.fetch_add(1, SeqCst);
        if self.fail.contains(&write) {
            return Err(Fault::outside("the disk is full"));
        }
        self.to.send(item.clone()).await.map_err(|_| Fault::last("the test has gone"))
    }
}
fn tell<T>(bound: usize) -> (Tell<T>, mpsc::Receiver<T>) {
    let (to, from) = mpsc::channel(bound);
    (Tell { to, fail: Vec::new(), writes: Arc::default() }, from)
}

const DRAIN: Duration = Duration::from_secs(5);

fn balanced(counts: &[NodeCount]) {
    for count in counts {
        let lost: u64 = count.lost.iter().map(|(_, weight)| weight).sum();
        assert_eq!(count.taken, count.given + lost + count.held, "the books of {count:?}");
    }
}

fn node<'a>(counts: &'a [NodeCount], name: &str) -> &'a NodeCount {
    counts
        .iter()
        .find(|count| count.node == name)
        .unwrap_or_else(|| panic!("no node {name} in {counts:?}"))
}

async fn all<T>(mut from: mpsc::Receiver<T>) -> Vec<T> {
    let mut items = Vec::new();
    while let Some(item) = timeout(Duration::from_secs(3600), from.recv()).await.expect("no hang") {
        items.push(item);
    }
    items
}

/// Runs `flow` under both runtimes on real time.
fn under_both<F: Future<Output = ()>>(flow: impl Fn() -> F) {
    let current = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    current.block_on(flow());
    let multi =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    multi.block_on(flow());
}

#[test]
fn every_item_arrives_in_order_through_fused_and_buffered_stages() {
    under_both(|| async {
        let (stop, health) = (CancellationToken::new(), Health::default());
        let (sink, from) = tell::<Pair>(1);
        let graph = Pipeline::from_sources("test", [count(10_001)], 4, &health, &stop)
            .then(Even)
            .buffer(3)
            .then(Pairs::default())
            .write(sink, 2);
        let restart = Restart::default();
        let (outcome, pairs) = tokio::join!(graph.run(&restart, &stop, DRAIN), all(from));
        assert_eq!(outcome.end, End::Done);
        let numbers: Vec<u64> = pairs.into_iter().flat_map(|pair| pair.0).collect();
        assert_eq!(numbers, (0..=10_000).step_by(2).collect::<Vec<_>>());
        let counts = health.counts();
        balanced(&counts);
        assert_eq!(node(&counts, "test/even").lost, [("odd", 5_000)]);
        assert_eq!(node(&counts, "test/tell").given, 5_001);
    });
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_panics_once_loses_nothing_and_the_others_go_on() {
    let (stop, health) = (CancellationToken::new(), Health::default());
    let (sink, from) = tell::<Pair>(64);
    let mut source = count(9);
    source.panic_at = Some(3);
    let graph = Pipeline::from_sources("test", [source], 4, &health, &stop)
        .then_each(vec![Brittle(vec![(2, 1)]), Brittle(vec![(5, 1), (8, 1)])])
        .then(Pairs::default())
        .write(sink, 2);
    let restart = Restart::default();
    let (outcome, pairs) = tokio::join!(graph.run(&restart, &stop, DRAIN), all(from));
    assert_eq!(outcome.end, End::Done);
    let numbers: Vec<u64> = pairs.into_iter().flat_map(|pair| pair.0).collect();
    assert_eq!(numbers, (0..9).collect::<Vec<_>>());
    let counts = health.counts();
    balanced(&counts);
    assert_eq!(node(&counts, "test/count").faults, 1);
    assert_eq!(node(&counts, "test/pairs").faults, 0);
    let faults: Vec<u64> = counts
        .iter()
        .filter(|count| count.node == "test/brittle")
        .map(|count| count.faults)
        .collect();
    assert_eq!(faults, [1, 2], "each stage keeps its own");
}

#[tokio::test(start_paused = true)]
async fn an_item_that_breaks_its_stage_twice_is_given_up_and_counted() {
    let (stop, health) = (CancellationToken::new(), Health::default());
    let (sink, from) = tell::<Number>(64);
    let graph = Pipeline::from_sources("test", [count(4)], 4, &health, &stop)
        .then(Brittle(vec![(1, 2)]))
        .write(sink, 2);
    let restart = Restart::default();
    let (outcome, numbers) = tokio::join!(graph.run(&restart, &stop, DRAIN), all(from));
    assert_eq!(outcome.end, End::Done);
    assert_eq!(numbers, [Number(0), Number(2), Number(3)]);
    let counts = health.counts();
    balanced(&counts);
    assert_eq!(node(&counts, "test/brittle").lost, [("poison", 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_offered_again_for_as_long_as_it_takes() {
    let (stop, health) = (CancellationToken::new(), Health::default());
    let (mut sink, from) = tell::<Number>(64);
    sink.fail = (1..40).collect(); // far beyond the restart budget: the world is at fault
    let graph = Pipeline::from_sources("test", [count(4)], 4, &health, &stop).write(sink, 2);
    let restart = Restart::default();
    let (outcome, numbers) = tokio::join!(graph.run(&restart, &stop, DRAIN), all(from));
    assert_eq!((outcome.end, numbers), (End::Done, (0..4).map(Number).collect()));
    balanced(&health.counts());
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_spends_its_budget_ends_the_run_and_the_rest_drains() {
    struct Dead;
    impl Source for Dead {
        type Out = Number;
        fn open(&mut self) -> impl Stream<Item = Result<Number, Fault>> + Send + '_ {
            stream::iter([Err(Fault::new("no such sensor"))])
        }
    }
    let (stop, health) = (CancellationToken::new(), Health::default());
    let (sink, from) = tell::<Pair>(64);
    let mut source = count(7);
    source.then_wait = true;
    let mut tasks = Pipeline::from_sources("good", [source], 4, &health, &stop)
        .then(Pairs::default())
        .write(sink, 2)
        .into_tasks();
    let (dead, _gone) = tell::<Number>(1);
    tasks.extend(
        Pipeline::from_sources("bad", [Dead], 4, &health, &stop).write(dead, 2).into_tasks(),
    );
    let restart = Restart { budget: 3, ..Restart::default() };
    let begun = Instant::now();
    let (outcome, pairs) =
        tokio::join!(infiniservice::pipeline::run(tasks, &restart, &stop, DRAIN), all(from));
    assert_eq!((outcome.end, outcome.drained), (End::Spent, true));
    // Three pauses of 100, 200 and 400 ms, each with up to as much again by chance.
    assert!((Duration::from_millis(700)..Duration::from_millis(1500)).contains(&begun.elapsed()));
    assert_eq!(pairs.into_iter().map(|pair| pair.0.len()).sum::<usize>(), 7, "all that was made");
    assert_eq!(node(&health.counts(), "bad/dead").faults, 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_goes_out_when_its_deadline_comes_and_when_the_stop_is_called() {
    let (stop, health) = (CancellationToken::new(), Health::default());
    let (sink, mut from) = tell::<Pair>(64);
    let mut source = count(3);
    source.then_wait = true;
    let graph = Pipeline::from_sources("test", [source], 4, &health, &stop)
        .then(Pairs::default())
        .write(sink, 2);
    let restart = Restart::default();
    let run = async { graph.run(&restart, &stop, DRAIN).await };
    let watch = async {
        assert_eq!(from.recv().await, Some(Pair(vec![0, 1])));
        assert_eq!(node(&health.counts(), "test/pairs").held, 1);
        balanced(&health.counts());
        let begun = Instant::now();
        assert_eq!(from.recv().await, Some(Pair(vec![2])));
        assert_eq!(begun.elapsed().as_secs(), 1, "its deadline");
        stop.cancel();
        assert_eq!(from.recv().await, None);
    };
    let (outcome, ()) = tokio::join!(run, watch);
    assert!(outcome.drained);
    balanced(&health.counts());
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_never_comes_back_is_left_at_the_shutdown_deadline() {
    let (stop, health) = (CancellationToken::new(), Health::default());
    let (sink, _kept) = tell::<Number>(1); // nobody reads: the second write waits for ever
    let mut source = count(50);
    source.then_wait = true;
    let graph = Pipeline::from_sources("test", [source], 4, &health, &stop).write(sink, 2);
    let restart = Restart::default();
    let begun = Instant::now();
    let (outcome, ()) = tokio::join!(graph.run(&restart, &stop, DRAIN), async {
        sleep(Duration::from_secs(1)).await;
        stop.cancel();
    });
    assert!(!outcome.drained);
    assert_eq!(begun.elapsed(), Duration::from_secs(1) + DRAIN);
}

#[tokio::test(start_paused = true)]
async fn the_ring_keeps_the_newest_and_a_slow_subscriber_slows_nobody_and_knows_its_loss() {
    use futures::StreamExt;
    let health = Health::default();
    let ring = Ring::new(4);
    let (fast, slow) = (health.node("fast".into()), health.node("slow".into()));
    let (mut quick, late) = (ring.subscribe(fast), ring.subscribe(slow));
    for number in 0..10 {
        assert!(ring.publish(Pair(vec![number; 3])));
        assert_eq!(quick.next().await, Some(Pair(vec![number; 3])));
    }
    drop(ring);
    let kept: Vec<u64> = late.map(|pair| pair.0[0]).collect().await;
    assert_eq!(kept, [6, 7, 8, 9]);
    let counts = health.counts();
    assert!(node(&counts, "fast").lost.is_empty());
    assert_eq!(node(&counts, "slow").lost, [("overwritten", 18)]);
    assert_eq!(node(&counts, "slow").taken, 30);
}

/// Sleeps as long as the number says in tens of milliseconds; panics at 13; zero is urgent.
struct Slow {
    under_way: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
}
impl Handler for Slow {
    type In = Number;
    type Out = Pair;
    type Key = u64;
    fn key(&self, request: &Number) -> u64 {
        request.0
    }
    fn urgent(&self, request: &Number) -> bool {
        request.0 == 0
    }
    fn handle(
        self: Arc<Self>,
        Number(number): Number,
    ) -> futures::stream::BoxStream<'static, Pair> {
        Box::pin(stream::once(async move {
            let now = self.under_way.fetch_add(1, SeqCst) + 1;
            self.most.fetch_max(now, SeqCst);
            sleep(Duration::from_millis(10 * number)).await;
            self.under_way.fetch_sub(1, SeqCst);
            assert!(number != 13, "unlucky");
            Pair(vec![number])
        }))
    }
    fn refuse(&self, Number(number): Number) -> Vec<Pair> {
        vec![Pair(vec![number, 503])]
    }
    fn broken(&self, number: u64, panic: &str) -> Vec<Pair> {
        assert_eq!(panic, "unlucky");
        vec![Pair(vec![number, 500])]
    }
}

/// Gives these numbers at once.
struct These(Vec<u64>);
impl Source for These {
    type Out = Number;
    fn open(&mut self) -> impl Stream<Item = Result<Number, Fault>> + Send + '_ {
        stream::iter(self.0.drain(..).map(|number| Ok(Number(number))))
    }
}

async fn handled(numbers: Vec<u64>, places: Places) -> (Vec<Vec<u64>>, u32) {
    let (stop, health) = (CancellationToken::new(), Health::default());
    let (sink, from) = tell::<Pair>(1);
    let most = Arc::<AtomicU32>::default();
    let slow = Slow { under_way: Arc::default(), most: Arc::clone(&most) };
    let graph = Pipeline::from_sources("test", [These(numbers)], 4, &health, &stop)
        .handle(slow, places, 16)
        .write(sink, 2);
    let restart = Restart::default();
    let (outcome, pairs) = tokio::join!(graph.run(&restart, &stop, DRAIN), all(from));
    assert_eq!((outcome.end, outcome.drained), (End::Done, true));
    balanced(&health.counts());
    (pairs.into_iter().map(|pair| pair.0).collect(), most.load(SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_handler_works_on_so_many_at_once_and_the_rest_wait_in_order() {
    let numbers = vec![9; 40];
    let (answers, most) = handled(numbers, Places { parallel: 5, waiting: 40 }).await;
    assert_eq!((answers.len(), most), (40, 5));
    assert!(answers.iter().all(|answer| answer == &[9]));
}

#[tokio::test(start_paused = true)]
async fn every_request_is_answered_once_also_after_a_panic_and_when_there_is_no_room() {
    let (answers, _) = handled(vec![13, 5, 5, 5, 5], Places { parallel: 2, waiting: 2 }).await;
    assert_eq!(answers.len(), 5);
    assert!(answers.contains(&vec![13, 500]), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| **answer == [5, 503]).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| **answer == [5]).count(), 3, "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn an_urgent_request_waits_for_no_place() {
    let (answers, _) = handled(vec![50, 50, 50, 0], Places { parallel: 1, waiting: 9 }).await;
    assert_eq!(answers, [vec![0], vec![50], vec![50], vec![50]]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn the_books_balance_and_nothing_is_lost_unsaid_whatever_breaks(
        end in 0_u64..300,
        first in proptest::collection::vec((0_u64..300, 0_u32..3), 0..5),
        second in proptest::collection::vec((0_u64..300, 0_u32..3), 0..5),
        source in proptest::option::of(0_u64..300),
        failed in proptest::collection::vec(0_u32..200, 0..8),
        bounds in (1_usize..9, 1_usize..9, 1_usize..9),
    ) {
        let once = |list: Vec<(u64, u32)>| {
            list.into_iter().collect::<std::collections::BTreeMap<_, _>>()
        };
        let (first, second) = (once(first), once(second));
        // Twice is too often for one item in one stage; a number that stage one gave up never
        // reaches stage two.
        let given_up = |list: &std::collections::BTreeMap<u64, u32>, n: &u64| list.get(n) == Some(&2);
        let expected: Vec<u64> =
            (0..end).filter(|n| !given_up(&first, n) && !given_up(&second, n)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (stop, health) = (CancellationToken::new(), Health::default());
            let (mut sink, from) = tell::<Pair>(3);
            sink.fail = failed;
            let mut numbers = count(end);
            numbers.panic_at = source;
            let brittle = |list: std::collections::BTreeMap<u64, u32>| Brittle(list.into_iter().collect());
            let graph = Pipeline::from_sources("test", [numbers], bounds.0, &health, &stop)
                .then(brittle(first))
                .buffer(bounds.1)
                .then(brittle(second))
                .then(Pairs::default())
                .write(sink, bounds.2);
            let restart = Restart { budget: 1_000, ..Restart::default() };
            let (outcome, pairs) = tokio::join!(graph.run(&restart, &stop, DRAIN), all(from));
            assert_eq!((outcome.end, outcome.drained), (End::Done, true));
            let delivered: Vec<u64> = pairs.into_iter().flat_map(|pair| pair.0).collect();
            assert_eq!(delivered, expected);
            let counts = health.counts();
            balanced(&counts);
            assert!(counts.iter().all(|count| count.held == 0), "{counts:?}");
            let lost: u64 = counts.iter().flat_map(|count| &count.lost).map(|lost| lost.1).sum();
            assert_eq!(lost, end - expected.len() as u64);
        });
    }
}
