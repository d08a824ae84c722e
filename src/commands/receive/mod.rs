//! From the port's chunks to lines: where the command flow begins. Nothing here looks into a line.

pub mod inbound;
pub mod line_framer;
