//! Appends frames to a file, and rotates it by size.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::Deserialize;
use serde::de::Deserializer;

use super::blocking::{Blocking, BlockingSink};
use super::{Options, PathUse, Backlog, UsedPath, io_reason};
use crate::files::{folder_of, is_own, is_shared, make_private};
use crate::model::Frame;
use crate::pipeline::{BoxSink, Sink, StageError};
use crate::values::value::text;
use crate::values::words::{COUNT, NEEDED, NONE, SIZE};
use crate::values::{Count, Manual, Problem, Section, Size, key};

pub(super) const MANUAL: Manual = Manual {
    key: key(
        "file",
        "table, see below",
        NONE,
        "{ path = \"/var/log/metrics.jsonl\" }",
        "a file that is rotated by size",
        ),
    options: Some(Section {
        header: "`file = { … }` in `[write]`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[write]\nfile.path = \"/x\"\nfile.{}",
        keys: &[
            key(
                "path",
                "path",
                NEEDED,
                "\"/var/log/metrics.jsonl\"",
                "the file; made with mode 0640",
            ),
            key(
                "max_size",
                SIZE,
                "\"16MiB\"",
                "\"1MiB\"",
                "the file is rotated before it would grow past this",
            ),
            key("keep", COUNT, "3", "10", "how many rotated files are kept"),
        ],
    }),
};

/// Options of `file`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileOptions {
    /// The file.
    #[serde(deserialize_with = "file_path")]
    pub path: PathBuf,
    /// A new file is begun before the old one would grow past this.
    #[serde(default = "sixteen_mib")]
    pub max_size: Size,
    /// How many full files are kept beside the one that grows.
    #[serde(default = "three")]
    pub keep: Count,
}

impl FileOptions {
    /// The file at `path`, with the defaults of the rest: 16 MiB, and three kept beside it.
    pub fn new(path: PathBuf) -> Self {
        Self { path, max_size: sixteen_mib(), keep: three() }
    }
}

impl fmt::Display for FileOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {}", self.path.display())
    }
}

impl Options for FileOptions {
    fn build(&self) -> BoxSink<Frame> {
        let rotation = Rotation { max_bytes: self.max_size.bytes(), keep: self.keep.get() };
        BoxSink::new(File::new(&self.path, rotation))
    }

    fn path(&self) -> Option<UsedPath<'_>> {
        let how = PathUse::Written { kept: self.keep.get() };
        Some(UsedPath { path: &self.path, key: Some("path"), how })
    }

    fn backlog(&self) -> Backlog {
        Backlog::Waits
    }

    fn obstacles(&self) -> Vec<(String, String)> {
        let mut obstacles = Vec::new();
        let name = self.path.file_name().map_or(0, |name| name.len());
        let rotated = name + 1 + self.keep.get().to_string().len();
        if rotated > NAME_MAX {
            let message = format!(
                "the name of a file has at most {NAME_MAX} bytes, and this one, rotated, {rotated}"
            );
            obstacles.push((message, "shorten the name".to_owned()));
        }
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let folder = folder.display();
            let message = format!("there is no folder {folder}: nothing can be written here");
            obstacles.push((message, format!("mkdir -p {folder}")));
        }
        obstacles
    }
}

/// The longest name of a file that Linux takes (`NAME_MAX` of `include/uapi/linux/limits.h`).
const NAME_MAX: usize = 255;

fn file_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = text(deserializer)?;
    if path.ends_with('/') {
        let help = "add a file name, as in \"/var/log/metrics.jsonl\"";
        return Err(Problem::new("is a folder, not a file", help).pack());
    }
    Ok(path.into())
}

fn sixteen_mib() -> Size {
    Size::kib(16 * 1024)
}

fn three() -> Count {
    Count::fixed(3)
}

/// When a file is rotated, and how many old ones are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// The most bytes of a file, except that one longer frame may stand alone.
    pub max_bytes: u64,
    /// Keeps `FILE.1` (the latest) to `FILE.keep`; with 0 the file starts empty.
    pub keep: u32,
}

