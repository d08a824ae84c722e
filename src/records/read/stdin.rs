//! Reads lines from standard input, to its end.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{Stream, StreamExt};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::pump::pumped;
use super::split::{Lines, Splitter};
use crate::model::{Receipt, Unacknowledged};
use crate::pipeline::{Source, StageError};
use crate::records::Records;
use crate::records::batch::Decode;
use crate::records::buffers::Buffers;

/// Bytes of one read.
const PIECE: usize = 256 * 1024;

/// Lines of standard input.
#[derive(Debug)]
pub(crate) struct Stdin {
    decode: Decode,
    max_line: usize,
    buffers: Buffers,
    /// It has no position, and waits for room in a spool nevertheless.
    unacknowledged: Unacknowledged<()>,
}

impl Stdin {
    /// Lines of at most `max_line` bytes; longer ones are skipped.
    pub(crate) fn new(decode: Decode, max_line: usize, buffers: Buffers) -> Self {
        Self { decode, max_line, buffers, unacknowledged: Unacknowledged::default() }
    }
}

impl Source for Stdin {
    type Out = Records;

    fn open(&mut self) -> impl Stream<Item = Result<Records, StageError>> + Send + '_ {
        let decode = self.decode;
        let unacknowledged = self.unacknowledged.clone();
        let splitter = Splitter::new(self.max_line).with_buffers(self.buffers.clone());
        let batches = pumped(move |sender, stop| pump(decode, splitter, sender, stop));
        batches.map(move |batch| {
            batch.map(|batch| Records { receipt: unacknowledged.receipt(()), ..batch })
        })
    }
}

/// Reads pieces and sends their whole lines, until the end or until the receiver is closed.
fn pump(
    decode: Decode,
    mut splitter: Splitter,
    sender: &mpsc::Sender<Result<Records, StageError>>,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) {
        let mut buffer = splitter.buffer(PIECE);
        let read = match rustix::io::read(rustix::stdio::stdin(), spare_capacity(&mut buffer)) {
            Err(Errno::INTR) => {
                splitter.keep(buffer);
                continue;
            }
            Err(error) => {
                let _ = sender.blocking_send(Err(io::Error::from(error).into()));
                return;
            }
            Ok(read) => read,
        };
        let Lines { bytes, ends, too_long } = splitter.split(buffer, read == 0);
        if !ends.is_empty() || too_long > 0 {
            let (oldest, receipt) = (Instant::now(), Receipt::default());
            let batch = Records { bytes, ends, too_long, oldest, decode, receipt };
            if sender.blocking_send(Ok(batch)).is_err() {
                return;
            }
        }
        if read == 0 {
            return;
        }
    }
}
