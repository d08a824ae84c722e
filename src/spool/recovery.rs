//! How a spool begins: from the file that is there, in memory, or to be edited from outside. Writes nothing itself.

use std::collections::{BTreeMap, VecDeque};

use super::queue::Spool;
use super::scan::{self, Entry, Scan, Session};
use super::session_ids::SessionIds;
use super::storage::Storage;
use super::types::{Losses, Opened, SIZE_MAX, SIZE_MIN, Settings};
use crate::machine_events::is_same_machine;
use crate::sinks::why;

/// Bytes of an identity or boot id that are kept.
const TEXT_MAX: usize = 512;

impl<S: Storage> Spool<S> {
    /// Reads what is there, and begins a run. Never fails: what cannot be read or written is in
    /// [`Opened`] and [`state`](Self::state), and the spool keeps what it can.
    ///
    /// A file of which nothing can be used, because its beginning is damaged or of another version, gets another name
    /// ([`Opened::aside`]): a person may find in it what this cannot.
    ///
    /// A file that the disk does not give back is left as it is, and this run is one of memory only: what waits in
    /// it may be read at the next start. (It is not tried again before: the host knows items by their numbers, and
    /// those of this run would be those of the file.)
    pub fn open(storage: S, settings: &Settings, now_ms: u64) -> (Self, Opened) {
        Self::begin(Some(storage), settings, now_ms)
    }

    /// A spool without a file: what waits is lost with the process.
    pub fn in_memory(settings: &Settings, now_ms: u64) -> (Self, Opened) {
        Self::begin(None, settings, now_ms)
    }

    /// The spool as it is, of any machine, without beginning a run: to change it from outside.
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
        let aside = unusable.is_none() && found.session.is_none() && !found.wrong.is_empty();
        if let (true, Some(storage)) = (aside, &mut storage)
            && let Err(error) = storage.set_aside()
        {
            unusable =
                Some(format!("it cannot be read, nor be given another name: {}", why(&error)));
        }
        if let Some(why) = unusable {
            let (spool, opened) = Self::begin(None, settings, now_ms);
            let trouble = Some(format!("{why} (it is left as it is, for the next start)"));
            let unusable = trouble.clone();
            return (Self { unread: storage, unusable, ..spool }, Opened { trouble, ..opened });
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
        spool.word = settings.word;
        spool.fill(&found);
        spool.lose("damaged", found.damaged);
        // A file that a power cut has torn was written before this boot.
        let is_of_this_boot = before.boot_id.is_empty() || before.boot_id == spool.session.boot_id;
        spool.lose(if is_of_this_boot { "damaged" } else { "not synced" }, found.torn);
        let mut opened = Opened { cloned, aside, wrong: found.wrong, ..Opened::default() };
        if cloned {
            opened.dropped = spool.waiting.len() as u64;
            spool.drop_all("cloned");
        }
        spool.shrink();
        spool.stale |= cloned || !opened.wrong.is_empty();
        spool.start(now_ms);
        opened.waiting = spool.waiting.len() as u64;
        opened.trouble.clone_from(&spool.failing);
        (spool, opened)
    }

    fn new(storage: Option<S>, size: u64, session: Session) -> Self {
        let epochs = SessionIds::of_run(session.run);
        Self {
            storage,
            unread: None,
            size,
            session,
            waiting: VecDeque::new(),
            frames: BTreeMap::new(),
            cached: 0,
            in_memory: 0,
            live: 0,
            bytes: 0,
            weight: 0,
            end: 0,
            empty_end: 0,
            next_seq: 1,
            first_seq: 1,
            read: 0,
            read_written: 0,
            written: 0,
            dropped: Vec::new(),
            dirty: false,
            urgent: false,
            stale: false,
            failing: None,
            unusable: None,
            full: false,
            losses: Losses::new(),
            epochs,
            word: None,
            words: Vec::new(),
            acknowledged: Vec::new(),
        }
    }

    fn fill(&mut self, found: &Scan) {
        self.waiting.clone_from(&found.waiting);
        self.live = self.waiting.iter().map(Entry::record).sum();
        self.bytes = self.live;
        self.weight = self.waiting.iter().map(|entry| u64::from(entry.readings)).sum();
        self.end = if found.session.is_some() { found.end } else { 0 };
        self.stale = found.end < found.length || found.session.is_none();
        self.next_seq = found.next_seq.max(1);
        self.first_seq = self.next_seq;
        self.written = self.next_seq - 1;
        let first = self.waiting.front().map_or(self.next_seq, |first| first.seq);
        (self.read, self.read_written) = (first - 1, first - 1);
    }
}

pub(super) fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX)].to_owned()
}
