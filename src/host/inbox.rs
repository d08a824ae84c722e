//! Messages of the guest that are not read yet: the newest lines, bounded in bytes. The guest never waits.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

use super::error::Gone;
use super::message::Message;
use crate::sync::IgnorePoison;

/// Bytes of lines that are kept. A line costs its own length, and at least 512 bytes.
pub const INBOX_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The overhead of a line, however short it is.
const LINE_COST_MIN: usize = 512;

/// The newest lines that were not taken; the oldest ones go when there are too many, and are counted.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    inside: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    bytes: usize,
    lost: u64,
    closed: Option<Gone>,
}

impl Inbox {
    /// Adds a message; drops older ones for it if it must.
    pub(super) fn put(&self, message: Message) {
        let mut inside = self.lock();
        inside.bytes += cost(&message);
        inside.messages.push_back(message);
        while inside.bytes > INBOX_BYTES_MAX && inside.messages.len() > 1 {
            if let Some(oldest) = inside.messages.pop_front() {
                inside.bytes -= cost(&oldest);
                inside.lost += 1;
            }
        }
        drop(inside);
        self.changed.notify_one();
    }

    /// Nothing more will come, and why.
    pub(super) fn close(&self, why: Gone) {
        self.lock().closed = Some(why);
        self.changed.notify_one();
    }

    /// The oldest message, as soon as there is one; when there is none left, why there will be none.
    /// Safe to drop while it waits.
    pub(super) async fn take(&self) -> Result<Message, Gone> {
        loop {
            {
                let mut inside = self.lock();
                if let Some(message) = inside.messages.pop_front() {
                    inside.bytes -= cost(&message);
                    return Ok(message);
                }
                if let Some(why) = inside.closed.clone() {
                    // The other waiting readers must be woken, too.
                    self.changed.notify_one();
                    return Err(why);
                }
            }
            self.changed.notified().await;
        }
    }

    /// Messages that were dropped because they were not read.
    pub(super) fn lost(&self) -> u64 {
        self.lock().lost
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inside.lock().ignore_poison()
    }
}

fn cost(message: &Message) -> usize {
    message.line.len().max(LINE_COST_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_lines_are_kept_and_the_loss_is_counted() {
        let inbox = Inbox::default();
        let line = |number: usize| Message::read(format!("{number}{}", " ".repeat(1 << 20)).into());
        for number in 0..20 {
            inbox.put(line(number));
        }
        assert_eq!(inbox.lost(), 5, "15 lines of a mebibyte and a bit fit into 16 MiB");
        inbox.close(Gone::HostLeft);
        for number in 5..20 {
            let taken = inbox.take().await.unwrap();
            assert!(taken.line.starts_with(format!("{number} ").as_bytes()));
        }
        for _ in 0..2 {
            assert!(matches!(inbox.take().await, Err(Gone::HostLeft)));
        }
    }
}
