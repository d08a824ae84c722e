//! Why a call to a guest comes to nothing. The texts end a sentence and say what to do.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::wire::LINE_BYTES_MAX;

/// Why nothing came of a call.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum HostError {
    /// There is no secret to sign with.
    #[error(
        "there is no secret to sign with, and a guest refuses what is not signed; give the guest's in the variable \
         INFINISERVICE_SHARED_SECRET or with --secret file:/PATH"
    )]
    NoSecret,
    /// The line is longer than a guest accepts.
    #[error("the line would have {bytes} bytes and guests take {LINE_BYTES_MAX}; send less")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// An unsigned payload has a newline in it.
    #[error("an unsigned payload with a newline in it would be two lines; send them one by one")]
    Newline,
    /// A payload has a NUL in it.
    #[error("a payload may not hold NUL; JSON writes it as \\u0000")]
    Nul,
    /// The kernel gives no random bytes for an id.
    #[error(transparent)]
    NoRandom(Arc<io::Error>),
    /// Too many answers are waited for.
    #[error("too many answers are waited for; wait for some of them")]
    Busy,
    /// There is no connection.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The connection is over.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// No answer came in time, and what may be wrong.
    #[error("no answer within {}: {hint}", in_millis(*after))]
    Late {
        /// How long it could take, [`GRACE`](super::GRACE) not counted.
        after: Duration,
        /// The likely reason.
        hint: String,
    },
}

impl HostError {
    pub(crate) fn no_random(error: io::Error) -> Self {
        Self::NoRandom(Arc::new(error))
    }
}

/// Why there is no connection to a guest.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum SocketError {
    /// There is no such file.
    #[error("there is no socket {} (does the VM run? to wait there for an agent, add --listen)", .0.display())]
    Missing(PathBuf),
    /// The file to connect to is no socket.
    #[error("{} is no socket; name the one that QEMU made for the port", .0.display())]
    NotASocket(PathBuf),
    /// Nobody listens there.
    #[error(
        "nobody listens at {} (has the VM ended? to wait there for an agent, add --listen)",
        .0.display()
    )]
    NobodyListens(PathBuf),
    /// This user may not connect.
    #[error("no permission to connect to {}; run this as the user QEMU runs as, or root", .0.display())]
    NoPermission(PathBuf),
    /// It cannot be connected to.
    #[error("cannot connect to {}: {error}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: Arc<io::Error>,
    },
    /// Another process listens there.
    #[error("another program listens at {} already; leave --listen out to connect to it", .0.display())]
    InUse(PathBuf),
    /// Where the socket would be made there is another file.
    #[error("{} is there and is no socket; name another path", .0.display())]
    OtherFile(PathBuf),
    /// The socket cannot be made.
    #[error("cannot listen at {}: {error}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: Arc<io::Error>,
    },
    /// The system gives no connection.
    #[error("cannot take a connection at {}: {error}", path.display())]
    Accept {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: Arc<io::Error>,
    },
}

/// Why a connection is over.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum Gone {
    /// The guest's side closed it.
    #[error("the guest's side closed the connection")]
    Closed,
    /// The guest's side closed it while something was written.
    #[error("the guest's side closed the connection ({0})")]
    NotWritten(Arc<io::Error>),
    /// It cannot be read.
    #[error("the connection broke: {0}")]
    Broken(Arc<io::Error>),
    /// The guest sent more than [`GUEST_BUFFER_BYTES_MAX`](super::GUEST_BUFFER_BYTES_MAX) without a newline.
    #[error("the guest sent {bytes} bytes without a newline, where today's host gives up for good")]
    Endless {
        /// How many it sent.
        bytes: usize,
    },
    /// The last [`Host`](super::Host) of the connection was dropped.
    #[error("the host has left")]
    HostLeft,
}

fn in_millis(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(0)))
}
