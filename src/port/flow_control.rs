//! Flow control: how much is written and unacknowledged, and what may be written on top. Pure: `now` is an
//! argument.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::ack_tracker::AckTracker;

/// The most unacknowledged bytes on a virtio-serial port.
///
/// # Why
/// A full ring makes the hypervisor throttle the port, and a host that disconnects in that state costs the port one
/// of its 128 buffers for good (QEMU `hw/char/virtio-serial-bus.c`: the pending element is not given back). After
/// 128 such hosts the port is wedged until the machine is switched off. This window fits into the socket behind the
/// port, so the ring never fills.
pub const WINDOW_BYTES: usize = 64 * 1024;

/// What each write counts in addition to its bytes. The socket behind the port is charged for the buffers that the
/// kernel allocates (`skb->truesize`: 768 bytes for a short write), so many short writes would fill it long before
/// their bytes do.
const WRITE_BYTES: usize = 384;

/// The share of the window for telemetry, 3/4. The rest is reserved for replies and durable frames.
const TELEMETRY_SHARE: (usize, usize) = (3, 4);

/// A barrier follows at least every this many bytes.
const BARRIER_EVERY: u64 = 32 * 1024;

/// The longest barrier, in bytes.
pub(super) const BARRIER_BYTES: usize = 256;

/// A barrier is repeated when this long unanswered while something waits for it. The host may be another one by
/// now, which never received the last barrier.
const REPEAT_AFTER: Duration = Duration::from_secs(3);
/// Each unanswered repetition doubles the pause, up to 96 s. After [`REPEATS_MAX`] repetitions it doubles further,
/// up to 3.4 h, because barriers must not fill the socket of a silent host either. It never stops: otherwise a port
/// with nothing else to write would wait for ever.
const DOUBLED_MAX: usize = 5;
const REPEATS_MAX: usize = 12;
const DOUBLED_MAX_SILENT: usize = 12;

/// How often telemetry gets a barrier, so that the port knows what a host had not read when it disconnects.
const TELEMETRY_BARRIER_EVERY: Duration = Duration::from_secs(5);

/// In quiet mode (see [`FlowControl`]) the port writes a barrier of its own accord only after durable data has waited
/// this long. Today's host sends a keep-alive every 120 s, and the answer to its echo acknowledges at no cost.
const QUIET_BARRIER_AFTER: Duration = Duration::from_secs(150);
/// In quiet mode, time alone acknowledges at most this many bytes beyond what is proven, after [`ROOM_QUIET`].
/// Together with the window that is less than the socket behind a port takes (208 KiB, `net.core.wmem_default`).
const CREDIT_BYTES: u64 = 2 * WINDOW_BYTES as u64;

/// How old a write must be to count as acknowledged without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AckTimeout {
    /// The host has sent something since the write: it is alive.
    alive: Duration,
    /// The host has sent nothing since.
    silent: Duration,
}

impl AckTimeout {
    const fn new(alive: u64, silent: u64) -> Self {
        Self { alive: Duration::from_secs(alive), silent: Duration::from_secs(silent) }
    }
}

/// For a silent host on a port where some host has acknowledged: a host that says nothing probably reads nothing.
const NEARLY_EVER: u64 = 3_600;
/// For the window: this host has acknowledged before.
const ROOM_ANSWERED: AckTimeout = AckTimeout::new(60, NEARLY_EVER);
/// For the window: only another host of this port has.
const ROOM_OTHERS_ANSWERED: AckTimeout = AckTimeout::new(1, NEARLY_EVER);
/// For the window: no host of this port has acknowledged.
const ROOM_UNANSWERED: AckTimeout = AckTimeout::new(1, 1);
/// For the window in quiet mode: see [`CREDIT_BYTES`].
const ROOM_QUIET: AckTimeout = AckTimeout::new(0, 0);
/// For proof in quiet mode: the host works in order, so it has read what was written before it sent something.
const PROVEN_QUIET: AckTimeout = AckTimeout::new(1, NEARLY_EVER);
/// For durable data in quiet mode: leaves time for the host's own keep-alive, in seconds.
const DELIVERED_QUIET: u64 = 180;
/// For durable data: only another host of this port has acknowledged.
const DELIVERED_OTHERS_ANSWERED: AckTimeout = AckTimeout::new(30, NEARLY_EVER);
/// For durable data: no host of this port has acknowledged.
const DELIVERED_UNANSWERED: AckTimeout = AckTimeout::new(30, 300);

