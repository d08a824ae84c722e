//! One connection to a guest, from its bytes to lines that are known to be whole JSON objects, and what it is answered: the
//! host's part of the protocol. Pure: reads no socket and no clock.
//!
//! # Acknowledgement
//! A guest that keeps things until they are acknowledged sends a `keep_alive` behind them, and takes the answer to its number
//! for the acknowledgement of everything before it. So the answer waits until every output has those lines.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use super::fleet::{Count, LineKind};
use crate::commands::secret::Secret;
use crate::host::{Clock, KeepAlive, connection_number, payload, uuid};
use crate::model::{Iso8601, Receipt, Unacknowledged};
use crate::wire::raw::Raw;
use crate::wire::{Lines, TooLong, envelope, steers};

/// Levels of nesting of a line that is taken: what `serde_json` and most other readers take.
const DEPTH_MAX: usize = 127;
/// Lines in a row that are no JSON objects, after which the connection ends.
const GARBAGE_MAX: u32 = 1000;
/// Signs of life that wait for their answer; one more takes the place of the newest.
///
/// # Why the newest
/// It is what an agent does, with the same bound (`src/port/ack_tracker.rs`). If an older one was not answered and a newer one
/// was, the agent would conclude that the older one was lost with all before it, and send that again.
const WAITING_MAX: usize = 64;
/// A version that is longer is none.
const VERSION_BYTES_MAX: usize = 64;
/// Bytes that wait to be written to the guest. Above them automatic messages are left out.
const UNWRITTEN_BYTES_MAX: usize = 16 << 10;

/// The state of one connection.
pub(super) struct Session {
    secret: Option<Secret>,
    lines: Lines,
    /// Bytes since the last newline.
    since_newline: usize,
    garbage: u32,
    clock: Clock,
    keep_alive: KeepAlive,
    /// Lines that were handed on.
    sequence: u64,
    /// Those that an output has not taken yet.
    unacknowledged: Unacknowledged<u64>,
    /// All lines up to this one are where they must be.
    acknowledged: u64,
    /// Signs of life of the guest that are not answered yet, each with the line before it.
    waiting: VecDeque<(u64, u64)>,
    unwritten: VecDeque<Bytes>,
    unwritten_bytes: usize,
    /// Tells this connection from the next one; `None` where no random number is to be had.
    connection: Option<u64>,
}

/// What a guest has sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A line to hand on.
    Line(LineKind, Bytes),
    /// Part of the protocol, which goes no further.
    KeepAlive,
    /// Nothing that can be used; it is counted.
    Nothing(Count),
}

/// Why a connection has to end.
pub(super) type Disconnect = Count;

impl Session {
    /// A new connection. Without a `secret` nothing is sent.
    pub(super) fn new(secret: Option<Secret>) -> Self {
        Self {
            secret,
            lines: Lines::new(0),
            since_newline: 0,
            garbage: 0,
            clock: Clock::default(),
            keep_alive: KeepAlive::default(),
            sequence: 0,
            unacknowledged: Unacknowledged::default(),
            acknowledged: 0,
            waiting: VecDeque::new(),
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            connection: connection_number().ok(),
        }
    }

    /// Bytes of a line that has begun.
    pub(super) fn begun(&self) -> usize {
        self.lines.held()
    }

    /// Takes bytes of the guest, whose lines may have `line_max` bytes. [`next`](Self::next) has what they hold.
    ///
    /// # Errors
    /// The guest sends without end.
    pub(super) fn take(&mut self, chunk: &[u8], line_max: usize) -> Result<(), Disconnect> {
        self.lines.set_max(line_max);
        self.since_newline = match memchr::memrchr(b'\n', chunk) {
            Some(at) => chunk.len() - at - 1,
            None => self.since_newline + chunk.len(),
        };
        match self.since_newline > 4 * line_max {
            true => Err(Count::Endless),
            false => Ok(()),
        }
    }

    /// What comes next in `chunk`; `None` when that is used up.
    ///
    /// # Errors
    /// The guest has sent nothing but nonsense for long.
    pub(super) fn next(
        &mut self,
        chunk: &mut Bytes,
        now: SystemTime,
    ) -> Result<Option<Incoming>, Disconnect> {
        let is_blank = |line: &Result<Bytes, TooLong>| {
            line.as_ref().is_ok_and(|line| line.trim_ascii().is_empty())
        };
        let mut lines = std::iter::from_fn(|| self.lines.next(chunk));
        let Some(line) = lines.find(|line| !is_blank(line)) else { return Ok(None) };
        let came = match line {
            Err(TooLong { .. }) => Incoming::Nothing(Count::TooLong),
            Ok(line) => self.read(line, now),
        };
        match came {
            Incoming::Nothing(_) => self.garbage += 1,
            _ => self.garbage = 0,
        }
        if self.garbage >= GARBAGE_MAX { Err(Count::Nonsense) } else { Ok(Some(came)) }
    }

