//! What the host says about how far it has read, and about itself: answered barriers, requests for a sign of life,
//! what it understands. Does not write to it, and knows no wire.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::time::Instant;

use crate::sync::IgnorePoison;

/// Barriers whose answer is awaited; a port that has asked so often and had no answer of this host asks no more.
/// Where it had one, the next barrier takes the place of the newest, and covers all that it did.
const ASKED_MAX: usize = 64;

/// From the number of one barrier to that of the next. The host counts on from a number it was given, so
/// the next one in line could be its own.
const STEP: u64 = 1_000;

/// So long after the host's own request a question costs it nothing.
///
/// # Why not at any time
/// Today's host takes each keep-alive for the answer to its last request, and measures the time between the two: it
/// warns above 5 s, and where the average is above 3 s. Before its first request on a connection it measures nothing.
const FREE_AFTER_REQUEST: Duration = Duration::from_secs(2);

/// Requests for a sign of life that wait for their echo; behind that the oldest are dropped. A host asks every two
/// minutes, so more than one come only where an earlier agent left them.
const REQUESTS_MAX: usize = 16;

/// Where whoever reads the host's lines says that a barrier was answered, and what else they say of the host.
///
/// The port writes lines with a number that the host answers. The port keeps their order, so an answered
/// number says that everything written before it was read. A copy is the same one.
#[derive(Debug, Clone, Default)]
pub struct AckTracker(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    port: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Barriers and echoes, oldest first.
    asked: VecDeque<Question>,
    /// What the host asked for, and was not echoed yet.
    requests: VecDeque<u64>,
    /// Every host understands events and may be asked at any time.
    is_own: bool,
    /// This one has said so.
    understands: bool,
    /// It was seen to come, and has not asked for a sign of life since.
    never_asked: bool,
    /// When it did last.
    requested_at: Option<Instant>,
    /// A host has answered an echo.
    answers_echoes: bool,
    /// The end of the last one that was answered.
    read: u64,
    /// A later one was answered, and this one was not.
    skipped: bool,
    /// Whether this host has answered at all, and whether any has.
    answers: bool,
    has_ever: bool,
    /// Whether anybody hears what the host says.
    is_heard: bool,
}

/// A line that the host answers with the same number.
#[derive(Debug, Clone, Copy)]
struct Question {
    number: u64,
    /// How many bytes had been written up to its end.
    end: u64,
    /// The number is the host's.
    is_echo: bool,
}

impl State {
    fn forget(&mut self) {
        self.asked.clear();
        (self.answers, self.skipped) = (false, false);
    }

    fn forget_host(&mut self) {
        self.forget();
        self.requests.clear();
        (self.understands, self.never_asked, self.requested_at) = (false, false, None);
    }

    fn may_be_asked(&self) -> bool {
        self.answers || self.asked.len() < ASKED_MAX
    }
}

impl AckTracker {
    /// Numbers begin behind `first`: two runs of the agent must not use the same ones.
    pub(super) fn starting_at(first: u64) -> Self {
        let answers = Self::default();
        answers.lock().next = first;
        answers
    }

