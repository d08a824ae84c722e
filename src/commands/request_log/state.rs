//! The state machine of requests, on one page. Pure: reads no clock and no disk.
//!
//! ```text
//!            accepted            started             finished           acknowledged
//!  (unknown) ───────▶ Accepted ─────────▶ Started ───────────▶ Finished ────────────▶ Closed
//!      ▲                 │ │                │ │                                       ▲ ▲
//!      └── withdrawn ────┴─┼────────────────┘ └────── acknowledged: told as cut ──────┘ │
//!      └───────────────────┘ acknowledged: told as not run                              │
//!          a file of an older agent: told ──────────────────────────────────────────────┘
//! ```
//! At a start, whatever is not `Closed` and whose reply does not wait in the spool is told: `Accepted` as not run,
//! `Started` as cut, `Finished` as done before. An id that comes again is new where it is unknown, or was `Accepted` by
//! an agent that ended; else it is under way, or answered from here, or refused where it asks for something else.
//!
//! An event that does not fit the phase of its request changes nothing, so a file with holes is read as far as it goes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::iter;
use std::sync::Arc;

use super::continued::Continued;
use super::event::{Accepted, Ended, Event, Progress, Session};
use super::replay::Replay;
use crate::commands::execute::outcome::Outcome;
use crate::commands::reply::Outbound;

/// Closed requests that are remembered: this many commands, and as many scripts.
pub const REQUESTS_KEPT: usize = 1_024;
/// Replies that are remembered with their output.
pub const ANSWERS_KEPT: usize = 512;
/// Bytes of output and data that are remembered with them: one reply of the maximum length, or many of the usual one.
pub const BYTES_KEPT: usize = 1 << 20;

/// Replaces the output of a reply whose output is not remembered.
pub const NOT_KEPT: &str =
    "it was done before, and is not done again; what it said then is not kept";
/// The error of a command that the end of an agent interrupted.
pub const CUT: &str = "the agent ended while it ran; whether it was done is not known";
/// The error of a script that was interrupted.
pub const CUT_SCRIPT: &str = "the agent stopped while this script ran; it is not run a second time";
/// The error of a request that had not started.
pub const NOT_RUN: &str = "the agent ended before it began, so it was not run; ask for it again";

/// The phases of a request, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Accepted,
    Started,
    Finished,
    /// The host has acknowledged the reply.
    Closed,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub accepted: Accepted,
    pub phase: Phase,
    /// Its result; `None` if the end of an agent interrupted it.
    ended: Option<Ended>,
    /// It is being executed.
    is_claimed: bool,
    /// An earlier agent accepted it.
    is_earlier: bool,
    /// It was started by an earlier agent, and may run still: its end follows.
    pub goes_on: bool,
    reply: Option<Box<Reply>>,
}

/// A remembered reply. Its data is kept as text, because the same data as a tree of values takes five times the memory.
#[derive(Debug)]
struct Reply {
    outcome: Outcome,
    data: Option<Box<str>>,
}

/// How many requests of a kind there are, and which of them can be forgotten.
#[derive(Debug, Default)]
struct Remembered {
    count: usize,
    finished: BTreeSet<u32>,
    closed: BTreeSet<u32>,
}

/// The answer to a claim of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// It has not started: the caller may run it.
    New,
    /// It is in progress, and its reply will follow.
    InProgress,
    /// It has this reply already.
    Answered(Box<Outbound>),
    /// Its id came before with another payload: it must not run, and the reply to the other is not its own.
    OtherPayload,
}

/// The state of all remembered requests.
#[derive(Debug, Default)]
pub(super) struct State {
    pub session: Session,
    pub replay: Replay,
    /// Boxed, since the tree moves what stands in it.
    entries: BTreeMap<u32, Box<Entry>>,
    by_id: HashMap<Arc<str>, u32>,
    /// Of commands, and of scripts.
    kinds: [Remembered; 2],
    last: u32,
    /// Whether the last event was the orderly end of an agent.
    pub is_closed: bool,
    /// Requests with a remembered reply, oldest first, and the size of each.
    replies: VecDeque<(u32, usize)>,
    bytes: usize,
}

impl State {
    /// The next request's number.
    pub fn next(&self) -> u32 {
        self.last.checked_add(1).unwrap_or(1)
    }

