//! logfmt, `name=value name="a text"`: read by `parse`, and written by the format of that name.

/// The most pairs of a line; a line with more is not read.
pub(crate) const PAIRS_MAX: usize = 256;

/// Gives each pair of `text`, without quotes and escapes; a name without a value has an empty one. Returns whether all of it
/// is logfmt; pairs before what is not have been given then. `value` is used for quoted values.
pub(crate) fn pairs(text: &[u8], value: &mut Vec<u8>, mut give: impl FnMut(&[u8], &[u8])) -> bool {
    let mut rest = text.trim_ascii();
    for _ in 0..PAIRS_MAX {
        if rest.is_empty() {
            return true;
        }
        let is_name = |byte: &u8| *byte > b' ' && !matches!(byte, b'=' | b'"');
        let length = rest.iter().take_while(|byte| is_name(byte)).count();
        let (name, after) = rest.split_at(length);
        if name.is_empty() {
            return false;
        }
        rest = match after {
            [b'=', b'"', quoted @ ..] => {
                value.clear();
                let Some(after) = unquote(quoted, value) else { return false };
                give(name, value);
                after
            }
            [b'=', after @ ..] => {
                let length =
                    after.iter().take_while(|byte| **byte > b' ' && **byte != b'"').count();
                let (value, after) = after.split_at(length);
                give(name, value);
                after
            }
            after => {
                give(name, b"");
                after
            }
        };
        match rest.first() {
            None | Some(..=b' ') => rest = rest.trim_ascii_start(),
            Some(_) => return false,
        }
        if let Some(..=b' ') = rest.first() {
            return false; // a control character
        }
    }
    rest.is_empty()
}

/// The text up to the closing quote, into `value`; returns what is behind it.
fn unquote<'a>(text: &'a [u8], value: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return text.get(at + 1..),
            b'\\' => value.push(match bytes.next()?.1 {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                other => *other,
            }),
            other => value.push(*other),
        }
    }
    None
}

/// Writes a pair, with a space before it where it is not the first. In a name, what cannot be there becomes `_`.
pub(crate) fn write_pair(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    if !out.is_empty() && out.last() != Some(&b'\n') {
        out.push(b' ');
    }
    let is_name = |byte: &u8| *byte > b' ' && !matches!(byte, b'=' | b'"' | 0x7F);
    out.extend(name.iter().map(|byte| if is_name(byte) { *byte } else { b'_' }));
    if name.is_empty() {
        out.push(b'_');
    }
    out.push(b'=');
    let is_bare = |byte: &u8| *byte > b' ' && !matches!(byte, b'=' | b'"' | b'\\' | 0x7F);
    if value.iter().all(is_bare) {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            ..0x20 => out.push(b' '),
            other => out.push(*other),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Vec<(String, String)>> {
        let mut all = Vec::new();
        let text_of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let is_right = pairs(text.as_bytes(), &mut Vec::new(), |name, value| {
            all.push((text_of(name), text_of(value)))
        });
        is_right.then_some(all)
    }

    #[test]
    fn names_values_quotes_and_escapes() {
        let some = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(
            read(r#" at=info  msg="a \"b\"\n" ok e= "#),
            some(&[("at", "info"), ("msg", "a \"b\"\n"), ("ok", ""), ("e", "")])
        );
        assert_eq!(read("a=b=c"), some(&[("a", "b=c")]));
        for wrong in ["=x", "a=\"b", "a=\"b\"c=d", "\"a\"", "a=b\"c", "a=\"b\\"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(read(""), some(&[]));
    }

    proptest! {
        #![proptest_config(crate::records::any_of(1_000))]

        #[test]
        fn what_is_written_is_read(pairs in proptest::collection::vec(("[a-zé.]{1,5}", "[ -~\n\té]{0,8}"), 0..6)) {
            let mut out = Vec::new();
            for (name, value) in &pairs {
                write_pair(name.as_bytes(), value.as_bytes(), &mut out);
            }
            prop_assert_eq!(read(std::str::from_utf8(&out).unwrap()), Some(pairs));
        }

        #[test]
        fn anything_is_read_or_not(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            pairs(&text, &mut Vec::new(), |_, _| {});
        }
    }
}
