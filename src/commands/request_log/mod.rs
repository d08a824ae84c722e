//! The request log: every request and how far it is, for replay protection, idempotency and crash recovery.
//!
//! ```text
//!  verify ── envelope ──▶ ┌────────────────────────────┐
//!  execute ── accepted ─▶ │ state: accepted → started  │ ── records ──▶ STATE/requests.log
//!             started ──▶ │  → finished → acknowledged │
//!             finished ─▶ └────────────────────────────┘
//!  spool ── acknowledged ──▶      │ views: replay protection · idempotency · crash recovery
//! ```
//! Reading order: `replay`, `replies` and `state` (pure), `event` (the records), `file`, this, `recovery`; `upgrade` reads what
//! older agents left.
//!
//! # Promises
//! - An envelope passes once, over kill -9, restart, reboot and clock steps: see `replay`. Where the log is missing,
//!   damaged, or may lack what a power cut took, envelopes of before this start are refused. That costs what the host
//!   sent while no agent ran; its next command works.
//! - A script, and an action that changes the machine, starts when it is on the disk that it was accepted and starts
//!   (one `fdatasync` serves all that wait). An action that only reads does not wait for the disk.
//! - A request that an ended agent left open gets at most one more reply (see `state`); a script never runs twice.
//! - A repeated id with another payload is refused, not answered with the reply to the other. Over a restart, values of
//!   variables and inputs are compared by their lengths.
//! - A repeated id gets a reply: in this run with the output (the last [`BYTES_KEPT`]); later, and after a
//!   restart, with its result, with its exit code and [`NOT_KEPT`] in the place of its output, for the last
//!   [`REQUESTS_KEPT`] commands and as many scripts. The log has no output of commands.
//! - The file has at most [`SIZE`] bytes; full, it is written anew beside the old one and renamed. Damage
//!   costs the records that it hits.
//!
//! # Why the [audit](crate::commands::audit) is another file
//! The audit is redacted and shortened, so an id cannot always be found in it again; it is the operator's, who moves
//! and removes it; and it may be on another disk. What must be exact cannot depend on that. (Which of the two is
//! faster to read at a start has not been measured.)

mod continued;
mod error;
mod event;
mod file;
mod payload;
mod recovery;
mod replay;
mod replies;
mod state;
mod upgrade;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use self::event::{Accepted, Ended, Event, Progress, Session};
use self::file::Disk;
use self::state::State;
use self::upgrade::OldJournal;
use crate::commands::reply::Outbound;
use crate::commands::request::{Request, RequestKind};
use crate::files::{StateFolder, Untrusted};
use crate::record_file::{File, Storage};
use crate::sinks::io_reason;
use crate::spool::{Acks, millis};
use crate::sync::IgnorePoison;
use crate::tasks::spawn_blocking;
use crate::wire::envelope::Refused;

pub use continued::Continued;
pub(crate) use continued::{END_BYTES_MAX, EarlierRun};
pub(crate) use error::LogError;
pub use file::NAMES;
pub use recovery::{LATE, Recovery};
pub(crate) use replay::NONCES_KEPT;
pub(crate) use replies::BYTES_KEPT;
pub use state::{CUT, CUT_SCRIPT, Claim, NOT_RUN, REQUESTS_KEPT};

/// The most bytes of the file.
pub const SIZE: u64 = 4 << 20;
/// How long a request waits for the disk before it is refused.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of records that are not written yet; beyond this the file is rewritten from memory.
const PENDING_MAX: usize = 256 << 10;
/// How long records that no request waits for may stay unsynced.
const SYNC_WITHIN: Duration = Duration::from_secs(1);

/// The machine and boot that a log belongs to.
#[derive(Debug, Clone, Default)]
pub struct Owner {
    /// The machine; the log of another machine means that this one is a clone.
    pub machine: String,
    /// The boot of the machine.
    pub boot: String,
}

/// The request log. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct RequestLog(Arc<Inner>);

#[derive(Default)]
struct Inner {
    live: Mutex<Live>,
    /// Locked while the disk is written; never by an async worker, unless the storage does not block.
    disk: Mutex<Disk>,
    /// One sync at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    blocks: bool,
    /// A write, and a sync, that no request waits for is in progress.
    is_kicked: AtomicBool,
    settles: AtomicBool,
    is_copy: bool,
    /// Where requests that outlive an agent leave their ends.
    continued: Option<Continued>,
}

