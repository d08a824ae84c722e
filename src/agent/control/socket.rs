//! The socket in the state folder: made, looked after, and removed.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::task::JoinError;

use super::{NAME, socket_of};
use crate::files::StateFolder;

/// Why there is no local control for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    /// Another agent has the state folder.
    #[error("another agent listens at {}", .0.display())]
    OtherAgent(PathBuf),
    /// The socket cannot be made or listened at.
    #[error("cannot listen at {}: {error}", path.display())]
    Io {
        /// Where it was to be.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The agent stops.
    #[error(transparent)]
    Stopping(#[from] JoinError),
}

/// The socket, removed when it is dropped.
pub(super) struct Bound {
    pub(super) state: StateFolder,
    pub(super) listener: UnixListener,
    pub(super) inode: u64,
}

impl Bound {
    /// Creates the socket, replacing one without a listener. It is created under another name, made private and renamed, so
    /// it is never there with another mode.
    ///
    /// # Errors
    /// Another agent listens there, or it cannot be made. Blocks.
    pub(super) fn in_folder(state: StateFolder) -> Result<Self, ListenError> {
        let path = socket_of(state.path());
        if UnixStream::connect(&path).is_ok() {
            return Err(ListenError::OtherAgent(path));
        }
        let cannot = |error| ListenError::Io { path: path.clone(), error };
        let folder = state.open().map_err(cannot)?;
        let beside = format!("control.{}", std::process::id());
        let made = (|| {
            state.remove(&beside)?; // of an agent that had this number
            // By descriptor, because a socket has no other way into a folder that is held (and 108 bytes for its path).
            let held = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
            let at = if held.exists() { held } else { state.path().to_owned() }.join(&beside);
            let listener = UnixListener::bind(&at)?;
            listener.set_nonblocking(true)?;
            std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o600))?;
            let inode = std::fs::symlink_metadata(&at)?.ino();
            state.rename(&beside, NAME)?;
            Ok((listener, inode))
        })();
        match made {
            Ok((listener, inode)) => Ok(Self { state, listener, inode }),
            Err(error) => {
                let _ = state.remove(&beside);
                Err(cannot(error))
            }
        }
    }

    fn is_there(&self) -> bool {
        is_there(&socket_of(self.state.path()), self.inode)
    }
}

pub(super) fn is_there(path: &Path, inode: u64) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.ino() == inode)
}

impl Drop for Bound {
    /// Removes it, unless it is another agent's by now.
    fn drop(&mut self) {
        if self.is_there() {
            let _ = self.state.remove(NAME); // it is stale then, and the next one takes its place
        }
    }
}
