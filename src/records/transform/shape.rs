//! The keys of the line before: most lines of a source have the same ones in the same order, so that a key is compared and not
//! looked up.

use super::fields::Field;

/// A member up to its value.
pub(super) struct MemberHead {
    pub key: usize,
    /// Where the name has ended, its quote included.
    pub after_key: usize,
    pub value: usize,
    pub field: Option<Field>,
}

/// The keys of the line before.
#[derive(Debug, Default)]
pub(super) struct Shape(Vec<KnownKey>);

/// How many keys of a line are remembered.
const KNOWN_MAX: usize = 64;

/// A key as it is written, from the end of the value before it, or the brace, to its own value; and its field.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownKey {
    /// Its first 16 bytes, and the next 16.
    bytes: [Masked; 2],
    is_long: bool,
    /// Where the key begins, where the name has ended, its quote included, and where the value begins.
    key: u8,
    after_key: u8,
    value: u8,
    field: Option<Field>,
}

impl KnownKey {
    #[inline(always)]
    pub(super) fn at(&self, at: usize) -> MemberHead {
        let place = |offset: u8| at + usize::from(offset);
        let (key, after_key, value) = (self.key, self.after_key, self.value);
        let field = self.field;
        MemberHead { key: place(key), after_key: place(after_key), value: place(value), field }
    }
}

/// At most 16 bytes: those under the mask.
#[derive(Debug, Clone, Copy)]
struct Masked {
    bytes: [u64; 2],
    mask: [u64; 2],
}

impl Masked {
    fn new(bytes: &[u8]) -> Self {
        let (mut block, mut mask) = ([0; 16], [0; 16]);
        for ((byte, place), mask) in bytes.iter().zip(&mut block).zip(&mut mask) {
            (*place, *mask) = (*byte, 0xFF);
        }
        Self { bytes: halves(&block), mask: halves(&mask) }
    }

    #[inline(always)]
    fn is_at(&self, text: &[u8], at: usize) -> bool {
        let Some(block) = text.get(at..).and_then(|rest| rest.first_chunk()) else { return false };
        let [low, high] = halves(block);
        (low & self.mask[0] == self.bytes[0]) & (high & self.mask[1] == self.bytes[1])
    }
}

#[inline(always)]
fn halves(block: &[u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(*block);
    [both as u64, (both >> 64) as u64]
}

impl Shape {
    /// The key at `at`, if it is the one that the line before had as its `nth`.
    #[inline(always)]
    pub(super) fn known(&self, nth: usize, text: &[u8], at: usize) -> Option<&KnownKey> {
        let known = self.0.get(nth)?;
        let is_same = known.bytes[0].is_at(text, at)
            && (!known.is_long || known.bytes[1].is_at(text, at + 16));
        is_same.then_some(known)
    }

    /// Remembers the key of `member`, `bytes` from `at` on. One of more than 32 bytes is not remembered.
    pub(super) fn learn(&mut self, nth: usize, bytes: &[u8], at: usize, member: &MemberHead) {
        let (first, rest) = bytes.split_at(bytes.len().min(16));
        let mut masked = [Masked::new(first), Masked::new(rest)];
        if rest.len() > 16 {
            masked[0] = Masked { bytes: [1, 1], mask: [0, 0] }; // no bytes are this
        }
        let offset = |place: usize| u8::try_from(place - at).unwrap_or(u8::MAX);
        let known = KnownKey {
            bytes: masked,
            is_long: !rest.is_empty(),
            key: offset(member.key),
            after_key: offset(member.after_key),
            value: offset(member.value),
            field: member.field,
        };
        match self.0.get_mut(nth) {
            Some(place) => *place = known,
            None if nth < KNOWN_MAX => self.0.push(known),
            None => {}
        }
    }
}
