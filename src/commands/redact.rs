//! Takes what looks like a secret out of a text. A second line of defence: what is known to be a secret
//! is not given to it, but left out. Does not know where the text goes.

use std::borrow::Cow;

/// What stands where something was taken out.
pub const REDACTED: &str = "[redacted]";

/// `text` without what looks like a secret:
///
/// - the value behind a word that ends in `password`, `token`, `secret` or the like (`password=…`,
///   `"api_key": "…"`, `--token …`),
/// - the word behind `Bearer` or `Basic`,
/// - user and password in a URL,
/// - keys with a known beginning (`AKIA…`, `ghp_…`, `eyJ…`),
/// - everything from `-----BEGIN … KEY-----` to its end.
///
/// Takes time in proportion to the text; copies it only if something was found.
///
/// ```
/// use infiniservice::commands::redact::redact;
///
/// assert_eq!(redact("mysql --password=hunter2 db"), "mysql --password=[redacted] db");
/// assert_eq!(redact("https://ann:hunter2@git.lab/x"), "https://[redacted]@git.lab/x");
/// assert_eq!(redact("nothing here"), "nothing here");
/// ```
pub fn redact(text: &str) -> Cow<'_, str> {
    let text = keys(text);
    let text = then(text, urls);
    then(text, words)
}

fn then<'a>(text: Cow<'a, str>, next: fn(&str) -> Cow<'_, str>) -> Cow<'a, str> {
    match next(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(text) => text.into(),
    }
}

/// Words behind which a secret stands, without case, as the end of a longer word too (`DB_PASSWORD`).
const NAMES: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pass",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "access-key",
    "accesskey",
    "private_key",
    "private-key",
    "secret_key",
    "secret-key",
    "credential",
    "credentials",
    "authorization",
];

/// How known keys begin, and the fewest characters that follow.
const BEGINNINGS: &[(&str, usize)] = &[
    ("AKIA", 12),
    ("ASIA", 12),
    ("ghp_", 16),
    ("gho_", 16),
    ("ghs_", 16),
    ("github_pat_", 16),
    ("glpat-", 16),
    ("xoxb-", 10),
    ("xoxp-", 10),
    ("sk-", 16),
    ("sk_live_", 10),
    ("eyJ", 16),
];

/// Blocks of a PEM file (RFC 7468) that hold a key.
fn keys(text: &str) -> Cow<'_, str> {
    const BEGIN: &str = "-----BEGIN ";
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find(BEGIN) {
        let label = &rest[start + BEGIN.len()..];
        let end = label.find("-----").unwrap_or(label.len());
        if !label[..end].ends_with("KEY") {
            out.push_str(&rest[..start + BEGIN.len()]);
            rest = label;
            continue;
        }
        out.push_str(&rest[..start]);
        out.push_str(REDACTED);
        // Without its end, everything to the end of the text may be the key.
        let closing = format!("-----END {}-----", &label[..end]);
        rest = label.find(&closing).map_or("", |at| &label[at + closing.len()..]);
    }
    if rest.len() == text.len() { text.into() } else { (out + rest).into() }
}

/// `scheme://user:password@host`.
fn urls(text: &str) -> Cow<'_, str> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(":/") {
        // One slash where the other was tidied away, as in a path.
        let slashes = rest[at + 1..].len() - rest[at + 1..].trim_start_matches('/').len();
        let (before, after) = rest.split_at(at + 1 + slashes);
        out.push_str(before);
        let ends =
            |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>');
        let authority = &after[..after.find(ends).unwrap_or(after.len())];
        // A password may hold a slash that should have been escaped.
        let word = &after[..after.find(char::is_whitespace).unwrap_or(after.len())];
        let end = match (authority.rfind('@'), word.rfind('@')) {
            (Some(at), _) => Some(at),
            (None, Some(at)) if authority.contains(':') => Some(at),
            _ => None,
        };
        rest = match end {
            Some(at) => {
                out.push_str(REDACTED);
                &after[at..]
            }
            None => after,
        };
    }
    if rest.len() == text.len() || out.len() + rest.len() == text.len() && !out.contains(REDACTED) {
        return text.into();
    }
    (out + rest).into()
}

/// Values behind telling names, and words that are keys by themselves.
fn words(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut at, mut copied) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        let length = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        if length == 0 {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        }
        let word = &rest[..length];
        if is_key(word) {
            out.push_str(&text[copied..at]);
            out.push_str(REDACTED);
            (at, copied) = (at + length, at + length);
            continue;
        }
        at += length;
        let value = if tells(word) {
            value(&text[at..], word.starts_with('-'))
        } else {
            scheme(word, &text[at..])
        };
        if let Some((start, end)) = value {
            out.push_str(&text[copied..at + start]);
            out.push_str(REDACTED);
            (at, copied) = (at + end, at + end);
        }
    }
    if copied == 0 { text.into() } else { (out + &text[copied..]).into() }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

/// Whether a secret stands behind this word.
fn tells(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    NAMES.iter().any(|name| word.ends_with(name))
}

