//! A stream of what a function sends that reads on the blocking pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::Stream;
use tokio::sync::mpsc;

use crate::tasks::spawn_blocking;

/// Runs `pump` on the blocking pool once the stream is polled, and yields what it sends, one item at a time. When the
/// stream is dropped the flag is set and the channel closed: `pump` has to end then, at its next read at the latest.
pub(crate) fn pumped<T: Send + 'static>(
    pump: impl FnOnce(&mpsc::Sender<T>, &AtomicBool) + Send + 'static,
) -> impl Stream<Item = T> + Send {
    async_stream::stream! {
        let (sender, mut items) = mpsc::channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let _guard = StopOnDrop(stop.clone());
        spawn_blocking(move || pump(&sender, &stop));
        while let Some(item) = items.recv().await {
            yield item;
        }
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