/// A barrier is written this long before durable data counts as delivered by time, unless the last barrier is
/// newer. The connected host may be another one.
const LAST_BARRIER_BEFORE: Duration = Duration::from_secs(10);

/// Writes within this time share one entry.
const GRAIN: Duration = Duration::from_millis(250);
/// The most entries. Beyond it the oldest are merged into the next, so they count as written later.
const TIMES_MAX: usize = 256;

/// Which part of the window a frame may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// [`TELEMETRY_SHARE`] of the window.
    Telemetry,
    /// The whole window.
    Reply,
    /// The whole window; the frame is tracked until it is acknowledged.
    Durable,
}

/// The window of one port. All positions are bytes written since the port was made.
///
/// # The rule
/// A host that answers a barrier acknowledges everything written before it. A host that has never answered may be
/// an older one, or one behind a relay that forwards no keep-alives. Then writes count as acknowledged after a
/// time, while the device is not stalled. Bytes from the host prove that it is alive:
///
/// | | | it has sent something since | it has not |
/// |---|---|---|---|
/// | no host of this port has ever acknowledged | 64 KiB more after | 1 s | 1 s |
/// | | counts as delivered after | 30 s | 5 min |
/// | another one has, this one has not | 64 KiB more after | 1 s | 1 h |
/// | | counts as delivered after | 30 s | 1 h |
/// | this one has | 64 KiB more after | 1 min | 1 h |
/// | | counts as delivered | when it answers | when it answers |
///
/// So a host that hangs costs the port nothing when it disconnects, if any host has ever acknowledged.
///
/// # Quiet mode
/// Today's host takes a barrier for the late answer to its own keep-alive, which it sends every two minutes, and
/// logs a warning ([`AckTracker`]). Once it has sent one, a barrier is written only within 2 s after its keep-alive
/// if durable data is in flight, when durable data has waited for 150 s, when the window or the durable data in flight is
/// at its bound, and when the agent ends. Its answers to echoes acknowledge the rest. Meanwhile 64 KiB more are admitted after 1 s if the host
/// has sent something since; else at once, up to 128 KiB in all, and then a barrier is written.
#[derive(Debug)]
pub(super) struct FlowControl {
    limit: Option<usize>,
    acks: AckTracker,
    /// Whether barriers may be written on this device.
    allows_barriers: bool,
    written: u64,
    read: u64,
    /// The part of `read` that an answer or bytes from the host prove.
    proven: u64,
    delivered: u64,
    /// The end of the last barrier or echo.
    barrier_end: u64,
    /// When the last barrier was written.
    barrier_at: Option<Instant>,
    /// How often the last barrier was repeated.
    repeats: usize,
    /// When the host last sent something.
    alive_at: Option<Instant>,
    /// Times of writes and their ends; oldest first.
    times: VecDeque<(Instant, u64)>,
    /// The ends of unacknowledged writes, where a window applies.
    writes: VecDeque<u64>,
    /// A frame was refused since the last credit.
    is_waiting: bool,
}

impl FlowControl {
    pub(super) fn new(acks: AckTracker) -> Self {
        Self {
            limit: None,
            acks,
            allows_barriers: false,
            written: 0,
            read: 0,
            proven: 0,
            delivered: 0,
            barrier_end: 0,
            barrier_at: None,
            repeats: 0,
            alive_at: None,
            times: VecDeque::new(),
            writes: VecDeque::new(),
            is_waiting: false,
        }
    }

    /// A device was opened or a host disconnected: nothing in flight counts any more. `limit` is the new window,
    /// `asks` whether barriers may be written.
    pub(super) fn reset(&mut self, limit: Option<usize>, allows_barriers: bool) {
        self.limit = limit;
        self.allows_barriers = allows_barriers;
        self.acks.reset_session();
        (self.read, self.proven, self.barrier_end) = (self.written, self.written, self.written);
        (self.barrier_at, self.alive_at, self.repeats) = (None, None, 0);
        self.times.clear();
        self.writes.clear();
        self.is_waiting = false;
    }

    /// Whether a frame of `length` bytes fits into the window after `pending` bytes that are not written yet. A
    /// frame longer than the window is admitted when nothing else is in flight.
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

    /// The host has sent something.
    pub(super) fn host_sent(&mut self, now: Instant) {
        self.alive_at = Some(now);
        self.repeats = self.repeats.min(DOUBLED_MAX);
    }

