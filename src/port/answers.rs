//! What the host says about how far it has read: answered barriers. Does not write them, and knows no wire.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures::task::AtomicWaker;

/// Barriers whose answer is awaited; a port that has asked so often and had no answer of this host asks no more.
/// Where it had one, the next barrier takes the place of the newest, and covers all that it did.
const ASKED_MAX: usize = 64;

/// From the number of one barrier to that of the next. The host counts on from a number it was given, so
/// the next one in line could be its own.
const STEP: u64 = 1_000;

/// Where whoever reads the host's lines says that a barrier was answered.
///
/// The port writes lines with a number that the host answers. The port keeps their order, so an answered
/// number says that everything written before it was read. A copy is the same one.
#[derive(Debug, Clone, Default)]
pub struct Answers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    port: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Number of each barrier, and how many bytes had been written up to its end; oldest first.
    asked: VecDeque<(u64, u64)>,
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

impl State {
    fn forget(&mut self) {
        self.asked.clear();
        (self.answers, self.skipped) = (false, false);
    }

    fn may_be_asked(&self) -> bool {
        self.answers || self.asked.len() < ASKED_MAX
    }
}

impl Answers {
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
        (state.is_heard, state.has_ever) = (false, false);
        state.forget();
    }

    pub(super) fn is_heard(&self) -> bool {
        self.lock().is_heard
    }

    /// The host has answered `number`. One that was not asked, or of an earlier host, says nothing.
    pub fn answered(&self, number: u64) {
        let mut state = self.lock();
        let Some(at) = state.asked.iter().position(|(asked, _)| *asked == number) else { return };
        state.read = state.asked[at].1;
        state.skipped |= at > 0;
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

    /// Barrier `number` is written, with everything up to byte `end`.
    pub(super) fn asked(&self, number: u64, end: u64) {
        let mut state = self.lock();
        state.asked.truncate(ASKED_MAX - 1);
        state.asked.push_back((number, end));
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
        self.lock().forget();
    }

    /// Wakes `port` at the next answer.
    pub(super) fn wake_on_answer(&self, port: &Waker) {
        self.0.port.register(port);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_covers_what_was_asked_before_it_and_a_strange_number_covers_nothing() {
        let answers = Answers::starting_at(7_000_000);
        for end in [100, 200, 300] {
            let number = answers.next_number(false).unwrap();
            answers.asked(number, end);
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
        let answers = Answers::starting_at(0);
        answers.listen();
        let ask = |end| {
            let number = answers.next_number(false).unwrap();
            answers.asked(number, end);
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

    #[test]
    fn a_host_that_never_answers_is_not_asked_for_ever() {
        let answers = Answers::starting_at(0);
        let asked = std::iter::from_fn(|| {
            let number = answers.next_number(false)?;
            answers.asked(number, number);
            Some(number)
        });
        assert_eq!(asked.count(), ASKED_MAX);
    }
}
