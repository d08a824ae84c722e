//! A circuit breaker for opening the device. Pure: `now` is an argument.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Failures in a row that open the breaker.
pub(super) const FAILURES_MAX: u64 = 5;
/// The shortest rest; jitter makes the next delay longer.
pub(super) const REST: Duration = Duration::from_secs(15);
/// A session of at least this length resets the failures.
pub(super) const HEALTHY: Duration = Duration::from_secs(60);

/// Whether a failed device is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Opened again after a short delay.
    Closed,
    /// It failed too often in a row: not before a rest.
    Open,
    /// The rest is over: one try. A failure opens the breaker again.
    HalfOpen,
}

/// The circuit breaker of one device.
///
/// A missing device is no failure: the port waits for it. A refused one, or one that fails soon after it was
/// opened, is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// The current state.
    pub state: BreakerState,
    /// Failures since the last healthy session.
    pub failures: u64,
    /// When the last failure was.
    pub last_failure: Option<SystemTime>,
    /// When the rest ends.
    pub rests_until: Option<Instant>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: BreakerState::Closed, failures: 0, last_failure: None, rests_until: None }
    }
}

impl Breaker {
    /// The device could not be opened, or failed. Returns the rest that it needs now.
    pub fn failed(&mut self, now: Instant, wall: SystemTime) -> Option<Duration> {
        self.failures += 1;
        self.last_failure = Some(wall);
        if self.state == BreakerState::Closed && self.failures < FAILURES_MAX {
            return None;
        }
        self.state = BreakerState::Open;
        self.rests_until = Some(now + REST);
        Some(REST)
    }

    /// The device is tried: after a rest, this is the one try.
    pub fn tries(&mut self) {
        if self.state == BreakerState::Open {
            self.state = BreakerState::HalfOpen;
            self.rests_until = None;
        }
    }

    /// When a session that began at `opened` becomes healthy. `None` if there is no failure to reset.
    pub fn healthy_at(&self, opened: Instant) -> Option<Instant> {
        (self.failures > 0).then(|| opened + HEALTHY)
    }

    /// A session was healthy: closes the breaker.
    pub fn healthy(&mut self) {
        *self = Self { last_failure: self.last_failure, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_five_failures_and_closes_after_a_healthy_session() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES_MAX {
            assert_eq!(breaker.failed(now, SystemTime::UNIX_EPOCH), None);
            breaker.tries();
        }
        assert_eq!(breaker.state, BreakerState::Closed);
        assert_eq!(breaker.failed(now, SystemTime::UNIX_EPOCH), Some(REST));
        assert_eq!((breaker.state, breaker.rests_until), (BreakerState::Open, Some(now + REST)));

        breaker.tries();
        assert_eq!((breaker.state, breaker.rests_until), (BreakerState::HalfOpen, None));
        assert_eq!(breaker.failed(now, SystemTime::UNIX_EPOCH), Some(REST), "one try, not five");
        assert_eq!(breaker.state, BreakerState::Open);

        breaker.tries();
        assert_eq!(breaker.healthy_at(now), Some(now + HEALTHY));
        breaker.healthy();
        assert_eq!((breaker.state, breaker.failures), (BreakerState::Closed, 0));
        assert_eq!(breaker.healthy_at(now), None, "nothing to forget: nobody need be woken");
    }
}
