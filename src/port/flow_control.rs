//! How much is written and not known to be read, and what may be written beside it. Pure: `now` is an
//! argument, and the bytes are somebody else's.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::ack_tracker::AckTracker;

/// The most that a virtio-serial port is given beyond what its host is known to have read.
///
/// # Why
/// A ring that is full makes the hypervisor throttle the port, and a host that leaves in that state costs it
/// one of the port's 128 buffers for ever (QEMU `hw/char/virtio-serial-bus.c`: the element that waits
/// is not given back); 128 such hosts wedge the port until the machine is switched off. So little as this
/// lies in the socket behind the port, and the ring is never full.
pub const WINDOW_BYTES: usize = 64 * 1024;

/// What a write counts for beside its bytes. The socket behind the port is charged for each by the buffers that the
/// kernel takes for it (`skb->truesize`: 768 bytes for a short one), so many short writes would fill it long before
/// their bytes do.
const WRITE_BYTES: usize = 384;

/// The share of the window that telemetry may fill, 3/4: what is left is for replies.
const TELEMETRY_SHARE: (usize, usize) = (3, 4);

/// Behind so many bytes the next write ends with a barrier.
const BARRIER_EVERY: u64 = 32 * 1024;

/// The most that one barrier takes.
pub(super) const BARRIER_BYTES: usize = 256;

/// Where a host has not answered for so long, and something waits for it: it is asked once more. It may be
/// another host by now, which never got the last question.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// Each time without an answer doubles that, up to 96 s; and further, up to 3.4 h, of a host that has let so many
/// pass in silence, since the questions themselves must not fill its socket. Never to ask again would be to wait for
/// ever where nothing else is written.
const DOUBLED_MAX: usize = 5;
const REPEATS_MAX: usize = 12;
const DOUBLED_MAX_SILENT: usize = 12;

/// Telemetry has a barrier behind it so often, so that what a host did not read when it left is known.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Where a question has its price, a host is asked by itself only when something that must be delivered has waited for
/// so long: today's host asks every 120 s, and the answer to that echo is free.
const ASK_UNREQUESTED: Duration = Duration::from_secs(150);
/// There so much more counts as read for the window after [`ROOM_QUIET`], beyond what is known to be. With the window
/// it is less than the socket behind a port takes (208 KiB, `net.core.wmem_default`).
const CREDIT_BYTES: u64 = 2 * WINDOW_BYTES as u64;

/// When what was written counts as read without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Patience {
    /// So old, and the host has said something since it was written: it is alive.
    alive: Duration,
    /// So old, and it has not.
    silent: Duration,
}

impl Patience {
    const fn new(alive: u64, silent: u64) -> Self {
        Self { alive: Duration::from_secs(alive), silent: Duration::from_secs(silent) }
    }
}

/// A port that once had an answer is not silent for ever, but nearly: its hosts answer, so one that says nothing reads
/// nothing.
const NEARLY_EVER: u64 = 3_600;
/// For the window, where this host has answered, …
const ROOM_ANSWERED: Patience = Patience::new(60, NEARLY_EVER);
/// … where it has not, and another one of this port has, …
const ROOM_OTHERS_ANSWERED: Patience = Patience::new(1, NEARLY_EVER);
/// … and where none ever has.
const ROOM_UNANSWERED: Patience = Patience::new(1, 1);
/// Where a question has its price: see [`CREDIT_BYTES`].
const ROOM_QUIET: Patience = Patience::new(0, 0);
/// What the host said something after is read, there: it does one thing after the other.
const PROVEN_QUIET: Patience = Patience::new(1, NEARLY_EVER);
/// For what must be delivered, where a question has its price: time for the host's own request first.
const DELIVERED_QUIET: u64 = 180;
/// For what must be delivered, where another host of this port has answered, …
const DELIVERED_OTHERS_ANSWERED: Patience = Patience::new(30, NEARLY_EVER);
/// … and where none ever has.
const DELIVERED_UNANSWERED: Patience = Patience::new(30, 300);

/// What must be delivered does not count as that before whoever is there now was asked: so long before that, where the last question is older than this.
const LAST_ASKED: Duration = Duration::from_secs(10);

/// Writes closer together than this have one time.
const GRAIN: Duration = Duration::from_millis(250);
/// Times that are remembered; behind that the oldest are taken for the next.
const TIMES_MAX: usize = 256;

