//! What the files could make the agent hold in memory at worst. Measures nothing.

use std::fmt;

use super::error::{ConfigError, Severity};
use super::limit::{MemoryLimit, NONCE_BYTES};
use super::loaded::Loaded;
use super::write::{Delivery, Target, Write};
use crate::commands::request_log::{BYTES_KEPT, NONCES_KEPT, REQUESTS_KEPT, SIZE};
use crate::metrics::READINGS_WAITING;
use crate::port::{CHUNK_BYTES_MAX, CHUNKS_KEPT, DURABLE_KEPT};
use crate::records::read::Read;
use crate::records::{BATCHES_WAITING, SIDE_FRAMES_WAITING};
use crate::spool::{CACHE_MAX, Entry, ITEMS_MAX, MEMORY_MAX};
use crate::wire::MAX_LINE;

/// The worst case of memory under the files, besides code and the reading that is being made.
///
/// The ceiling bounds the queues: readings, frames, waiting requests, replies. Parts with bounds of their own come on top.
/// Not all of them can be full at once: this is a bound, not a forecast.
///
/// Shown as a sum, and a line for each part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorstCase {
    /// The most that the queues could hold by their counts alone.
    pub by_counts: u64,
    /// The ceiling in force: above it data is shed or refused.
    pub ceiling: u64,
    /// The memory limit of the process, if it lowers the ceiling or a line limit.
    pub limit: Option<MemoryLimit>,
    /// The parts with bounds of their own: a name, and the most bytes.
    pub beside: Vec<(&'static str, u64)>,
}

/// A remembered request: its id, twice, its action, and its state.
const REQUEST_BYTES: u64 = 512;
/// The read buffers of a program's two streams, besides the output that is kept.
const READ_BYTES: u64 = 2 * 64 * 1024;

impl WorstCase {
    /// The worst case of all that was loaded, under `limit`.
    pub(crate) fn of(loaded: &Loaded, limit: Option<&MemoryLimit>) -> Self {
        let configured = loaded.agent.memory.ceiling.bytes();
        let ceiling = limit.map_or(configured, |limit| limit.ceiling(configured));
        let mut is_limited = ceiling < configured;
        let line = MAX_LINE as u64;
        let mut by_counts = 0;
        for pipeline in loaded.pipelines.iter().filter(|made| made.file.generate.is_none()) {
            let readings = READINGS_WAITING as u64 * line;
            let batch = pipeline.file.batch.max_bytes.bytes();
            by_counts += readings + batch + frames(&pipeline.file.write) * line;
        }
        for pipeline in &loaded.records {
            let batch = pipeline.file.batch.max_bytes.bytes();
            let frames = frames(&pipeline.file.write);
            // A batch is as large as its bytes and one line more.
            let side_files = pipeline.file.read.iter().filter_map(Read::side_file).count();
            let side_frames = (side_files * SIDE_FRAMES_WAITING) as u64;
            // Of several formats each has frames of its own, and the batches wait for all.
            let frames = match pipeline.file.formats().len() as u64 {
                0 | 1 => frames,
                formats => frames * (formats + 1),
            };
            by_counts += (BATCHES_WAITING as u64 + 1 + frames + side_frames) * (batch + line);
        }
        let mut beside = Vec::new();
        if let Some(commands) = &loaded.commands {
            let execute = &commands.file.execute;
            let (parallel, waiting) =
                (u64::from(execute.parallel.get()), u64::from(execute.waiting.get()));
            let configured = commands.file.receive().max_line.bytes();
            let longest = limit.map_or(configured, |limit| limit.line(configured));
            is_limited |= longest < configured;
            by_counts += (parallel + waiting) * longest;
            by_counts += (parallel + DURABLE_KEPT as u64) * line;
            beside.push(("a line of the host, and what is parsed of it", 2 * longest));
            beside.push((
                "parts of a line that are not read yet",
                (CHUNKS_KEPT * CHUNK_BYTES_MAX) as u64,
            ));
            let streams = 2 * execute.output.bytes() + READ_BYTES;
            beside.push(("output of running programs", parallel * streams));
            beside.push(("remembered answers", BYTES_KEPT as u64));
            let nonces = limit.map_or(NONCES_KEPT, |limit| limit.nonces(NONCES_KEPT));
            is_limited |= nonces < NONCES_KEPT;
            beside.push(("remembered nonces", nonces as u64 * NONCE_BYTES));
            let requests = 2 * REQUESTS_KEPT as u64 * REQUEST_BYTES;
            beside.push(("remembered requests", requests));
            beside.push(("the request log, while it is rewritten", SIZE / 2));
        }
        if loaded.targets().any(|(.., target)| matches!(target, Target::Port(_))) {
            let spool = loaded.agent.spool.size.bytes().clamp(line, MEMORY_MAX);
            let spool = spool + CACHE_MAX + (ITEMS_MAX * size_of::<Entry>()) as u64;
            beside.push(("durable messages, while the spool cannot be written", spool));
        }
        let limit = limit.filter(|_| is_limited).cloned();
        Self { by_counts, ceiling, limit, beside }
    }

    /// The most that is held in all.
    pub(crate) fn bytes(&self) -> u64 {
        let beside: u64 = self.beside.iter().map(|(_, bytes)| bytes).sum();
        self.by_counts.min(self.ceiling) + beside
    }
}

