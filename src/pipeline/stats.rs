//! The books of a pipeline: what each node took in, gave on, lost and holds. Nothing is decided here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::model::StageCounts;
use crate::sync::IgnorePoison;

/// The counters of one node. `received = sent + dropped + buffered` whenever its task is between two steps.
///
/// One task writes, anyone reads. The unit is the reading ([`super::EventCount`]).
#[derive(Debug, Default)]
pub struct StageStats {
    name: String,
    received: AtomicU64,
    sent: AtomicU64,
    buffered: AtomicU64,
    failed: AtomicU64,
    queue_max: AtomicU64,
    dropped: Reasons,
    discarded: Reasons,
}

/// How much was not handed on, by reason.
#[derive(Debug, Default)]
struct Reasons(Mutex<Vec<(&'static str, u64)>>);

impl Reasons {
    fn add(&self, reason: &'static str, weight: u64) {
        if weight > 0 {
            add_reason(&mut self.0.lock().ignore_poison(), reason, weight);
        }
    }

    fn list(&self) -> Vec<(&'static str, u64)> {
        self.0.lock().ignore_poison().clone()
    }

    fn total(&self) -> u64 {
        self.0.lock().ignore_poison().iter().map(|(_, weight)| weight).sum()
    }
}

fn add_reason(to: &mut Vec<(&'static str, u64)>, reason: &'static str, weight: u64) {
    match to.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, sum)) => *sum += weight,
        None => to.push((reason, weight)),
    }
}

impl StageStats {
    fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    /// `pipeline/stage`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Books `weight` as taken in.
    pub fn received(&self, weight: u64) {
        self.received.fetch_add(weight, Relaxed);
    }

    /// Books `weight` as handed on.
    pub fn sent(&self, weight: u64) {
        self.sent.fetch_add(weight, Relaxed);
    }

    /// Adds `weight` to what was lost. The reason is one lower-case word.
    pub fn dropped(&self, reason: &'static str, weight: u64) {
        self.dropped.add(reason, weight);
    }

    /// Adds `weight` to what was left out as intended, which is no loss. The reason is one lower-case word.
    pub fn discarded(&self, reason: &'static str, weight: u64) {
        self.discarded.add(reason, weight);
    }

    /// States what is in hand now.
    pub fn buffered(&self, weight: u64) {
        self.buffered.store(weight, Relaxed);
    }

    /// Books a fault or panic that was survived.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// States how many items wait in the node's queue; the most is kept.
    pub fn queued(&self, items: u64) {
        self.queue_max.fetch_max(items, Relaxed);
    }

    /// Whether `received = sent + dropped + buffered` now.
    fn adds_up(&self) -> bool {
        let not_sent = self.dropped.total() + self.discarded.total();
        self.received.load(Relaxed)
            == self.sent.load(Relaxed) + not_sent + self.buffered.load(Relaxed)
    }

    /// What has been counted so far.
    pub fn count(&self) -> StageCounts {
        StageCounts {
            node: self.name.clone(),
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
            dropped: self.dropped.list(),
            discarded: self.discarded.list(),
            buffered: self.buffered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            queue_max: self.queue_max.load(Relaxed),
        }
    }
}

/// All nodes of a running daemon, in the order they were built. A copy is the same registry.
///
/// A pipeline that takes the place of another one of its name is built with [`replacement`](Self::replacement), and its nodes
/// go on in the books of those they replace: the counts of a name never fall.
#[derive(Debug, Clone, Default)]
pub struct StatsRegistry {
    books: Arc<Mutex<Vec<Book>>>,
    /// How many nodes of each name this build has made.
    made: Arc<Mutex<HashMap<String, usize>>>,
}

/// One node, and those whose place it took: several only while an old one has not ended.
#[derive(Debug)]
struct Book {
    name: String,
    nodes: Vec<Arc<StageStats>>,
}

impl StatsRegistry {
    /// Opens the books of a node. What the one before still held when it ended was lost, as `abandoned`.
    pub fn node(&self, name: String) -> Arc<StageStats> {
        let nth = {
            let mut made = self.made.lock().ignore_poison();
            let count = made.entry(name.clone()).or_default();
            *count += 1;
            *count - 1
        };
        let mut books = self.books.lock().ignore_poison();
        let known = books.iter_mut().filter(|book| book.name == name).nth(nth);
        // Nobody but this registry has it, and nobody else can take it meanwhile.
        let free = |node: &&Arc<StageStats>| Arc::strong_count(node) == 1;
        if let Some(node) = known.as_ref().and_then(|book| book.nodes.iter().find(free)) {
            node.dropped("abandoned", node.buffered.swap(0, Relaxed));
            return Arc::clone(node);
        }
        let node = Arc::new(StageStats::new(name.clone()));
        match known {
            Some(book) => book.nodes.push(Arc::clone(&node)),
            None => books.push(Book { name, nodes: vec![Arc::clone(&node)] }),
        }
        node
    }

    /// The same registry for nodes that take the place of those of their name, the first of the first.
    pub fn replacement(&self) -> Self {
        Self { books: Arc::clone(&self.books), made: Arc::default() }
    }

    /// The first node whose books do not add up, if one is between two steps and they do not.
    pub fn unbalanced(&self) -> Option<StageCounts> {
        let books = self.books.lock().ignore_poison();
        let mut nodes = books.iter().flat_map(|book| &book.nodes);
        nodes.find(|node| !node.adds_up()).map(|node| node.count())
    }

    /// What every node has counted so far.
    pub fn counts(&self) -> Vec<StageCounts> {
        let books = self.books.lock().ignore_poison();
        let count = |book: &Book| {
            let counts = book.nodes.iter().map(|node| node.count());
            counts.reduce(|mut sum, count| {
                add(&mut sum, count);
                sum
            })
        };
        books.iter().filter_map(count).collect()
    }
}

fn add(to: &mut StageCounts, count: StageCounts) {
    to.received += count.received;
    to.sent += count.sent;
    to.buffered += count.buffered;
    to.failed += count.failed;
    to.queue_max = to.queue_max.max(count.queue_max);
    for (reason, weight) in count.dropped {
        add_reason(&mut to.dropped, reason, weight);
    }
    for (reason, weight) in count.discarded {
        add_reason(&mut to.discarded, reason, weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_a_place_goes_on_in_its_books_and_one_beside_it_has_its_own() {
        let health = StatsRegistry::default();
        let (first, beside) = (health.node("a".to_owned()), health.node("a".to_owned()));
        first.received(5);
        first.sent(3);
        first.buffered(2);
        beside.received(1);
        let early = health.replacement().node("a".to_owned());
        early.received(100);
        early.sent(100);
        drop((first, early));
        let next = health.replacement().node("a".to_owned());
        next.received(10);
        next.sent(10);
        let counts = health.counts();
        let sums: Vec<_> = counts.iter().map(|count| (count.received, count.sent)).collect();
        assert_eq!(sums, [(115, 113), (1, 0)]);
        assert_eq!(counts[0].dropped, [("abandoned", 2)]);
        assert_eq!(health.books.lock().unwrap()[0].nodes.len(), 2, "books are used again");
    }
}
