//! The wall clock of a simulated machine: the run's time plus whatever it was set to. One per thread,
//! because the product takes a plain function. Does not move time: tokio's paused clock does.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// 2026-07-14, in milliseconds since 1970.
const BEGAN_MS: i64 = 1_784_023_200_000;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    static STEPPED_MS: Cell<i64> = const { Cell::new(0) };
}

/// A run begins on this thread.
pub fn begin() {
    BEGAN.set(Some(Instant::now()));
    STEPPED_MS.set(0);
}

/// The wall clock is set forward, or back.
pub fn step(ms: i64) {
    STEPPED_MS.set(STEPPED_MS.get() + ms);
}

/// By how much the wall clock has been set in all.
pub fn stepped() -> i64 {
    STEPPED_MS.get()
}

/// Milliseconds since the run began.
pub fn elapsed_ms() -> u64 {
    BEGAN.get().map_or(0, |began| began.elapsed().as_millis() as u64)
}

/// The wall clock.
pub fn now_ms() -> i64 {
    BEGAN_MS + elapsed_ms() as i64 + stepped()
}

/// The wall clock.
pub fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(now_ms().max(0) as u64)
}
