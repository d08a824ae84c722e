//! Tasks of tokio and work on its blocking pool, compiled once.
//!
//! # Why
//! Tokio compiles a task anew for each future or closure, twice for its two schedulers: 2 KiB of the executable every time, for
//! a hundred that start seldom. Here what a task runs, and what a closure returns, stands behind a pointer.

use std::any::Any;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};

/// Starts a task, as [`tokio::spawn`] does.
///
/// # Panics
/// Outside a runtime.
pub(crate) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(future.boxed())
}

/// Starts a task in a set, as [`JoinSet::spawn`] does.
///
/// # Panics
/// Outside a runtime.
pub(crate) fn spawn_in<T: Send + 'static>(
    set: &mut JoinSet<T>,
    future: impl Future<Output = T> + Send + 'static,
) -> AbortHandle {
    set.spawn(future.boxed())
}

/// What a closure leaves behind a pointer.
type Made = Box<dyn Any + Send>;

/// Runs `work` on the blocking pool, as [`tokio::task::spawn_blocking`] does: to its end, even if its handle is dropped.
///
/// # Panics
/// Outside a runtime.
pub(crate) fn spawn_blocking<T, W>(work: W) -> BlockingTask<T>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    let work: Box<dyn FnOnce() -> Made + Send> = Box::new(|| Box::new(work()));
    BlockingTask { task: tokio::task::spawn_blocking(work), makes: PhantomData }
}

/// Waits for work on the blocking pool. Dropped, it lets the work go on.
///
/// # Errors
/// The panic of the work, or the end of the runtime before its begin.
#[derive(Debug)]
pub(crate) struct BlockingTask<T> {
    task: JoinHandle<Made>,
    makes: PhantomData<fn() -> T>,
}

impl<T: 'static> Future for BlockingTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.task.poll_unpin(context).map_ok(|made| match made.downcast() {
            Ok(made) => *made,
            Err(_) => unreachable!("the work returns what its handle says"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_gives_what_it_returns_or_its_panic() {
        assert_eq!(spawn_blocking(|| "done".to_owned()).await.unwrap(), "done");
        let panicked = spawn_blocking(|| panic!("in the work")).await.map(|(): ()| ());
        assert!(panicked.unwrap_err().is_panic());
    }
}
