//! Guests over the kernel's own vsock (vsock(7), vhost-vsock of QEMU): all of them connect to one port of this host, and are identified
//! by the CID of their machine, which its hypervisor gives it and no guest can choose. Knows nothing of what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, getpeername, listen, socket,
};
use rustix::net::{SocketFlags, accept_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::sync::IgnorePoison;

/// Every machine may connect (`VMADDR_CID_ANY` of vsock(7)).
const ANY: u32 = u32::MAX;
/// Connections that wait to be accepted.
const WAITING: i32 = 128;
/// The pause after a connection that could not be accepted, such as where there are no descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Machines without a guest's name that are logged, at most.
const STRANGERS_MAX: usize = 64;

/// The newest connection of each guest, by the CID of its machine.
#[derive(Debug, Default)]
pub(super) struct ConnectionsByCid(BTreeMap<u32, Arc<NewestConnection>>);

/// The newest connection of one guest, until it is taken.
#[derive(Debug, Default)]
pub(super) struct NewestConnection {
    /// The newest connection, until it is taken: an older one was given up by its agent.
    stream: Mutex<Option<UnixStream>>,
    came: Notify,
}

impl NewestConnection {
    /// Waits for the next connection. Nothing is lost if it is cancelled.
    pub(super) async fn next(&self) -> UnixStream {
        loop {
            if let Some(stream) = self.stream.lock().ignore_poison().take() {
                return stream;
            }
            self.came.notified().await;
        }
    }
}

impl ConnectionsByCid {
    /// For the guests of these machines.
    pub(super) fn of(cids: impl IntoIterator<Item = u32>) -> Self {
        Self(cids.into_iter().map(|cid| (cid, Arc::default())).collect())
    }

    /// That of the guest of the machine `cid`.
    pub(super) fn at(&self, cid: u32) -> Option<Arc<NewestConnection>> {
        self.0.get(&cid).cloned()
    }

    /// Takes connections until `stop`; those of machines that no guest has end at once.
    pub(super) async fn accept(&self, listener: &Listener, stop: &CancellationToken) {
        let mut strangers = BTreeSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, cid)) => match self.0.get(&cid) {
                    Some(newest) => {
                        *newest.stream.lock().ignore_poison() = Some(stream);
                        newest.came.notify_one();
                    }
                    None if strangers.len() < STRANGERS_MAX && strangers.insert(cid) => {
                        tracing::warn!(
                            cid,
                            "a machine connects over vsock that [guests.vsock] cids does not name"
                        );
                    }
                    None => {}
                },
                Err(error) => {
                    tracing::debug!(%error, "a connection over vsock was not accepted");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Listens at a port of this host.
#[derive(Debug)]
pub(super) struct Listener(AsyncFd<OwnedFd>);

impl Listener {
    /// Begins to listen.
    ///
    /// # Errors
    /// The kernel has no vsock, or another process listens there.
    pub(super) fn bind(port: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
        bind(fd.as_raw_fd(), &VsockAddr::new(ANY, port))?;
        listen(&fd, Backlog::new(WAITING)?)?;
        #[expect(
            deprecated,
            reason = "the successor is an unsafe fn; an OwnedFd keeps its promise"
        )]
        AsyncFd::with_interest(fd, Interest::READABLE).map(Self)
    }

    /// The next connection, and the CID of the machine it is from.
    async fn accept(&self) -> io::Result<(UnixStream, u32)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let take = |fd: &AsyncFd<OwnedFd>| Ok(accept_with(fd.get_ref().as_fd(), flags)?);
        let fd = loop {
            let mut ready = self.0.readable().await?;
            if let Ok(taken) = ready.try_io(take) {
                break taken?;
            }
        };
        let peer: VsockAddr = getpeername(fd.as_raw_fd())?;
        // A connected stream is read and written by the calls of any stream socket.
        Ok((UnixStream::from_std(fd.into())?, peer.cid()))
    }
}