    /// From now on somebody hears what the host says: barriers are worth writing.
    pub fn listen(&self) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.is_heard, true) {
            state.forget(); // what was on its way when nobody heard any more
        }
    }

    /// From now on nobody does, and that a barrier stays unanswered says nothing of the host: it counts as one
    /// that never answers.
    pub fn deaf(&self) {
        let mut state = self.lock();
        (state.is_heard, state.has_ever, state.never_asked) = (false, false, false);
        state.forget();
    }

    pub(super) fn is_heard(&self) -> bool {
        self.lock().is_heard
    }

    /// Every host of this port understands agent events, and may be asked at any time how far it has read.
    pub fn own(&self) {
        self.lock().is_own = true;
    }

    /// Whether every host does.
    pub(super) fn is_own(&self) -> bool {
        self.lock().is_own
    }

    /// The host that is there says that it does.
    pub fn understood(&self) {
        self.lock().understands = true;
        self.0.port.wake();
    }

    /// Whether agent events are understood: by every host of this port, or by the one that is there.
    pub fn is_understood(&self) -> bool {
        let state = self.lock();
        state.is_own || state.understands
    }

    /// The host asks for a sign of life with this number. The port writes the echo, and the answer to that covers
    /// everything before it.
    pub fn requested(&self, number: u64) {
        let mut state = self.lock();
        if state.requests.len() == REQUESTS_MAX {
            state.requests.pop_front();
        }
        state.requests.push_back(number);
        (state.never_asked, state.requested_at) = (false, Some(Instant::now()));
        // It counts on from ours: an echo and a barrier must not share a number.
        if number.abs_diff(state.next) < STEP {
            state.next = state.next.max(number);
        }
        drop(state);
        self.0.port.wake();
    }

    /// The next request that waits for its echo.
    pub(super) fn take_request(&self) -> Option<u64> {
        self.lock().requests.pop_front()
    }

    /// The host that is there was seen to come: it has not asked for anything yet.
    pub(super) fn begun(&self) {
        self.lock().never_asked = true;
    }

    /// Whether a question is free of harm only shortly after the host's own: see [`FREE_AFTER_REQUEST`].
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.lock();
        state.is_heard && !(state.is_own || state.understands || state.never_asked)
    }

    /// Whether the host has asked for a sign of life a moment ago, and nothing is unanswered.
    pub(super) fn may_follow_request(&self, now: Instant) -> bool {
        let state = self.lock();
        let recent = |at: Instant| now.saturating_duration_since(at) <= FREE_AFTER_REQUEST;
        state.asked.is_empty() && state.requested_at.is_some_and(recent)
    }

    /// The host has answered `number`. One that was not asked, or of an earlier host, says nothing.
    pub fn answered(&self, number: u64) {
        let mut state = self.lock();
        let Some(at) = state.asked.iter().position(|asked| asked.number == number) else { return };
        let Question { end, is_echo, .. } = state.asked[at];
        state.read = end;
        state.answers_echoes |= is_echo;
        // A host that answers no echo has passed over nothing by that.
        let (echoes, passed) = (state.answers_echoes, state.asked.range(..at));
        state.skipped |= passed.into_iter().any(|one| echoes || !one.is_echo);
        state.asked.drain(..=at);
        (state.answers, state.has_ever) = (true, true);
        drop(state);
        self.0.port.wake();
    }

    /// The number of a new barrier, or `None` where many are unanswered and none was ever answered, unless it
    /// `must` be asked.
    pub(super) fn next_number(&self, must: bool) -> Option<u64> {
        let mut state = self.lock();
        if !must && !state.may_be_asked() {
            return None;
        }
        state.next += STEP;
        Some(state.next)
    }

    /// Whether there would be a number for a new barrier.
    pub(super) fn may_be_asked(&self) -> bool {
        self.lock().may_be_asked()
    }

    /// Barrier `number`, or the echo of the host's, is written, with everything up to byte `end`.
    pub(super) fn asked(&self, number: u64, end: u64, is_echo: bool) {
        let mut state = self.lock();
        state.asked.truncate(ASKED_MAX - 1);
        state.asked.push_back(Question { number, end, is_echo });
    }

    /// Up to which byte the host has read, and whether it answers at all.
    pub(super) fn heard(&self) -> (u64, bool) {
        let state = self.lock();
        (state.read, state.answers)
    }

    /// Whether any host of this port has ever answered.
    pub(super) fn has_ever(&self) -> bool {
        self.lock().has_ever
    }

    /// Whether the host that answers is not the one that was asked at first; told once. A host answers
    /// in order, so what it passes over it never got: it came after that was written, too soon after
    /// the other one for the device to show the gap.
    pub(super) fn take_skipped(&self) -> bool {
        std::mem::take(&mut self.lock().skipped)
    }

    /// How many barriers are unanswered.
    pub(super) fn unanswered(&self) -> usize {
        self.lock().asked.len()
    }

    /// Another host comes: what was asked of the last one is void.
    pub(super) fn start_anew(&self) {
        self.lock().forget_host();
    }

    /// Wakes `port` at the next answer.
    pub(super) fn wake_on_answer(&self, port: &Waker) {
        self.0.port.register(port);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().ignore_poison()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_covers_what_was_asked_before_it_and_a_strange_number_covers_nothing() {
        let answers = AckTracker::starting_at(7_000_000);
        for end in [100, 200, 300] {
            let number = answers.next_number(false).unwrap();
            answers.asked(number, end, false);
        }
        answers.answered(7_001_001);
        answers.answered(3);
        assert_eq!(answers.heard(), (0, false));
        answers.answered(7_002_000);
        assert_eq!((answers.heard(), answers.take_skipped()), ((200, true), true));
        answers.answered(7_001_000);
        assert_eq!(answers.heard(), (200, true), "an old one comes too late to say anything");
        answers.start_anew();
        answers.answered(7_003_000);
        assert_eq!(answers.heard(), (200, false), "asked of a host that has left");
    }

    #[test]
    fn what_was_asked_while_nobody_heard_is_no_sign_of_another_host() {
        let answers = AckTracker::starting_at(0);
        answers.listen();
        let ask = |end| {
            let number = answers.next_number(false).unwrap();
            answers.asked(number, end, false);
            number
        };
        answers.answered(ask(50));
        ask(100);
        answers.deaf();
        assert!(!answers.has_ever(), "it is given time as one that never answers");
        ask(200); // it was being written
        answers.listen();
        let last = ask(300);
        answers.listen(); // and again, by a flow that takes the place of another
        answers.answered(last);
        assert_eq!((answers.heard(), answers.take_skipped()), ((300, true), false));
    }

    #[tokio::test]
    async fn the_answer_to_an_echo_covers_all_before_it_and_no_barrier_has_its_number() {
        let answers = AckTracker::starting_at(7_000_000);
        answers.listen();
        answers.asked(answers.next_number(false).unwrap(), 100, false);
        answers.answered(7_001_000);
        // The host counts on from that, for as long as nothing else is asked.
        for number in 7_001_001..7_003_000 {
            answers.requested(number);
            assert_eq!(answers.take_request(), Some(number));
            answers.asked(number, number, true);
            answers.answered(number);
        }
        assert_eq!(answers.heard(), (7_002_999, true));
        assert!(answers.next_number(false).unwrap() > 7_002_999);
        answers.requested(u64::MAX);
        assert!(answers.next_number(false).unwrap() < 1 << 53, "a strange number moves nothing");
    }

    #[tokio::test]
    async fn an_echo_that_was_passed_over_is_a_sign_of_another_host_where_hosts_answer_them() {
        let answers = AckTracker::starting_at(7_000_000);
        answers.listen();
        answers.asked(5, 100, true);
        answers.asked(7_001_000, 200, false);
        answers.answered(7_001_000);
        assert!(!answers.take_skipped(), "it may answer none");
        answers.asked(6, 300, true);
        answers.asked(7, 400, true);
        answers.answered(7);
        assert!(answers.take_skipped());
    }

    #[test]
    fn a_host_that_never_answers_is_not_asked_for_ever() {
        let answers = AckTracker::starting_at(0);
        let asked = std::iter::from_fn(|| {
            let number = answers.next_number(false)?;
            answers.asked(number, number, false);
            Some(number)
        });
        assert_eq!(asked.count(), ASKED_MAX);
    }
}
