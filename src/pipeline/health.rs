//! The books of a pipeline: what each node took in, gave on, lost and holds. Nothing is decided here.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::NodeCount;

/// The counters of one node. `taken = given + lost + held` whenever its task is between two steps.
///
/// One task writes, anyone reads. The unit is the reading ([`super::Weigh`]).
#[derive(Debug, Default)]
pub struct Node {
    name: String,
    taken: AtomicU64,
    given: AtomicU64,
    held: AtomicU64,
    faults: AtomicU64,
    queue_max: AtomicU64,
    lost: Mutex<Vec<(&'static str, u64)>>,
}

impl Node {
    fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    /// `pipeline/stage`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Books `weight` as taken in.
    pub fn took(&self, weight: u64) {
        self.taken.fetch_add(weight, Relaxed);
    }

    /// Books `weight` as handed on.
    pub fn gave(&self, weight: u64) {
        self.given.fetch_add(weight, Relaxed);
    }

    /// Books `weight` as lost. The reason is one lower-case word.
    pub fn lost(&self, reason: &'static str, weight: u64) {
        if weight == 0 {
            return;
        }
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        match lost.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += weight,
            None => lost.push((reason, weight)),
        }
    }

    /// States what is in hand now.
    pub fn holds(&self, weight: u64) {
        self.held.store(weight, Relaxed);
    }

    /// Books a fault or panic that was survived.
    pub fn faulted(&self) {
        self.faults.fetch_add(1, Relaxed);
    }

    /// States how many items wait in the node's queue; the most is kept.
    pub fn queued(&self, items: u64) {
        self.queue_max.fetch_max(items, Relaxed);
    }

    /// What has been counted so far.
    pub fn count(&self) -> NodeCount {
        NodeCount {
            node: self.name.clone(),
            taken: self.taken.load(Relaxed),
            given: self.given.load(Relaxed),
            lost: self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            held: self.held.load(Relaxed),
            faults: self.faults.load(Relaxed),
            queue_max: self.queue_max.load(Relaxed),
        }
    }
}

/// All nodes of a running daemon, in the order they were built. A copy is the same registry.
#[derive(Debug, Clone, Default)]
pub struct Health {
    nodes: Arc<Mutex<Vec<Arc<Node>>>>,
}

impl Health {
    /// Opens the books of a node, or goes on in those of one that had this name and is no more: what it
    /// still held was lost, as `abandoned`. So there are never more books than names and nodes in use.
    pub fn node(&self, name: String) -> Arc<Node> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody but this registry has it, and nobody else can take it meanwhile.
        let free = |node: &&Arc<Node>| node.name == name && Arc::strong_count(node) == 1;
        if let Some(node) = nodes.iter().find(free) {
            node.lost("abandoned", node.held.swap(0, Relaxed));
            return Arc::clone(node);
        }
        let node = Arc::new(Node::new(name));
        nodes.push(Arc::clone(&node));
        node
    }

    /// What every node has counted so far; those of one name together.
    pub fn counts(&self) -> Vec<NodeCount> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts: Vec<NodeCount> = Vec::with_capacity(nodes.len());
        for node in nodes.iter() {
            let count = node.count();
            match counts.iter_mut().find(|known| known.node == count.node) {
                Some(known) => add(known, count),
                None => counts.push(count),
            }
        }
        counts
    }
}

fn add(to: &mut NodeCount, count: NodeCount) {
    to.taken += count.taken;
    to.given += count.given;
    to.held += count.held;
    to.faults += count.faults;
    to.queue_max = to.queue_max.max(count.queue_max);
    for (reason, weight) in count.lost {
        match to.lost.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, sum)) => *sum += weight,
            None => to.lost.push((reason, weight)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_of_one_name_go_on_and_are_told_together() {
        let health = Health::default();
        let (first, beside) = (health.node("a".to_owned()), health.node("a".to_owned()));
        first.took(5);
        first.gave(3);
        first.holds(2);
        beside.took(1);
        beside.lost("late", 1);
        drop(first);
        let next = health.node("a".to_owned());
        next.took(10);
        next.gave(10);
        let counts = health.counts();
        assert_eq!(counts.len(), 1);
        let NodeCount { taken, given, held, lost, .. } = &counts[0];
        assert_eq!((*taken, *given, *held), (16, 13, 0));
        assert_eq!(lost, &[("abandoned", 2), ("late", 1)]);
        assert_eq!(health.nodes.lock().unwrap().len(), 2, "books that are free are used again");
    }
}
