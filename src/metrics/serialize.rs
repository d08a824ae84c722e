//! Turns batches into bytes. Does not gather readings, and knows no format: [`wire`](crate::wire) does.

use bytes::BytesMut;
use tokio::time::Instant;

use crate::model::{Batch, Frame, SystemMetrics};
use crate::pipeline::{MemoryBudget, Output, Transform};
use crate::wire::Format;

/// A frame is at most this long, unless one line alone is longer: as much as the Linux driver takes
/// in one write to a virtio-serial port (`virtio_console.c`, `port_fops_write`: 32 KiB).
pub const MAX_FRAME: usize = 32 * 1024;

/// What the line buffer keeps between batches.
const KEPT: usize = 64 * 1024;

/// What frames are cut off. It is longer than any hole in the heap, so that it is a mapping of its own and goes back
/// whole: frames that waited for a host in such holes pushed what was made meanwhile to the end of the heap, which
/// stayed 1.6 MiB longer after 75 s of a host that reads nothing (`cargo bench --bench soak`).
const SLAB: usize = 4 * MAX_FRAME;

/// Writes each batch as whole lines, and cuts the lines into frames of at most [`MAX_FRAME`].
///
/// A reading that has no spelling in the format is lost: `oversize` or `unencodable`. One that
/// takes several lines may be spread over frames, if it does not fit in one; the last of them counts it.
///
/// Lines are encoded into one buffer that is kept, and frames are cut off another whose memory is
/// taken again once all frames cut from it are gone.
///
/// ```
/// use infiniservice::{metrics::serialize::Serialize, wire::Format};
/// # use infiniservice::model::{Batch, SystemMetrics};
/// # use infiniservice::pipeline::{Output, Transform};
/// # use std::time::{Duration, SystemTime};
/// # let now = tokio::time::Instant::now();
/// # let reading = SystemMetrics::empty(SystemTime::now(), now, Duration::ZERO, 0);
/// let mut out = Output::default();
/// Serialize::new(Format::JsonLines).apply(now, &Batch(vec![reading.clone(), reading]), &mut out);
/// let frame = out.drain().next().unwrap();
/// assert_eq!(frame.readings, 2);
/// assert_eq!(frame.bytes.iter().filter(|byte| **byte == b'\n').count(), 2);
/// ```
#[derive(Debug)]
pub struct Serialize {
    format: Format,
    /// The lines of one reading.
    lines: Vec<u8>,
    frame: BytesMut,
    readings: u32,
    oldest: Option<Instant>,
    budget: Option<MemoryBudget>,
}

impl Serialize {
    /// Writes in `format`.
    pub fn new(format: Format) -> Self {
        let (lines, frame, budget) = (Vec::new(), BytesMut::new(), None);
        Self { format, lines, frame, readings: 0, oldest: None, budget }
    }

    /// Charges each frame to `budget`.
    pub fn charging(mut self, budget: &MemoryBudget) -> Self {
        self.budget = Some(budget.clone());
        self
    }

    /// Appends `lines` of one reading to the frame, and gives the frame away whenever it is full.
    fn add(&mut self, reading: &SystemMetrics, out: &mut Output<Frame>) {
        let lines = std::mem::take(&mut self.lines);
        let mut rest = lines.as_slice();
        while !rest.is_empty() {
            let room = MAX_FRAME - self.frame.len().min(MAX_FRAME);
            let fits = whole_lines(rest, room);
            // A reading goes into one frame if it can, and a line does in any case.
            let piece = match self.frame.is_empty() {
                _ if fits == rest.len() => fits,
                false => 0,
                true if fits > 0 => fits,
                true => memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1),
            };
            if piece == 0 {
                self.leave(out);
                continue;
            }
            if self.frame.capacity() - self.frame.len() < piece {
                self.frame.reserve(piece.max(SLAB));
            }
            self.frame.extend_from_slice(&rest[..piece]);
            rest = &rest[piece..];
            let made = reading.made;
            self.oldest = Some(self.oldest.map_or(made, |oldest| oldest.min(made)));
            if rest.is_empty() {
                self.readings += 1;
            } else {
                self.leave(out);
            }
        }
        self.lines = lines;
    }

    fn leave(&mut self, out: &mut Output<Frame>) {
        if let Some(oldest) = self.oldest.take() {
            let bytes = self.frame.split().freeze();
            let bytes = match &self.budget {
                Some(budget) => budget.hold(bytes),
                None => bytes,
            };
            out.push(Frame::new(bytes, std::mem::take(&mut self.readings), oldest));
        }
    }
}

impl Transform for Serialize {
    type In = Batch;
    type Out = Frame;

    fn apply(&mut self, _now: Instant, input: &Batch, out: &mut Output<Frame>) {
        // What a panic may have left behind is still in the input.
        self.frame.clear();
        // From its beginning, where no frame uses any of it: less of it is ever touched.
        let _ = self.frame.try_reclaim(SLAB);
        self.readings = 0;
        self.oldest = None;
        for reading in &input.0 {
            self.lines.clear();
            match self.format.encode(reading, &mut self.lines) {
                Ok(()) if self.lines.is_empty() => out.discard_items("empty", 1),
                Ok(()) => self.add(reading, out),
                Err(refused) => out.drop_items(refused.reason(), 1),
            }
        }
        self.leave(out);
        self.lines.clear();
        self.lines.shrink_to(KEPT);
    }

    fn detail(&self) -> String {
        self.format.name().to_owned()
    }
}

