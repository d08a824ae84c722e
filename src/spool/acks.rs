//! Which requests' answers the host has read, told to the request log. Keeps no answer.

use std::sync::{Arc, Mutex, MutexGuard};

use super::scan::ITEMS_MAX;
use crate::sync::IgnorePoison;

/// Who is told the requests.
type Told = Box<dyn Fn(&[u32]) + Send>;

/// The acknowledged answers of one port. A copy is the same.
#[derive(Clone, Default)]
pub struct Acks(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// Requests whose answers waited when the spool was opened.
    waiting: Vec<u32>,
    /// Acknowledged before anybody wanted to know; at most [`ITEMS_MAX`].
    early: Vec<u32>,
    to: Option<Told>,
}

impl Acks {
    /// Calls `to` with the requests whose answers the host has read, from now on and with those of before. Returns
    /// the requests whose answers waited in the spool when it was opened: a host will read them.
    pub fn tell(&self, to: impl Fn(&[u32]) + Send + 'static) -> Vec<u32> {
        let mut inner = self.inner();
        to(&std::mem::take(&mut inner.early));
        inner.to = Some(Box::new(to));
        inner.waiting.clone()
    }

    pub(super) fn found(&self, waiting: Vec<u32>) {
        self.inner().waiting = waiting;
    }

    pub(super) fn read(&self, requests: &[u32]) {
        let mut inner = self.inner();
        match &inner.to {
            Some(to) => to(requests),
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
