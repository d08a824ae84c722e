//! The spool's records: eight bytes (`"IBSPOOL" 0x01`), then records with the head of any
//! [record file](crate::record_file).
//!
//! A file whose first eight bytes are corrupt is read all the same if its records are valid. So a later version
//! that gives them another meaning must use another checksum, too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::message::MessageKind;
use crate::record_file;

/// The first bytes of the file. The last one is the version of the format.
pub(super) const MAGIC: [u8; 8] = *b"IBSPOOL\x01";
/// The longest body: a frame is a line of at most 1 MiB, or 32 KiB of lines.
pub(super) const BODY_MAX: usize = 2 << 20;

/// The head of a record. For records that are no items the number is as [`RecordKind`] says.
pub(super) type Head = record_file::Head<RecordKind>;

/// The kinds of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// A run of an agent began. The number is that of the next item, the body a [`Session`](super::first::Session).
    Session,
    /// The host acknowledged every item up to the number.
    Read,
    /// The item with the number was dropped.
    Dropped,
    /// A frame.
    Item(MessageKind),
}

impl RecordKind {
    fn code(self) -> u8 {
        match self {
            Self::Session => 1,
            Self::Read => 2,
            Self::Dropped => 3,
            Self::Item(MessageKind::Metrics) => 16,
            Self::Item(MessageKind::Event) => 17,
            Self::Item(MessageKind::Response) => 18,
            Self::Item(MessageKind::Completion) => 19,
            Self::Item(MessageKind::Refusal) => 20,
        }
    }

    fn of(code: u8) -> Option<Self> {
        let all = MessageKind::ALL.map(Self::Item).into_iter();
        all.chain([Self::Session, Self::Read, Self::Dropped]).find(|what| what.code() == code)
    }
}

/// Appends a record of the spool to `out`.
pub(super) fn write(
    what: RecordKind,
    number: u64,
    at_ms: u64,
    (readings, request): (u32, u32),
    body: &[u8],
    out: &mut Vec<u8>,
) {
    let code = what.code();
    let head =
        record_file::Head { readings, request, ..record_file::Head::new(code, number, at_ms) };
    record_file::write(&head, body, out);
}

/// The head of a spool record at the start of `bytes`. `None`: it is not valid.
pub(super) fn read(bytes: &[u8]) -> Option<Head> {
    let head = record_file::read(bytes)?;
    let what = RecordKind::of(head.kind)?;
    let fits_in_file = head.length as usize <= BODY_MAX;
    fits_in_file.then(|| head.of_kind(what))
}

/// Whether `body` has the checksum in `head`, whose other fields may be corrupt.
pub(super) fn has_sum(head: &[u8], body: &[u8]) -> bool {
    head.get(12..16) == Some(&crc32fast::hash(body).to_le_bytes()[..])
}

/// The time in a record; the epoch if it is out of range.
pub(crate) fn time(at_ms: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(at_ms)).unwrap_or(UNIX_EPOCH)
}

/// A time as it is stored in a record.
pub(crate) fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record_file::HEAD;

    #[test]
    fn a_record_is_read_as_it_was_written_and_not_with_any_bit_changed() {
        let mut bytes = Vec::new();
        write(
            RecordKind::Item(MessageKind::Response),
            7,
            1_700_000_000_000,
            (3, 9),
            b"body",
            &mut bytes,
        );
        assert_eq!(bytes.len(), HEAD + 4);
        let head = read(&bytes).unwrap();
        assert_eq!(head.kind, RecordKind::Item(MessageKind::Response));
        assert_eq!(
            (head.number, head.at_ms, head.readings, head.request),
            (7, 1_700_000_000_000, 3, 9)
        );
        assert_eq!((head.length, head.body_crc), (4, crc32fast::hash(b"body")));
        for bit in 0..HEAD * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(read(&bytes[..HEAD - 1]), None);
        assert_eq!(read(&[0; HEAD]), None, "what a file system leaves in a hole");
    }

    #[test]
    fn a_length_that_no_frame_has_is_no_head() {
        let mut bytes = Vec::new();
        write(
            RecordKind::Item(MessageKind::Event),
            1,
            0,
            (1, 0),
            &vec![0; BODY_MAX + 1],
            &mut bytes,
        );
        assert_eq!(read(&bytes), None);
    }
}