/// What a frame is to the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// Must leave some room to the others.
    Telemetry,
    /// May have all of it.
    Reply,
    /// The same, and is kept until it is read.
    Durable,
}

/// The books of one port, in bytes since it was made.
///
/// # The rule
/// What was written counts as read when the host has answered a barrier behind it. A host that has
/// never answered may be an older one, or one behind a relay that forwards no keep-alives. Then time has to do, with the
/// port not stalled, and what the host sends is a sign that it lives:
///
/// | | | it has said something since | it has not |
/// |---|---|---|---|
/// | no host of this port has ever answered | 64 KiB more after | 1 s | 1 s |
/// | | counts as delivered after | 30 s | 5 min |
/// | another one has, this one has not | 64 KiB more after | 1 s | 1 h |
/// | | counts as delivered after | 30 s | 1 h |
/// | this one has | 64 KiB more after | 1 min | 1 h |
/// | | counts as delivered | when it answers | when it answers |
///
/// So a host that hangs costs the port nothing when it leaves, if it or another one before it has ever answered.
///
/// # Where a question has its price
/// Today's host takes a question for the late answer to its own request for a sign of life, which it makes every two
/// minutes, and warns ([`AckTracker`]). Once it has made one it is asked only where something that must be delivered was
/// written within 2 s after its request, or has waited for 150 s, or where the window is full, or at the end of the
/// agent. What it is known to have read comes from the answers to its echoes. Meanwhile 64 KiB more go after 1 s, where
/// it has said something since; else at once, up to 128 KiB in all, and then it is asked.
#[derive(Debug)]
pub(super) struct FlowControl {
    limit: Option<usize>,
    answers: AckTracker,
    /// Whether this host may be asked.
    asks: bool,
    written: u64,
    read: u64,
    /// Of that, what an answer or a sign of life stands for.
    proven: u64,
    delivered: u64,
    /// Everything before this has a barrier behind it.
    asked: u64,
    /// When the last barrier was written.
    asked_at: Option<Instant>,
    /// How often the same was asked again.
    repeats: usize,
    /// When the host last said something.
    alive_at: Option<Instant>,
    /// When what was written, up to which byte; oldest first.
    times: VecDeque<(Instant, u64)>,
    /// With which byte each write ended that is not read, where that is bounded.
    writes: VecDeque<u64>,
    /// Something waited for the window since it was last credited.
    is_waiting: bool,
}

impl FlowControl {
    pub(super) fn new(answers: AckTracker) -> Self {
        Self {
            limit: None,
            answers,
            asks: false,
            written: 0,
            read: 0,
            proven: 0,
            delivered: 0,
            asked: 0,
            asked_at: None,
            repeats: 0,
            alive_at: None,
            times: VecDeque::new(),
            writes: VecDeque::new(),
            is_waiting: false,
        }
    }

    /// A device was opened, or a host left: nothing that was written before is under way to the next.
    /// `limit`: what it may be given beyond what it has read; `asks`: it may be asked.
    pub(super) fn start_anew(&mut self, limit: Option<usize>, asks: bool) {
        self.limit = limit;
        self.asks = asks;
        self.answers.start_anew();
        (self.read, self.proven, self.asked) = (self.written, self.written, self.written);
        (self.asked_at, self.alive_at, self.repeats) = (None, None, 0);
        self.times.clear();
        self.writes.clear();
        self.is_waiting = false;
    }

    /// Whether `length` bytes may follow the `pending` ones that are not accepted yet. A frame that is
    /// longer than the window goes when nothing else is under way.
    pub(super) fn admits(&mut self, pending: usize, length: usize, share: Share) -> bool {
        let Some(limit) = self.limit else { return true };
        let limit = match share {
            Share::Telemetry => limit / TELEMETRY_SHARE.1 * TELEMETRY_SHARE.0,
            Share::Reply | Share::Durable => limit,
        };
        let outstanding = self.outstanding() + pending;
        let admits =
            outstanding == 0 || outstanding + length + BARRIER_BYTES + WRITE_BYTES <= limit;
        self.is_waiting |= !admits;
        admits
    }

    /// The host has said something.
    pub(super) fn is_alive(&mut self, now: Instant) {
        self.alive_at = Some(now);
        self.repeats = self.repeats.min(DOUBLED_MAX);
    }

