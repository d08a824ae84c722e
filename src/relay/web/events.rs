//! The fleet as it changes, as server-sent events (WHATWG HTML, 9.2): the whole of it first, then once a second the rows that
//! are different.
//!
//! One task compares the rows for all pages, and only while one is open.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use bytes::Bytes;
use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::{MissedTickBehavior, interval};

use super::view::{self, Row};
use crate::relay::fleet::Fleet;
use crate::tasks::spawn_blocking;

/// How often rows are compared.
const TICK: Duration = Duration::from_secs(1);
/// After so many ticks without a change a page gets an event without one: the write fails where the page is closed.
const QUIET_TICKS: u32 = 5;
/// Pages at once.
const PAGES_MAX: usize = 16;
/// Events that wait for a page. One that is further behind is closed; its browser opens it again, with the whole fleet.
const WAITING_MAX: usize = 16;

/// The events of a fleet.
#[derive(Debug)]
pub(super) struct Events {
    sender: broadcast::Sender<Bytes>,
    pages: Arc<Semaphore>,
}

impl Events {
    pub(super) fn new() -> Self {
        let pages = Arc::new(Semaphore::new(PAGES_MAX));
        Self { sender: broadcast::channel(WAITING_MAX).0, pages }
    }

    /// The events for one page; `None` where there are too many pages.
    pub(super) fn open(
        &self,
        fleet: &Arc<Fleet>,
    ) -> Option<impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static> {
        let page: OwnedSemaphorePermit = Arc::clone(&self.pages).try_acquire_owned().ok()?;
        // Before the fleet is looked at, so that no change falls in between.
        let (mut changes, fleet) = (self.sender.subscribe(), Arc::clone(fleet));
        Some(stream! {
            let _page = page;
            let whole = spawn_blocking(move || event("fleet", &view::fleet(&fleet))).await;
            let Ok(whole) = whole else { return };
            yield Ok(whole);
            while let Ok(change) = changes.recv().await {
                yield Ok(change);
            }
        })
    }

    /// Compares the rows for ever.
    pub(super) async fn run(&self, fleet: &Arc<Fleet>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut before, mut quiet) = (BTreeMap::new(), 0);
        loop {
            ticks.tick().await;
            if self.sender.receiver_count() == 0 {
                before.clear();
                continue;
            }
            let (fleet, old) = (Arc::clone(fleet), std::mem::take(&mut before));
            quiet += 1;
            let is_due = quiet >= QUIET_TICKS;
            let compared = spawn_blocking(move || {
                let new = view::rows(&fleet);
                (change(&old, &new, is_due), new)
            });
            let Ok((change, new)) = compared.await else { continue };
            before = new;
            if let Some(change) = change {
                quiet = 0;
                let _ = self.sender.send(change); // the last page may just have been closed
            }
        }
    }
}

/// The event that turns the `old` rows into the `new` ones; without a change `None`, unless one `is_due`.
fn change(
    old: &BTreeMap<Arc<str>, Row>,
    new: &BTreeMap<Arc<str>, Row>,
    is_due: bool,
) -> Option<Bytes> {
    let is_changed = |(vm, row): &(&Arc<str>, &Row)| old.get(*vm) != Some(*row);
    let changed: Vec<&Row> = new.iter().filter(is_changed).map(|(_, row)| row).collect();
    let gone: Vec<&str> = old.keys().filter(|vm| !new.contains_key(*vm)).map(|vm| &**vm).collect();
    let is_none = changed.is_empty() && gone.is_empty();
    (is_due || !is_none).then(|| event("changes", &view::changes(changed, gone)))
}

/// JSON has no line breaks, so it is one line of an event.
fn event(name: &str, json: &[u8]) -> Bytes {
    [b"event: ", name.as_bytes(), b"\ndata: ", json, b"\n\n"].concat().into()
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::config::Guests;

    #[tokio::test]
    async fn a_page_that_is_too_far_behind_is_closed_and_makes_room() {
        let (events, fleet) = (Events::new(), Arc::new(Fleet::new("lab", Guests::at(Vec::new()))));
        let mut pages: Vec<_> =
            (0..PAGES_MAX).map(|_| Box::pin(events.open(&fleet).unwrap())).collect();
        assert!(events.open(&fleet).is_none());
        let slow = &mut pages[0];
        assert!(slow.next().await.unwrap().unwrap().starts_with(b"event: fleet"));
        for _ in 0..WAITING_MAX {
            events.sender.send(event("changes", b"{}")).unwrap();
        }
        assert_eq!(slow.next().await, Some(Ok(event("changes", b"{}"))));
        for _ in 0..2 {
            events.sender.send(event("changes", b"{}")).unwrap();
        }
        assert_eq!(slow.next().await, None);
        drop(pages);
        assert!(events.open(&fleet).is_some());
    }

    #[test]
    fn an_event_has_the_rows_that_are_different_and_the_names_of_those_that_are_gone() {
        let fleet = Fleet::new("lab", Guests::at(Vec::new()));
        for vm in ["a", "b", "c"] {
            fleet.guest(vm);
        }
        let old = view::rows(&fleet);
        assert_eq!(change(&old, &view::rows(&fleet), false), None);
        assert!(change(&old, &old, true).is_some());
        fleet.forget("b");
        fleet.guest("c").runs("0.1.0");
        let change = change(&old, &view::rows(&fleet), false).unwrap();
        let change = std::str::from_utf8(&change).unwrap();
        let data = change.strip_prefix("event: changes\ndata: ").unwrap().strip_suffix("\n\n");
        let data: serde_json::Value = serde_json::from_str(data.unwrap()).unwrap();
        assert_eq!(data["gone"], serde_json::json!(["b"]));
        let changed = data["changed"].as_array().unwrap();
        assert_eq!((changed.len(), &changed[0]["vm"]), (1, &"c".into()));
        assert_eq!(
            (&changed[0]["state"], &changed[0]["version"]),
            (&"never".into(), &"0.1.0".into())
        );
    }
}
