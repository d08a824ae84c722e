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

use std::collections::{BTreeMap, HashMap};
use std::iter;

use super::continued::Continued;
use super::event::{Accepted, Ended, Event, Progress, Session};
use super::replay::Replay;
use super::replies::{Replies, ReplySpan};
use crate::commands::outcome::Outcome;
use crate::commands::reply::Outbound;

/// Requests that are remembered: this many commands, and as many scripts; more only if none of them has ended.
pub const REQUESTS_KEPT: usize = 1_024;

/// Replaces the output of a reply whose output is not remembered.
pub(crate) const NOT_KEPT: &str =
    "it was done before, and is not done again; what it said then is not kept";
/// The error of a command that the end of an agent interrupted.
pub const CUT: &str = "the agent ended while it ran; whether it was done is not known";
/// The error of a script that was interrupted.
pub const CUT_SCRIPT: &str = "the agent stopped while this script ran; it is not run a second time";
/// The error of a request that had not started.
pub const NOT_RUN: &str = "the agent ended before it began, so it was not run; ask for it again";

/// The phases of a request, in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    #[default]
    Accepted,
    Started,
    Finished,
    /// The host has acknowledged the reply.
    Closed,
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    pub accepted: Accepted,
    pub phase: Phase,
    /// Its result; `None` if the end of an agent interrupted it.
    ended: Option<Ended>,
    /// It is being executed.
    is_claimed: bool,
    /// It was started by an earlier agent, and may run still: its end follows.
    pub goes_on: bool,
    /// Its reply, if this run has sent it.
    reply: Option<ReplySpan>,
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
    /// Commands, and scripts, by their numbers. Boxed, since the tree moves what stands in it.
    kinds: [BTreeMap<u32, Box<Entry>>; 2],
    by_id: HashMap<Box<str>, u32>,
    /// The last number, and the last of an earlier agent.
    last: u32,
    earlier: u32,
    /// Whether the last event was the orderly end of an agent.
    pub is_closed: bool,
    replies: Replies,
}

impl State {
    /// The next request's number.
    pub(super) fn next(&self) -> u32 {
        self.last.checked_add(1).unwrap_or(1)
    }

    /// Numbers new requests from above `number`.
    pub(super) fn number_after(&mut self, number: u32) {
        self.last = self.last.max(number);
    }

    /// Applies an event.
    pub(super) fn apply(&mut self, event: Event) {
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
        let Some(entry) = self.entry(number) else { return };
        match (event, entry.phase) {
            (Progress::Started, Phase::Accepted) => entry.phase = Phase::Started,
            (Progress::Finished(ended), Phase::Accepted | Phase::Started) => {
                (entry.phase, entry.ended) = (Phase::Finished, Some(ended));
            }
            (Progress::Withdrawn, Phase::Accepted | Phase::Started)
            | (Progress::Acknowledged, Phase::Accepted) => self.remove(number),
            (Progress::Acknowledged, _) => entry.phase = Phase::Closed,
            _ => {}
        }
    }

    /// The session, as it is now.
    pub(super) fn session(&self) -> Session {
        Session { floor: self.replay.floor(), ..self.session.clone() }
    }

