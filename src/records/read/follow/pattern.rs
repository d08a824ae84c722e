//! Which files a path with wildcards names.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags};

use crate::values::Problem;

/// The most names of folders and files that one look goes through.
const NAMES_MAX: usize = 100_000;

/// A path in which `*` stands for any text without a `/`, `?` for one byte and `[a-z]`, `[!a-z]` for one of a range. Each of
/// them stands for no leading dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(PathBuf);

/// What a look has found.
#[derive(Debug, Default)]
pub(super) struct Matches {
    /// Paths that are there, in no order, and may be no files.
    pub paths: Vec<PathBuf>,
    /// The folders that decide what else could be found.
    pub folders: BTreeSet<PathBuf>,
    /// There are more than it has looked at.
    pub is_cut: bool,
}

impl Pattern {
    /// A pattern of a text.
    ///
    /// # Errors
    /// It names a folder, is relative, or has `**`.
    pub fn new(text: &str) -> Result<Self, Problem> {
        if !text.starts_with('/') {
            return Err(Problem::new("is no absolute path", "begin it with a /"));
        }
        if text.ends_with('/') {
            let help = "add the names of files, as in \"/var/log/app/*.log\"";
            return Err(Problem::new("is a folder", help));
        }
        if text.contains("**") {
            let help = "write one * for each folder, as in \"/var/log/*/*.log\"";
            return Err(Problem::new("has a `**`, which is not supported", help));
        }
        Ok(Self(text.into()))
    }

    /// Its text.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Whether it stands for this path, as it is spelled.
    pub fn names(&self, path: &Path) -> bool {
        let (parts, names) = (self.0.components(), path.components());
        parts.clone().count() == names.clone().count()
            && parts.zip(names).all(|(part, name)| {
                let (part, name) = (part.as_os_str().as_bytes(), name.as_os_str().as_bytes());
                part == name || matches(part, name)
            })
    }

    /// Looks for at most `limit` paths. Blocks.
    pub(super) fn find(&self, limit: usize) -> Matches {
        let mut found = Matches::default();
        let (mut bases, mut names) = (vec![PathBuf::from("/")], 0);
        let mut parts = self.0.components().skip(1).peekable();
        while let Some(part) = parts.next() {
            let (part, is_last) = (part.as_os_str().as_bytes(), parts.peek().is_none());
            let has_wildcard = part.iter().any(|byte| b"*?[".contains(byte));
            let mut next = Vec::new();
            for base in &bases {
                if !has_wildcard {
                    let path = base.join(OsStr::from_bytes(part));
                    if is_last || has_wildcard {
                        found.folders.insert(base.clone());
                    } else if !path.is_dir() {
                        found.folders.insert(base.clone());
                        continue;
                    }
                    if !is_last || path.exists() {
                        next.push(path);
                    }
                    continue;
                }
                found.folders.insert(base.clone());
                for (name, kind) in entries(base) {
                    names += 1;
                    if names > NAMES_MAX || next.len() >= limit {
                        found.is_cut = true;
                        break;
                    }
                    let is_dir = matches!(kind, FileType::Directory);
                    let may_be = matches!(kind, FileType::Symlink | FileType::Unknown);
                    let fits = if is_last { !is_dir } else { is_dir || may_be };
                    if fits && matches(part, name.as_bytes()) {
                        next.push(base.join(name));
                    }
                }
            }
            bases = next;
        }
        found.paths = bases;
        found
    }
}

/// The names in a folder; none if it cannot be read.
pub(super) fn entries(folder: &Path) -> impl Iterator<Item = (OsString, FileType)> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(folder, how, Mode::empty()).and_then(Dir::new);
    opened.into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name().to_bytes();
        let is_real = name != b"." && name != b"..";
        is_real.then(|| (OsString::from_vec(name.to_vec()), entry.file_type()))
    })
}

/// Whether a component of a pattern matches the whole of `name`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    // The last star, and where the text that it does not stand for begins.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let one = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => range(&pattern[p..], name[n]),
            Some(byte) => (*byte == name[n]).then_some(1),
            None => None,
        };
        match (one, &mut star) {
            (Some(length), _) => (p, n) = (p + length, n + 1),
            (None, Some((at, from))) => {
                *from += 1;
                (p, n) = (*at + 1, *from);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The length of the `[…]` at the start of `pattern`, if `byte` is in it. One without an end stands for itself.
fn range(pattern: &[u8], byte: u8) -> Option<usize> {
    let is_negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = 1 + usize::from(is_negated);
    // A `]` in front is one of the bytes.
    let Some(length) = pattern.iter().skip(start + 1).position(|byte| *byte == b']') else {
        return (byte == b'[').then_some(1);
    };
    let end = start + 1 + length;
    let (mut set, mut is_in) = (&pattern[start..end], false);
    while let Some((first, rest)) = set.split_first() {
        match rest {
            [b'-', last, more @ ..] => {
                (is_in, set) = (is_in | (first..=last).contains(&&byte), more)
            }
            _ => (is_in, set) = (is_in | (*first == byte), rest),
        }
    }
    (is_in != is_negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_what_a_shell_takes_them_for() {
        let fits =
            ["a.log *.log", "a.log ?.log", "a.log a.log", "a1.log a[0-9].log", "ab *b", "aXb a*b"];
        let more =
            ["ax.log a[!0-9].log", "a-b a[-x]b", "a]b a[]x]b", "a[ a[", "abcbd a*b?", "a a***"];
        for pair in fits.iter().chain(&more) {
            let (name, pattern) = pair.split_once(' ').unwrap();
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pair}");
        }
        for pair in
            [".a.log *.log", "a.logs *.log", "ab ?", "a5 a[!0-9]", "a [b-z]", " ?", ".x [.]x"]
        {
            let (name, pattern) = pair.split_once(' ').unwrap();
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pair}");
        }
    }

    #[test]
    fn folders_may_have_wildcards_too_and_what_is_missing_is_waited_for_above() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for app in ["one", "two", "three"] {
            std::fs::create_dir(path(app)).unwrap();
            std::fs::write(path(&format!("{app}/a.log")), "").unwrap();
        }
        std::fs::create_dir(path("one/b.log")).unwrap();
        std::fs::write(path("file.log"), "").unwrap();
        let find = |end: &str, limit| {
            let mut found = Pattern::new(path(end).to_str().unwrap()).unwrap().find(limit);
            found.paths.sort();
            found
        };
        let found = find("t*/*.log", 10);
        assert_eq!(found.paths, [path("three/a.log"), path("two/a.log")]);
        assert!(found.folders.contains(folder.path()) && found.folders.contains(&path("two")));
        assert_eq!(find("*/*.log", 2).paths.len(), 2);
        assert!(find("*/*.log", 2).is_cut && !find("*/*.log", 10).is_cut);
        let found = find("none/there/x.log", 10);
        assert_eq!((found.paths.len(), found.folders), (0, [folder.path().to_owned()].into()));
    }
}
