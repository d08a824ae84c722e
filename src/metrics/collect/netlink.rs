//! Asking the kernel over a netlink socket (RFC 3549, `include/uapi/linux/netlink.h`): one request, all
//! the answers. Changes nothing in the kernel, listens to no event.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
/// The table changed while it was read: something may be missing or there twice.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// The kernel's own largest piece of a dump (`netlink_recvmsg` in `net/netlink/af_netlink.c`).
const PIECE: usize = 32 * 1024;
/// A dump is made in the reader's own system calls, so there is nothing to wait for; this is for a
/// kernel that never says the dump is over.
const PATIENCE: Duration = Duration::from_secs(1);

/// A socket to one of the kernel's netlink families. After an error it must be dropped: what is left
/// of an answer would be taken for the next one.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket; `None` stands for `NETLINK_ROUTE`.
    pub(super) fn open(family: Option<Protocol>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, family)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket, buffer: Vec::new(), sequence: 0 })
    }

    /// Sends a request for a whole table and calls `each` with the type and payload of every answer.
    /// Fails with [`io::ErrorKind::Interrupted`] when the table changed meanwhile: all answers have
    /// been given then, but they may not fit together.
    pub(super) fn dump(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(kind, self.sequence, payload);
        rustix::net::send(&self.socket, &request, SendFlags::empty())?;
        self.buffer.resize(PIECE, 0);
        let mut changed = false;
        loop {
            let into = self.buffer.as_mut_slice();
            let (_, length) = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.socket, &mut *into, RecvFlags::TRUNC)
            })?;
            let Some(piece) = self.buffer.get(..length) else {
                return Err(io::Error::other("a piece of the answer is longer than 32 KiB"));
            };
            for message in messages(piece).filter(|message| message.sequence == self.sequence) {
                changed |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        return match error(message.payload) {
                            Some(error) => Err(error),
                            None if changed => Err(io::ErrorKind::Interrupted.into()),
                            None => Ok(()),
                        };
                    }
                    kind => each(kind, message.payload),
                }
            }
        }
    }
}

/// The attributes that follow the fixed part of a payload: type and value of each.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        // The two highest bits say "nested" and "in network order": not part of the type.
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Two bytes in the machine's order.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Four bytes in the machine's order.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Eight bytes in the machine's order.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            payload: bytes.get(HEADER..length)?,
        };
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some(message)
    })
}

fn request(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = (HEADER + payload.len()) as u32;
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes()); // the kernel fills in who asks
    bytes.extend_from_slice(payload);
    bytes
}

/// Both ends of a dump begin with an error number, negative, or 0 for none.
fn error(payload: &[u8]) -> Option<io::Error> {
    let number = u32_at(payload, 0)?.cast_signed();
    (number < 0).then(|| io::Error::from_raw_os_error(number.saturating_neg()))
}

/// Lengths are rounded up to four bytes; saturating, because a length comes from outside.
fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_padded_and_a_wrong_length_ends_them() {
        let mut bytes = vec![5, 0, 3, 0, b'a', 0, 0, 0, 8, 0, 7, 0x80, 1, 2, 3, 4];
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(3, &b"a"[..]), (7, &[1, 2, 3, 4][..])]);
        bytes[8] = 9;
        assert_eq!(attributes(&bytes).count(), 1);
        assert_eq!(
            attributes(&[0, 0, 1, 0]).count(),
            0,
            "a length of 0 does not go round for ever"
        );
    }

    #[test]
    fn a_request_reads_back_as_a_message_and_a_refusal_is_an_error() {
        let bytes = request(20, 9, &[1, 2, 3, 4]);
        let message = messages(&bytes).next().unwrap();
        assert_eq!((message.kind, message.sequence, message.payload), (20, 9, &[1, 2, 3, 4][..]));
        assert_eq!(error(&(-2_i32).to_ne_bytes()).unwrap().kind(), io::ErrorKind::NotFound);
        assert!(error(&0_i32.to_ne_bytes()).is_none() && error(&[]).is_none());
    }

    #[test]
    fn the_kernel_refuses_what_it_does_not_know_with_its_own_error() {
        let mut netlink = Netlink::open(None).unwrap();
        assert!(netlink.dump(0x7ff0, &[0; 16], |_, _| ()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER);
            prop_assert!(attributes(&bytes).count() <= bytes.len());
            let _ = error(&bytes);
        }
    }
}
