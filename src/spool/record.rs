//! How a record of the spool is spelled, in bytes. Reads and writes no file.
//!
//! ```text
//! "IBSPOOL" 0x01                                   the file: eight bytes, then records
//! crc of 4..40 | what | 3 × 0 | length | crc of the body | number | at, Unix ms | readings | request
//!            4 |    1 |     3 |      4 |               4 |      8 |           8 |        4 |     4
//! ```
//! All numbers are little-endian, both sums are CRC-32 (IEEE). The head has a sum of its own, so its
//! length can be trusted where the body cannot: one damaged body costs one item, not all behind it.
//!
//! A file whose first eight bytes are damaged is read all the same where its records are whole. So a later version
//! that means something else by them must sum them differently, too.

use super::message::Kind;

/// The first bytes of the file; the last of them is the version of the format.
pub(super) const MAGIC: [u8; 8] = *b"IBSPOOL\x01";
/// Bytes of a record before its body.
pub(crate) const HEAD: usize = 40;
/// The longest body: a frame is a line of at most 1 MiB, or 32 KiB of lines.
pub(super) const BODY_MAX: usize = 2 << 20;
/// No agent counts this far; a larger number would leave no room to go on counting.
const NUMBER_MAX: u64 = 1 << 62;

/// What a record is, before its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub what: What,
    /// Bytes of the body.
    pub length: u32,
    pub body_crc: u32,
    /// Of an item its own; of the others see [`What`].
    pub number: u64,
    pub at_ms: u64,
    pub readings: u32,
    /// The request that it answers, as the request log numbers them; 0 where none.
    pub request: u32,
}

/// The kinds of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A run of an agent has begun; its number is the next item's, its body says whose it is.
    Session,
    /// Every item up to that number was read by the host.
    Read,
    /// The item of that number was given up.
    Dropped,
    /// A frame.
    Item(Kind),
}

impl What {
    fn code(self) -> u8 {
        match self {
            Self::Session => 1,
            Self::Read => 2,
            Self::Dropped => 3,
            Self::Item(Kind::Metrics) => 16,
            Self::Item(Kind::Event) => 17,
            Self::Item(Kind::Response) => 18,
            Self::Item(Kind::Completion) => 19,
            Self::Item(Kind::Refusal) => 20,
        }
    }

    fn of(code: u8) -> Option<Self> {
        let all = Kind::ALL.map(Self::Item).into_iter();
        all.chain([Self::Session, Self::Read, Self::Dropped]).find(|what| what.code() == code)
    }
}

/// A head as any file of records has it: the spool's, and the request log's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawHead {
    /// What the record is; the spool's are below 64.
    pub code: u8,
    /// Bytes of the body.
    pub length: u32,
    pub body_crc: u32,
    pub number: u64,
    pub at_ms: u64,
    pub readings: u32,
    /// The request that it answers, as the request log numbers them; 0 where none.
    pub request: u32,
}

impl RawHead {
    /// A head for [`write_raw`], which fills in what the body says.
    pub(crate) fn new(code: u8, number: u64, at_ms: u64) -> Self {
        Self { code, number, at_ms, length: 0, body_crc: 0, readings: 0, request: 0 }
    }
}

/// Adds a whole record to `out`: `head` with the length and sum of `body`, and `body`.
pub(crate) fn write_raw(head: &RawHead, body: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, head.code, 0, 0, 0]);
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    out.extend_from_slice(&head.number.to_le_bytes());
    out.extend_from_slice(&head.at_ms.to_le_bytes());
    out.extend_from_slice(&head.readings.to_le_bytes());
    out.extend_from_slice(&head.request.to_le_bytes());
    let crc = crc32fast::hash(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
}

/// The head that `bytes` begin with, of whatever file. `None`: they do not.
pub(crate) fn read_raw(bytes: &[u8]) -> Option<RawHead> {
    let head = bytes.get(..HEAD)?;
    let four = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let eight = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    if four(0)? != crc32fast::hash(&head[4..]) {
        return None;
    }
    Some(RawHead {
        code: head[4],
        length: four(8)?,
        body_crc: four(12)?,
        number: eight(16).filter(|number| *number <= NUMBER_MAX)?,
        at_ms: eight(24)?,
        readings: four(32)?,
        request: four(36)?,
    })
}

/// Adds a whole record of the spool to `out`.
pub(super) fn write(
    what: What,
    number: u64,
    at_ms: u64,
    (readings, request): (u32, u32),
    body: &[u8],
    out: &mut Vec<u8>,
) {
    let head = RawHead { readings, request, ..RawHead::new(what.code(), number, at_ms) };
    write_raw(&head, body, out);
}

/// The head of a record of the spool that `bytes` begin with. `None`: they do not.
pub(super) fn read(bytes: &[u8]) -> Option<Head> {
    let RawHead { code, length, body_crc, number, at_ms, readings, request } = read_raw(bytes)?;
    let what = What::of(code)?;
    let fits = length as usize <= BODY_MAX;
    fits.then_some(Head { what, length, body_crc, number, at_ms, readings, request })
}

/// Whether `body` has the sum that `head` says, which may be damaged elsewhere.
pub(super) fn has_sum(head: &[u8], body: &[u8]) -> bool {
    head.get(12..16) == Some(&crc32fast::hash(body).to_le_bytes()[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_not_with_any_bit_changed() {
        let mut bytes = Vec::new();
        write(What::Item(Kind::Response), 7, 1_700_000_000_000, (3, 9), b"body", &mut bytes);
        assert_eq!(bytes.len(), HEAD + 4);
        let head = read(&bytes).unwrap();
        assert_eq!(head.what, What::Item(Kind::Response));
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
        write(What::Item(Kind::Event), 1, 0, (1, 0), &vec![0; BODY_MAX + 1], &mut bytes);
        assert_eq!(read(&bytes), None);
    }
}
