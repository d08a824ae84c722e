//! What the port is given to deliver for certain. Does not know where it is kept meanwhile.

use crate::model::Frame;

/// A frame of class `must`: whoever hands it over keeps it until the port knows that the host has read it.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its number, from 1, strictly rising.
    pub seq: u64,
    /// The frame.
    pub frame: Frame,
    /// It may have been sent in an earlier session; its line says so.
    pub again: bool,
}
