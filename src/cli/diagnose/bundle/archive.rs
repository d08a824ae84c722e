//! A tar archive of small files in a zstd frame, byte for byte.
//!
//! # Why
//! By hand, and not compressed. `ruzstd` makes a static executable 53 KiB larger and `tar` 8 KiB (opt-level `s`, fat LTO), with five
//! crates, for a file that is written once in a year; what would be compressed is some hundred KiB. `zstd -d` and `tar --zstd` read
//! a frame of raw blocks like any other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A block of tar (POSIX.1-2017, pax, "ustar Interchange Format").
const BLOCK: usize = 512;
/// The most bytes of a block of zstd: `Block_Maximum_Size` of RFC 8878, 3.1.1.2.
const ZSTD_BLOCK: usize = 128 * 1024;

/// A tar archive that is being written.
pub(super) struct Tar {
    bytes: Vec<u8>,
    seconds: u64,
}

impl Tar {
    /// All its files have this time.
    pub(super) fn new(now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { bytes: Vec::new(), seconds: since.as_secs() }
    }

    /// Adds a file of root's with mode 0600. The name has at most 100 bytes; what is longer is cut off.
    pub(super) fn file(&mut self, name: &str, content: &[u8]) {
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
        put(0, &name.as_bytes()[..name.len().min(100)]);
        put(100, b"0000600\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, format!("{:011o}\0", self.seconds).as_bytes());
        put(148, b"        "); // the sum is made with blanks in its place
        put(156, b"0");
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    /// The archive in a zstd frame.
    pub(super) fn into_zstd(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0); // the end of the archive
        frame(&self.bytes)
    }
}

/// A frame of raw blocks: RFC 8878, 3.1.1.
fn frame(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + content.len() / ZSTD_BLOCK * 3 + 32);
    out.extend_from_slice(&0xFD2F_B528_u32.to_le_bytes());
    // The size of the content in eight bytes, and one segment: no window is said.
    out.push(0b1110_0000);
    out.extend_from_slice(&(content.len() as u64).to_le_bytes());
    let blocks = content.chunks(ZSTD_BLOCK);
    let last = blocks.len().saturating_sub(1);
    for (number, block) in blocks.enumerate() {
        let header = (block.len() as u32) << 3 | u32::from(number == last);
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.extend_from_slice(block);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn tar_and_zstd_read_what_was_written() {
        let long: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let files = [("b/empty", &b""[..]), ("b/text", b"one\n"), ("b/long", &long)];
        let mut tar = Tar::new(UNIX_EPOCH + Duration::from_secs(1_784_023_200));
        files.iter().for_each(|(name, content)| tar.file(name, content));
        let folder = tempfile::tempdir().unwrap();
        let packed = folder.path().join("b.tar.zst");
        std::fs::write(&packed, tar.into_zstd()).unwrap();
        let mut program = Command::new("tar");
        program.arg("--zstd").arg("-xf").arg(&packed).arg("-C").arg(folder.path());
        let done = program.output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
        for (name, content) in files {
            let path = folder.path().join(name);
            assert!(std::fs::read(&path).unwrap() == content, "{name}");
            let modified = path.metadata().unwrap().modified().unwrap();
            assert_eq!(modified, UNIX_EPOCH + Duration::from_secs(1_784_023_200));
        }
    }
}
