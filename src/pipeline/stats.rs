//! Counters of a pipeline: what each stage received, sent, dropped and holds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::tap::Tap;
use crate::sync::IgnorePoison;

/// These names with `#2` behind the second of a name, `#3` behind the third: how a user names a stage.
pub fn numbered<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut seen = HashMap::<&str, usize>::new();
    let number = |name| {
        let nth = seen.entry(name).and_modify(|nth| *nth += 1).or_insert(1);
        if *nth > 1 { format!("{name}#{nth}") } else { name.to_owned() }
    };
    names.map(number).collect()
}

/// What one stage has counted since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageCounts {
    /// `pipeline/stage`.
    pub node: String,
    /// Taken in.
    pub received: u64,
    /// Handed on.
    pub sent: u64,
    /// Lost, by reason; absent reasons are zero.
    pub dropped: Vec<(&'static str, u64)>,
    /// Left out as intended, by reason; absent reasons are zero.
    pub discarded: Vec<(&'static str, u64)>,
    /// In hand now.
    pub buffered: u64,
    /// Faults and panics that were survived.
    pub failed: u64,
    /// The most that ever waited in its queue.
    pub queue_max: u64,
}

impl StageCounts {
    /// What was not handed on, by reason: what was lost, then what was left out.
    pub fn not_sent(&self) -> impl Iterator<Item = &(&'static str, u64)> {
        self.dropped.iter().chain(&self.discarded)
    }

    /// The sum of [`not_sent`](Self::not_sent).
    pub fn not_sent_total(&self) -> u64 {
        self.not_sent().map(|(_, weight)| weight).sum()
    }
}

/// As the readings of the agent itself carry it: with older names, and `lost` with everything that was not handed on.
impl Serialize for StageCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut counts = serializer.serialize_struct("StageCounts", 7)?;
        counts.serialize_field("node", &self.node)?;
        counts.serialize_field("taken", &self.received)?;
        counts.serialize_field("given", &self.sent)?;
        counts.serialize_field("lost", &self.not_sent().collect::<Vec<_>>())?;
        counts.serialize_field("held", &self.buffered)?;
        counts.serialize_field("faults", &self.failed)?;
        counts.serialize_field("queue_max", &self.queue_max)?;
        counts.end()
    }
}

/// The counters of one stage. `received = sent + dropped + buffered` whenever its task is between two steps.
///
/// One task writes, anyone reads. The unit is the reading ([`super::EventCount`]).
#[derive(Debug, Default)]
pub struct StageStats {
    name: String,
    tap: Arc<Tap>,
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
    fn new(name: String, tap: Arc<Tap>) -> Self {
        Self { name, tap, ..Self::default() }
    }

    /// The tap on what the stage sends.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// `pipeline/stage`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds `weight` to what was received.
    pub fn received(&self, weight: u64) {
        self.received.fetch_add(weight, Relaxed);
    }

    /// Adds `weight` to what was sent.
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

    /// Sets what is held now.
    pub fn buffered(&self, weight: u64) {
        self.buffered.store(weight, Relaxed);
    }

    /// Counts a fault or panic after which the stage runs again.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// Sets how many items wait in the queue of the stage; the highest number is kept.
    pub fn queued(&self, items: u64) {
        self.queue_max.fetch_max(items, Relaxed);
    }

