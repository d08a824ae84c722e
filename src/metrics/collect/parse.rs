//! Pure parsing of what the kernel writes as text. Reads nothing, and no input makes it panic.

/// The lines of a text, without empty ones.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The words of a line, split at white space.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// A decimal number and nothing else; `None` where it does not fit.
pub(super) fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// A hexadecimal number and nothing else.
pub(super) fn hexadecimal(word: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()
}

/// Valid Unicode of any bytes; NUL, which databases refuse, is left out.
pub(super) fn lossy(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.retain(|c| c != '\0');
    text
}

/// What stands after `key` in the line that begins with it: `value(b"a: 1\nb: 2", b"b:")` is `b"2"`.
pub(super) fn value<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    lines(text).find_map(|line| line.strip_prefix(key)).map(<[u8]>::trim_ascii)
}

/// How many numbers a list such as `0-3,5` names (`Documentation/core-api/cpu_hotplug.rst`).
pub(super) fn count_listed(text: &[u8]) -> Option<usize> {
    let mut count = 0_usize;
    for range in text.trim_ascii().split(|byte| *byte == b',') {
        let mut ends = range.splitn(2, |byte| *byte == b'-');
        let first = number(ends.next()?)?;
        let last = ends.next().map_or(Some(first), number)?;
        count =
            count.checked_add(usize::try_from(last.checked_sub(first)?).ok()?.checked_add(1)?)?;
    }
    Some(count)
}

/// Whether `name` is in a list of names, in which a trailing `*` stands for any ending.
pub(super) fn listed(names: &[String], name: &str) -> bool {
    names.iter().any(|listed| match listed.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == listed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn processors_are_counted_over_ranges() {
        assert_eq!(count_listed(b"0\n"), Some(1));
        assert_eq!(count_listed(b"0-3,5,8-9\n"), Some(7));
        for not in [&b""[..], b"3-1", b"0-", b"0-18446744073709551615,1"] {
            assert_eq!(count_listed(not), None, "{}", String::from_utf8_lossy(not));
        }
    }

    #[test]
    fn a_number_is_digits_only_and_fits() {
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for not in [&b"18446744073709551616"[..], b"", b"-1", b"+1", b" 1", b"1x"] {
            assert_eq!(number(not), None, "{}", String::from_utf8_lossy(not));
        }
        assert_eq!(hexadecimal(b"1F90"), Some(8080));
    }

    #[test]
    fn a_star_at_the_end_of_a_name_stands_for_any_ending() {
        let names = ["eth0".to_owned(), "veth*".to_owned()];
        assert!(listed(&names, "eth0") && listed(&names, "veth9a1") && listed(&names, "veth"));
        assert!(!listed(&names, "eth01") && !listed(&names, "xveth"));
    }

    #[test]
    fn text_of_any_bytes_has_no_nul_and_keeps_what_is_valid() {
        assert_eq!(lossy(b"a\0b\xffc"), "ab\u{fffd}c");
        assert_eq!(value(b"x: 1\ny:  2 \n", b"y:"), Some(&b"2"[..]));
        assert_eq!(value(b"x: 1\n", b"y:"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            for line in lines(&bytes) {
                prop_assert!(!line.contains(&b'\n'));
                for word in words(line) {
                    let _ = (number(word), hexadecimal(word), value(&bytes, word), count_listed(word));
                }
            }
            prop_assert!(!lossy(&bytes).contains('\0'));
        }
    }
}
