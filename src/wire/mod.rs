//! The messages, byte for byte. Pure: no I/O, no clock.

mod ascii;
mod format;
mod influx;
mod json_lines;
mod lines;
mod metrics;
mod pretty;

pub use ascii::{Ascii, MAX_INTEGER};
pub use format::{Format, MAX_LINE, Refused};
pub use lines::{LINE_BYTES_MAX, Lines, TooLong};
pub use metrics::NEEDED;
