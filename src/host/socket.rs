//! The two ways to a guest: connect to QEMU's socket, or listen for an agent.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use super::error::{HostError, SocketError};

pub(super) async fn connect(path: &Path) -> Result<UnixStream, SocketError> {
    let error = match UnixStream::connect(path).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    let is_other = |about: Metadata| !about.file_type().is_socket();
    let is_other = path.metadata().is_ok_and(is_other);
    let path = path.to_owned();
    Err(match error.kind() {
        io::ErrorKind::NotFound => SocketError::Missing(path),
        io::ErrorKind::ConnectionRefused if is_other => SocketError::NotASocket(path),
        io::ErrorKind::ConnectionRefused => SocketError::NobodyListens(path),
        io::ErrorKind::PermissionDenied => SocketError::NoPermission(path),
        _ => SocketError::Connect { path, error: error.into() },
    })
}

/// Whether a socket is there, not a link to one.
fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket())
}

/// A socket that agents connect to, removed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Makes the socket. One that is left over from a program that has gone is replaced.
    ///
    /// # Errors
    /// Another process listens there, the path is not a socket, or it cannot be created.
    pub async fn bind(path: &Path) -> Result<Self, HostError> {
        let path = path.to_owned();
        match UnixStream::connect(&path).await {
            Ok(_) => return Err(SocketError::InUse(path).into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                if !is_socket(&path) {
                    return Err(SocketError::OtherFile(path).into());
                }
                // If it cannot be removed, bind reports it.
                let _ = std::fs::remove_file(&path);
            }
            Err(_) => {}
        }
        match UnixListener::bind(&path) {
            Ok(listener) => Ok(Self { listener, path }),
            Err(error) => Err(SocketError::Listen { path, error: error.into() }.into()),
        }
    }

    /// The connection of the next agent.
    pub(super) async fn stream(&self) -> Result<UnixStream, SocketError> {
        match self.listener.accept().await {
            Ok((stream, _)) => Ok(stream),
            Err(error) => {
                let path = self.path.clone();
                Err(SocketError::Accept { path, error: error.into() })
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// A socket that nobody listens at. One that was bound and closed might be open for a moment more in a program that
    /// another test is starting.
    fn leave_over(path: &Path) {
        mknodat(CWD, path, FileType::Socket, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    #[tokio::test]
    async fn a_left_over_socket_is_replaced_and_one_in_use_or_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        leave_over(&path);
        assert!(path.exists(), "left over");
        let first = Listener::bind(&path).await.unwrap();
        let second = Listener::bind(&path).await.unwrap_err().to_string();
        assert!(second.contains("listens at") && second.contains("leave --listen out"), "{second}");
        drop(first);
        assert!(!path.exists());

        std::fs::write(&path, "precious").unwrap();
        let wrong = Listener::bind(&path).await.unwrap_err().to_string();
        assert!(wrong.contains("is no socket"), "{wrong}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn without_a_listener_the_error_has_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.sock");
        let absent = connect(&path).await.unwrap_err().to_string();
        assert!(absent.contains("there is no socket") && absent.contains("--listen"), "{absent}");
        leave_over(&path);
        let left = connect(&path).await.unwrap_err().to_string();
        assert!(left.contains("nobody listens"), "{left}");
    }
}