    /// Applies an event.
    pub fn apply(&mut self, event: Event) {
        self.is_closed = event == Event::Closed;
        let (number, event) = match event {
            Event::Session(session) => {
                self.replay.lost = session.floor;
                self.session = session;
                return;
            }
            Event::Envelope(ts, nonce) => return self.replay.remember(ts, nonce),
            Event::Accepted(number, accepted) => return self.insert(number, accepted),
            Event::Closed => return,
            Event::Progress(number, what) => (number, what),
        };
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let kind = &mut self.kinds[usize::from(entry.accepted.is_script())];
        match (event, entry.phase) {
            (Progress::Started, Phase::Accepted) => entry.phase = Phase::Started,
            (Progress::Finished(ended), Phase::Accepted | Phase::Started) => {
                (entry.phase, entry.ended) = (Phase::Finished, Some(ended));
                kind.finished.insert(number);
            }
            (Progress::Withdrawn, Phase::Accepted | Phase::Started)
            | (Progress::Acknowledged, Phase::Accepted) => self.remove(number),
            (Progress::Acknowledged, _) => {
                entry.phase = Phase::Closed;
                kind.finished.remove(&number);
                kind.closed.insert(number);
            }
            _ => {}
        }
    }

    /// The events that a rewritten file must contain.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        let session = Session { floor: self.replay.floor(), ..self.session.clone() };
        let envelopes = self.replay.all().map(|(ts, nonce)| Event::Envelope(ts, nonce));
        let requests = self.entries.iter().flat_map(|(&number, entry)| {
            let is_closed = entry.phase == Phase::Closed;
            let is_started = entry.phase > Phase::Accepted && entry.ended.is_none();
            let steps = [
                is_started.then_some(Progress::Started),
                entry.ended.map(Progress::Finished),
                is_closed.then_some(Progress::Acknowledged),
            ];
            let steps = steps.into_iter().flatten().map(move |what| Event::Progress(number, what));
            iter::once(Event::Accepted(number, entry.accepted.clone())).chain(steps)
        });
        iter::once(Event::Session(session)).chain(envelopes).chain(requests)
    }

    /// The number of the request with this id, unless it is one that an earlier agent accepted and did not start.
    pub fn number(&self, id: &str) -> Option<u32> {
        let number = *self.by_id.get(id)?;
        let entry = self.entries.get(&number)?;
        (!(entry.is_earlier && entry.phase == Phase::Accepted)).then_some(number)
    }

    /// Claims an accepted request for `asked`, unless it was claimed before.
    ///
    /// A script that differs from the one in progress is not told as refused: an execution has one completion, and that
    /// one follows.
    pub fn claim(&mut self, number: u32, asked: &Accepted) -> Claim {
        let Some(entry) = self.entries.get_mut(&number) else { return Claim::InProgress };
        if entry.accepted.differs(asked) {
            let is_in_progress =
                entry.phase < Phase::Finished && (entry.goes_on || !entry.is_earlier);
            let is_script = entry.accepted.is_script() && asked.is_script();
            return match is_in_progress && is_script {
                true => Claim::InProgress,
                false => Claim::OtherPayload,
            };
        }
        match entry.phase {
            Phase::Accepted if !std::mem::replace(&mut entry.is_claimed, true) => Claim::New,
            Phase::Accepted => Claim::InProgress,
            Phase::Started if entry.goes_on || !entry.is_earlier => Claim::InProgress,
            _ => Claim::Answered(Box::new(entry.reply(number))),
        }
    }

    /// The reply to a request that has ended.
    pub fn answer(&self, number: u32) -> Option<Outbound> {
        let entry = self.entries.get(&number)?;
        (entry.phase >= Phase::Finished).then(|| entry.reply(number))
    }

    /// Remembers the output of a reply.
    pub fn keep(&mut self, number: u32, outcome: &Outcome) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let data = outcome.data.as_ref().map(|data| data.to_string().into_boxed_str());
        let outcome = Outcome { data: None, ..outcome.clone() };
        let said = outcome.stdout.len() + outcome.stderr.len();
        let weight = said + data.as_ref().map_or(0, |data| data.len());
        entry.reply = Some(Box::new(Reply { outcome, data }));
        self.replies.push_back((number, weight));
        self.bytes += weight;
        while self.bytes > BYTES_KEPT || self.replies.len() > ANSWERS_KEPT {
            let Some((oldest, weight)) = self.replies.pop_front() else { return };
            self.bytes -= weight;
            if let Some(entry) = self.entries.get_mut(&oldest) {
                entry.reply = None;
            }
        }
    }

    /// Requests of earlier agents without an acknowledged reply, oldest first.
    pub fn open(&self) -> impl Iterator<Item = (u32, &Entry)> {
        let all = self.entries.iter().map(|(number, entry)| (*number, &**entry));
        all.filter(|(_, entry)| entry.is_earlier && entry.phase != Phase::Closed)
    }

    /// Starts a run: all requests so far belong to earlier ones.
    pub fn begin(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.is_earlier = true);
    }

    /// Marks the requests that were started and whose file is there, and removes all other files.
    pub fn continue_started(&mut self, continued: &Continued) {
        let started = self.entries.values_mut().filter(|entry| entry.phase == Phase::Started);
        let mut started: HashMap<String, &mut Box<Entry>> =
            started.map(|entry| (Continued::key(&entry.accepted.id), entry)).collect();
        for key in continued.keys(|key| started.contains_key(key)) {
            if let Some(entry) = started.get_mut(&key) {
                entry.goes_on = true;
            }
        }
    }

    /// The request with this number does not go on any more.
    pub fn ended(&mut self, number: u32) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.goes_on = false;
        }
    }

    /// Records are missing: treats accepted requests as started.
    pub fn distrust(&mut self) {
        let is_accepted = |entry: &&mut Box<Entry>| entry.phase == Phase::Accepted;
        self.entries
            .values_mut()
            .filter(is_accepted)
            .for_each(|entry| entry.phase = Phase::Started);
    }

    fn insert(&mut self, number: u32, accepted: Accepted) {
        if number <= self.last {
            self.remove(number); // only in a file that another program has written
        }
        self.last = self.last.max(number);
        if let Some(before) = self.by_id.insert(accepted.id.as_str().into(), number) {
            self.forget(before);
        }
        let kind = usize::from(accepted.is_script());
        let (phase, ended) = (Phase::Accepted, None);
        let (is_claimed, is_earlier, goes_on, reply) = (false, false, false, None);
        let entry = Entry { accepted, phase, ended, is_claimed, is_earlier, goes_on, reply };
        self.entries.insert(number, Box::new(entry));
        let kind = &mut self.kinds[kind];
        kind.count += 1;
        if kind.count > REQUESTS_KEPT
            && let Some(&oldest) = kind.closed.first().or(kind.finished.first())
        {
            self.remove(oldest);
        }
    }

    fn remove(&mut self, number: u32) {
        if let Some(entry) = self.forget(number) {
            self.by_id.remove(entry.accepted.id.as_str());
        }
    }

    /// Removes it and leaves its id.
    fn forget(&mut self, number: u32) -> Option<Box<Entry>> {
        let entry = self.entries.remove(&number)?;
        let kind = &mut self.kinds[usize::from(entry.accepted.is_script())];
        kind.count -= 1;
        match entry.phase {
            Phase::Accepted | Phase::Started => {}
            Phase::Finished => _ = kind.finished.remove(&number),
            Phase::Closed => _ = kind.closed.remove(&number),
        }
        Some(entry)
    }
}

