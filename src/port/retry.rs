//! The delays between tries to open the device, and the log lines about them.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::breaker::HEALTHY;
use super::device::NotOpen;

const FIRST: Duration = Duration::from_millis(100);
/// Jitter adds up to as much again: for what is absent at most 5 s, for what is refused at most 30 s.
const ABSENT_MAX: Duration = Duration::from_millis(2_500);
const REFUSED_MAX: Duration = Duration::from_secs(15);

/// The delays between tries, doubling from 100 ms, with jitter; and the last state logged, so that each state is
/// logged once.
#[derive(Debug)]
pub(super) struct Retry {
    absent: ExponentialBackoff,
    refused: ExponentialBackoff,
    reported: Option<NotOpen>,
}

impl Retry {
    pub(super) fn new() -> Self {
        Self { absent: delays(ABSENT_MAX), refused: delays(REFUSED_MAX), reported: None }
    }

    /// The device could not be opened: logs a new reason, and returns the delay.
    pub(super) fn after(&mut self, port: &str, why: NotOpen) -> Duration {
        if self.reported.as_ref() != Some(&why) {
            match &why {
                NotOpen::Absent(_) => tracing::info!(%port, reason = %why, "waiting for the port"),
                NotOpen::Busy(_) | NotOpen::Refused(_) => {
                    tracing::warn!(%port, reason = %why, "the port cannot be opened, trying again");
                }
            }
        }
        let (delays, longest) = match &why {
            NotOpen::Absent(_) => (&mut self.absent, ABSENT_MAX),
            NotOpen::Busy(_) | NotOpen::Refused(_) => (&mut self.refused, REFUSED_MAX),
        };
        self.reported = Some(why);
        delays.next().unwrap_or(longest)
    }

    /// The device is open.
    pub(super) fn opened(&mut self, port: &str) {
        self.reported = None;
        tracing::info!(%port, "the port is open");
    }

    /// The device is gone after it was open for `lived`: returns the delay.
    pub(super) fn after_session(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY {
            *self = Self::new();
        }
        self.absent.next().unwrap_or(ABSENT_MAX)
    }
}

fn delays(max: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST)
        .with_max_delay(max)
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_their_ceiling_and_start_again_after_a_healthy_session() {
        let mut retry = Retry::new();
        let absent: Vec<_> =
            (0..40).map(|_| retry.after("p", NotOpen::Absent(String::new()))).collect();
        let refused: Vec<_> =
            (0..40).map(|_| retry.after("p", NotOpen::Busy(String::new()))).collect();
        for (delays, ceiling) in
            [(absent, Duration::from_secs(5)), (refused, Duration::from_secs(30))]
        {
            assert!(delays[0] >= FIRST && delays[0] <= 2 * FIRST, "{delays:?}");
            assert!(delays.iter().all(|delay| *delay <= ceiling), "{delays:?}");
            assert!(delays[39] >= ceiling / 2, "{delays:?}");
        }
        assert!(
            retry.after_session(HEALTHY / 2) >= ABSENT_MAX,
            "a device that flaps is not hammered"
        );
        assert!(retry.after_session(HEALTHY) <= 2 * FIRST);
    }
}
