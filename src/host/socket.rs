//! The two ways to a guest: connect to QEMU's socket, or listen for an agent.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use super::handle::{Host, HostError, Settings};

pub(super) async fn connect(path: &Path) -> Result<UnixStream, HostError> {
    let shown = path.display();
    UnixStream::connect(path).await.map_err(|error| {
        HostError::Gone(match error.kind() {
            io::ErrorKind::NotFound => format!(
                "there is no socket {shown} (does the VM run? to wait there for an agent, add --listen)"
            ),
            io::ErrorKind::ConnectionRefused if path.metadata().is_ok_and(|about| !about.file_type().is_socket()) => {
                format!("{shown} is no socket; name the one that QEMU made for the port")
            }
            io::ErrorKind::ConnectionRefused => format!(
                "nobody listens at {shown} (has the VM ended? to wait there for an agent, add --listen)"
            ),
            io::ErrorKind::PermissionDenied => {
                format!("no permission to connect to {shown}; run this as the user QEMU runs as, or root")
            }
            _ => format!("cannot connect to {shown}: {error}"),
        })
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
        let shown = path.display();
        let refused = |why: String| Err(HostError::Gone(why));
        match UnixStream::connect(path).await {
            Ok(_) => {
                return refused(format!(
                    "somebody listens at {shown} already; leave --listen out to connect to it"
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                if !is_socket(path) {
                    return refused(format!(
                        "{shown} is there and is no socket; name another path"
                    ));
                }
                // If it cannot be removed, bind reports it.
                let _ = std::fs::remove_file(path);
            }
            Err(_) => {}
        }
        match UnixListener::bind(path) {
            Ok(listener) => Ok(Self { listener, path: path.to_owned() }),
            Err(error) => refused(format!("cannot listen at {shown}: {error}")),
        }
    }

    /// The next agent that connects.
    ///
    /// # Errors
    /// When the system gives no connection.
    pub async fn accept(&self, settings: Settings) -> Result<Host, HostError> {
        match self.listener.accept().await {
            Ok((stream, _)) => Ok(Host::over(stream, settings)),
            Err(error) => Err(HostError::Gone(format!(
                "cannot take a connection at {}: {error}",
                self.path.display()
            ))),
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
        let absent = Host::connect(&path, Settings::default()).await.unwrap_err().to_string();
        assert!(absent.contains("there is no socket") && absent.contains("--listen"), "{absent}");
        leave_over(&path);
        let left = Host::connect(&path, Settings::default()).await.unwrap_err().to_string();
        assert!(left.contains("nobody listens"), "{left}");
    }
}
