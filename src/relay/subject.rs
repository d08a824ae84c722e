//! The subjects of NATS: `infini.<site>.<vm>.metrics`, `.events` and `.records` of the lines of a guest, `.command` of what
//! is asked of it, and `.claims.<number>` of which relay asks it.

use super::fleet::LineKind;

/// Under which all subjects are.
const ROOT: &str = "infini";

/// Where a line goes: readings, events and answers, and everything else.
pub(super) fn of_line(site: &str, vm: &str, kind: LineKind) -> String {
    let last = match kind {
        LineKind::Metrics => "metrics",
        LineKind::Event | LineKind::Response => "events",
        LineKind::Record => "records",
    };
    format!("{ROOT}.{}.{}.{last}", token(site), token(vm))
}

/// Those of the lines of all sites, for a stream.
pub(super) fn of_lines() -> [String; 3] {
    ["metrics", "events", "records"].map(|last| format!("{ROOT}.*.*.{last}"))
}

/// Those of the commands for the guests of `site`.
pub(super) fn of_commands(site: &str) -> String {
    format!("{ROOT}.{}.*.command", token(site))
}

/// The guest that a command is for, by its subject.
pub(super) fn vm_of_command(subject: &str) -> Option<String> {
    name(subject.strip_suffix(".command")?.rsplit('.').next()?)
}

/// Where it is stored which relay asks the guest for the command of this number.
pub(super) fn of_claim(site: &str, vm: &str, number: &str) -> String {
    format!("{ROOT}.{}.{}.claims.{number}", token(site), token(vm))
}

/// Those of the claims of all sites, for a stream.
pub(super) fn of_claims() -> [String; 1] {
    [format!("{ROOT}.*.*.claims.*")]
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

/// The name that a [`token`] stands for; of any bytes that are not escaped, too.
pub(super) fn name(token: &str) -> Option<String> {
    if token == "%" {
        return Some(String::new());
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(token.len()), token.as_bytes().iter());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                (high << 4 | low) as u8
            }
            byte => *byte,
        });
    }
    String::from_utf8(bytes).ok()
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
            let subject = format!("infini.lab.{}.command", token(name));
            assert_eq!(vm_of_command(&subject).as_deref(), Some(name));
        }
        for wrong in ["infini.lab.a%.command", "infini.lab.%zz.command", "infini.lab.%FF.command"] {
            assert_eq!(vm_of_command(wrong), None, "{wrong}");
        }
        assert_eq!(of_line("lab", "a.b", LineKind::Response), "infini.lab.a%2Eb.events");
    }
}
