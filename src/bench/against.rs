//! Plain loops over the same lines, to be compared with: no pipeline, no task, no channel.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::BenchError;
use super::lines::{Input, PIECE, pieces};
use super::output::Folder;
use super::usage::Usage;

/// One loop.
#[derive(Debug, Serialize)]
pub(crate) struct LoopResult {
    /// What it does with a line.
    pub name: &'static str,
    /// Lines per second on processors.
    pub events_per_cpu_second: f64,
    /// How many times as many the pipeline makes.
    pub pipeline_to_it: f64,
}

type Step = fn(&[u8], &mut Vec<u8>);

const LOOPS: [(&str, Step); 3] = [
    ("read and write", copy),
    ("serde_json tree, two fields", tree),
    ("check, splice two fields", splice),
];

fn copy(line: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(line);
    out.push(b'\n');
}

fn tree(line: &[u8], out: &mut Vec<u8>) {
    let Ok(Value::Object(mut record)) = serde_json::from_slice(line) else { return };
    record.insert("site".to_owned(), "lab-1".into());
    record.insert("env".to_owned(), "prod".into());
    if serde_json::to_writer(&mut *out, &record).is_ok() {
        out.push(b'\n');
    }
}

/// Checked by `serde_json` without a tree.
fn splice(line: &[u8], out: &mut Vec<u8>) {
    let is_record = serde_json::from_slice::<IgnoredAny>(line).is_ok();
    let Some(inside) = line.trim_ascii_end().strip_suffix(b"}").filter(|_| is_record) else {
        return;
    };
    out.extend_from_slice(inside);
    out.extend_from_slice(b",\"site\":\"lab-1\",\"env\":\"prod\"}\n");
}

/// Runs each loop for `time` over the lines of `input`, to a temporary file where the pipeline writes (`writes`), and to
/// nowhere where it does not.
///
/// # Errors
/// The input cannot be read, or the temporary file cannot be written.
pub(super) fn run(
    input: &Input,
    writes: bool,
    time: Duration,
    pipeline_per_cpu_second: f64,
) -> Result<Vec<LoopResult>, BenchError> {
    let folder = if writes { Some(Folder::new()?) } else { None };
    let out = folder.as_ref().map(|folder| folder.0.join("out"));
    let measured = LOOPS.into_iter().map(|(name, step)| {
        let (lines, cpu) = measure(&input.path, out.as_deref(), time, step)?;
        let events_per_cpu_second = lines as f64 / cpu.as_secs_f64().max(1e-9);
        let pipeline_to_it = pipeline_per_cpu_second / events_per_cpu_second.max(1e-9);
        Ok(LoopResult { name, events_per_cpu_second, pipeline_to_it })
    });
    measured.collect::<io::Result<_>>().map_err(BenchError::Loop)
}

/// Bytes after which the temporary file is written from its start again: as a rotated file has at most.
const OUT_BYTES_MAX: usize = 16 << 20;

/// Takes each line through `step` for `time`; returns how many lines, and the time on processors.
///
/// # Errors
/// The lines cannot be read, or the output cannot be written.
pub(crate) fn measure(
    lines: &Path,
    out: Option<&Path>,
    time: Duration,
    mut step: impl FnMut(&[u8], &mut Vec<u8>),
) -> io::Result<(u64, Duration)> {
    let mut file = out.map(File::create).transpose()?;
    let (mut count, mut made, mut written) = (0, Vec::with_capacity(2 * PIECE), 0);
    let (before, end) = (Usage::now(), Instant::now() + time);
    pieces(lines, |piece| {
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', piece) {
            step(&piece[start..newline], &mut made);
            start = newline + 1;
            count += 1;
        }
        if let (Some(file), Some(path)) = (&mut file, out) {
            if written > OUT_BYTES_MAX {
                (*file, written) = (File::create(path)?, 0);
            }
            file.write_all(&made)?;
            written += made.len();
        }
        made.clear();
        Ok(Instant::now() < end)
    })?;
    Ok((count, Usage::now().since(&before).cpu))
}
