//! A reading as text, and as today's host reads it.

use infiniservice::model::SystemMetrics;
use infiniservice::wire::Format;
use serde_json::Value;

pub fn text(format: Format, reading: &SystemMetrics) -> String {
    let mut out = b"kept".to_vec();
    format.encode(reading, &mut out).unwrap();
    String::from_utf8(out).unwrap().strip_prefix("kept").unwrap().to_owned()
}

/// The reading as today's host reads it.
pub fn host_reads(reading: &SystemMetrics) -> Value {
    serde_json::from_str(&text(Format::Infinibay, reading)).unwrap()
}
