//! The hash chain of the audit: each line bears, as `prev`, the SHA-256 of the line before it, over the turns of the
//! file. Who changes, removes or adds a line in the middle has to write all that follow anew.
//!
//! Not seen: that the last lines were removed, or that the oldest files were, which a rotation does too.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::values::hex;

/// More than a line of an audit can have.
const LINE_MAX: u64 = 1 << 20;
/// Breaks that are reported.
pub(crate) const BREAKS_MAX: usize = 100;

/// What a line is known by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link([u8; 32]);

impl Link {
    /// Of a line, without its newline.
    pub fn of(line: &[u8]) -> Self {
        Self(Sha256::digest(line).into())
    }

    /// Of the last line of the file at `path`, or of its former self where it is not there or empty.
    pub fn last(path: &Path) -> Self {
        let last = |path: &Path| last_line(path).ok().flatten();
        last(path)
            .or_else(|| last(&numbered(path, 1)))
            .map_or(Self::default(), |line| Self::of(&line))
    }

    /// A JSON object on a line with this as the line before it.
    pub fn join(self, line: &[u8]) -> Vec<u8> {
        let object = line.trim_ascii_end().strip_suffix(b"}").unwrap_or(line);
        [object, b",\"prev\":\"", self.to_string().as_bytes(), b"\"}\n"].concat()
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// What a look at a whole audit has shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Files, the oldest first.
    pub files: Vec<PathBuf>,
    /// Lines, and those of an agent that did not chain them.
    pub lines: u64,
    /// As above.
    pub unchained: u64,
    /// Where the chain breaks: file, line, and what is wrong, as the end of a sentence. At most [`BREAKS_MAX`].
    pub breaks: Vec<(PathBuf, u64, &'static str)>,
}

/// Follows the chain through the file at `path` and its former selves. Blocks.
///
/// # Errors
/// A file cannot be read.
pub fn verify(path: &Path) -> io::Result<Verdict> {
    let former = (1..).map(|number| numbered(path, number)).take_while(|path| path.exists());
    let mut verdict = Verdict { files: former.collect(), ..Verdict::default() };
    verdict.files.reverse();
    verdict.files.push(path.to_owned());
    let mut before = None;
    for file in verdict.files.clone() {
        let mut reader = BufReader::new(open(&file)?);
        for number in 1.. {
            let mut line = Vec::new();
            if (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            verdict.lines += 1;
            let wrong = verdict.look(&line, before);
            before = Some(Link::of(line.strip_suffix(b"\n").unwrap_or(&line)));
            if let Some(wrong) = wrong.filter(|_| verdict.breaks.len() < BREAKS_MAX) {
                verdict.breaks.push((file.clone(), number, wrong));
            }
        }
    }
    Ok(verdict)
}

impl Verdict {
    fn look(&mut self, line: &[u8], before: Option<Link>) -> Option<&'static str> {
        #[derive(Deserialize)]
        struct Line {
            prev: Option<String>,
        }
        let Ok(Line { prev }) = serde_json::from_slice(line) else {
            return Some("it is no line of an audit, or was cut short");
        };
        match (prev, before) {
            (None, _) if self.unchained + 1 == self.lines => {
                self.unchained += 1;
                None
            }
            (None, _) => Some("it does not name the line before it"),
            (Some(prev), Some(before)) if prev != before.to_string() => {
                Some("the line before it was changed, removed or added")
            }
            (Some(_), _) => None,
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn last_line(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LINE_MAX)))?;
    let mut text = Vec::new();
    file.take(LINE_MAX).read_to_end(&mut text)?;
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    let start = memchr::memrchr(b'\n', text).map_or(0, |at| at + 1);
    Ok((length > 0).then(|| text[start..].to_vec()))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_followed_over_files_and_breaks_where_a_line_was_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut lines: Vec<Vec<u8>> = vec![b"{\"old\":1}\n".to_vec()];
        for number in 0..6 {
            let before = Link::of(lines[number].trim_ascii_end());
            lines.push(before.join(format!("{{\"n\":{number}}}\n").as_bytes()));
        }
        let write = |lines: &[Vec<u8>]| {
            std::fs::write(numbered(&path, 1), lines[..4].concat()).unwrap();
            std::fs::write(&path, lines[4..].concat()).unwrap();
            verify(&path).unwrap()
        };
        let whole = write(&lines);
        assert_eq!((whole.lines, whole.unchained, whole.breaks), (7, 1, vec![]));
        let mut changed = lines.clone();
        changed[3] =
            changed[3].iter().map(|byte| if *byte == b'2' { b'9' } else { *byte }).collect();
        assert!(write(&changed).breaks.iter().any(|(file, line, _)| (file, *line) == (&path, 1)));
        let mut removed = lines.clone();
        removed.remove(5);
        assert_eq!(write(&removed).breaks[0].1, 2);
        let mut added = lines.clone();
        added.insert(5, b"{\"n\":7}\n".to_vec());
        assert_eq!(write(&added).breaks[0].1, 2);
        let mut torn = lines.clone();
        torn[6].truncate(9);
        assert_eq!(write(&torn).breaks[0].1, 3);
        assert_eq!(Link::last(&path), Link::of(&torn[6]));
    }
}
