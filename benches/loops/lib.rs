//! Plain loops over lines, with `sonic-rs` and nothing else: no pipeline, no task, no channel. A package of its own, so that
//! it is built for speed, and that the agent's has no such dependency.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sonic_rs::LazyValue;

/// Bytes of one read.
const PIECE: usize = 256 * 1024;

/// Bytes after which the output is begun again.
const OUT_BYTES_MAX: usize = 16 << 20;

/// What is done with a line; what it makes is appended.
pub type Step = fn(&[u8], &mut Vec<u8>);

/// Takes each line of `from` through `step`, into `to`; returns how many lines these are.
///
/// # Errors
/// The lines cannot be read, or the output cannot be written.
pub fn run(from: &Path, to: &Path, step: Step) -> io::Result<u64> {
    let (mut from, mut file) = (File::open(from)?, File::create(to)?);
    let (mut buffer, mut begun) = (vec![0; 2 * PIECE], 0);
    let (mut made, mut written, mut lines) = (Vec::with_capacity(2 * PIECE), 0, 0);
    loop {
        let read = from.read(&mut buffer[begun..begun + PIECE])?;
        if read == 0 {
            return Ok(lines);
        }
        let end = begun + read;
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', &buffer[..end]) {
            step(&buffer[start..newline], &mut made);
            start = newline + 1;
            lines += 1;
        }
        if written > OUT_BYTES_MAX {
            (file, written) = (File::create(to)?, 0);
        }
        file.write_all(&made)?;
        written += made.len();
        made.clear();
        buffer.copy_within(start..end, 0);
        begun = end - start;
    }
}

/// Validated without a tree, two fields spliced in.
pub fn tag(line: &[u8], out: &mut Vec<u8>) {
    if sonic_rs::from_slice::<LazyValue<'_>>(line).is_err() {
        return;
    }
    let Some(inside) = line.strip_suffix(b"}") else { return };
    out.extend_from_slice(inside);
    out.extend_from_slice(b",\"site\":\"lab-1\",\"env\":\"prod\"}\n");
}

/// Each member validated and copied: without the lines whose level is `debug`, and `msg` as `message`. A line that is left out
/// is validated to its end, too: the agent counts it as invalid if it is.
pub fn filter_and_rename(line: &[u8], out: &mut Vec<u8>) {
    let (start, mut is_kept) = (out.len(), true);
    out.push(b'{');
    for member in sonic_rs::to_object_iter(line) {
        let Ok((key, value)) = member else { return out.truncate(start) };
        let (raw, key) = (value.as_raw_str(), &*key);
        is_kept &= key != "level" || raw != "\"debug\"";
        if !is_kept {
            continue;
        }
        if out.len() > start + 1 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(if key == "msg" { b"message" } else { key.as_bytes() });
        out.extend_from_slice(b"\":");
        out.extend_from_slice(raw.as_bytes());
    }
    match is_kept {
        true => out.extend_from_slice(b"}\n"),
        false => out.truncate(start),
    }
}
