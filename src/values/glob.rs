//! Patterns in which `*` stands for any text, also none.

use std::fmt;

/// A pattern: `*` stands for any text, every other character for itself; case matters. It matches a whole text or not
/// at all.
/// `systemd*` matches `systemd` and `systemd-resolved`, but neither `libsystemd0` nor `Systemd`.
///
/// # Why not a glob library
/// A reader must understand a policy at a glance: no `?`, no `[a-z]`, no `**` and no escapes, so every other character
/// means itself. Matching takes at most the product of both lengths in time, and no memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// A pattern; every text is a valid one.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// The text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it matches every text.
    pub fn is_any(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|b| b == b'*')
    }

    /// Whether it matches one text only.
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether it matches the whole of `text`.
    pub fn matches(&self, text: &str) -> bool {
        // Bytes do as well as characters: `*` is ASCII, and no part of another character is.
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // The last star, and where the text that it does not stand for begins.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(byte) if *byte == text[t] => (p, t) = (p + 1, t + 1),
                _ => match &mut star {
                    Some((at, from)) => {
                        *from += 1;
                        (p, t) = (*at + 1, *from);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_any_text_and_all_else_for_itself() {
        let matches = |pattern: &str, text: &str| Glob::new(pattern).matches(text);
        for (pattern, text) in
            [("*", ""), ("*", "x"), ("a*c", "abc"), ("a*c", "ac"), ("*é*", "aéb"), ("a**", "a")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("a", "ab"),
            ("a*c", "abcd"),
            ("A*", "a"),
            ("?", "a"),
            ("[a]", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(matches("systemd*", "systemd") && matches("systemd*", "systemd-resolved"));
        assert!(!matches("systemd*", "libsystemd0") && !matches("systemd*", "Systemd"));
        assert!(matches("*aab*aab", "aaabaaaab"));
        assert!(!matches(&"a*".repeat(30), &("a".repeat(29) + "b")));
    }

    /// What it means, slowly: a star takes nothing, or one character and is still there.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                slow(rest, text) || !text.is_empty() && slow(pattern, &text[1..])
            }
            ([p, rest @ ..], [t, more @ ..]) => p == t && slow(rest, more),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_matches_what_its_meaning_says(pattern in "[ab*é]{0,8}", text in "[abé]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(Glob::new(&pattern).matches(&text), slow(&chars(&pattern), &chars(&text)));
        }
    }
}
