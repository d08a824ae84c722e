//! The books of a pipeline: what each node took in, gave on, lost and holds. Nothing is decided here.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::NodeCount;

/// Reasons for which something does not go on because that was asked for: no loss, though it is booked
/// like one, so that the books of a node add up.
pub const ON_PURPOSE: [&str; 8] =
    ["blank", "deselected", "empty", "heard", "joined", "kept", "unchanged", "waiting"];

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

    /// Whether `taken = given + lost + held` now.
    fn adds_up(&self) -> bool {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let lost: u64 = lost.iter().map(|(_, weight)| weight).sum();
        let gone = self.given.load(Relaxed) + lost + self.held.load(Relaxed);
        self.taken.load(Relaxed) == gone
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
    /// Opens the books of a new node.
    pub fn node(&self, name: String) -> Arc<Node> {
        let node = Arc::new(Node::new(name));
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&node));
        node
    }

    /// The first node whose books do not add up, if one is between two steps and they do not.
    pub fn wrong(&self) -> Option<NodeCount> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.iter().find(|node| !node.adds_up()).map(|node| node.count())
    }

    /// What every node has counted so far.
    pub fn counts(&self) -> Vec<NodeCount> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        nodes.iter().map(|node| node.count()).collect()
    }
}
