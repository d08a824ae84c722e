//! Acknowledgements: the barriers that wait for an answer, the keep-alives that the host sent, and what the host
//! understands.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::time::Instant;

use crate::sync::IgnorePoison;

/// The most unanswered barriers. At this number the port stops asking a host that has never acknowledged. For one
/// that has, the next barrier replaces the newest, whose bytes it covers.
const BARRIERS_PENDING_MAX: usize = 64;

/// The step between barrier numbers. The host counts on from a number that it received, so the successor of ours
/// could be its own.
const STEP: u64 = 1_000;

/// For this long after the host's own keep-alive, a barrier causes no warning at the host.
///
/// # Why
/// Today's host takes every keep-alive for the answer to its last one, and measures the time between the two: it warns
/// above 5 s, and if the average is above 3 s. Before its first keep-alive on a connection it measures nothing.
const FREE_AFTER_REQUEST: Duration = Duration::from_secs(2);

/// The most host keep-alives that wait for their echo; beyond it the oldest are dropped. A host sends one every two
/// minutes, so several occur only where an earlier agent left them.
const REQUESTS_MAX: usize = 16;

/// How far the host has acknowledged. The command flow reports what the host's lines say, the port's session reads
/// it.
///
/// The port writes barriers: lines with a number that the host sends back. The device keeps order, so an answered
/// number acknowledges everything written before it. Clones share one state.
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
    /// Barriers and echoes that wait for an answer, oldest first.
    pending: VecDeque<Barrier>,
    /// Keep-alive numbers of the host that wait for their echo.
    requests: VecDeque<u64>,
    /// The number of the host's connection, if its answers have one.
    connection: Option<u64>,
    /// Every host of this port is the project's own: it understands events and accepts barriers at any time.
    is_own_host: bool,
    /// The connected host has announced that it understands events.
    understands_events: bool,
    /// The device showed this host's connect, and the host has sent no keep-alive since.
    never_requested: bool,
    /// When the host sent its last keep-alive.
    requested_at: Option<Instant>,
    /// Whether the hosts of this port answer echoes; `None` until one was answered or skipped.
    answers_echoes: Option<bool>,
    /// The end of the last acknowledged barrier, in bytes written.
    acked: u64,
    /// The host is another one: see [`AckTracker::take_host_replaced`].
    host_replaced: bool,
    /// Whether this host, and whether any host of this port, has acknowledged.
    has_acked: bool,
    any_host_acked: bool,
    /// Whether a command flow reads the host's lines.
    is_listening: bool,
}

/// A barrier, or the echo of a host's keep-alive: the host answers it with the same number.
#[derive(Debug, Clone, Copy)]
struct Barrier {
    number: u64,
    /// Bytes written up to its end.
    end: u64,
    /// The host chose the number.
    is_echo: bool,
}

impl State {
    fn reset(&mut self) {
        self.pending.clear();
        self.connection = None;
        (self.has_acked, self.host_replaced) = (false, false);
    }

    fn reset_host(&mut self) {
        self.reset();
        self.requests.clear();
        (self.understands_events, self.never_requested, self.requested_at) = (false, false, None);
    }

    fn may_ask(&self) -> bool {
        self.has_acked || self.pending.len() < BARRIERS_PENDING_MAX
    }
}

impl AckTracker {
    /// A tracker whose numbers follow `first`. Two runs of the agent must not share numbers.
    pub(super) fn starting_at(first: u64) -> Self {
        let tracker = Self::default();
        tracker.lock().next = first;
        tracker
    }

