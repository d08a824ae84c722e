//! The difference between two readings of a counter that the kernel keeps.
//!
//! Such a counter should only grow, and does not always: `/proc/stat` of a container and of a restored machine
//! begins anew, idle time steps back over a suspend, stolen time jumps by 2^64 after a migration. So no reader
//! subtracts by itself.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// Why the counters of an interval say nothing: one of them did not just grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{counter} {difference}")]
pub(crate) struct NoInterval {
    /// Its name.
    pub counter: &'static str,
    /// How it moved.
    pub difference: Difference,
}

/// How a counter moved between two readings.
///
/// ```
/// use infiniservice::metrics::counter::Difference;
///
/// assert_eq!(Difference::between(Some(5), 8, 100), Difference::Moved(3));
/// assert_eq!(Difference::between(Some(8), 5, 100).moved(), None);
/// assert_eq!(
///     Difference::between(Some(7), u64::MAX, 100).to_string(),
///     "moved by 18446744073709551608, and at most 100 are possible",
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// There is no earlier value.
    NoneYet,
    /// It grew by this much, or stood still.
    Moved(u64),
    /// It is lower than before: it began anew.
    Restarted {
        /// The earlier value.
        from: u64,
        /// The later, lower one.
        to: u64,
    },
    /// It grew by more than is possible in that time.
    Unbelievable {
        /// By how much.
        moved: u64,
        /// The most that is possible.
        bound: u64,
    },
}

impl Difference {
    /// The difference between two readings, where more than `bound` is not possible.
    pub fn between(before: Option<u64>, after: u64, bound: u64) -> Self {
        let Some(before) = before else { return Self::NoneYet };
        match after.checked_sub(before) {
            None => Self::Restarted { from: before, to: after },
            Some(moved) if moved > bound => Self::Unbelievable { moved, bound },
            Some(moved) => Self::Moved(moved),
        }
    }

    /// By how much the counter grew, where that is known.
    pub fn moved(self) -> Option<u64> {
        match self {
            Self::Moved(moved) => Some(moved),
            Self::NoneYet | Self::Restarted { .. } | Self::Unbelievable { .. } => None,
        }
    }
}

/// The end of a sentence that begins with the counter's name.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoneYet => f.write_str("was not read before"),
            Self::Moved(moved) => write!(f, "moved by {moved}"),
            Self::Restarted { from, to } => write!(f, "went back from {from} to {to}"),
            Self::Unbelievable { moved, bound } => {
                write!(f, "moved by {moved}, and at most {bound} are possible")
            }
        }
    }
}

/// The most that a counter can grow in `elapsed` at `per_second`. `slack` is for a reading that came late, and for
/// what the kernel adds in one go.
pub fn bound(per_second: u64, elapsed: Duration, slack: Duration) -> u64 {
    let seconds = elapsed.saturating_add(slack).as_secs_f64();
    (seconds * per_second as f64).ceil() as u64 // saturates
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_difference_is_exact_or_says_why_there_is_none(
            before in proptest::option::of(any::<u64>()), after: u64, bound: u64,
        ) {
            let difference = Difference::between(before, after, bound);
            match before {
                None => prop_assert_eq!(difference, Difference::NoneYet),
                Some(before) if after < before => {
                    prop_assert_eq!(difference, Difference::Restarted { from: before, to: after });
                }
                Some(before) if after - before > bound => {
                    prop_assert_eq!(difference, Difference::Unbelievable { moved: after - before, bound });
                }
                Some(before) => prop_assert_eq!(difference.moved().map(|moved| before + moved), Some(after)),
            }
            prop_assert_eq!(difference.moved().is_some(), matches!(difference, Difference::Moved(_)));
        }

        #[test]
        fn a_bound_grows_with_time_and_never_overflows(per_second: u64, elapsed: Duration, slack: Duration) {
            let shorter = bound(per_second, elapsed / 2, slack);
            prop_assert!(shorter <= bound(per_second, elapsed, slack));
        }
    }
}
