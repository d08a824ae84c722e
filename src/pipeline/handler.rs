//! The stage that acts: requests in, replies out, a bounded number at once. Does not know what a
//! request asks for.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::concurrency::{ConcurrencyLimit, Permit, QueueSlot};
use super::panic_text;
use super::stage::{EventCount, StageError, short_name};
use super::stats::StageStats;
use super::task::Task;

/// Acts: one request in, a stream of replies out.
///
/// A request takes one of the places of a [`ConcurrencyLimit`]; when all are taken it waits in its turn in a line of
/// bounded length, and when that is full it is refused with a reply. Every request gets its replies,
/// or [`broken`](Self::broken) where handling it panicked: none ends in silence.
pub trait Handler: Send + Sync + 'static {
    /// A request.
    type In: EventCount + Send + 'static;
    /// A reply.
    type Out: EventCount + Clone + Send + 'static;
    /// What is needed to answer a request whose handling panicked.
    type Key: Send + 'static;

    /// What the stage is called in pictures and books: its type's own name, unless it knows better.
    fn name(&self) -> String {
        short_name::<Self>()
    }

    /// What is needed to answer `request` if handling it panics.
    fn key(&self, request: &Self::In) -> Self::Key;

    /// Whether `request` is quick and must not wait behind slow ones: it takes no place.
    fn urgent(&self, _request: &Self::In) -> bool {
        false
    }

    /// The part of `request` that must not wait behind slow ones where the rest of it may: taken out of it, and
    /// handled as an urgent request.
    fn at_once(&self, _request: &mut Self::In) -> Option<Self::In> {
        None
    }

    /// `request` has a place or waits for one: it will be handled, unless all ends before.
    fn admitted(&self, _request: &Self::In) {}

    /// Acts on `request`. The end of the stream frees its place.
    fn handle(self: Arc<Self>, request: Self::In) -> BoxStream<'static, Self::Out>;

    /// The replies to a request for which there is no room.
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
    room: ConcurrencyLimit,
    waiting: VecDeque<(H::In, QueueSlot)>,
    running: JoinSet<()>,
    node: Arc<StageStats>,
}

impl<H: Handler> HandlerTask<H> {
    pub fn new(
        handler: H,
        room: ConcurrencyLimit,
        inbox: mpsc::Receiver<H::In>,
        outlet: mpsc::Sender<H::Out>,
        node: Arc<StageStats>,
    ) -> Self {
        Self {
            handler: Arc::new(handler),
            inbox,
            open: true,
            outlet,
            room,
            waiting: VecDeque::new(),
            running: JoinSet::new(),
            node,
        }
    }

    async fn pump(&mut self) -> Result<(), StageError> {
        loop {
            while !self.waiting.is_empty()
                && let Some(place) = self.room.try_place()
                && let Some((request, _seat)) = self.waiting.pop_front()
            {
                self.start(request, 1, place);
            }
            self.node.buffered((self.waiting.len() + self.running.len()) as u64);
            if !self.open && self.waiting.is_empty() && self.running.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some(_) = self.running.join_next(), if !self.running.is_empty() => {}
                request = self.inbox.recv(), if self.open => match request {
                    None => self.open = false,
                    Some(request) => self.admit(request).await,
                },
                // One that another handler gave back.
                place = self.room.place(), if !self.waiting.is_empty() => {
                    if let Some((request, _seat)) = self.waiting.pop_front() {
                        self.start(request, 1, place);
                    }
                }
            }
        }
    }

    async fn admit(&mut self, mut request: H::In) {
        self.node.received(1);
        if let Some(part) = self.handler.at_once(&mut request) {
            let place = self.room.urgent_place().await;
            self.start(part, 0, place);
        }
        if self.handler.urgent(&request) {
            let place = self.room.urgent_place().await;
            self.start(request, 1, place);
        } else if let Some(seat) = self.room.seat() {
            self.handler.admitted(&request);
            self.waiting.push_back((request, seat));
            self.node.queued(self.waiting.len() as u64);
        } else {
            for reply in self.handler.refuse(request) {
                let _ = self.outlet.send(reply).await; // nobody reads replies: nothing to tell
            }
            self.node.sent(1);
        }
    }

    /// Handles `request`, which counts as `weight`; `place` is dropped when it is done.
    fn start(&mut self, request: H::In, weight: u64, place: Permit) {
        let (handler, outlet) = (Arc::clone(&self.handler), self.outlet.clone());
        let node = Arc::clone(&self.node);
        self.running.spawn(async move {
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
                node.failed();
                for reply in handler.broken(key, panic_text(&*panic)) {
                    let _ = outlet.send(reply).await; // as above
                }
            }
            node.sent(weight);
            drop(place);
        });
    }
}

impl<H: Handler> Task for HandlerTask<H> {
    fn run(&mut self) -> BoxFuture<'_, Result<(), StageError>> {
        self.pump().boxed()
    }

    fn failed(&mut self) -> String {
        self.node.failed();
        self.node.name().to_owned()
    }
}