    /// A command flow reads the host's lines from now on, so barriers are worth writing.
    pub fn listen(&self) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.is_listening, true) {
            state.reset(); // answers that nothing has read
        }
    }

    /// No command flow reads the host's lines from now on. The port then treats its host like one that never
    /// acknowledges.
    pub fn stop_listening(&self) {
        let mut state = self.lock();
        (state.is_listening, state.any_host_acked, state.never_requested) = (false, false, false);
        state.reset();
    }

    pub(super) fn is_listening(&self) -> bool {
        self.lock().is_listening
    }

    /// Declares every host of this port the project's own: it understands agent events and accepts barriers at any
    /// time.
    pub fn set_own_host(&self) {
        self.lock().is_own_host = true;
    }

    pub(super) fn is_own_host(&self) -> bool {
        self.lock().is_own_host
    }

    /// The connected host has announced that it understands agent events.
    pub fn on_events_understood(&self) {
        self.lock().understands_events = true;
        self.0.port.wake();
    }

    /// Whether the connected host understands agent events.
    pub fn events_understood(&self) -> bool {
        let state = self.lock();
        state.is_own_host || state.understands_events
    }

    /// The host sent a keep-alive with this number. The port writes the echo, whose answer acknowledges everything
    /// before it.
    pub fn on_request(&self, number: u64) {
        let mut state = self.lock();
        if state.requests.len() == REQUESTS_MAX {
            state.requests.pop_front();
        }
        state.requests.push_back(number);
        (state.never_requested, state.requested_at) = (false, Some(Instant::now()));
        // The host counts on from our numbers: an echo and a barrier must not share one.
        if number.abs_diff(state.next) < STEP {
            state.next = state.next.max(number);
        }
        drop(state);
        self.0.port.wake();
    }

    /// The next host keep-alive to echo.
    pub(super) fn take_request(&self) -> Option<u64> {
        self.lock().requests.pop_front()
    }

    /// The device showed a host's connect, so it has sent no keep-alive yet.
    pub(super) fn host_connected(&self) {
        self.lock().never_requested = true;
    }

    /// Whether a barrier is harmless only shortly after the host's own keep-alive: see [`FREE_AFTER_REQUEST`].
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.lock();
        state.is_listening
            && !(state.is_own_host || state.understands_events || state.never_requested)
    }

    /// Whether the host sent a keep-alive within [`FREE_AFTER_REQUEST`] and no barrier is unanswered.
    pub(super) fn may_follow_request(&self, now: Instant) -> bool {
        let state = self.lock();
        let recent = |at: Instant| now.saturating_duration_since(at) <= FREE_AFTER_REQUEST;
        state.pending.is_empty() && state.requested_at.is_some_and(recent)
    }

    /// The host answered `number`, over its connection of the number `connection` if it numbers them. An unknown number, or
    /// one of an earlier host, is ignored.
    ///
    /// Of another connection than the last answer's it is that of a host which took over unseen: what was written before
    /// may have gone to the last one, so it acknowledges nothing.
    pub fn on_ack(&self, number: u64, connection: Option<u64>) {
        let mut state = self.lock();
        let Some(at) = state.pending.iter().position(|pending| pending.number == number) else {
            return;
        };
        let last = std::mem::replace(&mut state.connection, connection);
        if last.is_some() && connection.is_some() && last != connection {
            state.host_replaced = true;
            drop(state);
            return self.0.port.wake();
        }
        let Barrier { end, is_echo, .. } = state.pending[at];
        state.acked = end;
        if is_echo {
            state.answers_echoes = Some(true);
        }
        // The first skipped echo counts as lost: sending again what it covers is better than losing it. A host that
        // then answers none has skipped nothing.
        let skipped = |is_echo| state.pending.range(..at).any(|one| one.is_echo == is_echo);
        let (barrier, echo) = (skipped(false), skipped(true));
        state.host_replaced |= barrier || (echo && state.answers_echoes != Some(false));
        if echo {
            state.answers_echoes.get_or_insert(false);
        }
        state.pending.drain(..=at);
        (state.has_acked, state.any_host_acked) = (true, true);
        drop(state);
        self.0.port.wake();
    }

    /// The number of a new barrier. `None` if too many are unanswered and this host has never acknowledged, unless
    /// `force`.
    pub(super) fn next_number(&self, force: bool) -> Option<u64> {
        let mut state = self.lock();
        if !force && !state.may_ask() {
            return None;
        }
        state.next += STEP;
        Some(state.next)
    }

    /// Whether [`next_number`](Self::next_number) would give a number without force.
    pub(super) fn may_ask(&self) -> bool {
        self.lock().may_ask()
    }

    /// Barrier or echo `number` was written, and ends with byte `end`.
    pub(super) fn sent(&self, number: u64, end: u64, is_echo: bool) {
        let mut state = self.lock();
        state.pending.truncate(BARRIERS_PENDING_MAX - 1);
        state.pending.push_back(Barrier { number, end, is_echo });
    }

    /// The byte up to which the host has acknowledged, and whether it ever did.
    pub(super) fn acknowledged(&self) -> (u64, bool) {
        let state = self.lock();
        (state.acked, state.has_acked)
    }

    /// Whether this host was asked to acknowledge, and never has.
    pub(super) fn never_acked(&self) -> bool {
        let state = self.lock();
        !state.has_acked && !state.pending.is_empty()
    }

    /// Whether any host of this port has acknowledged.
    pub(super) fn any_host_acked(&self) -> bool {
        self.lock().any_host_acked
    }

    /// Whether another host has taken over unseen, too soon after the last one for the device to show the gap; reported
    /// once. Its answers are of another connection; or it skips barriers, which it never received: a host answers in order.
    pub(super) fn take_host_replaced(&self) -> bool {
        std::mem::take(&mut self.lock().host_replaced)
    }

    /// The number of unanswered barriers.
    pub(super) fn pending_count(&self) -> usize {
        self.lock().pending.len()
    }

    /// Another host connects: drops the barriers and keep-alives of the last one.
    pub(super) fn reset_session(&self) {
        self.lock().reset_host();
    }

    /// Wakes `port` at the next acknowledgement.
    pub(super) fn wake_on_ack(&self, port: &Waker) {
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
    fn an_answer_over_another_connection_acknowledges_nothing_and_tells_of_another_host() {
        let tracker = AckTracker::starting_at(7_000_000);
        let ask = |end| {
            let number = tracker.next_number(false).unwrap();
            tracker.sent(number, end, false);
            number
        };
        let (first, second) = (ask(100), ask(200));
        tracker.on_ack(first, Some(1));
        // Each barrier is answered, and none skipped, as where a host leaves in the middle of what is before the second.
        tracker.on_ack(second, Some(2));
        assert_eq!((tracker.acknowledged(), tracker.take_host_replaced()), ((100, true), true));
        tracker.reset_session();
        tracker.on_ack(second, Some(2));
        assert_eq!(tracker.acknowledged(), (100, false), "asked of the last host");
        let third = ask(300);
        tracker.on_ack(third, Some(2));
        assert_eq!((tracker.acknowledged(), tracker.take_host_replaced()), ((300, true), false));
    }

    #[test]
    fn an_answer_acknowledges_all_earlier_barriers_and_an_unknown_number_none() {
        let tracker = AckTracker::starting_at(7_000_000);
        for end in [100, 200, 300] {
            let number = tracker.next_number(false).unwrap();
            tracker.sent(number, end, false);
        }
        tracker.on_ack(7_001_001, None);
        tracker.on_ack(3, None);
        assert_eq!(tracker.acknowledged(), (0, false));
        tracker.on_ack(7_002_000, None);
        assert_eq!((tracker.acknowledged(), tracker.take_host_replaced()), ((200, true), true));
        tracker.on_ack(7_001_000, None);
        assert_eq!(
            tracker.acknowledged(),
            (200, true),
            "an old one comes too late to say anything"
        );
        tracker.reset_session();
        tracker.on_ack(7_003_000, None);
        assert_eq!(tracker.acknowledged(), (200, false), "asked of a host that has left");
    }

    #[test]
    fn a_barrier_from_before_listening_is_no_sign_of_another_host() {
        let tracker = AckTracker::starting_at(0);
        tracker.listen();
        let ask = |end| {
            let number = tracker.next_number(false).unwrap();
            tracker.sent(number, end, false);
            number
        };
        tracker.on_ack(ask(50), None);
        ask(100);
        tracker.stop_listening();
        assert!(!tracker.any_host_acked(), "it is given time as one that never answers");
        ask(200); // it was being written
        tracker.listen();
        let last = ask(300);
        tracker.listen(); // and again, by a flow that takes the place of another
        tracker.on_ack(last, None);
        assert_eq!((tracker.acknowledged(), tracker.take_host_replaced()), ((300, true), false));
    }

    #[tokio::test]
    async fn the_answer_to_an_echo_acknowledges_all_before_it_and_no_barrier_has_its_number() {
        let tracker = AckTracker::starting_at(7_000_000);
        tracker.listen();
        tracker.sent(tracker.next_number(false).unwrap(), 100, false);
        tracker.on_ack(7_001_000, None);
        // The host counts on from that, for as long as nothing else is asked.
        for number in 7_001_001..7_003_000 {
            tracker.on_request(number);
            assert_eq!(tracker.take_request(), Some(number));
            tracker.sent(number, number, true);
            tracker.on_ack(number, None);
        }
        assert_eq!(tracker.acknowledged(), (7_002_999, true));
        assert!(tracker.next_number(false).unwrap() > 7_002_999);
        tracker.on_request(u64::MAX);
        assert!(tracker.next_number(false).unwrap() < 1 << 53, "a strange number moves nothing");
    }

    #[tokio::test]
    async fn a_skipped_echo_is_a_sign_of_another_host_unless_hosts_answer_none() {
        let tracker = AckTracker::starting_at(7_000_000);
        tracker.listen();
        tracker.sent(5, 100, true);
        tracker.sent(7_001_000, 200, false);
        tracker.on_ack(7_001_000, None);
        assert!(tracker.take_host_replaced(), "it may have been lost");
        tracker.sent(5, 210, true);
        tracker.sent(7_002_000, 220, false);
        tracker.on_ack(7_002_000, None);
        assert!(!tracker.take_host_replaced(), "it answers none, as it seems");
        tracker.sent(4, 230, true);
        tracker.on_ack(4, None);
        tracker.sent(6, 300, true);
        tracker.sent(7, 400, true);
        tracker.on_ack(7, None);
        assert!(tracker.take_host_replaced());
    }

    #[test]
    fn a_host_that_never_answers_gets_a_bounded_number_of_barriers() {
        let tracker = AckTracker::starting_at(0);
        let pending = std::iter::from_fn(|| {
            let number = tracker.next_number(false)?;
            tracker.sent(number, number, false);
            Some(number)
        });
        assert_eq!(pending.count(), BARRIERS_PENDING_MAX);
    }
}
