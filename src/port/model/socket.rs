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
pub(super) struct Socket {
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
    pub(super) fn new(size: usize) -> Self {
        Self { writes: VecDeque::new(), used: 0, size }
    }

    /// Accepts a write whole, or returns it: there is room while less than the capacity is used, however long the
    /// write.
    pub(super) fn send(&mut self, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        if self.used >= self.size {
            return Err(bytes);
        }
        self.put(bytes);
        Ok(())
    }

    /// Accepts a write even if there is no room.
    pub(super) fn put(&mut self, bytes: Vec<u8>) {
        let cost = cost(bytes.len());
        self.used += cost;
        self.writes.push_back(Sent { bytes, at: 0, cost });
    }

    /// Whether a writer that waits is woken: at a quarter (`unix_writable`).
    pub(super) fn wakes_writer(&self) -> bool {
        self.used * 4 <= self.size
    }

    /// Receives at most `max` bytes, and appends them to `into`.
    pub(super) fn receive(&mut self, max: usize, into: &mut Vec<u8>) -> usize {
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
    pub(super) fn len(&self) -> usize {
        self.writes.iter().map(|sent| sent.bytes.len() - sent.at).sum()
    }

    /// Discards everything. Returns how many bytes that were.
    pub(super) fn clear(&mut self) -> usize {
        let len = self.len();
        self.writes.clear();
        self.used = 0;
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Write};
    use std::os::unix::net::UnixStream;

    /// How many writes a real socket accepts without a reader.
    fn fits(bytes: usize) -> usize {
        let (mut one, _other) = UnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        let data = vec![b'x'; bytes];
        let mut taken = 0;
        loop {
            match one.write(&data) {
                Ok(_) => taken += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return taken,
                Err(error) => unreachable!("{error}"),
            }
        }
    }

    #[test]
    fn a_socket_holds_about_what_a_real_one_holds() {
        for bytes in [1, 192, 193, 700, 1_000, 1_729, 3_776, 3_777, 4_096, 5_000, 10_000, 32_768] {
            let mut socket = Socket::new(BUFFER_BYTES);
            let mut taken = 0;
            while socket.send(vec![b'x'; bytes]).is_ok() {
                taken += 1;
            }
            let real = fits(bytes);
            let near = real / 2..=real * 2;
            assert!(near.contains(&taken), "{bytes} bytes: {taken}, and really {real}");
        }
    }

    #[test]
    fn a_writer_is_woken_at_a_quarter_and_a_write_is_read_in_parts() {
        let mut socket = Socket::new(BUFFER_BYTES);
        while socket.send(vec![b'x'; 200]).is_ok() {}
        let (held, mut got) = (socket.len(), Vec::new());
        assert_eq!(held, 167 * 200);
        socket.receive(held / 2 + 1, &mut got);
        assert!(!socket.wakes_writer() && socket.send(b"room".to_vec()).is_ok());
        socket.receive(held / 3, &mut got);
        assert!(socket.wakes_writer());
        assert_eq!(got.len(), held / 2 + 1 + held / 3);
        assert_eq!(socket.clear(), held + 4 - got.len());
    }
}
