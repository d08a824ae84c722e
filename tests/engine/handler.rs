//! Requests and their answers: so many at once, one answer each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use futures::{Stream, stream};
use infiniservice::pipeline::{
    Admission, ConcurrencyLimit, ConcurrencyLimits, Context, ExitStatus, Handler, Pipeline,
    Restart, Source, StageError, StatsRegistry,
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::rig::{DRAIN, Number, Pair, all, balanced, tell};

/// Sleeps as long as the number says in tens of milliseconds; panics at 13; zero is urgent, and three waits for 100 ms at most.
struct Slow {
    begun: Instant,
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
    fn admission(&self, request: Number) -> Admission<Number> {
        let deadline = (request.0 == 3).then(|| self.begun + Duration::from_millis(100));
        match request.0 {
            0 => Admission::urgent(request),
            _ => Admission::queued(request).until(deadline),
        }
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
    fn open(&mut self) -> impl Stream<Item = Result<Number, StageError>> + Send + '_ {
        stream::iter(self.0.drain(..).map(|number| Ok(Number(number))))
    }
}

async fn handled(numbers: Vec<u64>, places: ConcurrencyLimits) -> (Vec<Vec<u64>>, u32) {
    let (stop, health) = (CancellationToken::new(), StatsRegistry::default());
    let (sink, from) = tell::<Pair>(1);
    let most = Arc::<AtomicU32>::default();
    let begun = Instant::now();
    let slow = Slow { begun, under_way: Arc::default(), most: Arc::clone(&most) };
    let graph = Pipeline::from_sources(&Context::new("test", &health, &stop), [These(numbers)], 4)
        .handle(slow, &ConcurrencyLimit::new(places), 16)
        .write(sink, 2);
    let restart = Restart::default();
    let (outcome, pairs) = tokio::join!(graph.run(&restart, &stop, DRAIN), all(from));
    assert_eq!((outcome.end, outcome.drained), (ExitStatus::Done, true));
    balanced(&health.counts());
    (pairs.into_iter().map(|pair| pair.0).collect(), most.load(SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_handler_works_on_so_many_at_once_and_the_rest_wait_in_order() {
    let numbers = vec![9; 40];
    let (answers, most) = handled(numbers, ConcurrencyLimits { parallel: 5, waiting: 40 }).await;
    assert_eq!((answers.len(), most), (40, 5));
    assert!(answers.iter().all(|answer| answer == &[9]));
}

#[tokio::test(start_paused = true)]
async fn every_request_is_answered_once_also_after_a_panic_and_when_there_is_no_room() {
    let (answers, _) =
        handled(vec![13, 5, 5, 5, 5], ConcurrencyLimits { parallel: 2, waiting: 2 }).await;
    assert_eq!(answers.len(), 5);
    assert!(answers.contains(&vec![13, 500]), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| **answer == [5, 503]).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| **answer == [5]).count(), 3, "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn an_urgent_request_waits_for_no_place() {
    let (answers, _) =
        handled(vec![50, 50, 50, 0], ConcurrencyLimits { parallel: 1, waiting: 9 }).await;
    assert_eq!(answers, [vec![0], vec![50], vec![50], vec![50]]);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_deadline_passes_while_it_waits_is_handled_then() {
    let places = ConcurrencyLimits { parallel: 1, waiting: 9 };
    let (answers, _) = handled(vec![50, 9, 3, 3], places).await;
    assert_eq!(answers, [vec![3], vec![3], vec![50], vec![9]]);
}
