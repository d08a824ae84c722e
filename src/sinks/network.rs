//! Connections of the sinks that write to another machine: one peer, connected to when it is needed.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::io_reason;
use crate::pipeline::StageError;

/// How long looking a name up and connecting may take, each address on its own.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The addresses of one name that are tried.
const ADDRESSES_TRIED: usize = 4;

/// Bytes of what a peer says that are thrown away at once: these protocols have no answers.
const IGNORED: usize = 1024;

/// A TCP connection to one peer, made at the first write and again after each fault.
#[derive(Debug)]
pub(super) struct Tcp {
    address: String,
    /// Taken while a write is under way, so that cancelling it closes the connection.
    stream: Option<TcpStream>,
}

impl Tcp {
    /// To `address`, a name or an IP address with a port.
    pub(super) fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), stream: None }
    }

    /// The peer.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Writes `bytes` whole. What the kernel has accepted counts as written; a peer that has closed is noticed
    /// before the next write, unless its closing is still under way to us.
    ///
    /// # Errors
    /// From outside: there is no listener, or the connection broke. The connection is closed, so the other end sees a
    /// line that was cut end there.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        let mut stream = match self.stream.take().filter(is_open) {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        stream.write_all(bytes).await.map_err(|error| {
            let (address, why) = (&self.address, io_reason(&error));
            StageError::outside(format_args!("cannot write to {address}: {why}"))
        })?;
        self.stream = Some(stream);
        Ok(())
    }

    async fn connect(&self) -> Result<TcpStream, StageError> {
        let cannot = |error: io::Error| {
            let (address, why) = (&self.address, io_reason(&error));
            StageError::outside(format_args!("cannot connect to {address}: {why}"))
        };
        let late = |_| cannot(io::ErrorKind::TimedOut.into());
        let addresses = timeout(CONNECT_LIMIT, lookup_host(&self.address))
            .await
            .map_err(late)?
            .map_err(cannot)?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses.take(ADDRESSES_TRIED) {
            match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(cannot(last))
    }
}

/// Whether the peer has not closed the connection. What it has said is thrown away. Asks the kernel, not the runtime,
/// which learns of it only between two tasks.
fn is_open(stream: &TcpStream) -> bool {
    let mut ignored = [0; IGNORED];
    loop {
        match recv(stream, &mut ignored, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return false,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return error == Errno::AGAIN,
        }
    }
}
