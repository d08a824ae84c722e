//! Locks that outlive a panic, for every folder.

use std::sync::LockResult;

/// Takes what a lock gives also after a thread has panicked while it held the lock.
///
/// # Why
/// A stage that panics is caught and restarted, so the data that it shares must stay usable. Each critical section of
/// this program leaves its data valid at every step, so a poisoned lock carries no information.
pub(crate) trait IgnorePoison {
    /// The guard of the lock.
    type Guard;

    /// The guard, poisoned or not.
    fn ignore_poison(self) -> Self::Guard;
}

impl<G> IgnorePoison for LockResult<G> {
    type Guard = G;

    fn ignore_poison(self) -> G {
        self.unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_lock_works_after_a_panic_under_it() {
        let shared = Mutex::new(1);
        let panicked = std::thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let _guard = shared.lock();
                panic!("while the lock is held");
            });
            holder.join().is_err()
        });
        assert!(panicked && shared.is_poisoned());
        assert_eq!(*shared.lock().ignore_poison(), 1);
    }
}
