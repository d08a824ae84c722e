//! What the port says on its own account, spelled by whoever knows the wire. Spells nothing itself.

use bytes::Bytes;

use super::breaker::Breaker;

/// Spells the port's own lines: whole ones, each with its newline.
pub trait ControlLines: Send {
    /// Who speaks, for a host that understands it, before anything else or as soon as the host has said that it does;
    /// `connects` counts the hosts of this run from 1.
    fn session(&mut self, connects: u64) -> Bytes;

    /// A line that the host answers with the same number: the answer says that all before it was read. It is said
    /// unasked, as a barrier, and as the echo that a host asks for. At most 256 bytes.
    fn keep_alive(&mut self, number: u64) -> Bytes;

    /// The state of the breaker around the device, said when it has changed and somebody is there.
    fn breaker(&mut self, breaker: &Breaker) -> Bytes;
}
