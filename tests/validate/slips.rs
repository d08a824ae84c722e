//! Any bytes at all, and the slips of a hand: no panic, no place that is not there, no secret shown.

use std::fs;

use infiniservice::internals::config::{BUILT_IN, ConfigError};
use proptest::prelude::*;

use super::grammar::EVERYTHING;
use super::rig::{all, folder};

/// What must hold of any file at all: an error has a place in it, and says nothing it must not.
fn holds(name: &str, bytes: &[u8]) {
    let folder = folder(&[]);
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let told = match all(&path) {
        Ok(loaded) => loaded.warnings,
        Err(errors) => {
            assert!((1..=101).contains(&errors.len()));
            errors
        }
    };
    told.iter().for_each(|error| error_holds(error, bytes));
}

fn error_holds(error: &ConfigError, bytes: &[u8]) {
    let shown = error.to_string();
    assert!(!format!("{shown}{error:?}").contains("hunter2"), "{shown}");
    assert!(!error.message.is_empty() && !error.message.contains('\n'), "{shown}");
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");

    let place = error.place.as_ref().expect("a place");
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let line = text.split('\n').nth(place.line - 1).expect("a line of the file");
    // What stands where a secret should not is shown as asterisks, byte for byte.
    let masked = line.contains("secret") || place.text.bytes().all(|b| b"*\"'\r".contains(&b));
    let line = line.trim_end_matches('\r');
    assert!(place.text == line || masked && place.text.len() == line.len(), "{shown}");
    assert!(place.column <= place.text.chars().count() + 1, "{shown}");
    assert!(place.mark.end <= place.text.len() && place.span.end <= text.len(), "{shown}");
    let under = shown.lines().nth(3).expect("a line of carets");
    assert!(under.contains('^') && under.chars().count() < 120, "{shown}");
}

/// What a slip of the hand may leave in a file.
const SLIPS: &[&str] = &[
    "",
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "#",
    "\n",
    "\r",
    "\t",
    "\0",
    "\u{1b}[2J",
    "é",
    "中文",
    "\u{202e}",
    "\u{feff}",
    "0",
    "-1",
    "1.5",
    "30s",
    "true",
    "nan",
    "2024-01-01",
    "99999999999999999999",
    "${SECRET}",
    "${GONE}",
    "${",
    "$${",
    "${PERIOD}",
    "\"cpu\"",
    "write",
    "keep = 0",
    "[batch]",
    "[[write]]",
    "a.b.c = 1\n",
    "\\",
    "\\u0000",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        holds("f.toml", &bytes);
        holds("agent.toml", &bytes);
    }

    #[test]
    fn no_slip_causes_a_panic_or_an_error_at_a_missing_place(
        which in 0..5_usize,
        slips in proptest::collection::vec((any::<usize>(), 0..12_usize, 0..SLIPS.len()), 1..6),
    ) {
        let (name, text) = BUILT_IN.get(which).copied().unwrap_or(("f.toml", EVERYTHING));
        let mut text = text.to_owned();
        for (at, removed, slip) in slips {
            let start = text.floor_char_boundary(at % (text.len() + 1));
            let end = text.ceil_char_boundary((start + removed).min(text.len()));
            text.replace_range(start..end, SLIPS[slip]);
        }
        holds(name, text.as_bytes());
    }

    #[test]
    fn no_error_shows_the_value_of_a_variable(at in any::<usize>(), which in 0..5_usize) {
        let (name, text) = BUILT_IN.get(which).copied().unwrap_or(("f.toml", EVERYTHING));
        let quoted: Vec<_> = text.match_indices('"').map(|(at, _)| at).collect();
        let pair = 2 * (at % (quoted.len() / 2));
        let mut text = text.to_owned();
        text.replace_range(quoted[pair] + 1..quoted[pair + 1], "${SECRET}");
        holds(name, text.as_bytes());
    }
}
