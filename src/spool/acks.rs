//! Notifies the request log of acknowledged replies.

use std::sync::{Arc, Mutex, MutexGuard};

use super::scan::ITEMS_MAX;
use crate::sync::IgnorePoison;

type Subscriber = Box<dyn Fn(&[u32]) + Send>;

/// The acknowledged replies of one port, by request number. Clones share one state.
#[derive(Clone, Default)]
pub struct Acks(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// Requests whose replies waited when the spool was opened.
    waiting: Vec<u32>,
    /// Acknowledged before a subscriber came; at most [`ITEMS_MAX`].
    early: Vec<u32>,
    subscriber: Option<Subscriber>,
}

impl Acks {
    /// Calls the subscriber with the requests whose replies are acknowledged, from now on and with those of before.
    /// Returns the requests whose replies waited in the spool when it was opened.
    pub fn subscribe(&self, subscriber: impl Fn(&[u32]) + Send + 'static) -> Vec<u32> {
        let mut inner = self.inner();
        subscriber(&std::mem::take(&mut inner.early));
        inner.subscriber = Some(Box::new(subscriber));
        inner.waiting.clone()
    }

    pub(super) fn set_waiting(&self, waiting: Vec<u32>) {
        self.inner().waiting = waiting;
    }

    pub(super) fn acknowledge(&self, requests: &[u32]) {
        let mut inner = self.inner();
        match &inner.subscriber {
            Some(subscriber) => subscriber(requests),
            None => {
                let room = ITEMS_MAX.saturating_sub(inner.early.len());
                inner.early.extend(&requests[..requests.len().min(room)]);
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().ignore_poison()
    }
}

impl std::fmt::Debug for Acks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acks").finish_non_exhaustive()
    }
}