/// Appends each frame to a file, which is created with mode 0640 at the first frame.
///
/// - A frame is never split over two files.
/// - A failed write (a full disk) leaves no part of the frame behind: the file is truncated to its old length, at
///   once or before the next write. A line that a crash cut short is ended when the file is opened.
/// - A file that was moved or removed by another process is created again.
/// - Only a regular file is written to: not a symbolic link, a directory, a pipe or a device; and in a folder that
///   others can write to, only a file of the agent's own user, with one name.
///
/// Nothing is synced to the disk: what the kernel has accepted counts as written. Costs a call to the blocking pool
/// and three or four system calls per frame.
///
/// # Faults
/// Always from outside: a missing folder, no permission, no space.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    offload: BlockingSink<Appender>,
}

impl File {
    /// Writes to `path`, which is opened at the first frame.
    pub fn new(path: impl Into<PathBuf>, rotation: Rotation) -> Self {
        let path = path.into();
        let appender = Appender::new(path.clone(), rotation, Access::Shared);
        Self { path, offload: BlockingSink::new(appender) }
    }
}

impl Sink for File {
    type In = Frame;

    fn detail(&self) -> String {
        self.path.display().to_string()
    }

    async fn write(&mut self, frame: &Frame) -> Result<(), StageError> {
        self.offload.write(&frame.bytes).await
    }
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Its owner and group: mode 0640. An existing file keeps its mode. In a folder that others can write to, it is
    /// refused if it belongs to another user or has a second name.
    Shared,
    /// Its owner alone: mode 0600. An existing file gets that mode, and is refused if it belongs to another user or
    /// has a second name.
    Private,
}

/// The blocking writer: each call appends all bytes or none.
#[derive(Debug)]
pub(crate) struct Appender {
    path: PathBuf,
    rotation: Rotation,
    access: Access,
    open: Option<Open>,
    /// The length to truncate the file to, after that has failed once.
    torn: Option<u64>,
}

/// An open file, and its folder, in which it is rotated even if the path changes.
#[derive(Debug)]
struct Open {
    folder: OwnedFd,
    file: fs::File,
}

impl Blocking for Appender {
    fn write(&mut self, bytes: &Bytes, _stop: &AtomicBool) -> Result<(), StageError> {
        self.append(bytes).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => " (does its folder exist?)",
                io::ErrorKind::StorageFull => " (the frame is kept and tried again)",
                _ => "",
            };
            StageError::outside(format_args!("cannot write {:?}: {}{hint}", self.path, io_reason(&error)))
        })
    }
}

impl Appender {
    /// Appends to `path`, which is opened at the first call.
    pub(crate) fn new(path: impl Into<PathBuf>, rotation: Rotation, access: Access) -> Self {
        Self { path: path.into(), rotation, access, open: None, torn: None }
    }

    /// Changes the rotation from now on.
    pub(crate) fn rotate_by(&mut self, rotation: Rotation) {
        self.rotation = rotation;
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends all of `bytes`, or nothing. Without bytes it only opens the file: creates it, and ends a torn line.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) if is_still_at(&self.path, &open.file) => open,
            _ => {
                self.torn = None;
                open_at(&self.path, self.access)?
            }
        };
        if let Some(length) = self.torn {
            open.file.set_len(length)?;
            self.torn = None;
        }
        let mut length = open.file.metadata()?.len();
        if length > 0 && length + bytes.len() as u64 > self.rotation.max_bytes {
            let name = name_of(&self.path)?;
            rotate(&open.folder, name, self.rotation.keep)?;
            open.file = open_in(&open.folder, name, self.access)?;
            length = 0;
        }
        let written = open.file.write_all(bytes);
        if written.is_err() && open.file.set_len(length).is_err() {
            self.torn = Some(length);
        }
        self.open = Some(open);
        written
    }
}

