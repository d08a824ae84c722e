//! Recovery: opens a spool from its file, in memory, or for editing.

use std::io;

use super::NAMES;
use super::first::Session;
use super::queue::Spool;
use super::recorded::Recorded;
use super::scan::{self, Scan};
use super::tombstones::Tombstones;
use super::types::{Opened, SIZE_MAX, SIZE_MIN, Settings, State};
use crate::files::StateFolder;
use crate::machine_events::is_same_machine;
use crate::record_file::{File, Storage};
use crate::sinks::io_reason;

/// The most bytes of an identity or boot id.
const TEXT_MAX: usize = 512;

impl<S: Storage> Spool<S> {
    /// Reads the file, and begins a run. Never fails: [`Opened`] and [`state`](Self::state) report what cannot be
    /// read or written, and the spool saves what it can.
    ///
    /// A file of which nothing can be used, because its beginning is corrupt or of another version, is renamed
    /// ([`Opened::aside`]) so that a person can examine it.
    ///
    /// A file that the disk cannot read is left as it is, and this run works in memory only; the next start may be
    /// able to read it. (It is not tried earlier: the host knows items by their numbers, and this run's would
    /// repeat those of the file.)
    pub fn open(storage: S, settings: &Settings, now_ms: u64) -> (Self, Opened) {
        Self::begin(Some(storage), settings, now_ms)
    }

    /// A spool without a file: it is lost with the process.
    pub fn in_memory(settings: &Settings, now_ms: u64) -> (Self, Opened) {
        Self::begin(None, settings, now_ms)
    }

    /// Opens the spool of any machine without beginning a run, to edit it from outside.
    pub fn edit(mut storage: S) -> (Self, Scan) {
        let found = scan::scan(&mut storage, 2 * SIZE_MAX);
        let session = found.session.clone().unwrap_or_default();
        let mut spool = Self::new(Some(storage), SIZE_MAX, session);
        spool.fill(&found);
        (spool, found)
    }

    fn begin(mut storage: Option<S>, settings: &Settings, now_ms: u64) -> (Self, Opened) {
        let found = storage.as_mut().map(|storage| scan::scan(storage, 2 * SIZE_MAX));
        let found = found.unwrap_or_else(|| Scan { next_seq: 1, ..Scan::default() });
        let mut unusable = found.unreadable.clone();
        let aside = unusable.is_none() && found.session.is_none() && !found.corruptions.is_empty();
        if let (true, Some(storage)) = (aside, &mut storage)
            && let Err(error) = storage.set_aside()
        {
            unusable = Some(format!(
                "it cannot be read, nor be given another name: {}",
                io_reason(&error)
            ));
        }
        if let Some(why) = unusable {
            let (mut spool, opened) = Self::begin(None, settings, now_ms);
            let why = format!("{why} (it is left as it is, for the next start)");
            spool.unreadable = storage;
            spool.condition.set_unusable(why.clone());
            return (spool, Opened { trouble: Some(why), ..opened });
        }
        let before = found.session.clone().unwrap_or_default();
        let session = Session {
            run: (before.run.min(1 << 40) + 1).max(now_ms / 1_000),
            identity: shortened(&settings.identity),
            boot_id: shortened(&settings.boot_id),
        };
        let cloned =
            !before.identity.is_empty() && !is_same_machine(&before.identity, &session.identity);
        let size = settings.size.clamp(SIZE_MIN, SIZE_MAX);
        let mut spool = Self::new(storage, size, session);
        spool.tombstones = Tombstones::new(settings.tombstone);
        spool.fill(&found);
        spool.count_loss("damaged", found.damaged);
        // A file torn by a power cut was written before this boot.
        let is_of_this_boot = before.boot_id.is_empty() || before.boot_id == spool.session.boot_id;
        spool.count_loss(if is_of_this_boot { "damaged" } else { "not synced" }, found.torn);
        let mut opened =
            Opened { cloned, aside, corruptions: found.corruptions, ..Opened::default() };
        if cloned {
            opened.dropped = spool.items.len() as u64;
            spool.drop_all("cloned");
        }
        spool.shrink();
        spool.file.is_stale |= cloned || !opened.corruptions.is_empty();
        spool.start(now_ms);
        opened.waiting = spool.items.len() as u64;
        opened.trouble = spool.condition.failing().cloned();
        (spool, opened)
    }

    fn fill(&mut self, found: &Scan) {
        found.waiting.iter().for_each(|entry| self.items.push(*entry));
        self.file.end = if found.session.is_some() { found.end } else { 0 };
        self.file.is_stale = found.end < found.length || found.session.is_none();
        self.next_seq = found.next_seq.max(1);
        self.first_seq = self.next_seq;
        self.acked = found.waiting.front().map_or(self.next_seq, |first| first.seq) - 1;
        self.recorded = Recorded::new(self.next_seq - 1, self.acked);
    }
}

/// Opens the spool of a state folder. If the folder or file cannot be used, it logs that once, says so in
/// [`Opened::trouble`], and the spool works in memory only.
pub fn open(
    folder: impl Into<StateFolder>,
    settings: &Settings,
    now_ms: u64,
) -> (Spool<File>, Opened) {
    let folder = folder.into();
    let (mut spool, mut opened) = match File::open(NAMES, &folder) {
        Ok(file) => Spool::open(file, settings, now_ms),
        Err(error) => {
            let (spool, opened) = Spool::in_memory(settings, now_ms);
            (spool, Opened { trouble: Some(refusal(&error)), ..opened })
        }
    };
    if spool.state() == State::Memory
        && let Some(why) = &mut opened.trouble
    {
        let trouble = format!("cannot use {}: {why}", folder.path().join(NAMES.name).display());
        tracing::warn!(
            trouble,
            "durable messages are kept in memory only, and lost with the agent"
        );
        why.clone_from(&trouble);
        spool.condition.set_unusable(trouble);
    }
    (spool, opened)
}

fn refusal(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            "another agent has it (or a `spool drop` that is at work)".to_owned()
        }
        _ => io_reason(error),
    }
}

pub(super) fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX)].to_owned()
}
