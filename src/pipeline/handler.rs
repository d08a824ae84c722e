//! The stage that acts: requests in, replies out, a bounded number at once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::admission::{Admission, RequestQueue};
use super::concurrency::{ConcurrencyLimit, Permit};
use super::panic_text;
use super::stage::{EventCount, StageError, short_name};
use super::stats::StageStats;
use super::task::Task;
use crate::tasks::spawn_in;

/// Acts: one request in, a stream of replies out.
///
/// A request runs under a permit of a [`ConcurrencyLimit`]. While there is none it waits in a bounded queue, and when
/// that is full it is refused with a reply. Every request gets its replies, or those of [`broken`](Self::broken) if
/// handling it panicked.
pub trait Handler: Send + Sync + 'static {
    /// A request.
    type In: EventCount + Send + 'static;
    /// A reply.
    type Out: EventCount + Clone + Send + 'static;
    /// What is needed to answer a request whose handling panicked.
    type Key: Send + 'static;

    /// The name of the stage in topologies and statistics. Default: the name of its type in snake case.
    fn name(&self) -> String {
        short_name::<Self>()
    }

    /// What is needed to answer `request` if handling it panics.
    fn key(&self, request: &Self::In) -> Self::Key;

    /// Whether `request`, or a part of it, runs at once, and until when it waits. Default: all of it waits for a permit as
    /// long as it takes.
    fn admission(&self, request: Self::In) -> Admission<Self::In> {
        Admission::queued(request)
    }

    /// `request` is queued: it will be handled, unless the agent ends before.
    fn accepted(&self, _request: &Self::In) {}

    /// Acts on `request`. The end of the stream releases its permit.
    fn handle(self: Arc<Self>, request: Self::In) -> BoxStream<'static, Self::Out>;

    /// The replies to a request for which the queue is full.
    fn refuse(&self, request: Self::In) -> Vec<Self::Out>;

    /// The replies to a request whose handling panicked.
    fn broken(&self, key: Self::Key, panic: &str) -> Vec<Self::Out>;
}

/// Runs a handler until its input has ended and every request is answered.
pub(super) struct HandlerTask<H: Handler> {
    handler: Arc<H>,
    inbox: mpsc::Receiver<H::In>,
    open: bool,
    outlet: mpsc::Sender<H::Out>,
    queue: RequestQueue<H::In>,
    running: JoinSet<()>,
    stats: Arc<StageStats>,
}

impl<H: Handler> HandlerTask<H> {
    pub(super) fn new(
        handler: H,
        limit: ConcurrencyLimit,
        inbox: mpsc::Receiver<H::In>,
        outlet: mpsc::Sender<H::Out>,
        stats: Arc<StageStats>,
    ) -> Self {
        Self {
            handler: Arc::new(handler),
            inbox,
            open: true,
            outlet,
            queue: RequestQueue::new(limit),
            running: JoinSet::new(),
            stats,
        }
    }

    async fn pump(&mut self) -> Result<(), StageError> {
        loop {
            let (waiting, running) = (self.queue.len(), self.running.len());
            self.stats.buffered((waiting + running) as u64);
            if !self.open && waiting == 0 && running == 0 {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some(_) = self.running.join_next() => {}
                Some((request, permit)) = self.queue.next() => {
                    self.start(request, 1, permit);
                }
                request = self.inbox.recv(), if self.open => match request {
                    None => self.open = false,
                    Some(request) => self.admit(request).await,
                },
            }
        }
    }

    async fn admit(&mut self, request: H::In) {
        self.stats.received(1);
        let Admission { urgent, queued, deadline } = self.handler.admission(request);
        if let Some(request) = urgent {
            let permit = self.queue.urgent_permit().await;
            // A part of a request does not count.
            self.start(request, u64::from(queued.is_none()), permit);
        }
        let Some(request) = queued else { return };
        match self.queue.push(request, deadline).map(|request| self.handler.accepted(request)) {
            Ok(()) => self.stats.queued(self.queue.len() as u64),
            Err(request) => {
                for reply in self.handler.refuse(request) {
                    let _ = self.outlet.send(reply).await; // the replies have no reader any more
                }
                self.stats.sent(1);
            }
        }
    }

    /// Handles `request`, which counts as `weight`; `permit` is released when it is done.
    fn start(&mut self, request: H::In, weight: u64, permit: Permit) {
        let (handler, outlet) = (Arc::clone(&self.handler), self.outlet.clone());
        let stats = Arc::clone(&self.stats);
        spawn_in(&mut self.running, async move {
            let key = handler.key(&request);
            let replies = async {
                let mut replies = Arc::clone(&handler).handle(request);
                while let Some(reply) = replies.next().await {
                    if outlet.send(reply).await.is_err() {
                        return;
                    }
                }
            };
            if let Err(panic) = AssertUnwindSafe(replies).catch_unwind().await {
                stats.failed();
                for reply in handler.broken(key, panic_text(&*panic)) {
                    let _ = outlet.send(reply).await; // as above
                }
            }
            stats.sent(weight);
            drop(permit);
        });
    }
}

impl<H: Handler> Task for HandlerTask<H> {
    fn run(&mut self) -> BoxFuture<'_, Result<(), StageError>> {
        self.pump().boxed()
    }

    fn failed(&mut self) -> String {
        self.stats.failed();
        self.stats.name().to_owned()
    }
}