fn name_of(path: &Path) -> io::Result<&OsStr> {
    path.file_name().ok_or_else(|| io::Error::other("it names no file"))
}

fn open_at(path: &Path, access: Access) -> io::Result<Open> {
    let name = name_of(path)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder_of(path), flags, Mode::empty())?;
    let file = open_in(&folder, name, access)?;
    Ok(Open { folder, file })
}

/// Opens for appending, and ends an unfinished last line.
fn open_in(folder: &OwnedFd, name: &OsStr, access: Access) -> io::Result<fs::File> {
    // Not following a link, not waiting for a pipe's reader, not taking a terminal.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = flags | OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
    let mode = Mode::from_raw_mode(if access == Access::Private { 0o600 } else { 0o640 });
    let file = rustix::fs::openat(folder, name, flags, mode).map_err(|error| match error {
        Errno::LOOP => io::Error::other("it is a symbolic link (name the file itself)"),
        error => error.into(),
    })?;
    let mut file = fs::File::from(file);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file (name one that is, or a new one)"));
    }
    match access {
        Access::Private => make_private(&file, &metadata)?,
        Access::Shared if is_shared(folder)? => is_own(&metadata)?,
        Access::Shared => {}
    }
    let mut last = [b'\n'];
    if metadata.len() > 0 {
        file.read_exact_at(&mut last, metadata.len() - 1)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

/// Whether the path still names the open file.
fn is_still_at(path: &Path, file: &fs::File) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => identity(named) == identity(open),
        _ => false,
    }
}

/// `FILE.1` becomes `FILE.2` and so on, the last is replaced, and `FILE` becomes `FILE.1`.
fn rotate(folder: &OwnedFd, name: &OsStr, keep: u32) -> io::Result<()> {
    if keep == 0 {
        return Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?);
    }
    for number in (1..keep).rev() {
        let (from, to) = (numbered(name, number), numbered(name, number + 1));
        match rustix::fs::renameat(folder, from, folder, to) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(rustix::fs::renameat(folder, name, folder, numbered(name, 1))?)
}

