//! Which envelopes were taken. Pure: the caller brings the clocks.
//!
//! # Why nonces are remembered by number, and not for a time
//! What is kept is the last [`NONCES_KEPT`], and of each that was forgotten its time: an envelope that is not later is
//! refused, whether it was taken or not. So a replay is refused whatever the clock says, and a flood makes nothing deaf,
//! since what a host signs next is later. Forgetting by age alone took an old envelope again once the clock was set
//! back.

use std::collections::{BTreeSet, HashSet};

use tokio::time::Instant;

use crate::wire::envelope::{Refused, WINDOW_MS};

/// Nonces that are remembered.
pub(crate) const NONCES_KEPT: usize = 16_384;

/// A clock that lost so many milliseconds was set back, and not adjusted.
const STEP_MS: i64 = 1_000;
const WINDOW: i64 = WINDOW_MS.cast_signed();

/// The envelopes that were taken.
#[derive(Debug)]
pub(super) struct Replay {
    seen: HashSet<u128>,
    by_time: BTreeSet<(i64, u128)>,
    max: usize,
    /// The time of the latest envelope taken.
    pub latest: i64,
    /// Before this, envelopes were taken that are not remembered: there were too many.
    forgotten: i64,
    /// Before this, envelopes may have been taken of which the log is lost.
    pub lost: i64,
    /// The clocks when they were looked at last.
    clocks: Option<(Instant, i64)>,
}

impl Default for Replay {
    fn default() -> Self {
        let (seen, by_time, clocks) = Default::default();
        let (latest, forgotten, lost) = (i64::MIN, i64::MIN, i64::MIN);
        Self { seen, by_time, max: NONCES_KEPT, latest, forgotten, lost, clocks }
    }
}

impl Replay {
    /// With another bound: for a test.
    #[cfg(test)]
    pub(super) fn keeping(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    /// Remembers at most `max` nonces from now on, and forgets the earliest above that.
    pub(super) fn keep(&mut self, max: usize) {
        self.max = max;
        self.trim();
    }

    /// What the clocks say now. `true`: the wall clock was set back, so stamps may be earlier from now on.
    pub(super) fn clocks(&mut self, now: Instant, now_ms: i64) -> bool {
        let before = self.clocks.replace((now, now_ms));
        let is_back = before.is_some_and(|(at, ms)| {
            let passed = i64::try_from(now.saturating_duration_since(at).as_millis());
            ms.saturating_add(passed.unwrap_or(i64::MAX)).saturating_sub(now_ms) >= STEP_MS
        });
        if is_back {
            self.set_back(now_ms);
        }
        is_back
    }

    /// Takes stamps of a clock that was set back to `now_ms`. What is remembered is refused as before.
    pub(super) fn set_back(&mut self, now_ms: i64) {
        self.latest = self.latest.min(now_ms);
        self.forgotten = self.forgotten.min(now_ms);
        self.lost = self.lost.min(now_ms);
    }

    /// Whether an envelope may be taken.
    ///
    /// # Errors
    /// It was taken before, or nobody knows.
    pub(super) fn check(&self, ts: i64, nonce: u128) -> Result<(), Refused> {
        if self.seen.contains(&nonce) {
            return Err(Refused::Replayed);
        }
        if ts < self.lost || ts < self.latest.saturating_sub(WINDOW) {
            return Err(Refused::Stale);
        }
        if ts < self.forgotten { Err(Refused::Crowded) } else { Ok(()) }
    }

    /// An envelope was taken.
    pub(super) fn remember(&mut self, ts: i64, nonce: u128) {
        self.latest = self.latest.max(ts);
        if self.seen.insert(nonce) {
            self.by_time.insert((ts, nonce));
        }
        self.trim();
    }

    fn trim(&mut self) {
        while self.by_time.len() > self.max
            && let Some((ts, nonce)) = self.by_time.pop_first()
        {
            self.seen.remove(&nonce);
            self.forgotten = self.forgotten.max(ts.saturating_add(1));
        }
    }

    /// All that is remembered, the earliest first.
    pub(super) fn all(&self) -> impl Iterator<Item = (i64, u128)> {
        self.by_time.iter().copied()
    }

    /// Before this, envelopes were or may have been taken that are not remembered.
    pub(super) fn floor(&self) -> i64 {
        self.lost.max(self.forgotten)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn take(replay: &mut Replay, ts: i64, nonce: u128) -> Result<(), Refused> {
        replay.check(ts, nonce).map(|()| replay.remember(ts, nonce))
    }

    #[test]
    fn a_flood_makes_nothing_deaf_and_brings_nothing_back() {
        let mut replay = Replay::keeping(3);
        for nonce in 1..=5 {
            assert_eq!(take(&mut replay, NOW + nonce, nonce as u128), Ok(()));
        }
        assert_eq!(take(&mut replay, NOW + 5, 5), Err(Refused::Replayed));
        assert_eq!(take(&mut replay, NOW + 1, 1), Err(Refused::Crowded), "forgotten, and refused");
        assert_eq!(take(&mut replay, NOW + 6, 6), Ok(()), "what is signed next is taken");
        for nonce in 10..20 {
            let _ = take(&mut replay, NOW + 7, nonce); // all of one moment
        }
        assert!(replay.by_time.len() == 3 && replay.seen.len() == 3);
        assert_eq!(take(&mut replay, NOW + 7, 10), Err(Refused::Crowded));
        assert_eq!(take(&mut replay, NOW + 8, 30), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_brings_nothing_back_and_stops_nothing() {
        let (mut replay, now) = (Replay::default(), Instant::now());
        let hours = |hours: i64| hours * 3_600_000;
        assert!(!replay.clocks(now, NOW));
        assert_eq!(take(&mut replay, NOW - hours(2), 1), Ok(()));
        assert_eq!(take(&mut replay, NOW, 2), Ok(()));
        // As long as nobody set the clock, a stamp of long ago is none.
        assert!(!replay.clocks(now + Duration::from_secs(700), NOW + 700_000));
        assert_eq!(take(&mut replay, NOW - WINDOW - 1, 3), Err(Refused::Stale));
        assert_eq!(take(&mut replay, NOW - WINDOW, 4), Ok(()));
        assert!(replay.clocks(now + Duration::from_secs(700), NOW - hours(2)));
        assert_eq!(take(&mut replay, NOW - hours(2), 1), Err(Refused::Replayed));
        assert_eq!(take(&mut replay, NOW - hours(2) + 1, 5), Ok(()));
    }
}
