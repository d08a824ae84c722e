//! How a guest is connected to: a socket that QEMU listens at, or vsock as hypervisors in user space have it ("hybrid":
//! Firecracker, Cloud Hypervisor, vhost-device-vsock), where a machine has a Unix socket `P`.
//!
//! - The guest connects to the port 8460 of the host: the hypervisor connects to `P_8460`, where the relay listens.
//! - The relay connects to the port 8460 of the guest: it connects to `P`, says `CONNECT 8460` and hears `OK` with a number.
//!
//! Both as in `docs/vsock.md` of Firecracker. A guest of a hypervisor that has the kernel's own vsock [arrives](super::vsock).

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::vsock::NewestConnection;

/// How long the answer to `CONNECT` may take, and how many bytes it may have.
const ANSWER: Duration = Duration::from_secs(5);
/// See [`ANSWER`].
const ANSWER_BYTES_MAX: usize = 32;

/// How a guest is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Transport {
    /// A socket that is connected to.
    Socket(PathBuf),
    /// The Unix socket of a machine's vsock, whose guest connects to this port of the host.
    FromGuest(PathBuf, u32),
    /// The same, whose guest is connected to at this port.
    ToGuest(PathBuf, u32),
    /// The machine of this CID connects to the host's own vsock.
    Cid(u32),
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) | Self::FromGuest(path, _) | Self::ToGuest(path, _) => {
                write!(f, "{}", path.display())
            }
            Self::Cid(cid) => write!(f, "vsock of machine {cid}"),
        }
    }
}

/// Connects to one guest, or waits for it to connect.
#[derive(Debug)]
pub(super) struct Connector {
    transport: Transport,
    listener: Option<Listener>,
    newest: Option<Arc<NewestConnection>>,
}

impl Connector {
    /// Nothing is open yet. `newest` has the connections of a [`Transport::Cid`].
    pub(super) fn new(transport: Transport, newest: Option<Arc<NewestConnection>>) -> Self {
        Self { transport, listener: None, newest }
    }

    /// How the guest is connected to.
    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The next connection; waits for it where it is the guest that connects.
    ///
    /// # Errors
    /// There is none to be had now.
    pub(super) async fn open(&mut self) -> io::Result<UnixStream> {
        match &self.transport {
            Transport::Socket(path) => UnixStream::connect(path).await,
            Transport::ToGuest(path, port) => dial(path, *port).await,
            Transport::FromGuest(path, port) => {
                let listener = match self.listener.take() {
                    Some(listener) => listener,
                    None => Listener::bind(with_port(path, *port)).await?,
                };
                let listener = self.listener.insert(listener);
                Ok(listener.inner.accept().await?.0)
            }
            Transport::Cid(_) => match &self.newest {
                Some(newest) => Ok(newest.next().await),
                None => std::future::pending().await, // each of these has one
            },
        }
    }
}

/// A listening socket, whose file goes with it.
#[derive(Debug)]
struct Listener {
    inner: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`, in the place of one that a process of before has left.
    async fn bind(path: PathBuf) -> io::Result<Self> {
        let inner = match UnixListener::bind(&path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && is_left(&path).await => {
                fs::remove_file(&path)?;
                UnixListener::bind(&path)?
            }
            bound => bound?,
        };
        Ok(Self { inner, path })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether nobody listens at the socket.
async fn is_left(path: &Path) -> bool {
    matches!(UnixStream::connect(path).await, Err(error) if error.kind() == ErrorKind::ConnectionRefused)
}

fn with_port(path: &Path, port: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!("_{port}"));
    name.into()
}

/// Connects to a port of the guest behind the socket of its vsock.
async fn dial(path: &Path, port: u32) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path).await?;
    let answered = async {
        stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
        let mut answer = Vec::new();
        // Byte by byte: what follows is the guest's.
        while answer.last() != Some(&b'\n') {
            if answer.len() == ANSWER_BYTES_MAX {
                return Err(io::Error::from(ErrorKind::InvalidData));
            }
            answer.push(stream.read_u8().await?);
        }
        match answer.starts_with(b"OK ") {
            true => Ok(()),
            false => Err(io::Error::from(ErrorKind::InvalidData)),
        }
    };
    timeout(ANSWER, answered).await??;
    Ok(stream)
}
