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
//! an agent that ended; else it is under way, or answered from here.
//!
//! An event that does not fit the phase of its request changes nothing, so a file with holes is read as far as it goes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::iter;
use std::sync::Arc;

use super::event::{Accepted, Ended, Event, Happened, Session};
use super::replay::Replay;
use crate::commands::execute::outcome::Outcome;
use crate::commands::reply::Outbound;

/// Requests that are remembered once they are closed: so many commands, and so many scripts.
pub const REQUESTS_KEPT: usize = 1_024;
/// Answers that are remembered with what they said.
pub const ANSWERS_KEPT: usize = 512;
/// Bytes of output and data that are remembered with them: one answer as long as they get, and many of the length they
/// have.
pub const BYTES_KEPT: usize = 1 << 20;

/// What stands where what was said is not remembered.
pub const NOT_KEPT: &str =
    "it was done before, and is not done again; what it said then is not kept";
/// What the host is told of a command that the end of an agent has cut.
pub const CUT: &str = "the agent ended while it ran; whether it was done is not known";
/// What it is told of a script.
pub const CUT_SCRIPT: &str = "the agent stopped while this script ran; it is not run a second time";
/// What it is told of either where it had not started.
pub const NOT_RUN: &str = "the agent ended before it began, so it was not run; ask for it again";

/// How far a request is, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Accepted,
    Started,
    Finished,
    /// The host knows.
    Closed,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub asked: Accepted,
    pub phase: Phase,
    /// How it ended; nothing where the end of an agent has cut it.
    ended: Option<Ended>,
    /// Somebody does it now.
    is_claimed: bool,
    /// An earlier agent accepted it.
    is_earlier: bool,
    reply: Option<Reply>,
}

/// An answer as it is remembered: its data as text, since a tree of values of the same data takes five times the
/// memory.
#[derive(Debug)]
struct Reply {
    outcome: Outcome,
    data: Option<Box<str>>,
}

/// What is known of an id.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// Nothing was done of it: it is the caller's from now on.
    New,
    /// It is under way; its answer will come.
    UnderWay,
    /// It was answered with this.
    Answered(Box<Outbound>),
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct State {
    pub session: Session,
    pub replay: Replay,
    entries: BTreeMap<u32, Entry>,
    by_id: HashMap<Arc<str>, u32>,
    /// Commands, and scripts.
    counts: [usize; 2],
    last: u32,
    /// Whether the last event was the orderly end of an agent.
    pub is_closed: bool,
    /// Requests with a reply, the oldest first, and what each weighs.
    replies: VecDeque<(u32, usize)>,
    bytes: usize,
}

impl State {
    /// The next request's number.
    pub fn next(&self) -> u32 {
        self.last.checked_add(1).unwrap_or(1)
    }

    /// What an event changes.
    pub fn apply(&mut self, event: Event) {
        self.is_closed = event == Event::Closed;
        let (number, event) = match event {
            Event::Session(session) => {
                self.replay.lost = session.floor;
                self.session = session;
                return;
            }
            Event::Envelope(ts, nonce) => return self.replay.remember(ts, nonce),
            Event::Accepted(number, asked) => return self.insert(number, asked),
            Event::Closed => return,
            Event::Happened(number, what) => (number, what),
        };
        let Some(entry) = self.entries.get_mut(&number) else { return };
        match (event, entry.phase) {
            (Happened::Started, Phase::Accepted) => entry.phase = Phase::Started,
            (Happened::Finished(ended), Phase::Accepted | Phase::Started) => {
                (entry.phase, entry.ended) = (Phase::Finished, Some(ended));
            }
            (Happened::Withdrawn, Phase::Accepted | Phase::Started)
            | (Happened::Acknowledged, Phase::Accepted) => self.remove(number),
            (Happened::Acknowledged, _) => entry.phase = Phase::Closed,
            _ => {}
        }
    }

