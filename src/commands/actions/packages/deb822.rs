//! The paragraphs that Debian's files are made of (`deb822(5)`), from chunks of bytes; and files read
//! in chunks, or from their end. Does not know what a field means.

use super::PackageError;
use crate::tasks::spawn_blocking;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

/// The longest paragraph that is read; a longer one is left out.
pub(super) const STANZA_MAX: usize = 1 << 20;

/// Bytes of a file that are read at once.
const CHUNK: usize = 64 * 1024;

/// Paragraphs out of chunks: push, and take what is whole.
#[derive(Debug, Default)]
pub(crate) struct Stanzas {
    partial: Vec<u8>,
    too_long: bool,
}

/// One paragraph.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stanza<'a>(&'a str);

impl Stanzas {
    /// Takes the next bytes and hands over each paragraph that ends in them.
    pub(crate) fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Stanza<'_>)) {
        for line in chunk.split_inclusive(|byte| *byte == b'\n') {
            let begins = self.partial.is_empty() || self.partial.ends_with(b"\n");
            if begins && line == b"\n" {
                self.hand_over(&mut each);
            } else if self.partial.len() + line.len() > STANZA_MAX {
                self.too_long = true;
                self.partial.clear();
                self.partial.extend(line.last()); // tells the next push whether a line begins there
            } else {
                self.partial.extend_from_slice(line);
            }
        }
    }

    /// Hands over the last paragraph: a file need not end with an empty line.
    pub(crate) fn finish(mut self, mut each: impl FnMut(Stanza<'_>)) {
        self.hand_over(&mut each);
    }

    fn hand_over(&mut self, each: &mut impl FnMut(Stanza<'_>)) {
        let text = String::from_utf8_lossy(&self.partial);
        if !self.too_long && !text.trim().is_empty() {
            each(Stanza(&text));
        }
        drop(text);
        self.partial.clear();
        self.too_long = false;
    }
}

impl<'a> Stanza<'a> {
    /// The paragraph in `text`.
    #[cfg(test)]
    pub(crate) fn of(text: &'a str) -> Self {
        Self(text)
    }

    /// The first line of the field `name`, in any case; `None` where it is missing, empty or holds NUL.
    pub(crate) fn field(self, name: &str) -> Option<&'a str> {
        self.first(|field| field.eq_ignore_ascii_case(name))
    }

    /// [`field`](Self::field), where the case of its name counts.
    pub(crate) fn exact(self, name: &str) -> Option<&'a str> {
        self.first(|field| field == name)
    }

    fn first(self, fits: impl Fn(&str) -> bool) -> Option<&'a str> {
        let fields = self.0.lines().filter_map(|line| line.split_once(':'));
        let value = fields.into_iter().find(|(field, _)| fits(field))?.1.trim();
        (!value.is_empty() && !value.contains('\0')).then_some(value)
    }
}

/// Reads a file in chunks of 64 KiB on the blocking pool, handing each to `each`; the worker computes
/// for one chunk at a time.
///
/// # Errors
/// The sentence of an answer.
pub(crate) async fn read_chunks(
    path: &Path,
    deadline: Instant,
    mut each: impl FnMut(&[u8]),
) -> Result<(), PackageError> {
    let unreadable = |error| PackageError::Read { path: path.to_owned(), error };
    let read = async {
        let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            match file.read(&mut chunk).await.map_err(unreadable)? {
                0 => return Ok(()),
                bytes => each(&chunk[..bytes]),
            }
        }
    };
    match timeout_at(deadline, read).await {
        Ok(done) => done,
        Err(_) => Err(PackageError::Late(path.display().to_string())),
    }
}

/// The last `bytes` of a file, from a whole line on; empty where there is no such file. Letters that are no
/// UTF-8 are replaced.
///
/// # Errors
/// The sentence of an answer.
pub(crate) async fn read_end(
    path: &Path,
    bytes: u64,
    deadline: Instant,
) -> Result<String, PackageError> {
    let read = move |path: PathBuf| -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(bytes);
        file.seek(SeekFrom::Start(from))?;
        let mut end = Vec::new();
        file.take(bytes).read_to_end(&mut end)?;
        if from > 0 {
            let partial = end.iter().position(|byte| *byte == b'\n').map_or(end.len(), |at| at + 1);
            end.drain(..partial);
        }
        Ok(end)
    };
    let whole = path.to_owned();
    let read = spawn_blocking(move || read(whole));
    match timeout_at(deadline, read).await {
        Ok(Ok(Ok(end))) => Ok(String::from_utf8_lossy(&end).into_owned()),
        Ok(Ok(Err(error))) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Ok(Ok(Err(error))) => Err(PackageError::Read { path: path.to_owned(), error }),
        Ok(Err(_)) => Err(PackageError::Panicked(path.display().to_string())),
        Err(_) => Err(PackageError::Late(path.display().to_string())),
    }
}

/// The paragraphs of a file, by [`read_chunks`].
pub(crate) async fn read_stanzas(
    path: &Path,
    deadline: Instant,
    mut each: impl FnMut(Stanza<'_>),
) -> Result<(), PackageError> {
    let mut stanzas = Stanzas::default();
    read_chunks(path, deadline, |chunk| stanzas.push(chunk, &mut each)).await?;
    stanzas.finish(each);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

    fn names(chunks: &[&[u8]]) -> Vec<String> {
        let (mut stanzas, mut names) = (Stanzas::default(), Vec::new());
        let mut each =
            |stanza: Stanza<'_>| names.extend(stanza.field("package").map(str::to_owned));
        chunks.iter().for_each(|chunk| stanzas.push(chunk, &mut each));
        stanzas.finish(&mut each);
        names
    }

    #[test]
    fn a_paragraph_longer_than_the_bound_is_left_out_and_the_next_one_is_read() {
        let long = format!(
            "Package: long\nConffiles:\n{}\nPackage: next\n",
            " /etc/x 0123\n".repeat(100_000)
        );
        assert_eq!(names(&[b"Package: first\n\n", long.as_bytes()]), ["first", "next"]);
    }

    #[test]
    fn a_continued_line_is_no_field() {
        let stanza = Stanza::of("Package: a\nDescription: one\n Version: no\nVersion: 1:2\n");
        assert_eq!(stanza.field("Version"), Some("1:2"));
        assert_eq!(stanza.field("Homepage"), None);
    }

    #[tokio::test]
    async fn the_end_of_a_file_begins_with_a_whole_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\ntwo\nthree\n").unwrap();
        let end = async |bytes| read_end(file.path(), bytes, Instant::now() + HOUR).await.unwrap();
        assert_eq!(end(8).await, "three\n");
        assert_eq!(end(100).await, "one\ntwo\nthree\n");
        let none = Path::new("/nowhere/at/all");
        assert_eq!(read_end(none, 8, Instant::now() + HOUR).await.unwrap(), "");
    }

    proptest! {
        #[test]
        fn where_the_chunks_are_cut_changes_nothing(cuts in proptest::collection::vec(0_usize..60, 0..8)) {
            let text = b"Package: a\nX: 1\n\n\nPackage: b\n more\n\nPackage: c";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                chunks.push(&text[from..cut]);
                from = cut;
            }
            prop_assert_eq!(names(&chunks), ["a", "b", "c"]);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            names(&[&bytes]);
        }
    }
}
