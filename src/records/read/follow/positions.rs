//! Where a source goes on at its next start: the positions that are acknowledged, and the file in the state folder that
//! keeps them.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::tail::{HEAD_MAX, Id};
use crate::files::StateFolder;
use crate::model::{Receipt, Unacknowledged};
use crate::sync::IgnorePoison;

/// The longest file of positions that is read.
const SIZE_MAX: u64 = 4 << 20;

/// How long a source waits at its end for what is not acknowledged.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// The positions of one source. A clone is the same. Its methods that read or write the file block.
#[derive(Debug, Clone, Default)]
pub struct Positions(Arc<Mutex<PositionTable>>);

#[derive(Debug, Default)]
struct PositionTable {
    /// Where they are kept; `None` keeps them for this run only.
    place: Option<PositionFile>,
    files: BTreeMap<Id, FilePosition>,
    /// Of a source that has one position as a text: as it was read, and as it was acknowledged.
    cursor: (Option<String>, Option<String>),
    cursors: Unacknowledged<Option<String>>,
    /// What is in the file.
    written: String,
    /// Why that is old, if it was logged.
    trouble: Option<String>,
}

#[derive(Debug)]
struct PositionFile {
    folder: StateFolder,
    name: String,
    source: String,
}

/// One file.
#[derive(Debug, Default)]
struct FilePosition {
    path: PathBuf,
    head: Vec<u8>,
    /// Read up to here.
    given: u64,
    /// All before this has arrived.
    acknowledged: u64,
    unacknowledged: Unacknowledged<u64>,
}

/// The file in the state folder, as JSON.
#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    /// The pipeline and its pattern: two sources whose names collide do not take each other's positions.
    source: String,
    files: Vec<SavedFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// One file in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedFile {
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
    pub offset: u64,
    /// How many bytes at its start the checksum is of.
    pub head: u64,
    /// CRC-32 of them.
    pub checksum: u32,
}

impl SavedFile {
    /// Whether `head`, of the length that was asked for, is that of this file.
    pub(super) fn begins_with(&self, head: &[u8]) -> bool {
        head.len() as u64 == self.head && crc32fast::hash(head) == self.checksum
    }
}

impl Positions {
    /// Positions that are kept in `folder` for the source `pattern` of the flow `flow`.
    pub fn kept(folder: &StateFolder, flow: &str, pattern: &Path) -> Self {
        let source = format!("{flow}:{}", pattern.display());
        let name = format!("positions-{:08x}", crc32fast::hash(source.as_bytes()));
        let place = Some(PositionFile { folder: folder.clone(), name, source });
        Self(Arc::new(Mutex::new(PositionTable { place, ..PositionTable::default() })))
    }

    /// Where a source goes on that has one position as a text.
    pub(in crate::records::read) fn cursor(&self) -> Option<String> {
        self.state().cursor.0.clone()
    }

    /// Takes that of the last run, unless this run has one.
    pub(in crate::records::read) fn load_cursor(&self) {
        if self.cursor().is_none() {
            self.load();
        }
    }

    /// Lines up to `cursor` go on; `None` for a source that has no position.
    pub(in crate::records::read) fn give_cursor(&self, cursor: Option<String>) -> Receipt {
        let mut state = self.state();
        if cursor.is_some() {
            state.cursor.0.clone_from(&cursor);
        }
        state.cursors.receipt(cursor)
    }

    /// Those of the last run; none if there was none.
    pub(super) fn load(&self) -> Vec<SavedFile> {
        let mut state = self.state();
        let PositionTable { place: Some(place), written, cursor, .. } = &mut *state else {
            return Vec::new();
        };
        match place.load() {
            Ok(Some((text, saved))) => {
                *written = text;
                *cursor = (saved.cursor.clone(), saved.cursor);
                saved.files
            }
            Ok(None) => Vec::new(),
            Err(error) => {
                let (file, source) = (place.path(), &place.source);
                tracing::warn!(%error, ?file, %source, "the positions of files cannot be read: they are read anew");
                Vec::new()
            }
        }
    }

    /// What this run knows of a file: where it was read up to, and its first bytes.
    pub(super) fn known(&self) -> Vec<(Id, PathBuf, u64, Vec<u8>)> {
        let known = |(id, known): (&Id, &FilePosition)| {
            (*id, known.path.clone(), known.given, known.head.clone())
        };
        self.state().files.iter().map(known).collect()
    }

