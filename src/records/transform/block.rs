//! Bytes of a line, eight at once: where a run of them ends. Numbers only, no vectors: it is as fast in an executable that is built for
//! size.

/// Eight bytes of a line.
type Block = [u8; 8];

/// One in each byte.
const ONES: u64 = u64::MAX / 0xFF;

/// The highest bit of each byte.
const HIGHS: u64 = ONES << 7;

/// How many bytes a string has as they are, at the start of `block`: up to a quote, a backslash, a control character, or
/// what is not ASCII. Eight, if there is none of them.
#[inline(always)]
fn plain_bytes(block: &Block) -> usize {
    let bytes = u64::from_le_bytes(*block);
    let is_zero = |bytes: u64| bytes.wrapping_sub(ONES);
    let quote = is_zero(bytes ^ (ONES * b'"' as u64));
    let backslash = is_zero(bytes ^ (ONES * b'\\' as u64));
    let control = bytes.wrapping_sub(ONES * 0x20);
    // A borrow reaches bytes behind the first that is found, and not those before it.
    let found = (quote | backslash | control | bytes) & HIGHS;
    found.trailing_zeros() as usize / 8
}

/// How many digits `block` begins with.
#[inline(always)]
pub(super) fn digits(block: &Block) -> usize {
    let bytes = u64::from_le_bytes(*block) ^ (ONES * b'0' as u64);
    // What is above nine now, and what is not ASCII.
    let found = (((bytes & !HIGHS) + ONES * (0x80 - 10)) | bytes) & HIGHS;
    found.trailing_zeros() as usize / 8
}

/// Whether a byte is a quote, a backslash or a control character, or not ASCII.
#[inline(always)]
fn is_not_plain(byte: u8) -> bool {
    matches!(byte, 0..0x20 | b'"' | b'\\' | 0x80..)
}

/// The byte at `at`; NUL, which is valid nowhere, behind the end.
#[inline(always)]
pub(super) fn byte(line: &[u8], at: usize) -> u8 {
    match line.get(at) {
        Some(byte) => *byte,
        None => 0,
    }
}

/// The first byte from `at` on that is not plain.
#[inline(always)]
pub(super) fn plain(line: &[u8], mut at: usize) -> usize {
    while let Some(block) = line.get(at..).and_then(|rest| rest.first_chunk()) {
        let length = plain_bytes(block);
        at += length;
        if length < 8 {
            return at;
        }
    }
    while !is_not_plain(byte(line, at)) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_at_once_is_what_it_is_byte_by_byte() {
        for byte in 0..=u8::MAX {
            for index in 0..8 {
                for other in [b'x', b'7', b'"', b'#', b'!', 0xC3, 0] {
                    for before in [b'a', b'0', other] {
                        let mut block = [other; 8];
                        block[..index].fill(before);
                        block[index] = byte;
                        let by_byte =
                            |is: fn(&u8) -> bool| block.iter().take_while(|one| is(one)).count();
                        assert_eq!(
                            plain_bytes(&block),
                            by_byte(|one| !is_not_plain(*one)),
                            "{block:?}"
                        );
                        assert_eq!(digits(&block), by_byte(u8::is_ascii_digit), "{block:?}");
                    }
                }
            }
        }
    }
}