/// The state, and the records that are not on disk yet.
#[derive(Default)]
struct Live {
    state: State,
    pending: Vec<u8>,
    /// There were too many of them: the file lacks some.
    is_stale: bool,
    /// Events until now, and those that are on the disk.
    count: u64,
    synced: u64,
    /// The recovery replies of this run were requested.
    is_recovered: bool,
    /// Replies are best-effort, so none is acknowledged.
    is_best_effort: bool,
}

impl Live {
    fn look_at_clocks(&mut self, now: Instant, now_ms: i64) {
        if self.state.replay.clocks(now, now_ms) {
            tracing::warn!("the clock was set back: envelopes stamped by it are taken");
            self.push(Event::Session(self.state.session()));
        }
    }

    /// The number of an accepted request.
    fn accept(&mut self, accepted: Accepted) -> u32 {
        self.state.number(&accepted.id).unwrap_or_else(|| {
            let number = self.state.next();
            self.push(Event::Accepted(number, accepted));
            number
        })
    }

    fn record(&mut self, number: u32, progress: Progress) {
        self.push(Event::Progress(number, progress));
    }

    fn push(&mut self, event: Event) {
        event.write(&mut self.pending);
        if self.pending.len() > PENDING_MAX {
            (self.pending, self.is_stale) = (Vec::new(), true);
        }
        self.count += 1;
        self.state.apply(event);
    }
}

impl RequestLog {
    /// A log without a file, which lasts as long as it is not dropped.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Reads what is in `storage`, and begins a run at `now_ms`. Blocks.
    ///
    /// Damage is logged; a file without any usable record is set aside.
    pub fn begin(storage: Box<dyn Storage>, owner: Owner, now_ms: i64) -> Self {
        Self::with(Ok(storage), owner, now_ms, &OldJournal::default(), None)
    }

    /// The log of a state folder, with what agents of before it have left there. Blocks.
    ///
    /// # Errors
    /// Another process has it ([`WouldBlock`](io::ErrorKind::WouldBlock)), or another user can change the folder
    /// ([`Untrusted`]). Any other problem is logged, and then nothing that changes the machine should start:
    /// [`start`](Self::start) says so.
    pub fn open(
        folder: impl Into<StateFolder>,
        audit: &Path,
        owner: Owner,
        now_ms: i64,
    ) -> io::Result<Self> {
        let folder = folder.into();
        let storage = match File::open(NAMES, &folder) {
            Ok(file) => Ok(Box::new(file) as Box<dyn Storage>),
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock || Untrusted::of(&error).is_some() =>
            {
                return Err(error);
            }
            Err(error) => Err(error),
        };
        let old = OldJournal::find(&folder, audit)?;
        let log = Self::with(storage, owner, now_ms, &old, Some(Continued::of(&folder)));
        if log.0.write(true).is_ok() {
            old.done(&folder);
        }
        Ok(log)
    }

    fn with(
        storage: io::Result<Box<dyn Storage>>,
        owner: Owner,
        now_ms: i64,
        old: &OldJournal,
        continued: Option<Continued>,
    ) -> Self {
        let mut live = Live::default();
        let (disk, found) = Disk::open(storage, |event| live.state.apply(event));
        let state = &mut live.state;
        if found.wrong.is_some() && !found.is_torn {
            state.distrust();
        }
        let before = std::mem::take(&mut state.session);
        let is_same_boot = before.boot == owner.boot && !owner.boot.is_empty();
        let is_whole = found.wrong.is_none() && found.records > 0;
        if state.replay.latest.max(state.replay.floor()) > now_ms {
            state.replay.set_back(now_ms); // while no agent looked
        }
        let is_known = is_whole && (is_same_boot || state.is_closed);
        let floor = if is_known { state.replay.floor() } else { now_ms };
        let is_copy = !before.machine.is_empty() && before.machine != owner.machine;
        state.begin();
        state.replay.clocks(Instant::now(), now_ms);
        old.import(&mut live);
        live.push(Event::Session(Session { machine: owner.machine, boot: owner.boot, floor }));
        live.state.begin();
        if let Some(continued) = &continued {
            live.state.continue_started(continued);
        }
        let blocks = disk.file.blocks();
        let (live, disk) = (Mutex::new(live), Mutex::new(disk));
        let log =
            Self(Arc::new(Inner { live, disk, blocks, is_copy, continued, ..<_>::default() }));
        let _ = log.0.write(true); // logged, and `start` returns the error
        log
    }

