//! A value that enrichers of one kind add to a reading, one behind the other.

use std::sync::Arc;

/// What one of them adds.
///
/// Costs one reference count for a reading that has no such value yet. The two together are made once, and kept for as long as
/// the earlier one stays the same.
#[derive(Debug)]
pub(super) struct Added<T> {
    own: Arc<T>,
    joined: Option<Joined<T>>,
}

/// The value that a reading came with, and the one it leaves with.
#[derive(Debug)]
struct Joined<T> {
    with: Arc<T>,
    all: Arc<T>,
}

impl<T: Eq> Added<T> {
    pub(super) fn new(own: T) -> Self {
        Self { own: Arc::new(own), joined: None }
    }

    /// The value of a reading that came with `earlier`: `join` makes one of the earlier one and its own.
    pub(super) fn to(
        &mut self,
        earlier: Option<&Arc<T>>,
        join: impl FnOnce(&T, &T) -> T,
    ) -> Arc<T> {
        let Some(earlier) = earlier else { return Arc::clone(&self.own) };
        match &self.joined {
            Some(joined) if joined.with == *earlier => Arc::clone(&joined.all),
            _ => {
                let all = Arc::new(join(earlier, &self.own));
                self.joined = Some(Joined { with: Arc::clone(earlier), all: Arc::clone(&all) });
                all
            }
        }
    }
}
