//! A vsock stream as the port: the way to the host of virtual machines without a virtio-serial port, such as those of
//! Firecracker and Cloud Hypervisor (vsock(7)). This side connects.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, VsockAddr, connect as connect_to, socket,
};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::device::NotOpen;
use super::unix::UnixPort;

/// How long a connection may take; the kernel's own limit is 2 s (`VSOCK_DEFAULT_CONNECT_TIMEOUT` of `net/vmw_vsock`).
const CONNECT: Duration = Duration::from_secs(5);

/// Connects to `port` of the machine `cid`; 2 is the host.
pub(super) async fn connect(cid: u32, port: u32) -> Result<UnixPort, NotOpen> {
    match timeout(CONNECT, stream(cid, port)).await {
        Ok(Ok(stream)) => Ok(UnixPort::new(stream)),
        Ok(Err(error)) => Err(refusal(cid, port, error)),
        Err(_) => Err(refusal(cid, port, Errno::ETIMEDOUT.into())),
    }
}

/// A stream socket of the family `AF_VSOCK`. Once connected it is read and written by the calls of any stream socket, so
/// the type of a Unix one does for it.
async fn stream(cid: u32, port: u32) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd: OwnedFd = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
    match connect_to(fd.as_raw_fd(), &VsockAddr::new(cid, port)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = UnixStream::from_std(fd.into())?;
    stream.writable().await?;
    match stream.take_error()? {
        None => Ok(stream),
        Some(error) => Err(error),
    }
}

fn refusal(cid: u32, port: u32, error: io::Error) -> NotOpen {
    match error.raw_os_error().map(Errno::from_raw) {
        // A hypervisor in user space refuses nothing: it lets the connection wait for its end.
        Some(Errno::ECONNRESET | Errno::ECONNREFUSED | Errno::ETIMEDOUT) => NotOpen::Absent(
            format!("nobody listens at vsock {cid}:{port} yet (is the host's side started?)"),
        ),
        Some(Errno::EAFNOSUPPORT | Errno::ENODEV | Errno::EHOSTUNREACH) => {
            NotOpen::Absent(format!(
                "there is no vsock to machine {cid} yet: {error} (has the machine a vsock device, and its kernel the module \
             vmw_vsock_virtio_transport?)"
            ))
        }
        _ => NotOpen::Refused(format!("cannot connect to vsock {cid}:{port}: {error}")),
    }
}
