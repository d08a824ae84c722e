//! The traits of stages: source, transform and sink.
//!
//! The tasks that call these methods are in [`super::task`]. They own the items, so a stage that fails loses none.

use std::fmt;
use std::future::Future;

use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::time::Instant;

/// Produces items at its own pace. At the shutdown only sources are stopped (their tasks no longer poll the stream);
/// everything downstream ends because its input ends.
pub trait Source: Send + 'static {
    /// Its output.
    type Out: EventCount + Send + 'static;

    /// The name of the stage in topologies and statistics. Default: the name of its type in snake case.
    fn name(&self) -> String {
        short_name::<Self>()
    }

    /// Its most important settings, for a topology; may be empty.
    fn detail(&self) -> String {
        String::new()
    }

    /// Starts, or starts again after a fault. State that must survive a fault belongs into `self`; the stream borrows it.
    /// The end of the stream is the end of the source.
    fn open(&mut self) -> impl Stream<Item = Result<Self::Out, StageError>> + Send + '_;

    /// The last call, once the stop has come or the stream has ended, and everything is handed on: a source that keeps
    /// a position waits here for what is not acknowledged yet. It has to bound that.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// A source that is chosen at run time (an operator's list). Costs an allocation for each start.
pub struct BoxSource<T>(Box<dyn DynSource<T>>);

impl<T: EventCount + Send + 'static> BoxSource<T> {
    /// Hides which source it is.
    pub fn new(source: impl Source<Out = T>) -> Self {
        Self(Box::new(source))
    }
}

/// [`Source`] with its stream in a box.
trait DynSource<T>: Send {
    fn name(&self) -> String;
    fn detail(&self) -> String;
    fn open(&mut self) -> BoxStream<'_, Result<T, StageError>>;
    fn close(&mut self) -> BoxFuture<'_, ()>;
}

impl<S: Source> DynSource<S::Out> for S {
    fn name(&self) -> String {
        Source::name(self)
    }
    fn detail(&self) -> String {
        Source::detail(self)
    }
    fn open(&mut self) -> BoxStream<'_, Result<S::Out, StageError>> {
        Box::pin(Source::open(self))
    }
    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(Source::close(self))
    }
}

impl<T: EventCount + Send + 'static> Source for BoxSource<T> {
    type Out = T;

    fn name(&self) -> String {
        self.0.name()
    }
    fn detail(&self) -> String {
        self.0.detail()
    }
    fn open(&mut self) -> impl Stream<Item = Result<T, StageError>> + Send + '_ {
        self.0.open()
    }
    async fn close(&mut self) {
        self.0.close().await;
    }
}

/// Computes. Synchronous and total: no clock, no I/O, no await; problems are data, never an error.
///
/// # Why `apply` borrows its input
/// The task owns the item until `apply` has returned, so a panic in a stage cannot lose it, and no copy is made to guard
/// against that. A stage that keeps or changes an item clones it, which is cheap by design (shared groups, shared bytes).
pub trait Transform: Send + 'static {
    /// Its input.
    type In: EventCount + Send + 'static;
    /// Its output.
    type Out: EventCount + Send + 'static;

    /// The name of the stage in topologies and statistics. Default: the name of its type in snake case.
    fn name(&self) -> String {
        short_name::<Self>()
    }

    /// Its most important settings, for a topology; may be empty.
    fn detail(&self) -> String {
        String::new()
    }

    /// Takes one item and gives none, one or many. What it does not give it counts, with a reason:
    /// [`Output::drop_items`] for a loss, [`Output::discard_items`] where leaving it out is its work.
    fn apply(&mut self, now: Instant, input: &Self::In, out: &mut Output<Self::Out>);

    /// Whether the next call, or what it makes a stage behind this one do, may take longer than an async worker should
    /// be kept: the segment is run on the blocking pool then.
    fn is_costly(&self) -> bool {
        false
    }

    /// When [`expire`](Self::expire) wants to be called, if nothing comes before.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The deadline has passed.
    fn expire(&mut self, _now: Instant, _out: &mut Output<Self::Out>) {}

    /// The input has ended: hand over what is held.
    fn finish(&mut self, _out: &mut Output<Self::Out>) {}

    /// Weight of what is held back now, in the unit of [`EventCount`].
    fn held(&self) -> u64 {
        0
    }
}

