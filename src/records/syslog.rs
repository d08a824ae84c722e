//! A line of syslog into its parts: RFC 5424, section 6, and what RFC 3164, section 4, says is usual.

/// The names of the fields, in the order of [`Syslog::values`].
pub(crate) const FIELDS: [&str; 9] = [
    "facility",
    "severity",
    "timestamp",
    "host",
    "app",
    "pid",
    "msgid",
    "structured_data",
    "message",
];

/// RFC 5424, table 1, by the names of syslog(3) and RFC 5427.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// RFC 5424, table 2.
const SEVERITIES: [&str; 8] =
    ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// The parts of a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Syslog<'a> {
    /// By [`FIELDS`]; `None` where the line has none.
    pub values: [Option<&'a [u8]>; 9],
}

impl<'a> Syslog<'a> {
    /// The parts of a line without its newline; `None` where it does not begin with a priority.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let end = line.iter().take(5).position(|byte| *byte == b'>')?;
        let digits = line.get(1..end).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        let priority: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
        if line.first() != Some(&b'<') || (digits.len() > 1 && digits.first() == Some(&b'0')) {
            return None;
        }
        let facility = FACILITIES.get(priority >> 3)?.as_bytes();
        let severity = SEVERITIES[priority & 7].as_bytes();
        let rest = line.get(end + 1..)?;
        let [timestamp, host, app, pid, msgid, data, message] = match rest.strip_prefix(b"1 ") {
            Some(rest) => rfc5424(rest)?,
            None => rfc3164(rest),
        };
        let (facility, severity) = (Some(facility), Some(severity));
        let values = [facility, severity, timestamp, host, app, pid, msgid, data, message];
        Some(Self { values })
    }
}

type Parts<'a> = [Option<&'a [u8]>; 7];

/// What is behind `<PRI>1 `.
fn rfc5424(mut rest: &[u8]) -> Option<Parts<'_>> {
    let mut parts: Parts<'_> = [None; 7];
    for part in parts.iter_mut().take(5) {
        let (word, after) = word(rest)?;
        *part = Some(word).filter(|word| *word != b"-");
        rest = after;
    }
    let (data, after) = match rest {
        [b'-', after @ ..] => (None, after),
        _ => {
            let end = structured(rest)?;
            (Some(&rest[..end]), &rest[end..])
        }
    };
    parts[5] = data;
    parts[6] = match after {
        [] => None,
        [b' ', message @ ..] => Some(message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message)),
        _ => return None,
    };
    Some(parts)
}

/// A word and what is behind the space that ends it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == b' ').filter(|end| *end > 0)?;
    Some((&text[..end], &text[end + 1..]))
}

/// The end of one or more elements in brackets.
fn structured(text: &[u8]) -> Option<usize> {
    let (mut at, mut is_quoted) = (0, false);
    if text.first() != Some(&b'[') {
        return None;
    }
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' if is_quoted => at += 1,
            b'"' => is_quoted = !is_quoted,
            b']' if !is_quoted && text.get(at + 1) != Some(&b'[') => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// What is behind `<PRI>`: `Mmm dd hh:mm:ss host app[pid]: message`, as far as it is there.
fn rfc3164(text: &[u8]) -> Parts<'_> {
    let mut parts: Parts<'_> = [None; 7];
    let is_digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let is_time = text.get(..3).is_some_and(|month| MONTHS.chunks(3).any(|known| known == month))
        && text.get(15) == Some(&b' ')
        && [(3, b' '), (6, b' '), (9, b':'), (12, b':')]
            .iter()
            .all(|(at, byte)| text.get(*at) == Some(byte))
        && (is_digit(4) || text.get(4) == Some(&b' '))
        && [5, 7, 8, 10, 11, 13, 14].into_iter().all(is_digit);
    if !is_time {
        parts[6] = Some(text);
        return parts;
    }
    parts[0] = Some(&text[..15]);
    let Some((host, rest)) = word(&text[16..]) else {
        parts[6] = Some(&text[16..]);
        return parts;
    };
    // A line of this machine, as /dev/log has it, has no host before the app.
    let (host, rest) = match host.ends_with(b":") || host.ends_with(b"]") {
        true => (None, &text[16..]),
        false => (Some(host), rest),
    };
    parts[1] = host;
    let is_tag = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./@".contains(byte);
    let length = rest.iter().take(64).take_while(|byte| is_tag(byte)).count();
    let (app, after) = rest.split_at(length);
    let (pid, after) = match after {
        [b'[', inside @ ..] => match inside.iter().take(64).position(|byte| *byte == b']') {
            Some(end) => (Some(&inside[..end]), &inside[end + 1..]),
            None => (None, after),
        },
        _ => (None, after),
    };
    match after {
        [b':', message @ ..] if !app.is_empty() => {
            (parts[2], parts[3]) = (Some(app), pid);
            parts[6] = Some(message.strip_prefix(b" ").unwrap_or(message));
        }
        _ => parts[6] = Some(rest),
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The parts as texts, `-` for none.
    fn parts(line: &str) -> Option<String> {
        let parsed = Syslog::parse(line.as_bytes())?;
        let shown =
            |value: Option<&[u8]>| String::from_utf8(value.unwrap_or(b"-").to_vec()).unwrap();
        Some(parsed.values.map(shown).join("|"))
    }

    #[test]
    fn the_examples_of_both_documents() {
        let cases = [
            // RFC 5424, section 6.5.
            (
                "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed",
                "auth|crit|2003-10-11T22:14:15.003Z|mymachine.example.com|su|-|ID47|-|'su root' failed",
            ),
            (
                "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time",
                "local4|notice|2003-08-24T05:14:15.000003-07:00|192.0.2.1|myproc|8710|-|-|%% It's time",
            ),
            (
                "<165>1 2003-10-11T22:14:15.003Z h e - ID47 [a@32473 iut=\"3\" s=\"]\\\"\"][b@1 c=\"high\"]",
                "local4|notice|2003-10-11T22:14:15.003Z|h|e|-|ID47|[a@32473 iut=\"3\" s=\"]\\\"\"][b@1 c=\"high\"]|-",
            ),
            // RFC 3164, section 5.4.
            (
                "<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
                "auth|crit|Oct 11 22:14:15|mymachine|su|-|-|-|'su root' failed",
            ),
            ("<0>1990 Oct 22 10:52:01 TZ-6", "kern|emerg|-|-|-|-|-|-|1990 Oct 22 10:52:01 TZ-6"),
            (
                "<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!",
                "user|notice|Feb  5 17:32:18|10.0.0.99|-|-|-|-|Use the BFG!",
            ),
            // As glibc's syslog(3) writes to /dev/log.
            (
                "<30>Nov  9 01:02:03 sshd[42]: hello",
                "daemon|info|Nov  9 01:02:03|-|sshd|42|-|-|hello",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(parts(line).as_deref(), Some(expected), "{line}");
        }
        for wrong in [
            "",
            "<",
            "<>x",
            "<192>1 x",
            "<034>x",
            "34>x",
            "<3a>x",
            "<1234>x",
            "x<34>",
            "<34>1 only",
            "<34>1 - - - - - [a",
            "<34>1 - - - - - -x",
        ] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #![proptest_config(crate::records::any_of(2_000))]

        #[test]
        fn any_line_is_parsed_or_not(text in "<[0-9]{0,3}>(1 )?(Oct 11 22:14:15 )?[ -~]{0,40}", cut in 0..60_usize) {
            let bytes = text.as_bytes();
            Syslog::parse(&bytes[..cut.min(bytes.len())]);
        }
    }
}