    /// Whether a barrier should go behind the `pending` bytes: there are many, or something that must be
    /// known to be read (`must`), or something waits for it, or the last one is not answered, and something written up
    /// to byte `unread` must be delivered. `is_last`: nothing comes any more.
    pub(super) fn wants_barrier(
        &self,
        now: Instant,
        pending: usize,
        must: bool,
        unread: u64,
        is_last: bool,
    ) -> bool {
        if !self.asks || !self.answers.is_heard() {
            return false;
        }
        let unasked = self.written - self.asked + pending as u64;
        let wants = match self.is_quiet() {
            true => {
                (self.is_waiting && self.is_spent(now))
                    || (must && (is_last || self.answers.may_follow_request(now)))
            }
            false => must || self.is_waiting || unasked >= BARRIER_EVERY,
        };
        (wants && unasked > 0) || self.repeats_at(unread).is_some_and(|at| at <= now)
    }

    /// Whether it is time to ask what of the readings was read.
    pub(super) fn is_time_to_ask(&self, now: Instant) -> bool {
        !self.is_quiet() && self.asked_at.is_none_or(|at| at + ASK_EVERY <= now)
    }

    /// Whether a question has its price.
    fn is_quiet(&self) -> bool {
        self.asks && self.answers.is_quiet()
    }

    /// Whether only so much counts as read because of time alone. A host that does not answer when it is asked, of a
    /// port where none ever has, is one that cannot.
    fn is_credit_bounded(&self, now: Instant) -> bool {
        let asked = self.asked_at.filter(|_| self.answers.unanswered() > 0);
        let cannot = !self.answers.has_ever() && asked.is_some_and(|at| at + ASK_AGAIN <= now);
        self.is_quiet() && !cannot
    }

    /// Whether all that was given.
    fn is_spent(&self, now: Instant) -> bool {
        self.is_credit_bounded(now) && self.read >= self.proven + CREDIT_BYTES
    }

    fn repeats_at(&self, unread: u64) -> Option<Instant> {
        if !self.asks {
            return None;
        }
        let waits = (self.is_waiting || unread > 0) && self.answers.may_be_asked();
        let silent = DOUBLED_MAX + self.repeats.saturating_sub(REPEATS_MAX);
        let doubled = self.repeats.min(silent).min(DOUBLED_MAX_SILENT);
        let asked_at = self.asked_at.filter(|_| waits && self.answers.unanswered() > 0);
        let is_quiet = self.is_quiet();
        let pause = if is_quiet && !self.is_waiting { ASK_UNREQUESTED } else { ASK_AGAIN };
        let again = asked_at.map(|at| at + pause * (1 << doubled));
        let last = self.asks_last_at().filter(|_| unread > 0);
        let is_unasked = is_quiet && unread > self.asked && self.answers.may_be_asked();
        let first = self.times.iter().find(|(_, end)| is_unasked && *end > self.asked);
        let first = first.map(|(at, _)| *at + ASK_UNREQUESTED);
        [again, last, first].into_iter().flatten().min()
    }

    /// When a host that has not answered is asked for the last time before its silence counts as having read.
    fn asks_last_at(&self) -> Option<Instant> {
        let at = self.delivered_at().map(|at| at - LAST_ASKED);
        at.filter(|at| self.asked_at.is_none_or(|asked| asked < *at))
    }

    /// The number of a barrier that goes behind the `pending` bytes.
    pub(super) fn barrier(&mut self, now: Instant, pending: usize) -> Option<u64> {
        let is_repeat = self.written == self.asked && pending == 0;
        self.repeats = if is_repeat { self.repeats + 1 } else { 0 };
        let is_last = self.asks_last_at().is_some_and(|at| at <= now);
        self.answers.next_number(is_last)
    }

    /// The device accepted so many bytes.
    pub(super) fn accepted(&mut self, now: Instant, bytes: usize) {
        self.written += bytes as u64;
        if self.limit.is_some() {
            self.writes.push_back(self.written);
        }
        match self.times.back_mut() {
            Some((at, end)) if now < *at => *end = self.written,
            _ => self.times.push_back((now + GRAIN, self.written)),
        }
        if self.times.len() > TIMES_MAX {
            self.times.pop_front();
        }
    }

    /// Barrier `number`, or the echo of the host's, is written, and it ends with byte `end`.
    pub(super) fn asked(&mut self, now: Instant, number: u64, end: u64, is_echo: bool) {
        (self.asked, self.asked_at) = (end, Some(now));
        self.answers.asked(number, end, is_echo);
    }