    /// Whether a barrier should follow the `pending` bytes: much was written without one, or `is_due`, or a frame
    /// waits for the window, or the last one must be repeated. `durable_end` is the end of the durable data in
    /// flight; `is_urgent` means that nothing follows without an answer: the port ends, or as much durable data is in
    /// flight as may be.
    pub(super) fn wants_barrier(
        &self,
        now: Instant,
        pending: usize,
        is_due: bool,
        durable_end: u64,
        is_urgent: bool,
    ) -> bool {
        if !self.allows_barriers || !self.acks.is_listening() {
            return false;
        }
        let without_barrier = self.written - self.barrier_end + pending as u64;
        let wants = match self.is_quiet() {
            true => {
                (self.is_waiting && self.is_spent(now))
                    || (is_due && (is_urgent || self.acks.may_follow_request(now)))
            }
            false => is_due || self.is_waiting || without_barrier >= BARRIER_EVERY,
        };
        (wants && without_barrier > 0) || self.repeats_at(durable_end).is_some_and(|at| at <= now)
    }

    /// Whether telemetry needs a barrier now.
    pub(super) fn is_telemetry_barrier_due(&self, now: Instant) -> bool {
        !self.is_quiet() && self.barrier_at.is_none_or(|at| at + TELEMETRY_BARRIER_EVERY <= now)
    }

    /// Whether the port is in quiet mode.
    fn is_quiet(&self) -> bool {
        self.allows_barriers && self.acks.is_quiet()
    }

    /// Whether time alone acknowledges only [`CREDIT_BYTES`]. Not for a host that leaves a barrier unanswered on a
    /// port where none has ever acknowledged: it cannot answer.
    fn is_credit_bounded(&self, now: Instant) -> bool {
        let barrier_at = self.barrier_at.filter(|_| self.acks.pending_count() > 0);
        let cannot =
            !self.acks.any_host_acked() && barrier_at.is_some_and(|at| at + REPEAT_AFTER <= now);
        self.is_quiet() && !cannot
    }

    /// Whether [`CREDIT_BYTES`] are used up.
    fn is_spent(&self, now: Instant) -> bool {
        self.is_credit_bounded(now) && self.read >= self.proven + CREDIT_BYTES
    }

    fn repeats_at(&self, durable_end: u64) -> Option<Instant> {
        if !self.allows_barriers {
            return None;
        }
        let waits = (self.is_waiting || durable_end > 0) && self.acks.may_ask();
        let silent = DOUBLED_MAX + self.repeats.saturating_sub(REPEATS_MAX);
        let doubled = self.repeats.min(silent).min(DOUBLED_MAX_SILENT);
        let barrier_at = self.barrier_at.filter(|_| waits && self.acks.pending_count() > 0);
        let is_quiet = self.is_quiet();
        let pause = if is_quiet && !self.is_waiting { QUIET_BARRIER_AFTER } else { REPEAT_AFTER };
        let again = barrier_at.map(|at| at + pause * (1 << doubled));
        let last = self.last_barrier_at().filter(|_| durable_end > 0);
        let is_unasked = is_quiet && durable_end > self.barrier_end && self.acks.may_ask();
        let first = self.times.iter().find(|(_, end)| is_unasked && *end > self.barrier_end);
        let first = first.map(|(at, _)| *at + QUIET_BARRIER_AFTER);
        [again, last, first].into_iter().flatten().min()
    }

    /// When to write the last barrier before silence counts as delivery.
    fn last_barrier_at(&self) -> Option<Instant> {
        let at = self.delivered_at().map(|at| at - LAST_BARRIER_BEFORE);
        at.filter(|at| self.barrier_at.is_none_or(|barrier_at| barrier_at < *at))
    }

    /// The number of a barrier that follows the `pending` bytes.
    pub(super) fn barrier(&mut self, now: Instant, pending: usize) -> Option<u64> {
        let is_repeat = self.written == self.barrier_end && pending == 0;
        self.repeats = if is_repeat { self.repeats + 1 } else { 0 };
        let is_last = self.last_barrier_at().is_some_and(|at| at <= now);
        self.acks.next_number(is_last)
    }

    /// The device accepted `bytes`.
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

    /// Barrier or echo `number` was written, and ends with byte `end`.
    pub(super) fn barrier_written(&mut self, now: Instant, number: u64, end: u64, is_echo: bool) {
        (self.barrier_end, self.barrier_at) = (end, Some(now));
        self.acks.sent(number, end, is_echo);
    }