/// A transform that is chosen at run time (an operator's list).
impl<T: Transform + ?Sized> Transform for Box<T> {
    type In = T::In;
    type Out = T::Out;

    fn name(&self) -> String {
        (**self).name()
    }
    fn detail(&self) -> String {
        (**self).detail()
    }
    fn apply(&mut self, now: Instant, input: &Self::In, out: &mut Output<Self::Out>) {
        (**self).apply(now, input, out);
    }
    fn is_costly(&self) -> bool {
        (**self).is_costly()
    }
    fn deadline(&self) -> Option<Instant> {
        (**self).deadline()
    }
    fn expire(&mut self, now: Instant, out: &mut Output<Self::Out>) {
        (**self).expire(now, out);
    }
    fn finish(&mut self, out: &mut Output<Self::Out>) {
        (**self).finish(out);
    }
    fn held(&self) -> u64 {
        (**self).held()
    }
}

/// Consumes. After a failed write the task still has the item, and offers it again.
pub trait Sink: Send + 'static {
    /// Its input.
    type In: EventCount + Send + Sync + 'static;

    /// The name of the stage in topologies and statistics. Default: the name of its type in snake case.
    fn name(&self) -> String {
        short_name::<Self>()
    }

    /// Its most important settings, for a topology; may be empty.
    fn detail(&self) -> String {
        String::new()
    }

    /// Whether a write only hands the item on, to something that [acknowledges](EventCount::acknowledge) it later.
    fn hands_on(&self) -> bool {
        false
    }

    /// Writes one item whole, or fails and has written nothing that counts.
    fn write(&mut self, item: &Self::In) -> impl Future<Output = Result<(), StageError>> + Send;

    /// The input has paused or ended: what is buffered goes out now.
    fn flush(&mut self) -> impl Future<Output = Result<(), StageError>> + Send {
        async { Ok(()) }
    }
}

/// A sink that is chosen at run time (an operator's output). Costs an allocation for each write.
pub struct BoxSink<T>(Box<dyn DynSink<T>>);

impl<T: EventCount + Send + Sync + 'static> BoxSink<T> {
    /// Hides which sink it is.
    pub fn new(sink: impl Sink<In = T>) -> Self {
        Self(Box::new(sink))
    }
}

/// [`Sink`] with futures in boxes.
trait DynSink<T>: Send {
    fn name(&self) -> String;
    fn detail(&self) -> String;
    fn hands_on(&self) -> bool;
    fn write<'a>(&'a mut self, item: &'a T) -> BoxFuture<'a, Result<(), StageError>>;
    fn flush(&mut self) -> BoxFuture<'_, Result<(), StageError>>;
}

impl<S: Sink> DynSink<S::In> for S {
    fn name(&self) -> String {
        Sink::name(self)
    }
    fn detail(&self) -> String {
        Sink::detail(self)
    }
    fn hands_on(&self) -> bool {
        Sink::hands_on(self)
    }
    fn write<'a>(&'a mut self, item: &'a S::In) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(Sink::write(self, item))
    }
    fn flush(&mut self) -> BoxFuture<'_, Result<(), StageError>> {
        Box::pin(Sink::flush(self))
    }
}

impl<T: EventCount + Send + Sync + 'static> Sink for BoxSink<T> {
    type In = T;

    fn name(&self) -> String {
        self.0.name()
    }
    fn detail(&self) -> String {
        self.0.detail()
    }
    fn hands_on(&self) -> bool {
        self.0.hands_on()
    }
    async fn write(&mut self, item: &T) -> Result<(), StageError> {
        self.0.write(item).await
    }
    async fn flush(&mut self) -> Result<(), StageError> {
        self.0.flush().await
    }
}

/// How many events an item stands for in the statistics, so that `received = sent + dropped + buffered` holds across
/// stages that gather many items into one.
pub trait EventCount {
    /// Its weight; 1 for a single item.
    fn weight(&self) -> u64 {
        1
    }