impl Entry {
    /// The reply to its host.
    pub fn reply(&self, number: u32) -> Outbound {
        let mut outcome = match (&self.reply, self.ended) {
            (Some(reply), _) => Outcome {
                // It was spelled from a value, so it reads as one.
                data: reply.data.as_deref().and_then(|data| serde_json::from_str(data).ok()),
                ..reply.outcome.clone()
            },
            (None, Some(ended)) => ended.outcome(),
            (None, None) if self.phase == Phase::Accepted => Outcome::refused(NOT_RUN),
            (None, None) if self.accepted.is_script() => Outcome::failed(CUT_SCRIPT),
            (None, None) => Outcome::failed(CUT),
        };
        outcome.request = number;
        self.accepted.reply(outcome)
    }
}

impl From<&Outcome> for Ended {
    fn from(outcome: &Outcome) -> Self {
        let Outcome { success, exit_code, .. } = *outcome;
        Self { success, exit: exit_code, has_data: outcome.data.is_some() }
    }
}

impl Ended {
    /// The outcome for a repeated id whose output is not kept. Without its result it is no success, because a missing list
    /// would look like an empty one.
    fn outcome(self) -> Outcome {
        let outcome = match (self.success, self.has_data) {
            (true, false) => Outcome::text(NOT_KEPT),
            (true, true) => Outcome::failed(NOT_KEPT),
            (false, _) => Outcome::failed(format!("it failed when it was done before; {NOT_KEPT}")),
        };
        Outcome { exit_code: self.exit, ..outcome }
    }
}
