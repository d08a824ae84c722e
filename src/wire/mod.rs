//! The messages, byte for byte. Pure: no I/O, no clock.

mod lines;

pub use lines::{LINE_BYTES_MAX, Lines, TooLong};