    /// Whether the log was written by another machine, of which this one is a copy.
    pub fn is_copy(&self) -> bool {
        self.0.is_copy
    }

    /// Sets whether replies are best-effort: then a finished request counts as acknowledged.
    pub fn best_effort(&self, is_best_effort: bool) {
        self.0.live().is_best_effort = is_best_effort;
    }

    /// Remembers at most `max` nonces, as the memory limit of the process allows; an envelope that is not later than one
    /// forgotten is refused.
    pub fn keep_nonces(&self, max: usize) {
        self.0.live().state.replay.keep(max.min(NONCES_KEPT));
    }

    /// Looks at the clocks, which may have been set. A step back has to be seen before the next envelope comes: that is stamped
    /// a little earlier than it arrives.
    pub fn look_at_clocks(&self, now: Instant, now_ms: i64) {
        self.update(|live| live.look_at_clocks(now, now_ms));
    }

    /// Accepts an envelope with the timestamp `ts`, unless it is or may be a replay. A harmless one is not remembered.
    ///
    /// # Errors
    /// The envelope is refused.
    pub fn envelope(
        &self,
        (now, now_ms): (Instant, i64),
        ts: i64,
        nonce: &str,
        is_harmless: bool,
    ) -> Result<(), Refused> {
        let mut short = [0; 16];
        short.copy_from_slice(&Sha256::digest(nonce.as_bytes())[..16]);
        let nonce = u128::from_le_bytes(short);
        self.update(|live| {
            live.look_at_clocks(now, now_ms);
            live.state.replay.check(ts, nonce)?;
            if !is_harmless {
                live.push(Event::Envelope(ts, nonce));
            }
            Ok(())
        })
    }

    /// Records that a request is accepted and waits.
    pub fn accept(&self, request: &Request) {
        self.update(|live| live.accept(accepted(request)));
    }

    /// Claims a request that is about to start.
    pub fn claim(&self, request: &Request) -> Claim {
        let asked = accepted(request);
        self.update(|live| {
            let number = live.accept(asked.clone());
            live.state.claim(number, &asked)
        })
    }

    /// Records the start. If `durable`, it is on the disk when this returns.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn start(&self, id: &str, durable: bool) -> Result<(), LogError> {
        self.note(id, Progress::Started);
        match durable {
            true => self.sync().await,
            false => Ok(()),
        }
    }

    /// Records the end, remembers the reply and sets its number. If the request had ended before, the earlier reply
    /// replaces `told`.
    pub fn finish(&self, reply: &mut Outbound) {
        let Some((id, outcome)) = reply.answer() else { return };
        let before = self.update(|live| {
            let number = live.state.number(id)?;
            let before = live.state.answer(number);
            if before.is_none() {
                outcome.request = number;
                live.record(number, Progress::Finished(Ended::from(&*outcome)));
                live.state.keep(number, outcome);
                if live.is_best_effort {
                    live.record(number, Progress::Acknowledged);
                }
            }
            before
        });
        if let Some(before) = before {
            *reply = before;
        }
    }

    /// Records that a request did not start: the host may send it again.
    pub fn withdraw(&self, id: &str) {
        self.note(id, Progress::Withdrawn);
    }

    /// Records that hosts have acknowledged the replies to these.
    pub fn acknowledge(&self, numbers: &[u32]) {
        self.update(|live| {
            numbers.iter().for_each(|number| live.record(*number, Progress::Acknowledged));
        });
    }

    /// Records what the hosts of a spool acknowledge, before now and from now on, as long as the log lives. Returns the
    /// requests whose replies waited in it when it was opened.
    pub fn follow(&self, acks: &Acks) -> Vec<u32> {
        let log = Arc::downgrade(&self.0);
        let waiting = acks.subscribe(move |numbers| {
            if let Some(log) = log.upgrade() {
                Self(log).acknowledge(numbers);
            }
        });
        self.number_after(&waiting);
        waiting
    }

    /// Gives new requests higher numbers than these, whose replies wait. A power cut, or the loss of the log, may have
    /// taken the records of these; and the acknowledgement of such a reply must not close another request.
    pub fn number_after(&self, waiting: &[u32]) {
        self.0.live().state.number_after(waiting.iter().copied().max().unwrap_or(0));
    }

    /// Waits until all records so far are on the disk; one sync serves all that wait.
    ///
    /// # Errors
    /// They could not be written.
    pub async fn sync(&self) -> Result<(), LogError> {
        if !self.0.blocks {
            return self.0.write(true);
        }
        let (wanted, inner) = (self.0.live().count, Arc::clone(&self.0));
        let synced = async {
            let turn = Arc::clone(&inner.turn).lock_owned().await;
            if inner.live().synced >= wanted {
                return Ok(());
            }
            let write = move || {
                let _turn = turn; // also if no request waits any more
                inner.write(true)
            };
            spawn_blocking(write).await?
        };
        timeout(PATIENCE, synced).await.unwrap_or(Err(LogError::Late))
    }

    /// Records an orderly stop. Blocks.
    pub fn close(&self) {
        self.0.live().push(Event::Closed);
        let _ = self.0.write(true); // logged
    }

    fn note(&self, id: &str, progress: Progress) {
        self.update(|live| {
            if let Some(number) = live.state.number(id) {
                live.record(number, progress);
            }
        });
    }

    /// Changes the state, and has written what that records.
    fn update<T>(&self, change: impl FnOnce(&mut Live) -> T) -> T {
        let mut live = self.0.live();
        let before = live.count;
        let changed = change(&mut live);
        let is_recorded = live.count > before;
        drop(live);
        if is_recorded {
            self.kick();
        }
        changed
    }

    /// Schedules a write soon, and a sync within [`SYNC_WITHIN`].
    fn kick(&self) {
        if !self.0.blocks {
            let _ = self.0.write(false); // logged
        }
        let Ok(runtime) = Handle::try_current() else { return };
        if self.0.blocks && !self.0.is_kicked.swap(true, Relaxed) {
            let inner = Arc::clone(&self.0);
            runtime.spawn_blocking(move || {
                inner.is_kicked.store(false, Relaxed);
                let _ = inner.write(false);
            });
        }
        if !self.0.settles.swap(true, Relaxed) {
            let log = Arc::downgrade(&self.0);
            runtime.spawn(async move {
                sleep(SYNC_WITHIN).await;
                if let Some(inner) = log.upgrade() {
                    inner.settles.store(false, Relaxed);
                    let _ = Self(inner).sync().await;
                }
            });
        }
    }
}