    /// Whether `received = sent + dropped + buffered` now.
    fn is_balanced(&self) -> bool {
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

/// The counters of all stages of a running agent, in the order in which they were built. A clone is the same registry.
///
/// A pipeline that replaces another one of its name is built with [`replacement`](Self::replacement): its stages add to
/// the counters of those that they replace, so the counts of a name never fall.
#[derive(Debug, Clone, Default)]
pub struct StatsRegistry {
    entries: Arc<Mutex<Vec<Entry>>>,
    /// How many stages of each name this build has registered.
    made: Arc<Mutex<HashMap<String, usize>>>,
}

/// The counters of one stage, and of those that it replaced: several only while an old one has not ended.
#[derive(Debug)]
struct Entry {
    name: String,
    nodes: Vec<Arc<StageStats>>,
    tap: Arc<Tap>,
}

impl StatsRegistry {
    /// The counters of a stage. What the one that it replaces still held at its end was dropped, as `abandoned`.
    pub fn node(&self, name: String) -> Arc<StageStats> {
        let nth = self.nth(&name);
        let mut entries = self.entries.lock().ignore_poison();
        let known = entries.iter_mut().filter(|entry| entry.name == name).nth(nth);
        // Only this registry has it, and the lock keeps others from getting it meanwhile.
        let free = |node: &&Arc<StageStats>| Arc::strong_count(node) == 1;
        if let Some(node) = known.as_ref().and_then(|entry| entry.nodes.iter().find(free)) {
            node.dropped("abandoned", node.buffered.swap(0, Relaxed));
            return Arc::clone(node);
        }
        let tap = known.as_ref().map(|entry| Arc::clone(&entry.tap)).unwrap_or_default();
        let node = Arc::new(StageStats::new(name.clone(), Arc::clone(&tap)));
        match known {
            Some(entry) => entry.nodes.push(Arc::clone(&node)),
            None => entries.push(Entry { name, nodes: vec![Arc::clone(&node)], tap }),
        }
        node
    }

    /// A tap behind something that counts nothing of its own: a transform of records, which shares the counters of its
    /// pass.
    pub fn tap(&self, name: String) -> Arc<Tap> {
        let nth = self.nth(&name);
        let mut entries = self.entries.lock().ignore_poison();
        if let Some(known) = entries.iter().filter(|entry| entry.name == name).nth(nth) {
            return Arc::clone(&known.tap);
        }
        let tap = Arc::<Tap>::default();
        entries.push(Entry { name, nodes: Vec::new(), tap: Arc::clone(&tap) });
        tap
    }

    /// The taps of all stages whose items can be shown, in the order in which the stages were built; the second of a name
    /// has `#2` behind it.
    pub fn taps(&self) -> Vec<(String, Arc<Tap>)> {
        let entries = self.entries.lock().ignore_poison();
        let names = numbered(entries.iter().map(|entry| entry.name.as_str()));
        let taps = names.into_iter().zip(entries.iter().map(|entry| Arc::clone(&entry.tap)));
        taps.filter(|(_, tap)| tap.is_shown()).collect()
    }

    /// How many stages of this name the current build has registered before.
    fn nth(&self, name: &str) -> usize {
        let mut made = self.made.lock().ignore_poison();
        let count = made.entry(name.to_owned()).or_default();
        *count += 1;
        *count - 1
    }

    /// The same registry, for stages that replace those of their name in order.
    pub fn replacement(&self) -> Self {
        Self { entries: Arc::clone(&self.entries), made: Arc::default() }
    }

    /// The first stage whose counters do not balance, if there is one.
    pub fn unbalanced(&self) -> Option<StageCounts> {
        let entries = self.entries.lock().ignore_poison();
        let mut nodes = entries.iter().flat_map(|entry| &entry.nodes);
        nodes.find(|node| !node.is_balanced()).map(|node| node.count())
    }

    /// What every stage has counted so far.
    pub fn counts(&self) -> Vec<StageCounts> {
        let entries = self.entries.lock().ignore_poison();
        let count = |entry: &Entry| {
            let counts = entry.nodes.iter().map(|node| node.count());
            counts.reduce(|mut sum, count| {
                add(&mut sum, count);
                sum
            })
        };
        entries.iter().filter_map(count).collect()
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
    fn a_replacement_adds_to_the_counters_of_its_predecessor_and_one_beside_it_has_its_own() {
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
        assert_eq!(health.entries.lock().unwrap()[0].nodes.len(), 2, "counters are used again");
    }
}
