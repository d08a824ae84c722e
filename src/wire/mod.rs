//! The messages, byte for byte. Pure: no I/O, no clock.

mod ascii;
pub mod envelope;
mod format;
pub mod inbound;
mod influx;
mod json_lines;
mod lines;
mod metrics;
pub mod outbound;
mod sanitize;
mod pretty;
pub(crate) mod prometheus;
pub(crate) mod raw;
pub(crate) mod rows;

pub use ascii::{Ascii, MAX_INTEGER};
pub use format::{Format, MAX_LINE, Refused};
pub use lines::{LINE_BYTES_MAX, Lines, TooLong};
pub use metrics::NEEDED;
pub use prometheus::END as PROMETHEUS_END;
pub(crate) use sanitize::{Escaped, plain, shown, shown_json, steers};