    /// A file is read from `offset` on.
    pub(super) fn begin(&self, id: Id, path: &Path, offset: u64, head: &[u8]) {
        let (path, head, unacknowledged) = (path.to_owned(), head.to_vec(), Default::default());
        let known =
            FilePosition { path, head, given: offset, acknowledged: offset, unacknowledged };
        self.state().files.insert(id, known);
    }

    /// It has another path.
    pub(super) fn moved(&self, id: Id, path: &Path) {
        if let Some(known) = self.state().files.get_mut(&id) {
            path.clone_into(&mut known.path);
        }
    }

    /// Lines up to `offset` go on.
    pub(super) fn give(&self, id: Id, offset: u64, head: &[u8]) -> Receipt {
        let mut state = self.state();
        let Some(known) = state.files.get_mut(&id) else { return Receipt::default() };
        known.given = offset;
        if known.head.len() < head.len() {
            head.clone_into(&mut known.head);
        }
        known.unacknowledged.receipt(offset)
    }

    /// Forgets a file that is gone, if everything of it has arrived.
    pub(super) fn forget(&self, id: Id) -> bool {
        let mut state = self.state();
        let is_settled = state.files.get(&id).is_none_or(|known| known.unacknowledged.is_settled());
        if is_settled {
            state.files.remove(&id);
        }
        is_settled
    }

    /// Waits until nothing is unacknowledged, for a bounded time.
    pub(in crate::records::read) async fn settle(&self) {
        let all: Vec<_> =
            self.state().files.values().map(|known| known.unacknowledged.clone()).collect();
        let cursors = self.state().cursors.clone();
        let settled = async {
            cursors.settled().await;
            for unacknowledged in &all {
                unacknowledged.settled().await;
            }
        };
        let _ = timeout(SETTLE_MAX, settled).await;
    }

    /// Whether a later [`save`](Self::save) may have something to write.
    pub(in crate::records::read) fn may_change(&self) -> bool {
        let state = self.state();
        let is_waiting = |known: &FilePosition| !known.unacknowledged.is_settled();
        let is_waiting = state.files.values().any(is_waiting) || !state.cursors.is_settled();
        state.place.is_some() && (is_waiting || state.trouble.is_some())
    }

    /// Writes what has changed: synced, and at once or not at all.
    pub fn save(&self) {
        let mut state = self.state();
        let PositionTable { place: Some(place), files, cursor, cursors, written, trouble } =
            &mut *state
        else {
            return;
        };
        if let Some(arrived) = cursors.take().flatten() {
            cursor.1 = Some(arrived);
        }
        let files = files.iter_mut().map(|(id, known)| {
            known.acknowledged = known.unacknowledged.take().unwrap_or(known.acknowledged);
            let head = known.head.len() as u64;
            let path = known.path.to_string_lossy().into_owned().into(); // JSON has text only
            let (offset, checksum) = (known.acknowledged, crc32fast::hash(&known.head));
            SavedFile { path, device: id.device, inode: id.inode, offset, head, checksum }
        });
        let (source, files) = (place.source.clone(), files.collect());
        let saved = Saved { version: 1, source, files, cursor: cursor.1.clone() };
        let text = serde_json::to_string(&saved).unwrap_or_default();
        if text == *written {
            return;
        }
        match place.write(&text) {
            Ok(()) => {
                *written = text;
                if trouble.take().is_some() {
                    tracing::info!(source = %place.source, "positions in files are saved again");
                }
            }
            Err(error) => {
                let error = error.to_string();
                if trouble.as_ref() != Some(&error) {
                    let (file, source) = (place.path(), &place.source);
                    tracing::warn!(%error, ?file, %source, "the positions of files cannot be kept: lines may be read again after a restart");
                    *trouble = Some(error);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, PositionTable> {
        self.0.lock().ignore_poison()
    }
}

impl PositionFile {
    fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    fn load(&self) -> io::Result<Option<(String, Saved)>> {
        let file = match self.folder.open_file(&self.name, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = String::new();
        file.take(SIZE_MAX).read_to_string(&mut text)?;
        let mut saved: Saved = serde_json::from_str(&text)?;
        if saved.version != 1 || saved.source != self.source {
            return Err(io::Error::other("it is of another source or version (remove it)"));
        }
        saved.files.retain(|file| file.head <= HEAD_MAX as u64);
        Ok(Some((text, saved)))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let beside = format!("{}.new", self.name);
        let how = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mut file = self.folder.open_file(&beside, how)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        self.folder.rename(&beside, &self.name)?;
        self.folder.sync()
    }
}