    /// Whether a [`Tap`](super::tap::Tap) shows items of this type.
    const IS_SHOWN: bool = false;

    /// How many lines [`show`](Self::show) gives.
    fn lines(&self) -> u64 {
        self.weight()
    }

    /// Gives its lines as text, without their ends, until `line` wants no more.
    fn show(&self, _line: &mut dyn FnMut(&[u8]) -> bool) {}

    /// The item is where it must be: tells its source, if that waits for it. Called after a successful write, when the
    /// item is published, and when it is given up.
    fn acknowledge(&self) {}
}

/// Where a [`Transform`] puts its output and counts what it drops.
#[derive(Debug)]
pub struct Output<T> {
    /// The output, in order.
    pub(super) items: Vec<T>,
    /// What was lost since the counters were last updated, by reason.
    pub(super) dropped: Vec<(&'static str, u64)>,
    /// What was left out as intended since then, by reason.
    pub(super) discarded: Vec<(&'static str, u64)>,
}

impl<T> Default for Output<T> {
    fn default() -> Self {
        Self { items: Vec::new(), dropped: Vec::new(), discarded: Vec::new() }
    }
}

impl<T> Output<T> {
    /// Hands `item` on.
    pub fn push(&mut self, item: T) {
        self.items.push(item);
    }

    /// Counts `weight` as lost. The reason is one lower-case word.
    pub fn drop_items(&mut self, reason: &'static str, weight: u64) {
        if weight > 0 {
            self.dropped.push((reason, weight));
        }
    }

    /// Counts `weight` as left out because that is what the stage is for: no loss. The reason is one lower-case word.
    pub fn discard_items(&mut self, reason: &'static str, weight: u64) {
        if weight > 0 {
            self.discarded.push((reason, weight));
        }
    }

    /// What was lost since the last [`drain`](Self::drain), by reason.
    pub fn dropped(&self) -> &[(&'static str, u64)] {
        &self.dropped
    }

    /// What was left out as intended since the last [`drain`](Self::drain), by reason.
    pub fn discarded(&self) -> &[(&'static str, u64)] {
        &self.discarded
    }

    /// What was lost or left out since the last [`drain`](Self::drain).
    pub fn not_sent_total(&self) -> u64 {
        self.dropped.iter().chain(&self.discarded).map(|(_, weight)| weight).sum()
    }

    /// The output, for a caller that drives a transform by hand (a test, a plain loop).
    pub fn drain(&mut self) -> std::vec::Drain<'_, T> {
        self.dropped.clear();
        self.discarded.clear();
        self.items.drain(..)
    }
}

/// Why one run of a stage has ended. Its task runs it again with back-off, unless the error is final.
#[derive(Debug)]
pub struct StageError {
    what: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Inside,
    Outside,
    Final,
}

impl StageError {
    /// The stage itself is at fault (a panic, a source that ended). Spends the restart budget.
    /// The text is the end of a sentence, in lower case.
    pub fn new(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), kind: Kind::Inside }
    }

    /// Something outside is at fault (a full disk, a peer that is away). Retried with back-off for as long as it takes:
    /// it does not spend the restart budget.
    pub fn outside(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), kind: Kind::Outside }
    }

    /// There is no use in going on (the reader of stdout has gone). The agent drains and ends without an error.
    pub fn last(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), kind: Kind::Final }
    }

    /// Whether running the stage again could spend the restart budget.
    pub fn spends_budget(&self) -> bool {
        self.kind == Kind::Inside
    }

    /// Whether the stage must not be run again.
    pub fn is_last(&self) -> bool {
        self.kind == Kind::Final
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for StageError {}

impl From<std::io::Error> for StageError {
    fn from(error: std::io::Error) -> Self {
        Self::outside(error)
    }
}

/// The name of a stage in topologies and statistics: its type's own name in snake case.
pub(super) fn short_name<T: ?Sized>() -> String {
    let path = std::any::type_name::<T>();
    let path = path.split('<').next().unwrap_or(path);
    let mut name = String::new();
    for letter in path.rsplit("::").next().unwrap_or(path).chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}