    /// The end of the last barrier or echo.
    pub(super) fn barrier_end(&self) -> u64 {
        self.barrier_end
    }

    /// Whether a frame was refused since the last credit.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Bytes written since the port was made.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Applies acknowledgements and the time that has passed. `is_stalled`: the device is full, so the host has
    /// surely not read everything.
    pub(super) fn credit(&mut self, now: Instant, is_stalled: bool) {
        let (acked, has_acked) = self.acks.acknowledged();
        let before = self.read;
        if acked > before {
            self.repeats = 0;
        }
        self.read = self.read.max(acked);
        self.proven = self.proven.max(acked);
        self.delivered = self.delivered.max(acked);
        if !is_stalled {
            self.proven = self.proven.max(self.acked_by_time(now, PROVEN_QUIET));
            let read_by = self.acked_by_time(now, self.room_patience(has_acked));
            let most =
                if self.is_credit_bounded(now) { self.proven + CREDIT_BYTES } else { u64::MAX };
            self.read = self.read.max(read_by.min(most));
            if !has_acked {
                let delivered = self.acked_by_time(now, self.delivery_patience());
                self.delivered = self.delivered.max(delivered);
            }
        }
        while self.writes.pop_front_if(|end| *end <= self.read).is_some() {}
        let done = self.read.min(self.delivered);
        while self.times.pop_front_if(|(_, end)| *end <= done).is_some() {}
        self.is_waiting &= self.read == before;
    }

    /// The byte up to which time acknowledges.
    fn acked_by_time(&self, now: Instant, patience: AckTimeout) -> u64 {
        let old = self.times.iter().take_while(|(at, _)| self.acked_at(*at, patience) <= now);
        old.last().map_or(0, |(_, end)| *end)
    }

    /// When time acknowledges what was written `at`.
    fn acked_at(&self, at: Instant, patience: AckTimeout) -> Instant {
        let is_alive = self.alive_at.is_some_and(|alive| alive >= at);
        at + if is_alive { patience.alive } else { patience.silent }
    }

    /// When time acknowledges the oldest write after byte `up_to`.
    fn next_at(&self, up_to: u64, patience: AckTimeout) -> Option<Instant> {
        let first = self.times.iter().find(|(_, end)| *end > up_to);
        first.map(|(at, _)| self.acked_at(*at, patience))
    }

    /// When time delivers more durable data.
    fn delivered_at(&self) -> Option<Instant> {
        let has_acked = self.acks.acknowledged().1;
        (!has_acked).then(|| self.next_at(self.delivered, self.delivery_patience())).flatten()
    }

    /// The byte up to which best-effort data counts as read.
    pub(super) fn read(&self) -> u64 {
        if self.is_quiet() { self.proven } else { self.read }
    }

    /// The byte up to which durable data counts as delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// When [`credit`](Self::credit) would change something without an answer. `None` where nothing waits, so that
    /// an idle port does not wake. `durable_end` is the end of the durable data in flight.
    pub(super) fn deadline(&self, now: Instant, durable_end: u64) -> Option<Instant> {
        let patience = self.room_patience(self.acks.acknowledged().1);
        let waits = self.is_waiting && !self.is_spent(now);
        let room = waits.then(|| self.next_at(self.read, patience)).flatten();
        let delivery = self.delivered_at().filter(|_| durable_end > 0);
        [room, delivery, self.repeats_at(durable_end)].into_iter().flatten().min()
    }

    fn room_patience(&self, has_acked: bool) -> AckTimeout {
        match (has_acked, self.acks.any_host_acked()) {
            _ if self.is_quiet() => ROOM_QUIET,
            (true, _) => ROOM_ANSWERED,
            (false, true) => ROOM_OTHERS_ANSWERED,
            (false, false) => ROOM_UNANSWERED,
        }
    }

    fn delivery_patience(&self) -> AckTimeout {
        let others_acked = self.acks.any_host_acked();
        let patience = if others_acked { DELIVERED_OTHERS_ANSWERED } else { DELIVERED_UNANSWERED };
        let alive = patience.alive.max(Duration::from_secs(DELIVERED_QUIET));
        if self.is_quiet() { AckTimeout { alive, ..patience } } else { patience }
    }

    fn outstanding(&self) -> usize {
        let bytes = usize::try_from(self.written - self.read).unwrap_or(usize::MAX);
        bytes.saturating_add(self.writes.len() * WRITE_BYTES)
    }
}