    fn read(&mut self, line: Bytes, now: SystemTime) -> Incoming {
        let Some(head) = Head::of(&line) else { return Incoming::Nothing(Count::Garbage) };
        if depth(&line) > DEPTH_MAX {
            return Incoming::Nothing(Count::TooDeep);
        }
        if let Some(timestamp) = &head.timestamp {
            self.clock.learn(timestamp, now);
        }
        match (head.kind.as_deref().unwrap_or_default(), head.number) {
            ("keep_alive", Some(number)) => {
                self.keep_alive.heard(number, Instant::now());
                self.waiting.truncate(WAITING_MAX - 1);
                self.waiting.push_back((number, self.sequence));
                Incoming::KeepAlive
            }
            ("request_pending_scripts", _) => {
                let none = payload::hand_out(&[], Iso8601::new(now).as_str());
                match self.say(&none, now) {
                    true => Incoming::KeepAlive,
                    false => Incoming::Nothing(Count::Unread),
                }
            }
            // Copied: a short line would keep the whole chunk that it came in.
            (kind, _) => Incoming::Line(kind_of(kind), Bytes::copy_from_slice(line.trim_ascii())),
        }
    }

    /// The receipts of the next line, one for each of `outputs`. The line is where it must be once all are acknowledged.
    pub(super) fn receipts(&mut self, outputs: usize) -> Vec<Receipt> {
        let before = self.sequence;
        self.sequence += 1;
        let position = |output| if output == outputs { self.sequence } else { before };
        (1..=outputs).map(|output| self.unacknowledged.receipt(position(output))).collect()
    }

    /// The agent has begun a session, in which it knows no sign of life of before.
    pub(super) fn session_began(&mut self) {
        self.waiting.clear();
    }

    /// Whether an answer waits for an output, and would be taken.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty() && self.has_room()
    }

    /// What the outputs have not taken yet.
    pub(super) fn unacknowledged(&self) -> Unacknowledged<u64> {
        self.unacknowledged.clone()
    }

    /// Answers each sign of life behind which everything is where it must be, as far as the guest reads. Gives how many answers
    /// were left out.
    ///
    /// # Errors
    /// A line was lost on its way: the guest has to send it again, which it does after a new connection.
    pub(super) fn answer(&mut self, now: SystemTime) -> Result<u64, Disconnect> {
        if self.unacknowledged.is_stopped() {
            return Err(Count::Lost);
        }
        self.acknowledged = self.unacknowledged.take().unwrap_or(self.acknowledged);
        // Without an output that acknowledges there is nothing to wait for.
        if self.unacknowledged.is_settled() {
            self.acknowledged = self.sequence;
        }
        let mut left_out = 0;
        let acknowledged = self.acknowledged;
        while self.has_room()
            && let Some((number, _)) =
                self.waiting.pop_front_if(|(_, before)| *before <= acknowledged)
        {
            let answer =
                payload::keep_alive_response(number, Iso8601::new(now).as_str(), self.connection);
            left_out += u64::from(!self.say(&answer, now));
        }
        Ok(left_out)
    }

    /// Asks the guest whether it is there. Whether it can be asked.
    pub(super) fn ask(&mut self, now: SystemTime) -> bool {
        let number = self.keep_alive.ask(Instant::now());
        self.say(&payload::keep_alive_request(number, Iso8601::new(now).as_str()), now)
    }

    /// Puts a command behind what is to be written. `false` where nothing signs it, or the guest does not read.
    pub(super) fn command(&mut self, payload: &str, now: SystemTime) -> bool {
        self.secret.is_some() && self.say(payload, now)
    }

    /// Whether a command or an answer would be taken now.
    pub(super) fn has_room(&self) -> bool {
        self.unwritten_bytes <= UNWRITTEN_BYTES_MAX
    }

    /// Puts a message behind what is to be written. `false` where it is left out: the guest does not read. Without a secret
    /// nothing is sent, which is no loss.
    fn say(&mut self, payload: &str, now: SystemTime) -> bool {
        let Some(secret) = &self.secret else { return true };
        let Ok(nonce) = uuid() else { return false };
        if self.unwritten_bytes > UNWRITTEN_BYTES_MAX {
            return false;
        }
        let mut line = envelope::seal(secret.expose(), self.clock.stamp(now), &nonce, payload);
        line.push('\n');
        self.unwritten_bytes += line.len();
        self.unwritten.push_back(line.into());
        true
    }

    /// What is to be written next; empty where nothing is.
    pub(super) fn unwritten(&self) -> &[u8] {
        self.unwritten.front().map_or(&[], |line| line)
    }

    /// So much of it was written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.unwritten_bytes -= bytes;
        if let Some(line) = self.unwritten.front_mut() {
            let _ = line.split_to(bytes);
            if line.is_empty() {
                self.unwritten.pop_front();
            }
        }
    }
}

