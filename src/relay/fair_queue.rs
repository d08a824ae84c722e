//! The lines in front of an output, in a queue for each guest: taken in turns, so that no guest waits behind the lines of
//! another. A guest that has had no line in it goes before those that have had a turn already (as new flows in `fq_codel`,
//! RFC 8290), so that a guest that sends little does not wait for those that send much; but only once, until those had their turn.
//!
//! # Why not one channel
//! In a channel a guest that floods fills all of it, and everybody else waits behind it or is dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::Notify;

use super::fleet::{Guest, LineKind};
use super::message_id::MessageId;
use crate::model::Receipt;
use crate::sync::IgnorePoison;

/// Bytes of all guests together. Above them a guest may have [`OWN_BYTES`], or one longer line.
const BYTES_MAX: usize = 32 << 20;
/// What a guest may always have, whatever others send: some readings, where an output is slow for seconds.
const OWN_BYTES: usize = 8 << 10;
/// What a line costs beside its bytes.
const LINE_COST: usize = 256;

/// A line of a guest, whole, a JSON object.
#[derive(Debug, Clone)]
pub(super) struct GuestLine {
    /// Whose it is.
    pub guest: Arc<Guest>,
    /// What it is.
    pub kind: LineKind,
    /// When it came.
    pub at: SystemTime,
    /// Without its newline.
    pub bytes: Bytes,
    /// By what NATS knows it if it comes again.
    pub id: MessageId,
    /// Acknowledged when this output has it.
    pub receipt: Receipt,
}

impl GuestLine {
    fn cost(&self) -> usize {
        self.bytes.len() + LINE_COST
    }
}

/// What is taken off a queue at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Lines at most.
    pub lines: usize,
    /// Bytes at most, or one longer line.
    pub bytes: usize,
    /// Of each guest one at most.
    pub is_one_each: bool,
}

/// The queue in front of one output.
#[derive(Debug)]
pub(super) struct FairQueue {
    /// Bytes of one guest.
    share: usize,
    inside: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Each that is in one of the two lists below.
    guests: HashMap<u64, Queue>,
    /// Guests that have had no turn yet.
    new: VecDeque<u64>,
    /// Those that have had one, behind these; some may have no line any more.
    old: VecDeque<u64>,
    bytes: usize,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<GuestLine>,
    bytes: usize,
}

impl FairQueue {
    /// A guest may have `share` bytes of lines in it, or one longer line.
    pub(super) fn new(share: usize) -> Self {
        Self { share, inside: Mutex::default(), changed: Notify::new() }
    }

