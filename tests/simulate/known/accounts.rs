//! What was lost, and who was told: the agent's word is held against what went in and came out. Makes nothing
//! happen.

use std::collections::HashMap;
use std::time::Duration;

use infiniservice::pipeline::StageCounts;
use infiniservice::wire::outbound::AgentEvent;
use serde::de::IgnoredAny;

use super::{Id, Known};

/// The first number of what the agent tells by itself.
const TOLD: u64 = 1 << 40;

/// What was told of losses.
#[derive(Debug, Default)]
pub struct Outbound {
    /// In all lives, in order.
    messages: Vec<String>,
    /// In this life, by node and reason.
    lost: HashMap<(String, String), u64>,
}

impl Outbound {
    /// For the next life.
    pub fn next(&mut self) -> Self {
        Self { messages: std::mem::take(&mut self.messages), lost: HashMap::new() }
    }
}

/// Whether it is something that the agent tells by itself.
pub fn is_told(id: Id) -> bool {
    id.number >= TOLD
}

/// Readings of one life: made, and written whole.
#[derive(Debug, Default)]
pub struct Written {
    pub made: u64,
    /// The last one of the life before.
    pub before: u64,
    whole: u64,
    /// Those that hosts got whole.
    pub got: u64,
    /// A host left that may have been believed to have read what it did not.
    pub is_believed: bool,
    /// What is written of the line that is being written.
    line: Vec<u8>,
}

impl Written {
    /// Of the life after reading number `before`.
    pub fn after(before: u64) -> Self {
        Self { before, ..Self::default() }
    }

    /// The device took `bytes`. A bare newline ends what was cut there, which may be a line without its newline.
    pub fn accepted(&mut self, bytes: &[u8], is_bare: bool) {
        if is_bare {
            let is_whole = serde_json::from_slice::<IgnoredAny>(&self.line).is_ok();
            self.ends(is_whole);
            return;
        }
        let mut rest = bytes;
        while let Some(newline) = memchr::memchr(b'\n', rest) {
            self.line.extend_from_slice(&rest[..newline]);
            self.ends(true);
            rest = &rest[newline + 1..];
        }
        self.line.extend_from_slice(rest);
    }

    fn ends(&mut self, is_whole: bool) {
        self.whole += u64::from(is_whole && self.line.starts_with(READING));
        self.line.clear();
    }
}

/// How each reading begins.
const READING: &[u8] = b"{\"timestamp\"";

impl Known {
    /// A host that has not answered for a second counts as having read by then; it answers now, or is gone.
    pub(super) fn believes(&mut self) {
        let connection = &self.connection;
        let is_silent = connection.answers.is_none();
        let patience = Duration::from_secs(if is_silent { 1 } else { 60 });
        let is_old = connection.consumed_at.elapsed() >= patience;
        self.written.is_believed |= is_old && connection.accepted > connection.consumed;
    }

    /// The host left.
    pub fn left(&mut self, offset: u64) {
        self.believes();
        self.begins_anew();
        self.note("left", offset, 0);
    }

    /// The agent tells a host what was lost; each such event gets a number, so that no two say the same.
    pub fn tells(&mut self, event: &mut AgentEvent) {
        let number = TOLD + self.told.messages.len() as u64;
        event.message.push_str(&format!(" ({number})"));
        self.told.messages.push(event.message.clone());
        let lost = event.context.as_ref().and_then(|context| context["lost"].as_array());
        for lost in lost.into_iter().flatten() {
            let text = |name: &str| lost[name].as_str().unwrap_or_default().to_owned();
            let sum = self.told.lost.entry((text("node"), text("reason"))).or_default();
            *sum += lost["count"].as_u64().unwrap_or_default();
        }
        if !self.is_quiet {
            self.made(Id { number, is_script: false }, event.message.len());
        } // else no host understands it, and it goes no further
    }

    /// A host got an event.
    pub(super) fn got_event(&mut self, message: &str, is_marked: bool) {
        if !message.contains(" lost, most of them (") {
            return;
        }
        self.note("told lost", u64::from(is_marked), 0);
        let id = (TOLD..).zip(&self.told.messages).find(|(_, told)| *told == message);
        let id = id.map(|(number, _)| Id { number, is_script: false });
        let Some(told) = id.and_then(|id| self.asked.get_mut(&id)) else {
            return self.breaks(|| format!("nobody told this: {message}"));
        };
        *(if is_marked { &mut told.marked } else { &mut told.unmarked }) += 1;
        if told.unmarked > 1 {
            self.breaks(|| format!("this came twice, and unmarked: {message}"));
        }
    }

    /// All has come to rest: what went in has come out, or is in the `books` as lost, and that was told.
    pub fn adds_up(&mut self, books: &[StageCounts]) {
        let losses =
            || books.iter().flat_map(|book| book.dropped.iter().map(move |lost| (book, lost)));
        let of_readings = books.iter().filter(|book| book.node.starts_with("metrics/"));
        let lost: u64 = of_readings.map(StageCounts::not_sent_total).sum();
        let (made, whole) = (self.written.made, self.written.whole);
        if made != whole + lost {
            self.breaks(|| {
                format!("{made} readings were made, {whole} written, and {lost} are told lost")
            });
        }
        let unread = losses().filter(|(_, (reason, _))| *reason == "unread");
        let unread: u64 = unread.map(|(_, (_, count))| count).sum();
        let Written { got, is_believed, .. } = self.written;
        if made > got + lost + unread && !is_believed {
            self.breaks(|| {
                format!("{made} readings were made, hosts got {got}, and {lost} and {unread} are told lost")
            });
        }
        if self.is_quiet {
            return; // whose host understands no event is told nothing
        }
        for (book, (reason, count)) in losses() {
            let told = self.told.lost.get(&(book.node.clone(), (*reason).to_owned()));
            let told = told.copied().unwrap_or_default();
            if told != *count {
                let node = &book.node;
                self.breaks(|| format!("{count} lost at {node} ({reason}), and {told} are told"));
            }
        }
    }
}