fn numbered(name: &OsStr, number: u32) -> OsString {
    let mut name = name.to_owned();
    name.push(format!(".{number}"));
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;
    use tokio::time::Instant;

    const WIDE: Rotation = Rotation { max_bytes: 1 << 30, keep: 3 };

    fn frame(text: &str) -> Frame {
        Frame::new(text.to_owned(), 1, Instant::now())
    }

    fn read(path: impl AsRef<Path>) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[tokio::test]
    async fn frames_are_appended_to_what_is_there_with_mode_0640() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("metrics");
        for text in ["one\n", "two\n"] {
            let mut sink = File::new(&path, WIDE);
            sink.write(&frame(text)).await.unwrap();
            sink.write(&frame(text)).await.unwrap();
        }
        assert_eq!(read(&path), "one\none\ntwo\ntwo\n");
        // The process's own mask may take more away.
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !0o640, 0);
    }

    #[tokio::test]
    async fn a_full_file_is_rotated_between_frames_and_the_last_ones_are_kept() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("metrics");
        let mut sink = File::new(&path, Rotation { max_bytes: 10, keep: 2 });
        for number in 0..8 {
            sink.write(&frame(&format!("{number}{number}{number}\n"))).await.unwrap();
        }
        sink.write(&frame("longer than a whole file\n")).await.unwrap();
        let names = ["metrics", "metrics.1", "metrics.2"];
        let contents = names.map(|name| read(folder.path().join(name)));
        assert_eq!(contents, ["longer than a whole file\n", "666\n777\n", "444\n555\n"]);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
    }

    #[tokio::test]
    async fn with_no_copies_kept_the_file_starts_empty() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("metrics");
        let mut sink = File::new(&path, Rotation { max_bytes: 4, keep: 0 });
        sink.write(&frame("one\n")).await.unwrap();
        sink.write(&frame("two\n")).await.unwrap();
        assert_eq!(read(&path), "two\n");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_line_that_a_crash_cut_short_is_ended() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("metrics");
        fs::write(&path, "whole\ncut sho").unwrap();
        File::new(&path, WIDE).write(&frame("next\n")).await.unwrap();
        assert_eq!(read(&path), "whole\ncut sho\nnext\n");
    }

    #[tokio::test]
    async fn a_file_that_was_moved_away_or_emptied_is_followed() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("metrics");
        let mut sink = File::new(&path, WIDE);
        sink.write(&frame("one\n")).await.unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        sink.write(&frame("two\n")).await.unwrap();
        assert_eq!(read(&path), "two\n");
        fs::File::create(&path).unwrap();
        sink.write(&frame("three\n")).await.unwrap();
        assert_eq!(read(&path), "three\n");
    }

    #[tokio::test]
    async fn only_a_regular_file_is_written_to() {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("target"), "").unwrap();
        symlink(at("target"), at("link")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status();
        assert!(made.unwrap().success());
        let cases = [
            (at("link"), "it is a symbolic link (name the file itself)"),
            (at("folder"), "is a directory"),
            (at("pipe"), "it is not a regular file"),
            (at("missing/file"), "(does its folder exist?)"),
            ("/dev/null".into(), "it is not a regular file"),
        ];
        for (path, expected) in cases {
            let fault = File::new(&path, WIDE).write(&frame("x\n")).await.unwrap_err();
            let text = fault.to_string();
            assert!(text.starts_with("cannot write ") && text.contains(expected), "{text}");
            assert!(!fault.spends_budget() && !fault.is_last());
        }
        assert_eq!(read(at("target")), "");
    }

    #[tokio::test]
    async fn where_others_could_have_put_it_only_a_file_of_our_own_with_one_name_is_written_to() {
        let folder = TempDir::new().unwrap();
        let (path, other) = (folder.path().join("metrics"), folder.path().join("other"));
        fs::write(&other, "precious\n").unwrap();
        fs::hard_link(&other, &path).unwrap();
        for open in [0o1777, 0o777, 0o720] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(open)).unwrap();
            // Root's folder may be writable for its group.
            std::os::unix::fs::chown(folder.path(), None, Some(12_345)).unwrap();
            let fault = File::new(&path, WIDE).write(&frame("x\n")).await.unwrap_err();
            assert!(fault.to_string().contains("it has another name too"), "{open:o}: {fault}");
        }
        assert_eq!(read(&other), "precious\n");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        File::new(&path, WIDE).write(&frame("x\n")).await.unwrap();
        assert_eq!(read(&other), "precious\nx\n");
    }

    /// Runs itself once more as a process whose files may not grow over one block, so that the
    /// kernel takes a part of a write and refuses the rest, as it does on a full disk.
    #[test]
    fn a_write_that_fails_half_way_leaves_no_torn_line() {
        const CHILD: &str = "INFINISERVICE_TEST_SMALL_FILES";
        let name = "sinks::file::tests::a_write_that_fails_half_way_leaves_no_torn_line";
        if std::env::var_os(CHILD).is_none() {
            let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" --exact \"$1\" --test-threads 1";
            let output = std::process::Command::new("sh")
                .args(["-c", script])
                .arg(std::env::current_exe().unwrap())
                .arg(name)
                .env(CHILD, "1")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("metrics");
            let mut sink = File::new(&path, WIDE);
            sink.write(&frame("first\n")).await.unwrap();
            let long = frame(&format!("{}\n", "x".repeat(2_000)));
            for _ in 0..2 {
                let fault = sink.write(&long).await.unwrap_err();
                assert!(!fault.spends_budget());
                assert_eq!(read(&path), "first\n");
            }
            sink.write(&frame("second\n")).await.unwrap();
            assert_eq!(read(&path), "first\nsecond\n");
        });
    }
}
