//! Reads lines from programs that write to a FIFO or a Unix socket of this agent: many writers, a bounded number of them.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::BytesMut;
use futures::Stream;
use rustix::fs::{CWD, Mode};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::net::{UnixDatagram, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::split::{Lines, Splitter};
use crate::model::Unacknowledged;
use crate::pipeline::{Source, StageError};
use crate::records::Records;
use crate::records::batch::Decode;
use crate::records::buffers::Buffers;
use crate::tasks::{spawn_blocking, spawn_in};

/// Bytes of one read.
const PIECE: usize = 64 * 1024;

/// The most writers that are connected to a socket; more wait until one leaves.
const WRITERS_MAX: usize = 64;

/// The most bytes of lines that have begun, of all writers to a socket. A line that would exceed it is too long.
const BEGUN_MAX: usize = 4 << 20;

/// The most bytes of datagrams that go on together.
const GATHER_MAX: usize = 256 * 1024;

/// The longest datagram that is read whole: Linux sends none that is longer, unless `wmem_max` is raised.
const DATAGRAM_MAX: usize = 256 * 1024;

/// What programs write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A FIFO; it is made if it is missing.
    Fifo(PathBuf),
    /// A socket that programs connect to.
    Unix(PathBuf),
    /// A socket that takes datagrams: a line each, or several.
    Datagram(PathBuf),
}

/// Lines that programs write to a place of this agent.
#[derive(Debug)]
pub(crate) struct Written {
    place: Listen,
    decode: Decode,
    max_line: usize,
    buffers: Buffers,
    /// It has no position, and waits for room in a spool nevertheless.
    unacknowledged: Unacknowledged<()>,
}

impl Written {
    /// Lines of at most `max_line` bytes; longer ones are skipped.
    pub(crate) fn new(place: Listen, decode: Decode, max_line: usize, buffers: Buffers) -> Self {
        Self { place, decode, max_line, buffers, unacknowledged: Unacknowledged::default() }
    }
}

impl Source for Written {
    type Out = Records;

    fn name(&self) -> String {
        let name = match self.place {
            Listen::Fifo(_) => "fifo",
            Listen::Unix(_) => "unix",
            Listen::Datagram(_) => "datagram",
        };
        name.to_owned()
    }

    fn detail(&self) -> String {
        let (Listen::Fifo(path) | Listen::Unix(path) | Listen::Datagram(path)) = &self.place;
        path.display().to_string()
    }

    fn open(&mut self) -> impl Stream<Item = Result<Records, StageError>> + Send + '_ {
        let place = self.place.clone();
        let splitter = Splitter::new(self.max_line).with_buffers(self.buffers.clone());
        async_stream::stream! {
            let (sender, mut pieces) = mpsc::channel(1);
            let mut reader = JoinSet::new(); // aborted when it is dropped
            spawn_in(&mut reader, read(place, splitter, sender));
            while let Some(Lines { bytes, ends, too_long }) = pieces.recv().await {
                let (oldest, receipt) = (Instant::now(), self.unacknowledged.receipt(()));
                yield Ok(Records { bytes, ends, too_long, oldest, decode: self.decode, receipt });
            }
            yield Err(match reader.join_next().await {
                Some(Ok(Err(error))) => StageError::outside(error),
                _ => StageError::new("the reader has ended"),
            });
        }
    }

    async fn close(&mut self) {
        if let Listen::Unix(path) | Listen::Datagram(path) = &self.place {
            let _ = tokio::fs::remove_file(path).await;
        }
    }
}

/// Reads until it fails.
async fn read(place: Listen, splitter: Splitter, sender: mpsc::Sender<Lines>) -> io::Result<()> {
    let prepared = place.clone();
    spawn_blocking(move || prepare(&prepared)).await.map_err(io::Error::other)??;
    match place {
        Listen::Fifo(path) => {
            // Open for writing too, so that it does not end when the last writer leaves.
            let fifo = pipe::OpenOptions::new().read_write(true).open_receiver(&path)?;
            stream(fifo, splitter, &sender, &AtomicUsize::new(0)).await
        }
        Listen::Unix(path) => {
            let listener = bind(&path, |path| UnixListener::bind(path))?;
            let (mut writers, begun) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
            loop {
                tokio::select! {
                    accepted = listener.accept(), if writers.len() < WRITERS_MAX => {
                        let (writer, sender, begun) = (accepted?.0, sender.clone(), begun.clone());
                        spawn_in(&mut writers, connection(writer, splitter.anew(), sender, begun));
                    }
                    _ = writers.join_next(), if !writers.is_empty() => {}
                }
            }
        }
        Listen::Datagram(path) => {
            let socket = bind(&path, |path| UnixDatagram::bind(path))?;
            datagrams(&socket, splitter, &sender).await
        }
    }
}