/// The warnings about the memory that all files need together.
pub(super) fn warnings(loaded: &Loaded) -> Vec<ConfigError> {
    let mut warnings = Vec::new();
    let (least, ceiling) = (least_ceiling(loaded), loaded.agent.memory.ceiling.bytes());
    if ceiling < least {
        let origin = loaded.agent_origin.clone().unwrap_or_else(|| "agent.toml".to_owned());
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let message = format!(
            "the ceiling of [memory] is {} MiB, and one batch of each pipeline and one line of the host are {}",
            mib(ceiling),
            mib(least)
        );
        let help =
            format!("write ceiling = \"{}MiB\", or make max_line or max_bytes smaller", mib(least));
        warnings.push(ConfigError {
            severity: Severity::Warning,
            ..ConfigError::of_file(origin, message, Some(&help))
        });
    }
    warnings
}

/// The smallest ceiling under which `loaded` works: a batch of each pipeline and, with a command flow, its longest line.
fn least_ceiling(loaded: &Loaded) -> u64 {
    let real = loaded.pipelines.iter().filter(|pipeline| pipeline.file.generate.is_none());
    let batches: u64 = real.map(|pipeline| pipeline.file.batch.max_bytes.bytes()).sum();
    let line = loaded.commands.as_ref().map(|commands| commands.file.receive().max_line.bytes());
    let records: u64 =
        loaded.records.iter().map(|pipeline| pipeline.file.batch.max_bytes.bytes()).sum();
    batches + records + line.unwrap_or(0)
}

impl WorstCase {
    /// Why the ceiling in force is below the configured one.
    fn why(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.limit {
            Some(limit) => {
                write!(
                    f,
                    "\n  the ceiling and the longest line are smaller than configured, since {limit}"
                )
            }
            None => Ok(()),
        }
    }
}

/// Frames that wait for all outputs of a flow: those of its ring where it ends in one, else those of each output.
fn frames<F>(write: &[Write<F>]) -> u64 {
    let kept = write.iter().map(|write| u64::from(write.keep.get()));
    let newest = |write: &&Write<F>| {
        write.delivery == Delivery::Latest && matches!(write.target, Target::Port(_))
    };
    let is_ring = write.len() > 1 || write.iter().any(|write| newest(&write));
    if is_ring { kept.max().unwrap_or(1) } else { kept.sum() }
}

impl fmt::Display for WorstCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ceiling = Mib(self.ceiling).trimmed();
        if self.by_counts == 0 {
            let rest = "name the pipelines, too, to see what comes in addition";
            write!(f, "memory: at most {ceiling} queued, the ceiling; {rest}")?;
            return self.why(f);
        }
        let (most, counts) = (Mib(self.bytes()).trimmed(), Mib(self.by_counts).trimmed());
        writeln!(f, "memory: at most {most}, and about 7 MiB for the program itself")?;
        write!(f, "{} queued: ", Mib(self.by_counts.min(self.ceiling)))?;
        match self.by_counts > self.ceiling {
            true => write!(f, "the ceiling of all queues, whose own bounds allow {counts}")?,
            false => write!(f, "the bounds of all queues; the ceiling is {ceiling}")?,
        }
        if !self.beside.is_empty() {
            write!(f, "\n  outside the ceiling, each with its own bound:")?;
        }
        for (what, bytes) in &self.beside {
            write!(f, "\n{} {what}", Mib(*bytes))?;
        }
        self.why(f)
    }
}

struct Mib(u64);

impl Mib {
    fn trimmed(&self) -> String {
        self.to_string().trim_start().to_owned()
    }
}

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn the_shipped_files_are_bounded_and_the_ceiling_bounds_the_queues() {
        let loaded = load(&[], &|_| None).unwrap();
        let worst = WorstCase::of(&loaded, None);
        assert_eq!(worst.ceiling, 16 << 20);
        assert!(worst.by_counts > 64 << 20, "64 lines of a mebibyte each could be kept");
        let beside: u64 = worst.beside.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(worst.bytes(), (16 << 20) + beside);
        let text = worst.to_string();
        assert!(
            text.contains("16.0 MiB queued: the ceiling of all queues, whose own bounds allow "),
            "{text}"
        );
        let of = |what: &str| worst.beside.iter().find(|(part, _)| part.contains(what)).unwrap().1;
        assert!(of("the spool cannot be written") > 4 << 20);
        let beside = text.split_once("outside the ceiling, each with its own bound:\n").unwrap().1;
        assert_eq!(beside.lines().count(), worst.beside.len());
    }

    #[test]
    fn settings_alone_set_the_ceiling() {
        let loaded = load(&["built-in:agent.toml".into()], &|_| None).unwrap();
        let text = WorstCase::of(&loaded, None).to_string();
        assert!(text.starts_with("memory: at most 16.0 MiB queued, the ceiling; "), "{text}");
    }

    #[test]
    fn a_limit_makes_the_ceiling_and_a_line_smaller_and_is_named() {
        let loaded = load(&[], &|_| None).unwrap();
        let under = |mib: u64| {
            let limit = MemoryLimit { bytes: mib << 20, file: "/x/memory.max".into() };
            WorstCase::of(&loaded, Some(&limit))
        };
        let (free, small) = (WorstCase::of(&loaded, None), under(16));
        assert_eq!(under(1024), free);
        assert_eq!((small.ceiling, small.by_counts < free.by_counts), (4 << 20, true));
        let nonces = (16_384 - 4_096) * NONCE_BYTES;
        assert_eq!(free.bytes() - small.bytes(), (12 << 20) + 2 * (7 << 20) + nonces);
        let text = small.to_string();
        assert!(text.contains("\n  the ceiling and the longest line"), "{text}");
        assert!(text.ends_with("/x/memory.max allows 16.0 MiB"), "{text}");
    }
}