    /// The events that a rewritten file must contain.
    pub(super) fn events(&self) -> impl Iterator<Item = Event> {
        let envelopes = self.replay.all().map(|(ts, nonce)| Event::Envelope(ts, nonce));
        let requests = self.kinds.iter().flatten().flat_map(|(&number, entry)| {
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
        iter::once(Event::Session(self.session())).chain(envelopes).chain(requests)
    }

    /// The number of the request with this id, unless it is one that an earlier agent accepted and did not start.
    pub(super) fn number(&mut self, id: &str) -> Option<u32> {
        let (number, earlier) = (*self.by_id.get(id)?, self.earlier);
        let is_known = number > earlier || self.entry(number)?.phase > Phase::Accepted;
        is_known.then_some(number)
    }

    /// Claims an accepted request for `asked`, unless it was claimed before.
    ///
    /// A script that differs from the one in progress is not told as refused: an execution has one completion, and that
    /// one follows.
    pub(super) fn claim(&mut self, number: u32, asked: &Accepted) -> Claim {
        let is_ours = number > self.earlier;
        let Some(entry) = self.entry(number) else { return Claim::InProgress };
        let is_in_progress = entry.phase < Phase::Finished && (is_ours || entry.goes_on);
        let are_scripts = entry.accepted.is_script() && asked.is_script();
        if entry.accepted.differs(asked) {
            return match is_in_progress && are_scripts {
                true => Claim::InProgress,
                false => Claim::OtherPayload,
            };
        }
        match entry.phase {
            Phase::Accepted if !std::mem::replace(&mut entry.is_claimed, true) => Claim::New,
            _ if is_in_progress => Claim::InProgress,
            _ => {
                self.reply(number).map_or(Claim::InProgress, |reply| Claim::Answered(reply.into()))
            }
        }
    }

    /// The reply to a request that has ended.
    pub(super) fn answer(&mut self, number: u32) -> Option<Outbound> {
        let has_ended = self.entry(number)?.phase >= Phase::Finished;
        has_ended.then(|| self.reply(number)).flatten()
    }

    /// Remembers the output of a reply.
    pub(super) fn keep(&mut self, number: u32, outcome: &Outcome) {
        let kept = self.replies.keep(outcome);
        if let Some(entry) = self.entry(number) {
            entry.reply = Some(kept);
        }
    }

    /// Requests of earlier agents without an acknowledged reply, oldest first.
    pub(super) fn open(&self) -> BTreeMap<u32, &Entry> {
        let all = self.kinds.iter().flatten().map(|(number, entry)| (*number, &**entry));
        all.filter(|(number, entry)| *number <= self.earlier && entry.phase != Phase::Closed)
            .collect()
    }

    /// Starts a run: all requests so far belong to earlier ones.
    pub(super) fn begin(&mut self) {
        self.earlier = self.last;
    }

    /// Marks the requests that were started and whose file is there, and removes all other files.
    pub(super) fn continue_started(&mut self, continued: &Continued) {
        let started = self.entries().filter(|entry| entry.phase == Phase::Started);
        let mut started: HashMap<String, &mut Entry> =
            started.map(|entry| (Continued::key(&entry.accepted.id), entry)).collect();
        for key in continued.keys(|key| started.contains_key(key)) {
            if let Some(entry) = started.get_mut(&key) {
                entry.goes_on = true;
            }
        }
    }

    /// The request with this number does not go on any more.
    pub(super) fn ended(&mut self, number: u32) {
        if let Some(entry) = self.entry(number) {
            entry.goes_on = false;
        }
    }

    /// Records are missing: treats accepted requests as started.
    pub(super) fn distrust(&mut self) {
        self.entries().for_each(|entry| entry.phase = entry.phase.max(Phase::Started));
    }

    /// The reply to the host of a request.
    pub(super) fn reply(&self, number: u32) -> Option<Outbound> {
        let entry = self.kinds.iter().find_map(|kind| kind.get(&number))?;
        let kept = entry.reply.and_then(|kept| self.replies.get(kept));
        let outcome = kept.unwrap_or_else(|| entry.outcome());
        Some(entry.accepted.reply(Outcome { request: number, ..outcome }))
    }

    fn entry(&mut self, number: u32) -> Option<&mut Entry> {
        self.kinds.iter_mut().find_map(|kind| kind.get_mut(&number)).map(|entry| &mut **entry)
    }

    fn entries(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.kinds.iter_mut().flat_map(|kind| kind.values_mut()).map(|entry| &mut **entry)
    }

    fn insert(&mut self, number: u32, accepted: Accepted) {
        self.remove(number); // it is there only in a file that another program has written
        if let Some(&before) = self.by_id.get(accepted.id.as_str()) {
            self.remove(before);
        }
        self.by_id.insert(accepted.id.as_str().into(), number);
        self.last = self.last.max(number);
        let kind = &mut self.kinds[usize::from(accepted.is_script())];
        kind.insert(number, Box::new(Entry { accepted, ..Entry::default() }));
        if kind.len() > REQUESTS_KEPT
            && let Some((&oldest, _)) =
                kind.iter().find(|(_, entry)| entry.phase >= Phase::Finished)
        {
            self.remove(oldest);
        }
    }

    fn remove(&mut self, number: u32) {
        if let Some(entry) = self.kinds.iter_mut().find_map(|kind| kind.remove(&number)) {
            self.by_id.remove(entry.accepted.id.as_str());
        }
    }
}

impl Entry {
    /// Its outcome without its output.
    fn outcome(&self) -> Outcome {
        match self.ended {
            Some(ended) => ended.outcome(),
            None if self.phase == Phase::Accepted => Outcome::refused(NOT_RUN),
            None if self.accepted.is_script() => Outcome::failed(CUT_SCRIPT),
            None => Outcome::failed(CUT),
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
