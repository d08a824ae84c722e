//! The format of a record, in bytes.
//!
//! ```text
//! "IBSPOOL" 0x01                                   the file: eight bytes, then records
//! crc of 4..40 | what | 3 × 0 | length | crc of the body | number | at, Unix ms | readings | request
//!            4 |    1 |     3 |      4 |               4 |      8 |           8 |        4 |     4
//! ```
//! All numbers are little-endian, both checksums are CRC-32 (IEEE). The head has its own checksum, so its length
//! can be trusted where the body cannot: one corrupt body costs one item, not everything behind it.
//!
//! A file whose first eight bytes are corrupt is read all the same if its records are valid. So a later version
//! that gives them another meaning must use another checksum, too.

use super::message::Kind;

/// The first bytes of the file. The last one is the version of the format.
pub(super) const MAGIC: [u8; 8] = *b"IBSPOOL\x01";
/// The length of a head.
pub(crate) const HEAD: usize = 40;
/// The longest body: a frame is a line of at most 1 MiB, or 32 KiB of lines.
pub(super) const BODY_MAX: usize = 2 << 20;
/// The highest number. No agent reaches it; a larger one would leave no room to count on.
const NUMBER_MAX: u64 = 1 << 62;

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub what: What,
    /// Bytes of the body.
    pub length: u32,
    pub body_crc: u32,
    /// The item's number; for other records see [`What`].
    pub number: u64,
    pub at_ms: u64,
    pub readings: u32,
    /// The request that it answers, as the request log numbers them; 0 where none.
    pub request: u32,
}

/// The kinds of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A run of an agent began. The number is that of the next item, the body a [`Session`](super::scan::Session).
    Session,
    /// The host acknowledged every item up to the number.
    Read,
    /// The item with the number was dropped.
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

/// The head in any record file: the spool's and the request log's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawHead {
    /// The kind of record; the spool's are below 64.
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
    /// A head for [`write_raw`], which fills in the fields that depend on the body.
    pub(crate) fn new(code: u8, number: u64, at_ms: u64) -> Self {
        Self { code, number, at_ms, length: 0, body_crc: 0, readings: 0, request: 0 }
    }
}

/// Appends a record to `out`: `head`, with the length and checksum of `body`, then `body`.
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

/// The head at the start of `bytes`, of any record file. `None`: it is not valid.
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

/// Appends a record of the spool to `out`.
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

/// The head of a spool record at the start of `bytes`. `None`: it is not valid.
pub(super) fn read(bytes: &[u8]) -> Option<Head> {
    let RawHead { code, length, body_crc, number, at_ms, readings, request } = read_raw(bytes)?;
    let what = What::of(code)?;
    let fits_in_file = length as usize <= BODY_MAX;
    fits_in_file.then_some(Head { what, length, body_crc, number, at_ms, readings, request })
}

/// Whether `body` has the checksum in `head`, whose other fields may be corrupt.
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