    /// Everything before this byte has a barrier behind it.
    pub(super) fn asked_up_to(&self) -> u64 {
        self.asked
    }

    /// Whether something was not admitted since the window was last credited.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Bytes written so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Takes in what was answered and what time has passed. `is_stalled`: the device has no room, so
    /// what was written is surely not all read.
    pub(super) fn credit(&mut self, now: Instant, is_stalled: bool) {
        let (heard, answers) = self.answers.heard();
        let before = self.read;
        if heard > before {
            self.repeats = 0;
        }
        self.read = self.read.max(heard);
        self.proven = self.proven.max(heard);
        self.delivered = self.delivered.max(heard);
        if !is_stalled {
            self.proven = self.proven.max(self.known_by_time(now, PROVEN_QUIET));
            let read_by = self.known_by_time(now, self.room_patience(answers));
            let most =
                if self.is_credit_bounded(now) { self.proven + CREDIT_BYTES } else { u64::MAX };
            self.read = self.read.max(read_by.min(most));
            if !answers {
                let delivered = self.known_by_time(now, self.delivery_patience());
                self.delivered = self.delivered.max(delivered);
            }
        }
        while self.writes.pop_front_if(|end| *end <= self.read).is_some() {}
        let done = self.read.min(self.delivered);
        while self.times.pop_front_if(|(_, end)| *end <= done).is_some() {}
        self.is_waiting &= self.read == before;
    }

    /// Up to which byte time says so.
    fn known_by_time(&self, now: Instant, patience: Patience) -> u64 {
        let old = self.times.iter().take_while(|(at, _)| self.known_at(*at, patience) <= now);
        old.last().map_or(0, |(_, end)| *end)
    }

    /// When time says so of what was written `at` that time.
    fn known_at(&self, at: Instant, patience: Patience) -> Instant {
        let is_alive = self.alive_at.is_some_and(|alive| alive >= at);
        at + if is_alive { patience.alive } else { patience.silent }
    }

    /// When time says that the oldest write beyond byte `up_to` was read.
    fn next_at(&self, up_to: u64, patience: Patience) -> Option<Instant> {
        let first = self.times.iter().find(|(_, end)| *end > up_to);
        first.map(|(at, _)| self.known_at(*at, patience))
    }

    /// When time says that more of what must be delivered is.
    fn delivered_at(&self) -> Option<Instant> {
        let answers = self.answers.heard().1;
        (!answers).then(|| self.next_at(self.delivered, self.delivery_patience())).flatten()
    }

    /// Everything up to this byte was read, as far as can be known; for what is kept nowhere.
    pub(super) fn read(&self) -> u64 {
        if self.is_quiet() { self.proven } else { self.read }
    }

    /// Everything up to this byte counts as delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// When [`credit`](Self::credit) would tell more without an answer: asked for only where something
    /// waits, so that an idle port wakes nobody. Up to byte `unread` something must be delivered.
    pub(super) fn deadline(&self, now: Instant, unread: u64) -> Option<Instant> {
        let patience = self.room_patience(self.answers.heard().1);
        let waits = self.is_waiting && !self.is_spent(now);
        let room = waits.then(|| self.next_at(self.read, patience)).flatten();
        let delivery = self.delivered_at().filter(|_| unread > 0);
        [room, delivery, self.repeats_at(unread)].into_iter().flatten().min()
    }

    fn room_patience(&self, answers: bool) -> Patience {
        match (answers, self.answers.has_ever()) {
            _ if self.is_quiet() => ROOM_QUIET,
            (true, _) => ROOM_ANSWERED,
            (false, true) => ROOM_OTHERS_ANSWERED,
            (false, false) => ROOM_UNANSWERED,
        }
    }

    fn delivery_patience(&self) -> Patience {
        let others = self.answers.has_ever();
        let patience = if others { DELIVERED_OTHERS_ANSWERED } else { DELIVERED_UNANSWERED };
        let alive = patience.alive.max(Duration::from_secs(DELIVERED_QUIET));
        if self.is_quiet() { Patience { alive, ..patience } } else { patience }
    }

    fn outstanding(&self) -> usize {
        let bytes = usize::try_from(self.written - self.read).unwrap_or(usize::MAX);
        bytes.saturating_add(self.writes.len() * WRITE_BYTES)
    }
}
