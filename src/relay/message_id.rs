//! Message ids: by them NATS knows a line that comes again, and stores it once.
//!
//! # What comes again
//! A guest whose connection ended sends again what was not acknowledged, with `"redelivered":true` in front, over this
//! relay or one that was started since. So an id has nothing of the connection or of this process in it: it is a hash of the
//! site, the guest and the line without that mark. A line that a guest says twice on one connection is two lines: the second
//! has a number behind its hash. Lines with the mark are of a session before and counted apart, so that a line which an agent
//! sends again, and reads once more from its file since it was killed, is one. An agent may begin a session in the middle of a
//! connection; then it sends all of them again, so they are counted anew.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// What the agent puts in front of a line that it sends again.
const MARK: &[u8] = br#"{"redelivered":true,"#;
/// Lines of a connection that are remembered twice over, of 16 bytes each.
const LINES_MAX: usize = 8192;

/// The id of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MessageId {
    hash: u128,
    /// How many lines were the same before it.
    number: u32,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => write!(f, "{:032x}", self.hash),
            number => write!(f, "{:032x}-{number}", self.hash),
        }
    }
}

/// Gives the lines of one connection their ids.
#[derive(Debug)]
pub(super) struct MessageIds {
    /// With the site and the guest in it.
    hasher: Sha256,
    /// By half of its hash, how often each line came without the mark and with it.
    seen: HashMap<u64, [u32; 2]>,
    /// The same of the time before.
    before: HashMap<u64, [u32; 2]>,
    began: Instant,
    /// How long a line is remembered at least, where not more come than [`LINES_MAX`].
    age: Duration,
}

impl MessageIds {
    /// For lines of the guest `vm` at `site`, where NATS remembers an id for `age`.
    pub(super) fn new(site: &str, vm: &str, age: Duration, now: Instant) -> Self {
        let hasher = [site, vm].iter().fold(Sha256::new(), |hasher, name| {
            hasher.chain_update((name.len() as u64).to_be_bytes()).chain_update(name)
        });
        Self { hasher, seen: HashMap::new(), before: HashMap::new(), began: now, age }
    }

    /// The agent has begun a session: what it has sent with the mark comes again.
    pub(super) fn session_began(&mut self) {
        let counts = self.seen.values_mut().chain(self.before.values_mut());
        counts.for_each(|[_, marked]| *marked = 0);
    }

    /// The id of the next line.
    pub(super) fn next(&mut self, line: &[u8], now: Instant) -> MessageId {
        if now.duration_since(self.began) >= self.age || self.seen.len() >= LINES_MAX {
            self.before = std::mem::take(&mut self.seen);
            self.began = now;
        }
        let hasher = self.hasher.clone();
        let unmarked = line.strip_prefix(MARK);
        let hasher = match unmarked {
            Some(rest) => hasher.chain_update(b"{").chain_update(rest),
            None => hasher.chain_update(line),
        };
        let hash = hasher.finalize();
        let hash = hash.iter().take(16).fold(0, |hash, byte| hash << 8 | u128::from(*byte));
        let half = hash as u64; // that another line has the same only costs it its number
        let before = self.before.get(&half).copied().unwrap_or_default();
        let count = &mut self.seen.entry(half).or_insert(before)[usize::from(unmarked.is_some())];
        let number = *count;
        *count = count.saturating_add(1);
        MessageId { hash, number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(120);

    #[test]
    fn a_line_has_its_id_again_on_another_connection_and_none_has_that_of_another() {
        let now = Instant::now();
        let ids = |site, vm, lines: &[&str]| -> Vec<String> {
            let mut ids = MessageIds::new(site, vm, AGE, now);
            lines.iter().map(|line| ids.next(line.as_bytes(), now).to_string()).collect()
        };
        let first = ids("lab", "web", &[r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":1}"#]);
        assert_eq!(first[2], format!("{}-1", first[0]), "the same again is another line");
        assert_ne!(first[0], first[1]);
        let marked = [r#"{"redelivered":true,"a":2}"#, r#"{"redelivered":true,"a":1}"#];
        let again = ids("lab", "web", &marked);
        assert_eq!(again, [first[1].clone(), first[0].clone()]);
        let read_again = ids("lab", "web", &[marked[1], marked[1], r#"{"a":1}"#, r#"{"a":1}"#]);
        let [once, twice] = [&first[0], &first[2]];
        assert_eq!(read_again.iter().collect::<Vec<_>>(), [once, twice, once, twice]);
        let mut ids_of_two_sessions = MessageIds::new("lab", "web", AGE, now);
        let [before, after] = [(); 2].map(|()| {
            let ids = marked.map(|line| ids_of_two_sessions.next(line.as_bytes(), now).to_string());
            ids_of_two_sessions.session_began();
            ids
        });
        assert_eq!(before, after, "a session that begins on the same connection");
        for (site, vm) in [("lab", "we"), ("la", "bweb"), ("labw", "eb"), ("", "labweb")] {
            assert_ne!(ids(site, vm, &[r#"{"a":1}"#])[0], first[0], "{site} {vm}");
        }
    }

    #[test]
    fn what_is_remembered_of_a_connection_is_bounded_by_number_and_time() {
        let start = Instant::now();
        let mut ids = MessageIds::new("lab", "web", AGE, start);
        for number in 0..3 * LINES_MAX {
            ids.next(number.to_string().as_bytes(), start);
        }
        assert!(ids.seen.len() + ids.before.len() <= 2 * LINES_MAX);
        let mut ids = MessageIds::new("lab", "web", AGE, start);
        let id = ids.next(b"{}", start);
        assert_ne!(ids.next(b"{}", start + AGE), id, "NATS may know it still");
        assert_eq!(ids.next(b"{}", start + 3 * AGE).number, 2);
    }
}