    /// Everything that must be in a new file.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        let session = Session { floor: self.replay.floor(), ..self.session.clone() };
        let envelopes = self.replay.all().map(|(ts, nonce)| Event::Envelope(ts, nonce));
        let requests = self.entries.iter().flat_map(|(&number, entry)| {
            let is_closed = entry.phase == Phase::Closed;
            let is_started = entry.phase > Phase::Accepted && entry.ended.is_none();
            let steps = [
                is_started.then_some(Happened::Started),
                entry.ended.map(Happened::Finished),
                is_closed.then_some(Happened::Acknowledged),
            ];
            let steps = steps.into_iter().flatten().map(move |what| Event::Happened(number, what));
            iter::once(Event::Accepted(number, entry.asked.clone())).chain(steps)
        });
        iter::once(Event::Session(session)).chain(envelopes).chain(requests)
    }

    /// The request with this id, unless it is one that nothing was done of before this agent began.
    pub fn number(&self, id: &str) -> Option<u32> {
        let number = *self.by_id.get(id)?;
        let entry = self.entries.get(&number)?;
        (!(entry.is_earlier && entry.phase == Phase::Accepted)).then_some(number)
    }

    /// Takes a request that was accepted, unless somebody has it or had it.
    pub fn claim(&mut self, number: u32) -> Known {
        let Some(entry) = self.entries.get_mut(&number) else { return Known::UnderWay };
        match entry.phase {
            Phase::Accepted if !std::mem::replace(&mut entry.is_claimed, true) => Known::New,
            Phase::Accepted => Known::UnderWay,
            Phase::Started if !entry.is_earlier => Known::UnderWay,
            _ => Known::Answered(Box::new(entry.told(number))),
        }
    }

    /// What the host was told of a request that has ended.
    pub fn answer(&self, number: u32) -> Option<Outbound> {
        let entry = self.entries.get(&number)?;
        (entry.phase >= Phase::Finished).then(|| entry.told(number))
    }

    /// Remembers what was said.
    pub fn keep(&mut self, number: u32, outcome: &Outcome) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let data = outcome.data.as_ref().map(|data| data.to_string().into_boxed_str());
        let outcome = Outcome { data: None, ..outcome.clone() };
        let said = outcome.stdout.len() + outcome.stderr.len();
        let weight = said + data.as_ref().map_or(0, |data| data.len());
        entry.reply = Some(Reply { outcome, data });
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

    /// All requests of earlier agents whose end no host is known to know, the oldest first.
    pub fn open(&self) -> impl Iterator<Item = (u32, &Entry)> {
        let all = self.entries.iter().map(|(number, entry)| (*number, entry));
        all.filter(|(_, entry)| entry.is_earlier && entry.phase != Phase::Closed)
    }

    /// An agent begins: what is there is an earlier one's.
    pub fn begin(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.is_earlier = true);
    }

    /// Records are missing: what was accepted may have started.
    pub fn distrust(&mut self) {
        let accepted = |entry: &&mut Entry| entry.phase == Phase::Accepted;
        self.entries.values_mut().filter(accepted).for_each(|entry| entry.phase = Phase::Started);
    }

    fn insert(&mut self, number: u32, asked: Accepted) {
        if let Some(&before) = self.by_id.get(asked.id.as_str()) {
            self.remove(before);
        }
        self.by_id.insert(asked.id.as_str().into(), number);
        self.last = self.last.max(number);
        let is_script = asked.is_script();
        self.counts[usize::from(is_script)] += 1;
        let (phase, ended) = (Phase::Accepted, None);
        let (is_claimed, is_earlier, reply) = (false, false, None);
        let entry = Entry { asked, phase, ended, is_claimed, is_earlier, reply };
        self.entries.insert(number, entry);
        if self.counts[usize::from(is_script)] > REQUESTS_KEPT {
            let mut of_kind = self.entries.iter().filter(|(_, e)| e.asked.is_script() == is_script);
            let oldest = of_kind.clone().find(|(_, entry)| entry.phase == Phase::Closed);
            let oldest = oldest.or_else(|| of_kind.find(|(_, e)| e.phase == Phase::Finished));
            if let Some((&oldest, _)) = oldest {
                self.remove(oldest);
            }
        }
    }

    fn remove(&mut self, number: u32) {
        if let Some(entry) = self.entries.remove(&number) {
            self.by_id.remove(entry.asked.id.as_str());
            self.counts[usize::from(entry.asked.is_script())] -= 1;
        }
    }
}

impl Entry {
    /// What its host is told.
    pub fn told(&self, number: u32) -> Outbound {
        let mut outcome = match (&self.reply, self.ended) {
            (Some(reply), _) => Outcome {
                // It was spelled from a value, so it reads as one.
                data: reply.data.as_deref().and_then(|data| serde_json::from_str(data).ok()),
                ..reply.outcome.clone()
            },
            (None, Some(ended)) => ended.outcome(),
            (None, None) if self.phase == Phase::Accepted => Outcome::refused(NOT_RUN),
            (None, None) if self.asked.is_script() => Outcome::failed(CUT_SCRIPT),
            (None, None) => Outcome::failed(CUT),
        };
        let Accepted { id, action } = self.asked.clone();
        outcome.request = number;
        match self.asked.is_script() {
            true => Outbound::Completed { execution_id: id, outcome },
            false => Outbound::Response { id, action, outcome },
        }
    }
}

impl From<&Outcome> for Ended {
    fn from(outcome: &Outcome) -> Self {
        let Outcome { success, exit_code, .. } = *outcome;
        Self { success, exit: exit_code, has_data: outcome.data.is_some() }
    }
}

impl Ended {
    /// What is told again where what was said is not kept. What lacks its result is no success: a list that is missing
    /// would be taken for an empty one.
    fn outcome(self) -> Outcome {
        let outcome = match (self.success, self.has_data) {
            (true, false) => Outcome::said(NOT_KEPT),
            (true, true) => Outcome::failed(NOT_KEPT),
            (false, _) => Outcome::failed(format!("it failed when it was done before; {NOT_KEPT}")),
        };
        Outcome { exit_code: self.exit, ..outcome }
    }
}
