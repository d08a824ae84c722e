//! The replies that are remembered with their output: one buffer of fixed size, in which the newest overwrite the
//! oldest. So no reply stands between what the heap gives back to the system, and pages that no reply needed are none.

use std::io::{self, Write};

use crate::commands::outcome::Outcome;

/// Bytes of replies, as JSON, that are remembered with their output: one of the maximum length, or many of the usual one.
pub(crate) const BYTES_KEPT: usize = 1 << 20;

/// The buffer.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// Empty until the first reply.
    bytes: Vec<u8>,
    /// Bytes written until now.
    written: u64,
}

/// The place of a reply, counted as [`Replies::written`] is.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReplySpan {
    start: u64,
    length: usize,
}

impl Replies {
    /// Remembers a reply; for a moment only, if it is longer than the buffer.
    pub(super) fn keep(&mut self, outcome: &Outcome) -> ReplySpan {
        if self.bytes.is_empty() {
            // Zeros of the system: no page is there before it is written to.
            self.bytes = vec![0; BYTES_KEPT];
        }
        let start = self.written;
        let _ = serde_json::to_writer(&mut *self, outcome); // memory takes everything, and an outcome has a spelling
        ReplySpan { start, length: (self.written - start) as usize }
    }

    /// The reply, unless it is overwritten.
    pub(super) fn get(&self, ReplySpan { start, length }: ReplySpan) -> Option<Outcome> {
        let is_there = self.written - start <= BYTES_KEPT as u64;
        let (behind, from) = self.bytes.split_at((start % BYTES_KEPT as u64) as usize);
        let text = || from.iter().chain(behind).take(length).copied().collect::<Vec<_>>();
        is_there.then(text).and_then(|text| serde_json::from_slice(&text).ok())
    }
}

impl Write for Replies {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let at = (self.written % BYTES_KEPT as u64) as usize;
        let length = bytes.len().min(BYTES_KEPT - at);
        self.bytes[at..at + length].copy_from_slice(&bytes[..length]);
        self.written += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_replies_are_kept_over_the_end_of_the_buffer_and_none_is_kept_in_part() {
        let mut replies = Replies::default();
        let reply = |number: usize| Outcome::text(format!("{number} ").repeat(30_000));
        let kept: Vec<_> = (0..100).map(|number| replies.keep(&reply(number))).collect();
        let is_there: Vec<_> = kept.iter().map(|kept| replies.get(*kept).is_some()).collect();
        let first = is_there.iter().position(|is_there| *is_there).unwrap();
        let fit = BYTES_KEPT / kept[99].length;
        assert_eq!(100 - first, fit, "as many as fit");
        for (number, kept) in kept.iter().enumerate().skip(first) {
            assert_eq!(replies.get(*kept), Some(reply(number)), "{number}");
        }
        let long = replies.keep(&Outcome::text("x".repeat(BYTES_KEPT)));
        assert!(replies.get(long).is_none() && replies.get(kept[99]).is_none());
    }
}
