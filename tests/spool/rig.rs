//! What the tests of the spool share.

use bytes::Bytes;
use infiniservice::delivery::{Kind, Must, Settings};
use infiniservice::model::Frame;
use tokio::time::Instant;

/// 2026-01-01, in milliseconds.
pub const NOW: u64 = 1_767_225_600_000;

pub fn settings(size: u64) -> Settings {
    Settings { size, identity: "machine".into(), boot_id: "boot".into() }
}

pub fn frame(text: impl Into<Bytes>) -> Frame {
    Frame { bytes: text.into(), readings: 1, oldest: Instant::now() }
}

pub fn must(kind: Kind, text: impl Into<Bytes>) -> Must {
    Must { frame: frame(text), kind }
}

/// A text that names its number and is `length` long.
pub fn text(number: u64, length: usize) -> String {
    let head = format!("{number} ");
    let fill = length.saturating_sub(head.len());
    let letter = char::from(b'a' + (number % 26) as u8);
    format!("{head}{}", letter.to_string().repeat(fill))
}