/// How much of `lines` are whole lines within the first `room` bytes.
fn whole_lines(lines: &[u8], room: usize) -> usize {
    match lines.get(..room) {
        Some(start) => memchr::memrchr(b'\n', start).map_or(0, |at| at + 1),
        None => lines.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cpu, Host, Process};
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    fn reading(taken: Instant) -> SystemMetrics {
        SystemMetrics::empty(SystemTime::UNIX_EPOCH, taken, Duration::ZERO, 0)
    }

    /// A reading whose JSON line is a little longer than `bytes`.
    fn long(bytes: usize) -> SystemMetrics {
        let mut reading = reading(Instant::now());
        reading.host = Some(Arc::new(Host {
            hostname: "x".repeat(bytes),
            os: String::new(),
            os_id: None,
            kernel: String::new(),
            architecture: String::new(),
            machine_id: None,
            boot_id: None,
            boot_time: None,
            cores: 1,
        }));
        reading
    }

    fn frames(format: Format, readings: Vec<SystemMetrics>) -> Vec<Frame> {
        let mut out = Output::default();
        Serialize::new(format).apply(Instant::now(), &Batch(readings), &mut out);
        assert_eq!(out.dropped(), []);
        out.drain().collect()
    }

    #[test]
    fn frames_are_cut_between_lines_and_count_what_they_hold() {
        let frames = frames(Format::JsonLines, vec![long(10_000); 7]);
        assert_eq!(frames.iter().map(|frame| frame.readings).collect::<Vec<_>>(), [3, 3, 1]);
        for frame in frames {
            assert!(frame.bytes.len() <= MAX_FRAME);
            assert_eq!((frame.bytes[0], frame.bytes.last()), (b'{', Some(&b'\n')));
        }
    }

    #[test]
    fn a_line_longer_than_a_frame_goes_alone() {
        let readings = vec![long(10), long(40_000), long(10), long(10)];
        let frames = frames(Format::JsonLines, readings);
        assert_eq!(frames.iter().map(|frame| frame.readings).collect::<Vec<_>>(), [1, 1, 2]);
        assert!(frames[1].bytes.len() > 40_000);
    }

    #[test]
    fn a_reading_of_many_lines_is_spread_and_counted_once() {
        let mut many = reading(Instant::now());
        let cores_usage_percent = vec![1.5; 2_000];
        many.cpu = Some(Arc::new(Cpu { cores_usage_percent, ..Cpu::default() }));
        let frames = frames(Format::Influx, vec![many.clone(), many]);
        assert_eq!(frames.iter().map(|frame| frame.readings).sum::<u32>(), 2);
        assert!(frames.len() > 2);
        for frame in frames {
            assert!(frame.bytes.len() <= MAX_FRAME);
            assert!(frame.bytes.starts_with(b"infiniservice_") && frame.bytes.ends_with(b"\n"));
        }
    }

    #[test]
    fn the_oldest_of_a_frame_is_that_of_its_own_readings() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let readings = vec![
            SystemMetrics { made: at(9), ..long(20_000) },
            SystemMetrics { made: at(2), ..long(10_000) },
            SystemMetrics { made: at(5), ..long(10_000) },
        ];
        let frames = frames(Format::JsonLines, readings);
        assert_eq!(frames.iter().map(|frame| frame.oldest).collect::<Vec<_>>(), [at(2), at(5)]);
    }

    #[test]
    fn a_reading_that_cannot_be_written_is_booked_and_the_others_go() {
        let mut out = Output::default();
        let readings = vec![long(5), long(2 << 20), long(5)];
        let mut serialize = Serialize::new(Format::JsonLines);
        serialize.apply(Instant::now(), &Batch(readings), &mut out);
        assert_eq!(out.dropped(), [("oversize", 1)]);
        assert_eq!(out.drain().map(|frame| frame.readings).collect::<Vec<_>>(), [2]);
        assert!(serialize.lines.capacity() <= KEPT, "a monstrous reading does not stay in memory");
        let nothing = Batch(vec![reading(Instant::now())]);
        Serialize::new(Format::Influx).apply(Instant::now(), &nothing, &mut out);
        assert_eq!(out.discarded(), [("empty", 1)], "no group, no line");
    }

    #[test]
    fn memory_is_taken_again_when_the_frames_are_gone() {
        let mut serialize = Serialize::new(Format::JsonLines);
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let mut out = Output::default();
            serialize.apply(Instant::now(), &Batch(vec![long(30_000)]), &mut out);
            places.insert(out.drain().next().unwrap().bytes.as_ptr());
        }
        assert!(places.len() < 5, "{} places", places.len());
    }

    #[test]
    fn processes_too_many_for_a_line_are_cut_to_fit() {
        let process = Process {
            pid: 1,
            parent: None,
            name: "p".into(),
            executable: None,
            command_line: Some("\u{1F600}".repeat(1_000)),
            cpu_percent: 1.0,
            cpu_seconds: None,
            rss_bytes: 0,
            read_bytes: None,
            written_bytes: None,
            status: "running",
            started: SystemTime::UNIX_EPOCH,
            uid: 0,
        };
        let mut big = reading(Instant::now());
        big.processes = Some(Arc::new(vec![process; 1_000]));
        let frames = frames(Format::Infinibay, vec![big]);
        assert_eq!(frames.len(), 1);
        assert!(frames[0].bytes.len() <= crate::wire::MAX_LINE);
    }
}
