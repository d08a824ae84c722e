//! The port's own lines, written by an implementation that knows the wire format.

use bytes::Bytes;

use super::breaker::Breaker;

/// Builds the port's own lines: whole ones, each with its newline.
pub trait ControlLines: Send {
    /// The session line: the first line for a host that understands it, or written as soon as the host has
    /// announced that. `connects` counts the host connects of this run from 1.
    fn session(&mut self, connects: u64) -> Bytes;

    /// A keep-alive, which the host answers with the same number. It serves as a barrier and as the echo of the
    /// host's own keep-alive. At most 256 bytes.
    fn keep_alive(&mut self, number: u64) -> Bytes;

    /// The state of the breaker, written when it has changed and a host is connected.
    fn breaker(&mut self, breaker: &Breaker) -> Bytes;
}
