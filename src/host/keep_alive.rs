//! The host's side of keep-alive: sends requests, and checks the echoes. Pure: time is an argument.

use std::time::{Duration, Instant};

/// The requests and echoes of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// The last number sent, or taken over from the guest.
    sequence: u64,
    /// When the request that waits for its echo was sent.
    waiting: Option<Instant>,
    asked: u64,
    echoed: u64,
    missed_in_a_row: u32,
    round_trip: Option<Duration>,
}

impl KeepAlive {
    /// The number of the request to send now. A request that still waits for its echo counts as missed.
    pub fn ask(&mut self, now: Instant) -> u64 {
        if self.waiting.is_some() {
            self.missed_in_a_row = self.missed_in_a_row.saturating_add(1);
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.waiting = Some(now);
        self.asked += 1;
        self.sequence
    }

    /// Takes a `keep_alive` of the guest; gives whether it was the echo that was waited for. As today's
    /// host does, the guest's number is taken over either way and the next request counts on from it.
    pub fn heard(&mut self, number: u64, now: Instant) -> bool {
        let echo = match self.waiting {
            Some(sent) if number == self.sequence => {
                self.round_trip = Some(now.saturating_duration_since(sent));
                self.echoed += 1;
                self.missed_in_a_row = 0;
                self.waiting = None;
                true
            }
            _ => false,
        };
        self.sequence = number;
        echo
    }

    /// Requests sent.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Requests that came back with the same number.
    pub fn echoed(&self) -> u64 {
        self.echoed
    }

    /// Requests since the last echo that were not echoed before the next one was due.
    pub fn missed_in_a_row(&self) -> u32 {
        self.missed_in_a_row
    }

    /// From the last echoed request to its echo.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_has_the_number_of_the_request_and_anything_else_is_none() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut alive = KeepAlive::default();
        assert_eq!(alive.ask(start), 1);
        assert!(alive.heard(1, after(3)));
        assert_eq!((alive.round_trip(), alive.echoed()), (Some(Duration::from_millis(3)), 1));
        assert!(!alive.heard(1, after(4)), "the same echo twice");

        assert!(!alive.heard(1005, after(5)), "a number of the guest's own");
        assert_eq!(alive.ask(after(6)), 1006, "is counted on from");
        assert_eq!(alive.ask(after(7)), 1007);
        assert_eq!(alive.ask(after(8)), 1008);
        assert_eq!((alive.missed_in_a_row(), alive.asked()), (2, 4));
        assert!(alive.heard(1008, after(9)));
        assert_eq!(alive.missed_in_a_row(), 0);
    }

    #[test]
    fn a_guest_with_the_last_number_there_is_breaks_nothing() {
        let mut alive = KeepAlive::default();
        alive.heard(u64::MAX, Instant::now());
        assert_eq!(alive.ask(Instant::now()), 0);
    }
}
