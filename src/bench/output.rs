//! Where a measured pipeline writes: stand-ins that hold nothing real, in a folder that is made for the run and
//! removed with it. Only [`Output::Real`] is what the file says.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener as Blocking;
use std::path::PathBuf;

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

use super::BenchError;
use crate::config::{Destination, FileOptions, Target};
use crate::host::uuid;
use crate::sinks::{NullOptions, UnixOptions};
use crate::tasks::spawn;

/// What stands in for the output of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Nothing is written.
    Null,
    /// A temporary file, rotated as the file's own would be, but of at most four times 16 MiB.
    File,
    /// A Unix socket with a reader that throws away what it reads.
    Unix,
    /// A port whose other end is such a reader.
    Port,
    /// The output that the file names: the readings are made up, the writes are not.
    Real,
}

/// What a reader takes at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// An output, ready to be written to.
#[derive(Debug)]
pub(super) struct StandIn {
    pub target: Target,
    listener: Option<Blocking>,
    _folder: Option<Folder>,
}

impl StandIn {
    /// Makes what stands in for `real`, or takes that.
    ///
    /// # Errors
    /// The temporary folder, or what belongs in it, cannot be made.
    pub(super) fn new(output: Output, real: &Target) -> Result<Self, BenchError> {
        let none = |target| Self { target, listener: None, _folder: None };
        match output {
            Output::Real => return Ok(none(real.clone())),
            Output::Null => return Ok(none(Destination::Null(NullOptions::default()).into())),
            Output::File | Output::Unix | Output::Port => {}
        }
        let folder = Folder::new()?;
        let (target, listener) = match output {
            Output::File => {
                let mut file = FileOptions::new(folder.0.join("readings"));
                if let Target::Sink(Destination::File(real)) = real {
                    file.max_size = file.max_size.min(real.max_size);
                    file.keep = file.keep.min(real.keep);
                }
                (Destination::File(file).into(), None)
            }
            _ => {
                let path = folder.0.join("reader.sock");
                let listener = Blocking::bind(&path).map_err(BenchError::Listen)?;
                let target = match output {
                    Output::Unix => Destination::Unix(UnixOptions(path)).into(),
                    _ => Target::Port(format!("unix:{}", path.display())),
                };
                (target, Some(listener))
            }
        };
        Ok(Self { target, listener, _folder: Some(folder) })
    }

    /// Begins to read what is written, where this end is the one to do that. Within a runtime, once.
    ///
    /// # Errors
    /// The socket cannot be waited for.
    pub(super) fn read(&mut self) -> Result<(), BenchError> {
        let Some(listener) = self.listener.take() else { return Ok(()) };
        let listener =
            listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
        let listener = listener.map_err(BenchError::Listen)?;
        spawn(async move {
            // One writer at a time; one that connects again takes the place of itself.
            while let Ok((stream, _)) = listener.accept().await {
                discard(stream).await;
            }
        });
        Ok(())
    }
}

async fn discard(mut stream: UnixStream) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while matches!(stream.read(&mut chunk).await, Ok(1..)) {}
}

/// A folder that only this user can enter, removed with all that is in it when this is dropped.
#[derive(Debug)]
pub(super) struct Folder(pub PathBuf);

impl Folder {
    /// Makes it.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn new() -> Result<Self, BenchError> {
        let id = uuid().map_err(BenchError::Random)?;
        let path = std::env::temp_dir().join(format!("infiniservice-bench-{}", &id[..8]));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(BenchError::Make { path, error }),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // a temporary folder: what is left is removed with the others
    }
}