/// What is read of a line here.
struct Head {
    kind: Option<String>,
    timestamp: Option<String>,
    number: Option<u64>,
}

impl Head {
    /// `None` where the line is no JSON object. Of a name that is there twice the first counts.
    fn of(line: &[u8]) -> Option<Self> {
        let line = Raw::parse(std::str::from_utf8(line).ok()?).ok()?;
        let mut found = [None; 3];
        for (name, value) in line.members()? {
            let known = ["type", "timestamp", "sequence_number"];
            if let Some(at) = known.iter().position(|known| name.spells(known)) {
                found[at].get_or_insert(value);
            }
        }
        let text = |value: Option<Raw<'_>>| value.filter(|value| value.as_str().len() < 64)?.text();
        let [kind, timestamp, number] = found;
        Some(Self {
            kind: text(kind),
            timestamp: text(timestamp),
            number: number.and_then(Raw::number),
        })
    }
}

/// The id of the command that a line answers.
pub(super) fn answered_id(line: &[u8]) -> Option<String> {
    let line = Raw::parse(std::str::from_utf8(line).ok()?).ok()?;
    let [kind, id] = line.fields(["type", "id"]).ok()?;
    let is_answer = kind.is_some_and(|kind| kind.spells("response"));
    id.filter(|_| is_answer)?.text()
}

/// The agent's version, where this event says it: the first one of each session does.
pub(super) fn agent_version(event: &[u8]) -> Option<String> {
    // Most events have none; it costs little to see that.
    memchr::memmem::find(event, b"\"version\"")?;
    let event = Raw::parse(std::str::from_utf8(event).ok()?).ok()?;
    let [context] = event.fields(["context"]).ok()?;
    let [version] = context?.fields(["version"]).ok()?;
    version?
        .text()
        .filter(|version| version.len() <= VERSION_BYTES_MAX && !version.chars().any(steers))
}

fn kind_of(word: &str) -> LineKind {
    match word {
        "metrics" => LineKind::Metrics,
        "response" | "script_completion" => LineKind::Response,
        "agent_event"
        | "error"
        | "error_report"
        | "circuit_breaker_state"
        | "firewall_event"
        | "handshake"
        | "keep_alive" => LineKind::Event,
        _ => LineKind::Record,
    }
}