async fn connection(
    writer: UnixStream,
    splitter: Splitter,
    sender: mpsc::Sender<Lines>,
    begun: Arc<AtomicUsize>,
) {
    // A writer that fails is one that has left.
    let _ = stream(writer, splitter, &sender, &begun).await;
}

/// Reads one writer to its end. `begun` counts what all of them have begun.
pub(super) async fn stream(
    mut from: impl AsyncRead + Unpin,
    mut splitter: Splitter,
    sender: &mpsc::Sender<Lines>,
    begun: &AtomicUsize,
) -> io::Result<()> {
    let mut piece = BytesMut::new();
    let mut held = PartialLine { begun, bytes: 0 };
    loop {
        piece.reserve(PIECE);
        let read = from.read_buf(&mut piece).await?;
        let mut buffer = splitter.buffer(piece.len());
        buffer.extend_from_slice(&piece);
        piece.clear();
        let mut lines = splitter.split(buffer, read == 0);
        if !held.set(splitter.begun()) {
            lines.too_long += splitter.give_up();
            held.set(0);
        }
        if (!lines.ends.is_empty() || lines.too_long > 0) && sender.send(lines).await.is_err() {
            return Ok(());
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// What one writer has begun, as a part of what all have.
struct PartialLine<'a> {
    begun: &'a AtomicUsize,
    bytes: usize,
}

impl PartialLine<'_> {
    /// Whether there is room for `bytes`.
    fn set(&mut self, bytes: usize) -> bool {
        let others = self.begun.fetch_sub(self.bytes, Relaxed) - self.bytes;
        self.begun.fetch_add(bytes, Relaxed);
        self.bytes = bytes;
        others + bytes <= BEGUN_MAX
    }
}

impl Drop for PartialLine<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

async fn datagrams(
    socket: &UnixDatagram,
    mut splitter: Splitter,
    sender: &mpsc::Sender<Lines>,
) -> io::Result<()> {
    let mut datagram = vec![0; DATAGRAM_MAX];
    loop {
        let mut read = socket.recv(&mut datagram).await?;
        let mut buffer = splitter.buffer(read + 1);
        loop {
            buffer.extend_from_slice(&datagram[..read]);
            if !buffer.ends_with(b"\n") {
                buffer.push(b'\n');
            }
            if buffer.len() >= GATHER_MAX {
                break;
            }
            match socket.try_recv(&mut datagram) {
                Ok(more) => read = more,
                Err(_) => break,
            }
        }
        if sender.send(splitter.split(buffer, true)).await.is_err() {
            return Ok(());
        }
    }
}

/// Makes a FIFO that is missing, and removes a socket without a listener. Blocks.
fn prepare(place: &Listen) -> io::Result<()> {
    match place {
        Listen::Fifo(path) if !path.exists() => {
            Ok(rustix::fs::mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR)?)
        }
        Listen::Fifo(_) => Ok(()),
        Listen::Unix(path) | Listen::Datagram(path) => {
            let found = fs::symlink_metadata(path);
            match found.is_ok_and(|found| found.file_type().is_socket()) && !is_alive(path) {
                true => fs::remove_file(path),
                false => Ok(()),
            }
        }
    }
}

/// Binds a socket that its group may write to.
fn bind<S>(path: &Path, bind: impl Fn(&Path) -> io::Result<S>) -> io::Result<S> {
    let bound = bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(bound)
}

/// Whether a process reads a socket.
fn is_alive(path: &Path) -> bool {
    let stream = std::os::unix::net::UnixStream::connect(path);
    let datagram = || std::os::unix::net::UnixDatagram::unbound()?.connect(path);
    stream.is_ok() || datagram().is_ok()
}
