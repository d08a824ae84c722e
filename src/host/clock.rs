//! The guest's clock, learnt from its messages. Pure: the host's time is an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2020-09-13: a time at or before it is no clock that was ever set (today's host has the same rule).
const NEVER_SET: Duration = Duration::from_millis(1_600_000_000_000);

/// The offset of the guest's clock from the host's; unknown until the guest has sent a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    offset_ms: Option<i64>,
}

impl Clock {
    /// Learns from the `timestamp` of a line that came `now`. Only a text in ISO-8601, in UTC, after
    /// 2020-09 teaches; anything else changes nothing.
    pub fn learn(&mut self, timestamp: &str, now: SystemTime) {
        let Ok(guest) = humantime::parse_rfc3339(timestamp) else { return };
        if guest > UNIX_EPOCH + NEVER_SET {
            self.offset_ms = Some(millis(guest).saturating_sub(millis(now)));
        }
    }

    /// Guest minus host in milliseconds, if known.
    pub fn offset_ms(&self) -> Option<i64> {
        self.offset_ms
    }

    /// The host's `now` by the guest's clock, in milliseconds since 1970; by the host's own while the
    /// guest's is not known.
    pub fn stamp(&self, now: SystemTime) -> i64 {
        millis(now).saturating_add(self.offset_ms.unwrap_or(0))
    }
}

/// Milliseconds since 1970; 0 before it.
fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_two_hours_ahead_is_stamped_by_its_own_clock() {
        let now = UNIX_EPOCH + Duration::from_secs(1_784_023_200); // 2026-07-14T10:00:00Z
        let mut clock = Clock::default();
        assert_eq!(clock.stamp(now), 1_784_023_200_000, "not known: the host's own");
        clock.learn("2026-07-14T12:00:00.000Z", now);
        assert_eq!(clock.offset_ms(), Some(7_200_000));
        assert_eq!(clock.stamp(now + Duration::from_secs(1)), 1_784_030_401_000);
        clock.learn("2026-07-14T09:59:59.500Z", now);
        assert_eq!(clock.offset_ms(), Some(-500), "the newest line counts");
    }

    #[test]
    fn an_unset_clock_is_ignored() {
        let mut clock = Clock::default();
        for text in
            ["", "yesterday", "1784023200000", "1970-01-01T00:00:05Z", "2020-09-13T12:26:40Z"]
        {
            clock.learn(text, UNIX_EPOCH);
            assert_eq!(clock.offset_ms(), None, "{text}");
        }
    }
}
