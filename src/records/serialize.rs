//! Turns batches of records into frames. What a record looks like is the format's.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::Instant;

use crate::metrics::serialize::MAX_FRAME;
use crate::model::Frame;
use crate::pipeline::{MemoryBudget, Output, Transform};
use crate::records::Records;
use crate::records::buffers::Buffers;
use crate::records::logfmt;
use crate::records::transform::{Members, plain_text};

/// How a record is written: the words that `format = "…"` takes in a records file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The record as it is, one JSON object per line.
    #[default]
    JsonLines,
    /// `name=value` pairs; a list or an object as JSON, `null` as nothing.
    Logfmt,
    /// The text of the field `message` alone, line breaks as spaces; a record that has none as JSON.
    Raw,
    /// The line protocol of InfluxDB: a point of `records` with texts, numbers and booleans as fields. A record without one
    /// is dropped, counted as `empty`.
    Influx,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::JsonLines, Self::Logfmt, Self::Raw, Self::Influx];

    /// The word that stands for it in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonLines => "json-lines",
            Self::Logfmt => "logfmt",
            Self::Raw => "raw",
            Self::Influx => "influx",
        }
    }
}

/// Cuts batches into frames of whole lines. As JSON lines the bytes are not copied.
#[derive(Debug)]
pub struct Serialize {
    format: Format,
    max_frame: usize,
    members: Members,
    buffers: Buffers,
    text: Vec<u8>,
    /// A moment by both clocks, to tell the time of day of a batch.
    started: (Instant, Duration),
    /// The time of the last point, in nanoseconds: each has its own.
    last: u128,
}

impl Serialize {
    /// Writes in `format`, a frame for each batch.
    pub fn new(format: Format) -> Self {
        let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            format,
            max_frame: usize::MAX,
            members: Members::default(),
            buffers: Buffers::default(),
            text: Vec::new(),
            started: (Instant::now(), day),
            last: 0,
        }
    }

    /// Cuts frames of at most [`MAX_FRAME`] bytes, unless one line alone is longer: for ports.
    #[must_use]
    pub fn for_ports(self) -> Self {
        Self { max_frame: MAX_FRAME, ..self }
    }

    /// Charges what it writes to `budget`.
    #[must_use]
    pub fn charging(self, budget: &MemoryBudget) -> Self {
        Self { buffers: Buffers::new(budget), ..self }
    }

    /// The lines of a batch in the format, and where each ends.
    fn written(&mut self, input: &Records) -> (Bytes, Vec<u32>) {
        let mut lines = self.buffers.take(input.bytes.len());
        let mut ends = Vec::with_capacity(input.ends.len());
        let mut start = 0;
        for end in &input.ends {
            let line = input.bytes.get(start..*end as usize).unwrap_or_default();
            start = *end as usize;
            let before = lines.len();
            self.write(line, input.oldest, &mut lines);
            if lines.len() > before {
                lines.push(b'\n');
                ends.push(u32::try_from(lines.len()).unwrap_or(u32::MAX));
            }
        }
        (self.buffers.share(lines), ends)
    }

    /// One record without a newline; nothing where the format has nothing to say of it.
    fn write(&mut self, line: &[u8], oldest: Instant, out: &mut Vec<u8>) {
        let Self { members, text, .. } = self;
        let start = out.len();
        match self.format {
            Format::JsonLines => out.extend_from_slice(line.trim_ascii_end()),
            Format::Logfmt => members.each(line, |name, value| {
                let value = match inside(value) {
                    Some(inside) => plain_text(inside, text),
                    None if value == b"null" => b"",
                    None => value,
                };
                logfmt::write_pair(name, value, out);
            }),
            Format::Raw => {
                members.each(line, |name, value| {
                    let Some(inside) = inside(value).filter(|_| name == b"message") else { return };
                    out.truncate(start); // the last one of a name counts
                    let text = plain_text(inside, text);
                    let is_break = |byte: u8| matches!(byte, b'\n' | b'\r');
                    out.extend(text.iter().map(|byte| if is_break(*byte) { b' ' } else { *byte }));
                });
                if out.len() == start {
                    out.extend_from_slice(line.trim_ascii_end());
                }
            }
            Format::Influx => {
                members.each(line, |name, value| {
                    let is_figure = matches!(value.first(), Some(b'0'..=b'9' | b'-' | b't' | b'f'));
                    let inside = inside(value);
                    if name.is_empty() || (inside.is_none() && !is_figure) {
                        return;
                    }
                    out.extend_from_slice(if out.len() == start { b"records " } else { b"," });
                    escaped(name, b",= \\", out);
                    out.push(b'=');
                    match inside {
                        Some(inside) => {
                            out.push(b'"');
                            escaped(plain_text(inside, text), b"\"\\", out);
                            out.push(b'"');
                        }
                        None => out.extend_from_slice(value),
                    }
                });
                if out.len() > start {
                    let (moment, day) = self.started;
                    let day = day + oldest.saturating_duration_since(moment);
                    self.last = day.as_nanos().max(self.last + 1);
                    let _ = write!(out, " {}", self.last); // a Vec takes what is written
                }
            }
        }
    }
}

