//! Receiving: the bytes of the port become lines. The inbound channel outlives the flows that read it, so a partial line
//! survives a reload.

pub(crate) mod inbound;
pub(crate) mod line_framer;
