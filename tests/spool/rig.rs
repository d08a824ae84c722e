//! What the tests of the spool share.

use crate::doubles::faulty_disk::FaultyDisk;
use bytes::Bytes;
use infiniservice::internals::port::TrackedFrame;
use infiniservice::internals::spool::{DurableMessage, MessageKind, SIZE_MIN, Settings, Spool};
use infiniservice::model::Frame;
use tokio::time::Instant;

/// 2026-01-01, in milliseconds.
pub const NOW: u64 = 1_767_225_600_000;

pub fn settings(size: u64) -> Settings {
    Settings { size, identity: "machine".into(), boot_id: "boot".into(), tombstone: None }
}

pub fn small() -> Settings {
    settings(SIZE_MIN)
}

pub fn frame(text: impl Into<Bytes>) -> Frame {
    Frame::new(text, 1, Instant::now())
}

pub fn message(kind: MessageKind, text: impl Into<Bytes>) -> DurableMessage {
    DurableMessage { frame: frame(text), kind, request: 0 }
}

/// A text that names its number and is `length` long.
pub fn text(number: u64, length: usize) -> String {
    let head = format!("{number} ");
    let fill = length.saturating_sub(head.len());
    let letter = char::from(b'a' + (number % 26) as u8);
    format!("{head}{}", letter.to_string().repeat(fill))
}

/// What waits, as the port would get it.
pub fn all(spool: &mut Spool<FaultyDisk>) -> Vec<TrackedFrame> {
    spool.next(0, usize::MAX, u64::MAX, Instant::now())
}

pub fn texts(spool: &mut Spool<FaultyDisk>) -> Vec<String> {
    let bytes = all(spool).into_iter().map(|stored| stored.frame.bytes);
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}
