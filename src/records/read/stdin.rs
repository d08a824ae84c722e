//! Reads lines from standard input, to its end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::Stream;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::pipeline::{Source, StageError};
use crate::records::Records;
use crate::records::batch::Decode;

/// Bytes of one read.
const PIECE: usize = 256 * 1024;

/// Lines of standard input.
#[derive(Debug)]
pub struct Stdin {
    decode: Decode,
    max_line: usize,
}

impl Stdin {
    /// Lines of at most `max_line` bytes; longer ones are skipped.
    pub fn new(decode: Decode, max_line: usize) -> Self {
        Self { decode, max_line }
    }
}

impl Source for Stdin {
    type Out = Records;

    fn open(&mut self) -> impl Stream<Item = Result<Records, StageError>> + Send + '_ {
        let (decode, max_line) = (self.decode, self.max_line);
        async_stream::stream! {
            let (sender, mut batches) = mpsc::channel(1);
            let stop = Arc::new(AtomicBool::new(false));
            let _guard = StopOnDrop(stop.clone());
            tokio::task::spawn_blocking(move || pump(decode, max_line, &sender, &stop));
            while let Some(batch) = batches.recv().await {
                yield batch;
            }
        }
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads pieces and sends their whole lines, until the end or until nobody takes them.
fn pump(
    decode: Decode,
    max_line: usize,
    sender: &mpsc::Sender<Result<Records, StageError>>,
    stop: &AtomicBool,
) {
    let mut begun: Vec<u8> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut buffer = Vec::with_capacity(begun.len() + PIECE);
        buffer.append(&mut begun);
        let read = match rustix::io::read(rustix::stdio::stdin(), spare_capacity(&mut buffer)) {
            Err(Errno::INTR) => {
                begun = buffer;
                continue;
            }
            read => read,
        };
        let whole = match read {
            Ok(0) => {
                if !buffer.is_empty() {
                    buffer.push(b'\n');
                }
                buffer.len()
            }
            Ok(_) => memchr::memrchr(b'\n', &buffer).map_or(0, |at| at + 1),
            Err(error) => {
                let _ = sender.blocking_send(Err(io::Error::from(error).into()));
                return;
            }
        };
        begun.extend_from_slice(buffer.get(whole..).unwrap_or_default());
        buffer.truncate(whole);
        if begun.len() > max_line {
            begun.clear();
        }
        let end = |at| u32::try_from(at + 1).unwrap_or(u32::MAX);
        let ends: Vec<u32> = memchr::memchr_iter(b'\n', &buffer).map(end).collect();
        if !ends.is_empty() {
            let batch =
                Records { bytes: Bytes::from(buffer), ends, oldest: Instant::now(), decode };
            if sender.blocking_send(Ok(batch)).is_err() {
                return;
            }
        }
        if read == Ok(0) {
            return;
        }
    }
}