/// Whether this word is a key by itself.
fn is_key(word: &str) -> bool {
    BEGINNINGS
        .iter()
        .any(|(begin, more)| word.strip_prefix(begin).is_some_and(|rest| rest.len() >= *more))
}

/// Where the value stands in what follows a telling name: behind `=` or `:`, or behind a space where the
/// name is an option.
fn value(after: &str, option: bool) -> Option<(usize, usize)> {
    let spaces: &[char] = &[' ', '\t'];
    let skip = |text: &str, over: &[char]| text.len() - text.trim_start_matches(over).len();
    // The name may stand in quotes, which may be escaped.
    let mut start = skip(after, &[' ', '\t', '"', '\'', '\\']);
    match after[start..].chars().next() {
        Some('=' | ':') => start += skip(&after[start..], &[' ', '\t', '=', ':', '>', '\\']),
        _ if option && skip(after, spaces) > 0 => start = skip(after, spaces),
        _ => return None,
    }
    let value = &after[start..];
    // `Authorization: Bearer …`: both words.
    let scheme = ["bearer ", "basic ", "digest "].into_iter().find(|scheme| {
        value.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
    });
    let skipped = scheme.map_or(0, str::len);
    let length = extent(&value[skipped..]);
    (length > 0).then_some((start, start + skipped + length))
}

/// `Bearer …`, `Basic …`.
fn scheme(word: &str, after: &str) -> Option<(usize, usize)> {
    let known = ["bearer", "basic"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
    let gap = after.len() - after.trim_start_matches(' ').len();
    let length = extent(&after[gap..]);
    // "Basic tests" is no secret; a token has digits, or is long.
    let token = &after[gap..gap + length];
    let likely =
        token.len() >= 16 || token.len() >= 6 && token.contains(|c: char| c.is_ascii_digit());
    (known && gap > 0 && likely).then_some((gap, gap + length))
}

/// How long a value is: to its closing quote, or to the next space or separator.
fn extent(value: &str) -> usize {
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let inner = &value[1..];
            let mut escaped = false;
            let end = inner.find(|c| {
                let ends = c == quote && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.map_or(value.len(), |end| end + 2)
        }
        _ => value
            .find(|c: char| c.is_whitespace() || matches!(c, '&' | ';' | ',' | '"' | '\''))
            .unwrap_or(value.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CANARY: &str = "h7Ntr2xx";

    #[test]
    fn what_looks_like_a_secret_is_taken_out() {
        for text in [
            "password=h7Ntr2xx",
            "PASSWORD: h7Ntr2xx",
            "DB_PASSWORD='h7Ntr2xx x'",
            "{\"api_key\": \"h7Ntr2xx\", \"a\": 1}",
            "{\\\"token\\\":\\\"h7Ntr2xx\\\"}",
            "x --token h7Ntr2xx y",
            "x --password \"a h7Ntr2xx\"",
            "curl -H 'Authorization: Bearer h7Ntr2xx' u",
            "Bearer h7Ntr2xx",
            "authorization: basic h7Ntr2xx==",
            "https://ann:h7Ntr2xx@git.lab/x",
            "https://h7Ntr2xx@git.lab/x",
            "/srv/https:/ann:h7Ntr2xx@git.lab",
            "postgres://ann:a/h7Ntr2xx@db",
            "AKIAh7Ntr2xxABCDEFGH",
            "ghp_h7Ntr2xxABCDEFGHIJ",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nh7Ntr2xx\n-----END OPENSSH PRIVATE KEY-----",
            "a -----BEGIN CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----\nh7Ntr2xx cut",
            "passphrase => h7Ntr2xx",
            "secret = \"a\\\"h7Ntr2xx\"",
        ] {
            let shown = redact(text);
            assert!(shown.contains(REDACTED) && !shown.contains(CANARY), "{text} → {shown}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "",
            "nginx",
            "systemd-resolved.service",
            "/srv/passwords/x",
            "the token is expired",
            "Basic tests",
            "sk-x",
            "https://git.lab/x?y=1",
            "ann@lab",
            "a: b",
            "-----BEGIN CERTIFICATE-----\nMIIB",
        ] {
            assert_eq!(redact(text), text);
        }
        assert_eq!(redact("a=1 password=x&b=2"), "a=1 password=[redacted]&b=2");
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in any::<String>()) {
            redact(&text);
        }

        #[test]
        fn no_arrangement_of_the_parts_breaks_it(
            parts in proptest::collection::vec(0..24_usize, 0..12),
        ) {
            const PARTS: [&str; 24] = [
                "password", "=", ":", " ", "\"", "'", "\\", "://", "@", "/", "é", "Bearer ", "AKIA", "--",
                "-----BEGIN ", "KEY", "-----", "-----END ", "ABCDEFGH12345678", "\n", "&", "token", "中", "x",
            ];
            let text: String = parts.into_iter().map(|part| PARTS[part]).collect();
            redact(&text);
        }
    }
}
