//! The socket between QEMU and the host, with Linux's accounting.

use std::collections::VecDeque;

/// The default capacity of a Unix socket in one direction: `/proc/sys/net/core/wmem_default`.
pub const BUFFER_BYTES: usize = 212_992;

const PAGE: usize = 4096;
/// `struct skb_shared_info`, behind the head of every buffer (x86-64).
const SHARED_INFO: usize = 320;
/// `struct sk_buff`, rounded up.
const SK_BUFF: usize = 256;
/// The longest head (`SKB_MAX_HEAD(0)`).
const HEAD_MAX: usize = PAGE - SHARED_INFO;

/// What one write of this many bytes, at most 32 KiB, costs in a Unix stream socket (`unix_stream_sendmsg` in
/// net/unix/af_unix.c, `truesize` of include/linux/skbuff.h): a head from a power of two, whole pages for the rest,
/// and the overhead of both.
///
/// Compared with 25 lengths on Linux 6.18: exact. Other kernels may round differently.
pub fn cost(bytes: usize) -> usize {
    let pages = bytes.saturating_sub(HEAD_MAX).next_multiple_of(PAGE);
    let paged = bytes.min(pages);
    let head = (bytes - paged).next_multiple_of(64) + SHARED_INFO;
    head.next_power_of_two() + SK_BUFF + pages
}

/// One direction: writes that were sent and not received.
#[derive(Debug)]
pub struct Socket {
    writes: VecDeque<Sent>,
    used: usize,
    size: usize,
}

#[derive(Debug)]
struct Sent {
    bytes: Vec<u8>,
    at: usize,
    cost: usize,
}

impl Socket {
    /// An empty one that holds `size` of [`cost`].
    pub fn new(size: usize) -> Self {
        Self { writes: VecDeque::new(), used: 0, size }
    }

    /// Accepts a write whole, or returns it: there is room while less than the capacity is used, however long the
    /// write.
    pub fn send(&mut self, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        if self.used >= self.size {
            return Err(bytes);
        }
        self.put(bytes);
        Ok(())
    }

    /// Accepts a write even if there is no room.
    pub fn put(&mut self, bytes: Vec<u8>) {
        let cost = cost(bytes.len());
        self.used += cost;
        self.writes.push_back(Sent { bytes, at: 0, cost });
    }

    /// Whether a writer that waits is woken: at a quarter (`unix_writable`).
    pub fn wakes_writer(&self) -> bool {
        self.used * 4 <= self.size
    }

    /// Receives at most `max` bytes, and appends them to `into`.
    pub fn receive(&mut self, max: usize, into: &mut Vec<u8>) -> usize {
        let mut left = max;
        while let Some(first) = self.writes.front_mut().filter(|_| left > 0) {
            let bytes = left.min(first.bytes.len() - first.at);
            into.extend_from_slice(&first.bytes[first.at..first.at + bytes]);
            first.at += bytes;
            left -= bytes;
            if first.at == first.bytes.len() {
                self.used -= first.cost;
                self.writes.pop_front();
            }
        }
        max - left
    }

    /// Bytes that were not received.
    pub fn len(&self) -> usize {
        self.writes.iter().map(|sent| sent.bytes.len() - sent.at).sum()
    }

    /// Discards everything. Returns how many bytes that were.
    pub fn clear(&mut self) -> usize {
        let len = self.len();
        self.writes.clear();
        self.used = 0;
        len
    }
}
