//! The place of a secret, as a file names it.
//!
//! A file names the place of a secret and never the secret. If a user writes the secret there all the same, no error may
//! show it: a value of `secret`, `master` or `token` that names no place is [masked](mask) wherever a line of the file is shown.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer};

use super::value::{Problem, text};
use crate::commands::secret::{SecretSource, is_no_secret};

const PLACES: &str = "say where it is found: \"env:NAME\", \"file:/PATH\" or \"credential:NAME\"; \
                      the secret itself does not belong in this file";

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = text(deserializer)?;
        let wrong = |what: &str, help: &str| Err(Problem::new(what, help).pack());
        match source.split_once(':') {
            Some(("env", name)) if is_no_secret(name) => wrong(
                "names a variable that is no secret: every program may know it",
                "put the secret into one of its own, as in \"env:INFINISERVICE_SHARED_SECRET\"",
            ),
            Some(("env", name)) if super::interpolate::is_name(name) => {
                Ok(Self::Env(name.to_owned()))
            }
            Some(("env", _)) => wrong(
                "names no variable",
                "write its name, as in \"env:INFINISERVICE_SHARED_SECRET\"",
            ),
            Some(("file", path)) if path.starts_with('/') && !path.ends_with('/') => {
                Ok(Self::File(path.into()))
            }
            Some(("file", _)) => wrong(
                "names no file by an absolute path",
                "write it, as in \"file:/etc/infiniservice/secret\"",
            ),
            Some(("credential", name)) if is_credential(name) => {
                Ok(Self::Credential(name.to_owned()))
            }
            Some(("credential", _)) => {
                wrong("names no credential", "write its name, as in \"credential:infiniservice\"")
            }
            _ => wrong("does not say where the secret is found", PLACES),
        }
    }
}

/// `variable NAME`, `file PATH` or `credential NAME`.
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Credential(name) => write!(f, "credential {name}"),
        }
    }
}

/// systemd takes what is a valid file name and a valid name of a descriptor (systemd's
/// `credential_name_valid`): no slash, no colon, no control character, at most 255 bytes.
fn is_credential(name: &str) -> bool {
    let plain = |c: char| !(c.is_control() || c == '/' || c == ':');
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.chars().all(plain)
}

/// The keys whose value is the place of a secret.
const KEYS: [&str; 3] = ["secret", "master", "token"];

/// `source` with everything behind one of [`KEYS`] that names no place, and what is before the `@` of a URL, turned into
/// asterisks, byte for byte, so that every place in it stays where it was.
pub(super) fn mask(source: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(source);
    let keys = KEYS.iter().flat_map(|key| source.match_indices(key));
    for (at, key) in keys {
        let after = source[at + key.len()..].trim_start_matches(['"', '\'', ' ', '\t']);
        let Some(value) =
            after.strip_prefix('=').map(|value| value.trim_start_matches([' ', '\t']))
        else {
            continue;
        };
        let inner = value.trim_start_matches(['"', '\'']);
        if ["env:", "file:", "credential:"].iter().any(|place| inner.starts_with(place)) {
            continue;
        }
        let quotes = &value[..value.len() - inner.len()];
        let many = quotes.get(..3).filter(|quotes| ["\"\"\"", "'''"].contains(quotes));
        let length = match many {
            Some(quotes) => inner.find(quotes).unwrap_or(inner.len()),
            None => inner.find('\n').unwrap_or(inner.len()),
        };
        let start = source.len() - inner.len();
        let cover = |c: char| match c {
            '\n' | '\r' | '"' | '\'' => c.to_string(),
            _ => "*".repeat(c.len_utf8()),
        };
        let covered: String = source[start..start + length].chars().map(cover).collect();
        shown.to_mut().replace_range(start..start + length, &covered);
    }
    // The user and the password of a URL.
    for (at, sign) in source.match_indices("://") {
        let start = at + sign.len();
        let authority = source[start..].split(['/', '"', '\'', '\n', '\r', ',']).next();
        if let Some(length) = authority.and_then(|authority| authority.rfind('@')) {
            let covered = "*".repeat(length);
            shown.to_mut().replace_range(start..start + length, &covered);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_place_of_its_source_is_masked_at_equal_width() {
        for (source, shown) in [
            ("secret = \"hunter2\"\nx = 1", "secret = \"*******\"\nx = 1"),
            ("master = \"hunter2\"\ntoken = 'h'", "master = \"*******\"\ntoken = '*'"),
            ("secret=hunter2 # é\r\n", "secret=************\r\n"),
            ("verify = { 'secret' = 'hün' }", "verify = { 'secret' = '****'**"),
            ("secret = \"\"\"\nhun\nter\"\"\"\nx", "secret = \"\"\"\n***\n***\"\"\"\nx"),
            ("x = \"nats://me:hün@h:1\"", "x = \"nats://*******@h:1\""),
            ("secret = \"${S:-hunter2}\"", "secret = \"*************\""),
        ] {
            assert_eq!(mask(source), shown);
            assert_eq!(source.len(), shown.len());
        }
        for plain in ["secret = \"env:X\"", "# a secret is", "secret", "secret ="] {
            assert_eq!(mask(plain), plain);
        }
    }
}