/// How deep a line of valid JSON is nested.
fn depth(line: &[u8]) -> usize {
    let (mut depth, mut most, mut at) = (0_usize, 0, 0);
    while let Some(byte) = line.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                at += 1;
                while let Some(found) =
                    line.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
                {
                    at += found;
                    if line[at] == b'"' {
                        break;
                    }
                    at += 2;
                }
            }
            _ => {}
        }
        most = most.max(depth);
        at += 1;
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 4096;

    fn all(session: &mut Session, text: &str) -> Result<Vec<Incoming>, Disconnect> {
        let mut chunk = Bytes::copy_from_slice(text.as_bytes());
        session.take(&chunk, MAX)?;
        let mut came = Vec::new();
        while let Some(one) = session.next(&mut chunk, SystemTime::now())? {
            came.push(one);
        }
        Ok(came)
    }

    fn session() -> Session {
        Session::new(Secret::new(b"key".to_vec()))
    }

    fn said(session: &mut Session) -> Vec<serde_json::Value> {
        let mut said = Vec::new();
        while !session.unwritten().is_empty() {
            let line = session.unwritten().to_vec();
            session.wrote(line.len());
            let ts = serde_json::from_slice::<serde_json::Value>(&line).unwrap()["ts"].as_i64();
            let payload = envelope::open(b"key", &line, ts.unwrap()).ok().unwrap().payload;
            said.push(serde_json::from_str(&payload).unwrap());
        }
        said
    }

    #[test]
    fn lines_are_told_apart_and_what_is_no_object_is_counted() {
        let line = |kind, text: &str| Incoming::Line(kind, Bytes::copy_from_slice(text.as_bytes()));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX));
        for (text, came) in [
            (r#"{"type":"metrics"}"#, line(LineKind::Metrics, r#"{"type":"metrics"}"#)),
            (r#" {"type":"response"} "#, line(LineKind::Response, r#"{"type":"response"}"#)),
            (r#"{"type":"agent_event"}"#, line(LineKind::Event, r#"{"type":"agent_event"}"#)),
            (r#"{"a":"]]\""}"#, line(LineKind::Record, r#"{"a":"]]\""}"#)),
            (r#"{"type":7}"#, line(LineKind::Record, r#"{"type":7}"#)),
            (r#"{"type":"keep_alive","sequence_number":7}"#, Incoming::KeepAlive),
            ("[1]", Incoming::Nothing(Count::Garbage)),
            ("{\"a\":1}}", Incoming::Nothing(Count::Garbage)),
            ("\u{0}garbage", Incoming::Nothing(Count::Garbage)),
            (deep.as_str(), Incoming::Nothing(Count::TooDeep)),
            (long.as_str(), Incoming::Nothing(Count::TooLong)),
        ] {
            assert_eq!(all(&mut session(), &format!("\n{text}\r\n")), Ok(vec![came]), "{text}");
        }
    }

    #[test]
    fn a_line_without_end_and_nonsense_for_ever_end_the_connection() {
        let mut endless = session();
        let piece = "x".repeat(MAX);
        let taken = (0..10).take_while(|_| all(&mut endless, &piece).is_ok()).count();
        assert_eq!(taken, 4);
        assert!(endless.begun() <= MAX + 1);

        let mut nonsense = session();
        assert_eq!(all(&mut nonsense, &"no\n".repeat(999)).map(|came| came.len()), Ok(999));
        assert!(all(&mut nonsense, "{}\n").is_ok(), "a line of sense begins the count anew");
        assert_eq!(all(&mut nonsense, &"no\n".repeat(1000)), Err(Count::Nonsense));
    }

    #[test]
    fn a_sign_of_life_is_answered_once_every_output_has_the_lines_before_it() {
        let mut session = session();
        let now = SystemTime::now();
        all(&mut session, "{\"line\":1}\n").unwrap();
        let first = session.receipts(2);
        all(&mut session, "{\"type\":\"keep_alive\",\"sequence_number\":1000}\n{\"line\":2}\n")
            .unwrap();
        let second = session.receipts(2);
        all(&mut session, "{\"type\":\"keep_alive\",\"sequence_number\":2000}\n").unwrap();
        first[0].acknowledge();
        session.answer(now).unwrap();
        assert_eq!(said(&mut session), Vec::<serde_json::Value>::new(), "one output has it not");
        first[1].acknowledge();
        session.answer(now).unwrap();
        let [answer] = &said(&mut session)[..] else { panic!("one answer") };
        assert_eq!(
            (&answer["type"], &answer["sequence_number"]),
            (&"keep_alive_response".into(), &1000.into())
        );
        second.iter().for_each(Receipt::acknowledge);
        session.answer(now).unwrap();
        assert_eq!(said(&mut session)[0]["sequence_number"], 2000);
        drop(session.receipts(1));
        assert_eq!(session.answer(now), Err(Count::Lost));
    }

    #[test]
    fn of_too_many_signs_of_life_the_oldest_and_the_newest_are_answered() {
        let mut session = session();
        let now = SystemTime::now();
        all(&mut session, "{\"line\":1}\n").unwrap();
        let receipts = session.receipts(1);
        for number in 1..=100 {
            let line = format!("{{\"type\":\"keep_alive\",\"sequence_number\":{number}}}\n");
            all(&mut session, &line).unwrap();
        }
        receipts[0].acknowledge();
        let mut answered = Vec::new();
        while session.waits() {
            assert_eq!(session.answer(now), Ok(0));
            assert!(session.unwritten_bytes < 2 * UNWRITTEN_BYTES_MAX);
            let said = said(&mut session);
            answered.extend(said.iter().map(|answer| answer["sequence_number"].as_u64().unwrap()));
        }
        assert_eq!(answered, (1..=63).chain([100]).collect::<Vec<_>>());
    }

    #[test]
    fn the_version_of_an_agent_is_in_the_event_of_its_session() {
        let of = |context: &str| agent_version(format!("{{\"context\":{context}}}").as_bytes());
        assert_eq!(of(r#"{"epoch":1,"version":"0.1.0"}"#).as_deref(), Some("0.1.0"));
        for none in ["null", r#"{"version":1}"#, r#"{"version":"\u001b[2J"}"#, r#"["version"]"#] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(of(&format!(r#"{{"version":"{}"}}"#, "1".repeat(65))), None);
    }

    #[test]
    fn a_guest_that_does_not_read_costs_no_more_than_a_bound() {
        let mut session = session();
        let asked = (0..1000).filter(|_| session.ask(SystemTime::now())).count();
        assert!(asked < 100 && session.unwritten_bytes < 2 * UNWRITTEN_BYTES_MAX, "{asked}");
        let mut silent = Session::new(None);
        assert!(silent.ask(SystemTime::now()) && silent.unwritten().is_empty());
    }
}
