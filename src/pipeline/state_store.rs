//! State that survives a reload: what a stage leaves for the one that replaces it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::stage::{Output, Transform};
use crate::sync::IgnorePoison;

/// State by name: a stage that ends puts it here, and the stage that replaces it takes it. A clone is the same store.
///
/// There is one for each pipeline, and the names are those of its stages, so it holds at most one value for each of
/// them. It is locked for a look-up, never across an await.
#[derive(Debug, Clone, Default)]
pub struct StateStore(Arc<Mutex<HashMap<String, Box<dyn Any + Send>>>>);

impl StateStore {
    /// Stores `value` under `name`; replaces what is there.
    pub fn put<T: Any + Send>(&self, name: impl Into<String>, value: T) {
        self.values().insert(name.into(), Box::new(value));
    }

    /// Takes the value of `name` out; one that is no `T` is dropped.
    pub fn take<T: Any + Send>(&self, name: &str) -> Option<T> {
        self.values().remove(name)?.downcast().ok().map(|value| *value)
    }

    fn values(&self) -> std::sync::MutexGuard<'_, HashMap<String, Box<dyn Any + Send>>> {
        self.0.lock().ignore_poison()
    }
}

/// Takes over the state of an earlier stage of its type, under settings of its own.
pub trait Restore: Sized {
    /// Goes on where `before` ended.
    fn restore(&mut self, before: Self);
}

/// A transform whose state outlives it: it takes the state of its predecessor at its first item, and leaves its own in
/// the store at its end.
///
/// # Why at the first item
/// A new graph is built beside the old one, which still runs. The state of the old one is stored when the new one is
/// started, which is after the end of the old.
pub struct Stateful<T: Transform + Restore> {
    /// `Some` until it is dropped.
    stage: Option<T>,
    store: StateStore,
    name: String,
    begun: bool,
}

impl<T: Transform + Restore> Stateful<T> {
    /// `stage`, with its state under `name`.
    pub fn new(stage: T, store: &StateStore, name: impl Into<String>) -> Self {
        Self { stage: Some(stage), store: store.clone(), name: name.into(), begun: false }
    }
}

impl<T: Transform + Restore> Transform for Stateful<T> {
    type In = T::In;
    type Out = T::Out;

    fn name(&self) -> String {
        self.stage.as_ref().map(Transform::name).unwrap_or_default()
    }

    fn detail(&self) -> String {
        self.stage.as_ref().map(Transform::detail).unwrap_or_default()
    }

    fn apply(&mut self, now: Instant, input: &T::In, out: &mut Output<T::Out>) {
        let Some(stage) = &mut self.stage else { return };
        if !std::mem::replace(&mut self.begun, true)
            && let Some(before) = self.store.take(&self.name)
        {
            stage.restore(before);
        }
        stage.apply(now, input, out);
    }

    fn deadline(&self) -> Option<Instant> {
        self.stage.as_ref()?.deadline()
    }

    fn expire(&mut self, now: Instant, out: &mut Output<T::Out>) {
        if let Some(stage) = &mut self.stage {
            stage.expire(now, out);
        }
    }

    fn finish(&mut self, out: &mut Output<T::Out>) {
        if let Some(stage) = &mut self.stage {
            stage.finish(out);
        }
    }

    fn held(&self) -> u64 {
        self.stage.as_ref().map_or(0, Transform::held)
    }
}

impl<T: Transform + Restore> Drop for Stateful<T> {
    /// One that has had no item leaves what is stored for the next.
    fn drop(&mut self) {
        if self.begun
            && let Some(stage) = self.stage.take()
        {
            self.store.put(std::mem::take(&mut self.name), stage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::EventCount;

    /// Adds up what it gets, times its factor.
    struct Sum {
        factor: u64,
        sum: u64,
    }

    impl EventCount for u64 {}

    impl Transform for Sum {
        type In = u64;
        type Out = u64;

        fn apply(&mut self, _now: Instant, input: &u64, out: &mut Output<u64>) {
            self.sum += input * self.factor;
            out.push(self.sum);
        }
    }

    impl Restore for Sum {
        fn restore(&mut self, before: Self) {
            self.sum = before.sum;
        }
    }

    fn give(stage: &mut Stateful<Sum>, item: u64) -> u64 {
        let mut out = Output::default();
        stage.apply(Instant::now(), &item, &mut out);
        out.drain().next().unwrap()
    }

    #[test]
    fn a_stage_goes_on_where_its_predecessor_ended_with_settings_of_its_own() {
        let store = StateStore::default();
        let kept = |factor| Stateful::new(Sum { factor, sum: 0 }, &store, "sum");
        let mut first = kept(1);
        assert_eq!(give(&mut first, 5), 5);
        let (never_used, mut second) = (kept(7), kept(10));
        drop(first);
        drop(never_used);
        assert_eq!(give(&mut second, 1), 15);
        drop(second);
        assert_eq!(store.take::<Sum>("sum").map(|sum| sum.sum), Some(15));
        assert!(store.take::<Sum>("sum").is_none());
    }

    #[test]
    fn state_of_another_type_is_not_taken() {
        let store = StateStore::default();
        store.put("sum", "text");
        assert_eq!(give(&mut Stateful::new(Sum { factor: 1, sum: 0 }, &store, "sum"), 2), 2);
    }
}