/// The inside of a text.
fn inside(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Line protocol: a backslash before each of `special`; a line break, which no field can have, becomes a space.
fn escaped(text: &[u8], special: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'\n' | b'\r' => out.push(b' '),
            byte if special.contains(byte) => out.extend_from_slice(&[b'\\', *byte]),
            other => out.push(*other),
        }
    }
}

impl Transform for Serialize {
    type In = Records;
    type Out = Frame;

    fn detail(&self) -> String {
        self.format.name().to_owned()
    }

    fn apply(&mut self, _now: Instant, input: &Records, out: &mut Output<Frame>) {
        let made;
        let (bytes, ends) = match self.format {
            Format::JsonLines => (&input.bytes, &input.ends),
            _ => {
                made = self.written(input);
                (&made.0, &made.1)
            }
        };
        out.discard_items("empty", (input.ends.len() - ends.len()) as u64);
        if ends.is_empty() {
            return input.receipt.acknowledge();
        }
        let (mut start, mut first) = (0, 0);
        while first < ends.len() {
            let limit = start + self.max_frame.min(bytes.len());
            let fit = ends[first..].partition_point(|end| *end as usize <= limit).max(1);
            let end = ends[first + fit - 1] as usize;
            let readings = u32::try_from(fit).unwrap_or(u32::MAX);
            let mut frame = Frame::new(bytes.slice(start..end), readings, input.oldest);
            if first + fit == ends.len() {
                frame.receipt = input.receipt.clone();
            }
            out.push(frame);
            (start, first) = (end, first + fit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, lines: &str) -> String {
        let ends = memchr::memchr_iter(b'\n', lines.as_bytes()).map(|at| at as u32 + 1).collect();
        let mut out = Output::default();
        let (oldest, receipt) = (Instant::now(), Default::default());
        let (bytes, decode) = (Bytes::copy_from_slice(lines.as_bytes()), Default::default());
        let input = Records { bytes, ends, too_long: 0, oldest, decode, receipt };
        Serialize::new(format).apply(oldest, &input, &mut out);
        let frames = out.drain().flat_map(|frame| frame.bytes.to_vec()).collect();
        String::from_utf8(frames).unwrap()
    }

    #[test]
    fn a_record_in_each_format() {
        let lines = "{\"message\":\"a \\\"b\\\"\\nc\",\"n\":1.5e3,\"l\":[1, 2],\"o k\":null,\"t\":true}\n{\"x\\ty\":null}\n";
        let logfmt = "message=\"a \\\"b\\\"\\nc\" n=1.5e3 l=\"[1, 2]\" o_k= t=true\nx_y=\n";
        assert_eq!(written(Format::Logfmt, lines), logfmt);
        assert_eq!(written(Format::Raw, lines), "a \"b\" c\n{\"x\\ty\":null}\n");
        let influx = written(Format::Influx, lines);
        let (point, time) = influx.trim_end().rsplit_once(' ').unwrap();
        assert_eq!(point, "records message=\"a \\\"b\\\" c\",n=1.5e3,t=true");
        assert!(time.parse::<u64>().unwrap() > 1_000_000_000_000_000_000);
        assert_eq!(written(Format::JsonLines, lines), lines);
    }
}
