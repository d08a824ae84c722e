//! The subjects of NATS that the lines of a guest have: `infini.<site>.<vm>.metrics`, `.events` and `.records`.

use super::fleet::Kind;

/// Under which all subjects are.
const ROOT: &str = "infini";

/// Where a line goes: readings, events and answers, and everything else.
pub(super) fn of_line(site: &str, vm: &str, kind: Kind) -> String {
    let last = match kind {
        Kind::Metrics => "metrics",
        Kind::Event | Kind::Response => "events",
        Kind::Record => "records",
    };
    format!("{ROOT}.{}.{}.{last}", token(site), token(vm))
}

/// Those of the lines of all sites, for a stream.
pub(super) fn of_lines() -> [String; 3] {
    ["metrics", "events", "records"].map(|last| format!("{ROOT}.*.*.{last}"))
}

/// A name as one token: ASCII letters, digits, `-` and `_` as they are, every other byte as `%` and two hexadecimal digits. No
/// two names have the same.
fn token(name: &str) -> String {
    if name.is_empty() {
        return "%".to_owned();
    }
    let mut token = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            true => token.push(byte.into()),
            false => token.push_str(&format!("%{byte:02X}")),
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_token_whatever_is_in_it() {
        for (name, expected) in [
            ("web-1_a", "web-1_a"),
            ("web.example", "web%2Eexample"),
            ("*", "%2A"),
            (">", "%3E"),
            ("a b\t", "a%20b%09"),
            ("%2E", "%252E"),
            ("é", "%C3%A9"),
            ("", "%"),
        ] {
            assert_eq!(token(name), expected, "{name:?}");
        }
        assert_eq!(of_line("lab", "a.b", Kind::Response), "infini.lab.a%2Eb.events");
    }
}
