//! The lines that a records pipeline is measured with: those of a file, or made-up ones in a temporary file, read from its
//! start again when its end has come.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use futures::Stream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::BenchError;
use super::output::Folder;
use crate::model::Receipt;
use crate::pipeline::{MemoryBudget, Source, StageError};
use crate::records::Records;
use crate::records::batch::{Decode, ParseAs};
use crate::records::buffers::Buffers;
use crate::records::read::pump::pumped;
use crate::records::read::split::Splitter;

/// Bytes of one read.
pub(super) const PIECE: usize = 256 * 1024;

/// Bytes of made-up lines.
const MADE_UP_BYTES: usize = 16 << 20;

/// Where the lines are.
#[derive(Debug)]
pub(crate) struct Input {
    /// The file.
    pub path: PathBuf,
    _folder: Option<Folder>,
}

impl Input {
    /// The lines of `file`; without one, made-up lines of about 280 bytes, the same ones each time.
    ///
    /// # Errors
    /// The file cannot be read or has no line, or the temporary file cannot be written.
    pub(crate) fn new(file: Option<&Path>, parse_as: ParseAs) -> Result<Self, BenchError> {
        if let Some(path) = file {
            let size = std::fs::metadata(path).map(|about| about.len());
            return match size {
                Ok(1..) => Ok(Self { path: path.to_owned(), _folder: None }),
                Ok(0) => Err(BenchError::Empty(path.to_owned())),
                Err(error) => Err(BenchError::Read { path: path.to_owned(), error }),
            };
        }
        let folder = Folder::new()?;
        let path = folder.0.join("lines");
        match std::fs::write(&path, made_up(parse_as)) {
            Ok(()) => Ok(Self { path, _folder: Some(folder) }),
            Err(error) => Err(BenchError::Make { path, error }),
        }
    }
}

/// Lines of an application's log: JSON objects, or plain text.
fn made_up(parse_as: ParseAs) -> Vec<u8> {
    let mut lines = Vec::with_capacity(MADE_UP_BYTES + 1024);
    let (mut random, mut nth) = (0x2545_F491_4F6C_DD1D_u64, 0_u64);
    while lines.len() < MADE_UP_BYTES {
        // Xorshift: the same lines each time.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        nth += 1;
        let (minute, second, ms) = (nth / 60 % 60, nth % 60, random % 1000);
        let level = ["debug", "info", "info", "warn", "error"][(random >> 8) as usize % 5];
        let status = [200, 201, 404, 500][(random >> 20) as usize % 4];
        let (host, order, user) = (random % 9, random % 100_000, random % 1_000_000);
        let written = match parse_as {
            ParseAs::Json => writeln!(
                lines,
                r#"{{"ts":"2026-11-28T12:{minute:02}:{second:02}.{ms:03}Z","level":"{level}","service":"checkout","host":"web-{host}","msg":"request handled path=/api/v1/orders/{order} status={status}","trace_id":"{random:016x}{:016x}","dur_ms":{ms}.{host},"bytes":{user},"user":{{"id":{user},"plan":"pro"}},"ok":{}}}"#,
                random.rotate_left(17),
                status < 400,
            ),
            ParseAs::Text => writeln!(
                lines,
                "10.0.0.{host} - user{user} [28/Nov/2026:12:{minute:02}:{second:02} +0000] \"GET /api/v1/orders/{order} HTTP/1.1\" {status} {user} {level} {random:016x}",
            ),
        };
        if written.is_err() {
            break; // a Vec takes what is written
        }
    }
    lines
}

/// Reads pieces of a file from its start on, and again, and hands them to `take` until that says no.
///
/// # Errors
/// The file cannot be read, or has no newline in a piece.
pub(super) fn pieces(
    path: &Path,
    mut take: impl FnMut(&[u8]) -> io::Result<bool>,
) -> io::Result<()> {
    let (mut file, mut buffer, mut begun) = (File::open(path)?, vec![0; 2 * PIECE], 0);
    loop {
        let read = file.read(&mut buffer[begun..begun + PIECE])?;
        if read == 0 {
            (begun, _) = (0, file.rewind()?);
            continue;
        }
        let end = begun + read;
        let whole = memchr::memrchr(b'\n', &buffer[..end]).map_or(0, |newline| newline + 1);
        if whole == 0 && end > PIECE {
            return Err(io::Error::other("a line is longer than 256 KiB"));
        }
        if !take(&buffer[..whole])? {
            return Ok(());
        }
        buffer.copy_within(whole..end, 0);
        begun = end - whole;
    }
}

/// A source of the lines of a file, over and over, as standard input is read.
#[derive(Debug)]
pub(super) struct Replay {
    path: PathBuf,
    decode: Decode,
    max_line: usize,
    buffers: Buffers,
}

impl Replay {
    pub(super) fn new(path: &Path, decode: Decode, max_line: usize, budget: &MemoryBudget) -> Self {
        Self { path: path.to_owned(), decode, max_line, buffers: Buffers::new(budget) }
    }
}

impl Source for Replay {
    type Out = Records;

    fn open(&mut self) -> impl Stream<Item = Result<Records, StageError>> + Send + '_ {
        let splitter = Splitter::new(self.max_line).with_buffers(self.buffers.clone());
        let (path, decode) = (self.path.clone(), self.decode);
        pumped(move |sender, stop| pump(&path, decode, splitter, sender, stop))
    }
}

fn pump(
    path: &Path,
    decode: Decode,
    mut splitter: Splitter,
    sender: &mpsc::Sender<Result<Records, StageError>>,
    stop: &AtomicBool,
) {
    let mut read_all = || -> io::Result<()> {
        let mut file = File::open(path)?;
        while !stop.load(Ordering::Relaxed) {
            let mut buffer = splitter.buffer(PIECE);
            let read = rustix::io::read(&file, rustix::buffer::spare_capacity(&mut buffer))?;
            let lines = splitter.split(buffer, read == 0);
            if read == 0 {
                file.rewind()?;
            }
            if lines.ends.is_empty() && lines.too_long == 0 {
                continue;
            }
            let (oldest, receipt) = (Instant::now(), Receipt::default());
            let (bytes, ends, too_long) = (lines.bytes, lines.ends, lines.too_long);
            let batch = Records { bytes, ends, too_long, oldest, decode, receipt };
            if sender.blocking_send(Ok(batch)).is_err() {
                break;
            }
        }
        Ok(())
    };
    if let Err(error) = read_all() {
        let _ = sender.blocking_send(Err(error.into()));
    }
}
