//! Runs a blocking writer on the blocking pool, one frame at a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::pipeline::StageError;
use crate::sync::IgnorePoison;
use crate::tasks::{BlockingTask, spawn_blocking};

/// A writer that blocks.
pub(super) trait Blocking: Send + 'static {
    /// Writes all of `bytes`, or fails and is called again, mostly with the same ones. Once `stop` is set, it ends
    /// soon with an error, as far as the system lets it.
    fn write(&mut self, bytes: &Bytes, stop: &AtomicBool) -> Result<(), StageError>;
}

/// An async interface to a [`Blocking`] writer.
///
/// At most one thread is at work. A cancelled write continues there: when the same bytes come again, that write is
/// awaited, and they are not written twice.
///
/// # Why not `tokio::fs`
/// Its file buffers bytes and reports a failure at a later call, when it is no longer clear which frame was hit.
#[derive(Debug)]
pub(super) struct BlockingSink<W> {
    /// Locked only by the one running job.
    writer: Arc<Mutex<W>>,
    stop: Arc<AtomicBool>,
    job: Option<Job>,
}

#[derive(Debug)]
struct Job {
    bytes: Bytes,
    done: BlockingTask<Result<(), StageError>>,
}

impl<W: Blocking> BlockingSink<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { writer: Arc::new(Mutex::new(writer)), stop: Arc::default(), job: None }
    }

    /// Writes `bytes`. Cancel-safe.
    pub(super) async fn write(&mut self, bytes: &Bytes) -> Result<(), StageError> {
        if let Some(job) = &mut self.job {
            let result = (&mut job.done).await;
            let was_this = same(&job.bytes, bytes);
            self.job = None;
            if was_this {
                return flatten(result);
            }
        }
        let (writer, stop, owned) = (self.writer.clone(), self.stop.clone(), bytes.clone());
        let done = spawn_blocking(move || writer.lock().ignore_poison().write(&owned, &stop));
        let job = self.job.insert(Job { bytes: bytes.clone(), done });
        let result = (&mut job.done).await;
        self.job = None;
        flatten(result)
    }
}

impl<W> Drop for BlockingSink<W> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Whether both are the same memory, not only equal.
pub(super) fn same(one: &Bytes, other: &Bytes) -> bool {
    one.as_ptr() == other.as_ptr() && one.len() == other.len()
}

fn flatten(
    result: Result<Result<(), StageError>, tokio::task::JoinError>,
) -> Result<(), StageError> {
    result.map_err(|error| StageError::new(format_args!("the writing thread broke: {error}")))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::time::Duration;
    use tokio::time::timeout;

    /// Takes a token for each write and remembers what it wrote.
    struct Gate {
        open: Receiver<()>,
        written: Arc<Mutex<Vec<Bytes>>>,
    }

    impl Blocking for Gate {
        fn write(&mut self, bytes: &Bytes, _stop: &AtomicBool) -> Result<(), StageError> {
            self.open.recv().map_err(StageError::new)?;
            self.written.lock().unwrap().push(bytes.clone());
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_write_that_was_given_up_is_waited_for_and_not_repeated() {
        let (open, gate) = sync_channel(8);
        let written = Arc::default();
        let mut sink = BlockingSink::new(Gate { open: gate, written: Arc::clone(&written) });
        let (first, second) = (Bytes::from_static(b"1\n"), Bytes::from_static(b"2\n"));

        let given_up = timeout(Duration::from_millis(1), sink.write(&first)).await;
        assert!(given_up.is_err());
        open.send(()).unwrap();
        sink.write(&first).await.unwrap();
        assert_eq!(*written.lock().unwrap(), [&first]);

        let given_up = timeout(Duration::from_millis(1), sink.write(&second)).await;
        assert!(given_up.is_err());
        open.send(()).unwrap();
        open.send(()).unwrap();
        // Another frame comes instead: both are written, in order.
        sink.write(&first).await.unwrap();
        assert_eq!(*written.lock().unwrap(), [&first, &second, &first]);
    }

    #[tokio::test]
    async fn a_writer_that_panics_is_a_fault_and_can_be_used_again() {
        struct Once(bool);
        impl Blocking for Once {
            fn write(&mut self, _bytes: &Bytes, _stop: &AtomicBool) -> Result<(), StageError> {
                assert!(std::mem::replace(&mut self.0, true), "first call");
                Ok(())
            }
        }
        let mut sink = BlockingSink::new(Once(false));
        let bytes = Bytes::from_static(b"1\n");
        sink.write(&bytes).await.unwrap_err();
        sink.write(&bytes).await.unwrap();
    }
}
