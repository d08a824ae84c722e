//! A record: a head, then the body.
//!
//! ```text
//! crc of 4..40 | code | 3 × 0 | length | crc of the body | number | at, Unix ms | readings | request
//!            4 |    1 |     3 |      4 |               4 |      8 |           8 |        4 |     4
//! ```
//! All numbers are little-endian, both checksums are CRC-32 (IEEE). The head has its own checksum, so its length
//! can be trusted where the body cannot: one corrupt body costs one record, not everything behind it.

/// The length of a head.
pub(crate) const HEAD: usize = 40;
/// The highest number. No agent reaches it; a larger one would leave no room to count on.
const NUMBER_MAX: u64 = 1 << 62;

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head<K = u8> {
    /// The kind of record: a code, of which the spool's are below 64, or what a file makes of it.
    pub kind: K,
    /// Bytes of the body.
    pub length: u32,
    pub body_crc: u32,
    pub number: u64,
    pub at_ms: u64,
    pub readings: u32,
    /// The request that it answers, as the request log numbers them; 0 where none.
    pub request: u32,
}

impl Head {
    /// A head for [`write`], which fills in the fields that depend on the body.
    pub(crate) fn new(kind: u8, number: u64, at_ms: u64) -> Self {
        Self { kind, number, at_ms, length: 0, body_crc: 0, readings: 0, request: 0 }
    }

    /// The same head, with the kind that its code stands for.
    pub(crate) fn of_kind<K>(self, kind: K) -> Head<K> {
        let Self { kind: _, length, body_crc, number, at_ms, readings, request } = self;
        Head { kind, length, body_crc, number, at_ms, readings, request }
    }
}

/// Appends a record to `out`: `head`, with the length and checksum of `body`, then `body`.
pub(crate) fn write(head: &Head, body: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, head.kind, 0, 0, 0]);
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
pub(crate) fn read(bytes: &[u8]) -> Option<Head> {
    let head = bytes.get(..HEAD)?;
    let four = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let eight = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    if four(0)? != crc32fast::hash(&head[4..]) {
        return None;
    }
    Some(Head {
        kind: head[4],
        length: four(8)?,
        body_crc: four(12)?,
        number: eight(16).filter(|number| *number <= NUMBER_MAX)?,
        at_ms: eight(24)?,
        readings: four(32)?,
        request: four(36)?,
    })
}