impl Inner {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().ignore_poison()
    }

    /// Writes the pending records, and syncs them if `sync`.
    fn write(&self, sync: bool) -> Result<(), LogError> {
        let mut disk = self.disk.lock().ignore_poison();
        let mut live = self.live();
        if let Some(done) = disk.without_file() {
            live.pending = Vec::new();
            return done;
        }
        let (count, taken) = (live.count, live.pending.len());
        disk.file.is_stale |= std::mem::take(&mut live.is_stale);
        let anew = disk.file.is_stale || disk.is_full(taken);
        let mut bytes = Vec::new();
        match anew {
            true => live.state.events().for_each(|event| event.write(&mut bytes)),
            false => bytes.clone_from(&live.pending),
        }
        drop(live);
        let written = if anew { disk.replace(&bytes) } else { disk.file.append(&bytes) };
        let is_written = written.is_ok();
        let done = written.and_then(|()| if sync { disk.file.sync() } else { Ok(()) });
        let mut live = self.live();
        if is_written {
            let taken = taken.min(live.pending.len()); // less where they became too many
            live.pending = live.pending.split_off(taken);
        }
        if done.is_ok() && (sync || anew) {
            live.synced = live.synced.max(count);
        }
        drop(live);
        match &done {
            Err(error) if disk.failing.happened(Instant::now()).is_some() => {
                tracing::error!(error = io_reason(error), "the request log cannot be written");
            }
            Ok(()) if disk.failing.is_over() => tracing::info!("the request log is written again"),
            _ => {}
        }
        done.map_err(LogError::Write)
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestLog").finish_non_exhaustive()
    }
}

/// The record that `request` is accepted now.
fn accepted(request: &Request) -> Accepted {
    let left = request.deadline().saturating_duration_since(Instant::now());
    let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let has_begun = !matches!(request.kind, RequestKind::Script(_));
    let (digest, values) = payload::digests(&request.kind);
    Accepted {
        id: request.id.clone(),
        action: request.kind.name().to_owned(),
        deadline_ms: has_begun.then(|| now_ms().saturating_add(left)),
        digest: Some(digest),
        values: Some(values),
    }
}

fn now_ms() -> u64 {
    millis(SystemTime::now())
}