    /// Puts a line behind the others of its guest.
    ///
    /// # Errors
    /// The line, where there is no room for it; [`Guest::room`] is notified when there may be some.
    pub(super) fn push(&self, line: GuestLine) -> Result<(), GuestLine> {
        let mut inside = self.lock();
        let State { guests, new, bytes, .. } = &mut *inside;
        let cost = line.cost();
        if let Some(queue) = guests.get(&line.guest.id)
            && !queue.lines.is_empty()
            && (queue.bytes + cost > self.share
                || (*bytes + cost > BYTES_MAX && queue.bytes + cost > OWN_BYTES))
        {
            return Err(line);
        }
        *bytes += cost;
        if !guests.contains_key(&line.guest.id) {
            new.push_back(line.guest.id);
        }
        let queue = guests.entry(line.guest.id).or_default();
        queue.bytes += cost;
        queue.lines.push_back(line);
        drop(inside);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for lines, and takes one of each guest in turn. `None` once it is closed and empty. Nothing is lost if it is
    /// cancelled.
    pub(super) async fn take(&self, limits: Limits) -> Option<Vec<GuestLine>> {
        while self.waits().await {
            let taken = self.take_now(limits);
            if !taken.is_empty() {
                return Some(taken);
            }
        }
        None
    }

    /// Waits until lines wait; `false` once it is closed and empty.
    pub(super) async fn waits(&self) -> bool {
        loop {
            {
                let inside = self.lock();
                if inside.bytes > 0 {
                    return true;
                }
                if inside.is_closed {
                    return false;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Takes a line of each guest in turn; none where none waits.
    pub(super) fn take_now(&self, limits: Limits) -> Vec<GuestLine> {
        self.lock().take(limits)
    }

    /// No more lines come.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inside.lock().ignore_poison()
    }
}

impl State {
    fn take(&mut self, Limits { lines, bytes, is_one_each }: Limits) -> Vec<GuestLine> {
        let (mut taken, mut size) = (Vec::new(), 0);
        // Who has had a turn stands behind all that have not.
        let mut turns = if is_one_each { self.new.len() + self.old.len() } else { usize::MAX };
        while taken.len() < lines
            && turns > 0
            && let Some(id) = self.new.pop_front().or_else(|| self.old.pop_front())
        {
            turns -= 1;
            let Some(queue) = self.guests.get_mut(&id) else { continue };
            let Some(line) = queue.lines.pop_front() else {
                self.guests.remove(&id);
                continue;
            };
            let cost = line.cost();
            if !taken.is_empty() && size + cost > bytes {
                queue.lines.push_front(line);
                self.new.push_front(id);
                break;
            }
            size += cost;
            queue.bytes -= cost;
            self.bytes -= cost;
            self.old.push_back(id);
            line.guest.room.notify_one();
            taken.push(line);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Guests;
    use crate::relay::fleet::Fleet;

    fn line(guest: &Arc<Guest>, text: &str) -> GuestLine {
        GuestLine {
            guest: Arc::clone(guest),
            kind: LineKind::Record,
            at: SystemTime::UNIX_EPOCH,
            bytes: Bytes::copy_from_slice(text.as_bytes()),
            id: MessageId::default(),
            receipt: Receipt::default(),
        }
    }

    fn most(lines: usize, bytes: usize) -> Limits {
        Limits { lines, bytes, is_one_each: false }
    }

    fn texts(lines: &[GuestLine]) -> Vec<&str> {
        lines.iter().map(|line| std::str::from_utf8(&line.bytes).unwrap()).collect()
    }

    #[tokio::test]
    async fn guests_take_turns_however_much_one_of_them_sends() {
        let fleet = Fleet::new("lab", Guests::at(Vec::new()));
        let (loud, calm) = (fleet.guest("loud"), fleet.guest("calm"));
        let queue = FairQueue::new(4 * LINE_COST + 100);
        let accepted =
            (0..100).filter(|n| queue.push(line(&loud, &format!("l{n}"))).is_ok()).count();
        assert_eq!(accepted, 4, "its share");
        queue.push(line(&calm, "c0")).unwrap();
        assert_eq!(texts(&queue.take(most(3, 1 << 20)).await.unwrap()), ["l0", "c0", "l1"]);
        let room = loud.room.notified();
        tokio::time::timeout(std::time::Duration::from_secs(1), room).await.unwrap();
        queue.push(line(&loud, "l100")).unwrap();
        queue.push(line(&calm, "c1")).unwrap();
        assert_eq!(texts(&queue.take(most(1, 1)).await.unwrap()), ["c1"], "one line, however long");
        assert_eq!(texts(&queue.take(most(64, 1 << 20)).await.unwrap()), ["l2", "l3", "l100"]);
        queue.close();
        assert!(queue.take(most(64, 1 << 20)).await.is_none());
    }

    #[test]
    fn a_guest_that_had_no_line_goes_first_and_only_once_before_the_others() {
        let fleet = Fleet::new("lab", Guests::at(Vec::new()));
        let loud = ["a", "b", "c"].map(|name| fleet.guest(name));
        let calm = fleet.guest("calm");
        let queue = FairQueue::new(1 << 20);
        for guest in &loud {
            for _ in 0..10 {
                queue.push(line(guest, &guest.vm)).unwrap();
            }
        }
        let next = || texts(&queue.take_now(most(1, 1))).join("");
        assert_eq!([next(), next(), next()], ["a", "b", "c"]);
        // However often it comes: the others have their turn in between.
        let mut order = String::new();
        for _ in 0..8 {
            queue.push(line(&calm, "-")).unwrap();
            order += &next();
        }
        assert_eq!(order, "-abc-abc");
    }

    #[tokio::test]
    async fn of_each_guest_one_line_is_taken_where_more_would_pass_each_other() {
        let fleet = Fleet::new("lab", Guests::at(Vec::new()));
        let (one, two) = (fleet.guest("one"), fleet.guest("two"));
        let queue = FairQueue::new(1 << 20);
        for text in ["a", "b", "c"] {
            queue.push(line(&one, text)).unwrap();
        }
        queue.push(line(&two, "d")).unwrap();
        let each = Limits { is_one_each: true, ..most(64, 1 << 20) };
        for expected in [vec!["a", "d"], vec!["b"], vec!["c"]] {
            assert_eq!(texts(&queue.take(each).await.unwrap()), expected);
        }
    }

    #[tokio::test]
    async fn a_guest_that_comes_back_at_another_socket_does_not_wait_behind_its_lines_of_before() {
        let fleet = Fleet::new("lab", Guests::at(Vec::new()));
        let before = fleet.guest("web");
        let queue = FairQueue::new(LINE_COST + 10);
        queue.push(line(&before, "old")).unwrap();
        assert!(queue.push(line(&before, "more")).is_err());
        fleet.forget("web");
        queue.push(line(&fleet.guest("web"), "new")).unwrap();
        assert_eq!(texts(&queue.take(most(64, 1 << 20)).await.unwrap()), ["old", "new"]);
    }

    #[test]
    fn what_others_send_takes_no_guest_its_own_room() {
        let fleet = Fleet::new("lab", Guests::at(Vec::new()));
        let queue = FairQueue::new(1 << 20);
        let long = "x".repeat(64 << 10);
        for number in 0..64 {
            let loud = fleet.guest(&format!("loud-{number}"));
            while queue.push(line(&loud, &long)).is_ok() {}
        }
        let calm = fleet.guest("calm");
        let reading = "x".repeat(1024);
        let room = (0..100).take_while(|_| queue.push(line(&calm, &reading)).is_ok()).count();
        assert_eq!(room, OWN_BYTES / (1024 + LINE_COST));
        assert!(queue.lock().bytes < BYTES_MAX + 64 * (long.len() + LINE_COST) + OWN_BYTES);
    }

    #[tokio::test]
    async fn a_line_that_is_longer_than_the_share_has_it_alone() {
        let fleet = Fleet::new("lab", Guests::at(Vec::new()));
        let guest = fleet.guest("web");
        let queue = FairQueue::new(10);
        queue.push(line(&guest, &"x".repeat(1000))).unwrap();
        let refused = queue.push(line(&guest, "y")).unwrap_err();
        assert_eq!(queue.take(most(64, 10)).await.unwrap().len(), 1);
        queue.push(refused).unwrap();
    }
}
