//! Readiness of descriptors that tokio must not watch itself.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A private, edge-triggered epoll instance whose own descriptor tokio watches.
///
/// # Why
/// A virtio-serial port without a host reports a hang-up for ever. tokio keeps "closed" readiness for
/// good (tokio#4549, tokio#5550), so an `AsyncFd` on the port itself wakes 25,000 to 80,000 times a
/// second, and still does when the host has come back. An epoll descriptor never hangs up, and an
/// edge-triggered entry in it gives one wake for each change. It costs one more `epoll_wait` a wake.
#[derive(Debug)]
pub(super) struct Readiness {
    epoll: AsyncFd<OwnedFd>,
}

const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

impl Readiness {
    /// Watches nothing yet. Must be called inside a runtime that has its I/O driver on.
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "the successor is an unsafe fn; an OwnedFd keeps its promise"
        )]
        let epoll = AsyncFd::with_interest(epoll, Interest::READABLE)?;
        Ok(Self { epoll })
    }

    /// Watches `fd` for changes of `flags` too. `EPERM` where it cannot be waited for (a file).
    pub(super) fn add(&self, fd: BorrowedFd<'_>, flags: epoll::EventFlags) -> io::Result<()> {
        let flags = flags | epoll::EventFlags::ET;
        Ok(epoll::add(self.epoll.get_ref(), fd, epoll::EventData::new_u64(0), flags)?)
    }

    /// Does not watch `fd` any more.
    pub(super) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(self.epoll.get_ref(), fd)?)
    }

    /// Ready once for each change, several changes together if they came together.
    pub(super) fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // tokio's readiness is cleared before the events are taken: one that comes in between
            // sets it again.
            ready!(self.epoll.poll_read_ready(cx))?.clear_ready();
            let mut events = [MaybeUninit::<epoll::Event>::uninit(); 4];
            match epoll::wait(self.epoll.get_ref(), &mut events, Some(&AT_ONCE)) {
                Ok(([], _)) => {} // reported before
                Ok(_) | Err(rustix::io::Errno::INTR) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

/// The poll(2) events of `fd` now.
pub(super) fn level(fd: BorrowedFd<'_>, of: PollFlags) -> io::Result<PollFlags> {
    let mut fds = [PollFd::from_borrowed_fd(fd, of)];
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(&AT_ONCE)))?;
    Ok(fds[0].revents())
}
