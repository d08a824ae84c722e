//! The line of `/proc/PID/stat`, as a pure function. Reads nothing.

use super::parse;

/// What is used of one line. Times are in ticks of `CLK_TCK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PidStat<'a> {
    /// Name as the kernel has it: any bytes.
    pub name: &'a [u8],
    /// State letter.
    pub state: u8,
    /// Parent, 0 for none.
    pub parent: u32,
    /// User and system time of all threads, those that have ended included.
    pub cpu_ticks: u64,
    /// Threads.
    pub threads: u64,
    /// Start, since boot.
    pub started_ticks: u64,
    /// Resident memory.
    pub rss_pages: u64,
    /// Where the stack and the arguments begin; 0 where that may not be known.
    pub addresses: [u64; 2],
}

/// Reads one line (`proc_pid_stat(5)`); `None` for another kind of text.
///
/// The name stands in parentheses and may itself have parentheses, spaces and newlines, so it
/// ends at the last `)`: all that follows is numbers and one letter.
pub(super) fn parse(line: &[u8]) -> Option<PidStat<'_>> {
    let open = memchr::memchr(b'(', line)?;
    let close = memchr::memrchr(b')', line)?;
    let name = line.get(open + 1..close)?;
    let mut words = parse::words(line.get(close + 1..)?);
    // Counted from the state, which is field 3 of the manual page.
    let state = *words.next()?.first()?;
    let parent = parse::number(words.next()?)?.try_into().ok()?;
    let user = parse::number(words.nth(9)?)?; // 14
    let system = parse::number(words.next()?)?; // 15
    let threads = parse::number(words.nth(4)?)?; // 20
    let started_ticks = parse::number(words.nth(1)?)?; // 22
    let rss_pages = parse::number(words.nth(1)?)?; // 24
    let stack = words.nth(3).and_then(parse::number).unwrap_or(0); // 28
    let arguments = words.nth(19).and_then(parse::number).unwrap_or(0); // 48
    Some(PidStat {
        name,
        state,
        parent,
        cpu_ticks: user.saturating_add(system),
        threads,
        started_ticks,
        rss_pages,
        addresses: [stack, arguments],
    })
}

/// The word for a state letter.
pub(super) fn state_name(letter: u8) -> &'static str {
    match letter {
        b'R' => "running",
        b'S' => "sleeping",
        b'D' => "disk-sleep",
        b'I' => "idle",
        b'T' => "stopped",
        b't' => "traced",
        b'Z' => "zombie",
        b'X' | b'x' => "dead",
        b'P' => "parked",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REST: &str = "S 1 77 77 0 -1 4194560 1 2 3 4 50 7 1000 2000 20 0 1 0 8123 226304000 512 \
        18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn a_line_gives_time_of_its_own_threads_but_not_of_its_children() {
        let line = format!("77 (sshd) {REST}");
        let stat = parse(line.as_bytes()).unwrap();
        assert_eq!(stat.name, b"sshd");
        assert_eq!((stat.state, stat.parent, stat.cpu_ticks), (b'S', 1, 57));
        assert_eq!((stat.threads, stat.started_ticks, stat.rss_pages), (1, 8123, 512));
    }

    #[test]
    fn a_name_may_look_like_the_end_of_the_name() {
        for name in
            [&b"a) R 1 (b"[..], b"(sd-pam)", b"", b"two\nlines", b"tab\there", b"\xff\xfe) "]
        {
            let mut line = b"7 (".to_vec();
            line.extend_from_slice(name);
            line.extend_from_slice(b") ");
            line.extend_from_slice(REST.as_bytes());
            let stat = parse(&line).unwrap();
            assert_eq!((stat.name, stat.cpu_ticks), (name, 57));
        }
    }

    #[test]
    fn every_state_can_be_read_back() {
        for state in 0..=u8::MAX {
            assert!(crate::model::Process::STATUSES.contains(&state_name(state)), "{state}");
        }
    }

    #[test]
    fn a_cut_line_is_refused() {
        let line = format!("77 (sshd) {REST}");
        let end = line.find(" 512 ").unwrap();
        assert!(parse(&line.as_bytes()[..end]).is_none());
        assert!(parse(b")(").is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>, text in "[0-9() SR-]{0,200}") {
            let _ = (parse(&bytes), parse(text.as_bytes()));
        }
    }
}
