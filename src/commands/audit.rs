//! What is written down of every request: one JSON line before it runs and one when it has ended, or
//! one that says it was refused. Decides nothing, and never holds back an answer for longer than
//! [`PATIENCE`].
//!
//! The line with `"event":"end"` (or `"refused"`) is the whole record of a request: time, id, action,
//! arguments, decision and rule, user, exit, duration, bytes, truncated. The line with
//! `"event":"begin"` says the same without an end. Of what was not understood there is a `"refused"` with its id, action
//! and reason; so there is of an id that came twice and was answered from the record. `"event":"undelivered"`: the answer
//! went to nobody, because the connection that had asked for it had ended.
//!
//! # Why two lines
//! A record that is required must be there before the thing it records: a command may fill the disk,
//! kill the agent or cut the power, and whoever wants no trace would do just that. So `begin` is written,
//! and the request runs only once the kernel has taken it. A `begin` without an `end` is then not a gap but
//! a finding: the request was running when the agent ended. The next agent finds it ([`unended`]), tells
//! the host, and writes `"event":"lost"` to it. Rejected: one line at the end, which the
//! request itself can prevent; a test of writability first, which says nothing about a moment later; and
//! waiting for the disk (`fsync`) before each request, which costs more than most requests.
//!
//! # What is never written
//! The text of a command or script and its length's worth of secrets: of those a length and the first 16
//! digits of a SHA-256 stand there, so that two can be told apart and a known one recognised. Of variables
//! and inputs the names and lengths; not a digest, because a short password can be found from one. What a
//! program said: only how much. What is left goes through [`redact`](super::redact).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::decode::Refusal;
use super::enforce::{Denial, Permit, Ruling};
use super::record::{Event, Record};
use super::request::Request;
use super::unended::{self, Unended};
use crate::files::{StateFolder, folder_of};
use crate::sinks::{Access, Appender, Rotation, why};

pub use super::record::Ended;

/// The longest a line may take to be written, with those before it.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The most lines that may wait to be written; the next one counts as not written.
pub const WAITING: usize = 256;

/// The most of them that nobody waits for, so that a flood of refusals leaves room for what is to run.
pub const WAITING_UNHEARD: usize = WAITING / 2;

/// The most lines of ended requests that are kept while the file cannot be written.
pub const LATE: usize = 64;

/// The audit file. Cheap to clone.
///
/// It is made with mode 0600, and turned over by size as [`Rotation`] says. A symbolic link in its place
/// is refused, and so is a file of another user, or one with a second name. A line that a crash cut
/// short is ended when the file is opened; one that only fits in part is not written at all. Its folder is
/// made, with mode 0700, where it is not there.
///
/// Lines are written on the blocking pool, one at a time, in the order of the calls.
#[derive(Debug, Clone)]
pub struct Audit {
    inner: Arc<Inner>,
    required: bool,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    writer: Mutex<Writer>,
    slots: Arc<Semaphore>,
    turn: Arc<Semaphore>,
    unheard: Arc<Semaphore>,
    lost: AtomicU64,
    /// What an earlier agent has begun.
    unended: Mutex<Vec<Unended>>,
}

/// A request that was written down and runs.
#[derive(Debug)]
#[must_use = "its end has to be written down too"]
pub struct Entry {
    audit: Audit,
    /// None: its end was written down.
    record: Option<Record>,
}

impl Audit {
    /// Writes to `path`, which is opened by [`open`](Self::open) or when it is first needed. With `required`, what cannot be written
    /// down may not run.
    pub fn new(path: impl Into<PathBuf>, rotation: Rotation, required: bool) -> Self {
        let path = path.into();
        let appender = Appender::new(path.clone(), rotation, Access::Private);
        let writer = Writer { appender, late: VecDeque::new(), failing: false };
        let inner = Arc::new(Inner {
            path,
            writer: Mutex::new(writer),
            slots: Arc::new(Semaphore::new(WAITING)),
            turn: Arc::new(Semaphore::new(1)),
            unheard: Arc::new(Semaphore::new(WAITING_UNHEARD)),
            lost: AtomicU64::new(0),
            unended: Mutex::default(),
        });
        Self { inner, required }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The same file under other rules, with one writer for both. Blocks while a line is being written.
    pub fn under(&self, rotation: Rotation, required: bool) -> Self {
        let mut writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.appender.rotate_by(rotation);
        Self { inner: Arc::clone(&self.inner), required }
    }

    /// Opens the file, so that what is wrong with it is told at the start and not at the first request; and looks
    /// for what has not ended in it. Blocks: for the start, not for an async worker.
    ///
    /// # Errors
    /// A sentence that says why it cannot be written.
    pub fn open(&self) -> Result<(), String> {
        let Inner { path, writer, lost, unended, .. } = &*self.inner;
        *unended.lock().unwrap_or_else(PoisonError::into_inner) = unended::read(path);
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.write(None, Keep::No, lost).map_err(|error| unwritable(path, &error))
    }

    /// The requests that were running when an earlier agent ended, as the file was when it was opened; once.
    pub fn take_unended(&self) -> Vec<Unended> {
        std::mem::take(&mut *self.inner.unended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes down that a request is about to run.
    ///
    /// # Errors
    /// It may not run: a sentence for the host that says why. Only where the audit is required.
    pub async fn begin(&self, permit: &Permit) -> Result<Entry, String> {
        let record = Record::new(SystemTime::now(), permit.request(), permit.rule());
        let keep = if self.required { Keep::No } else { Keep::Yes };
        let line = record.line(SystemTime::now(), &Event::Begin);
        match self.write(line, keep).await {
            Err(error) if self.required => {
                Err(format!("nothing is run that cannot be written down, and {error}"))
            }
            _ => Ok(Entry { audit: self.clone(), record: Some(record) }),
        }
    }

    /// Writes down that the policy refused a request.
    pub async fn denied(&self, denial: &Denial) {
        self.refused(&denial.request, &denial.rule, false, &denial.why).await;
    }

    /// Writes down that a request was not run, though the policy (where `allowed`) had let it through:
    /// too many were waiting, or its time was over.
    pub async fn refused(&self, request: &Request, rule: &str, allowed: bool, why: &str) {
        let now = SystemTime::now();
        let line = Record::new(now, request, rule).line(now, &Event::Refused { allowed, why });
        // Nothing was done, so nothing has to be undone; the log tells that the file fails.
        let _ = self.write(line, Keep::Yes).await;
    }

    /// Writes down that a request was not understood.
    pub async fn unclear(&self, refusal: &Refusal) {
        let _ = self.write(Record::unclear(SystemTime::now(), refusal), Keep::Yes).await; // as above
    }

    /// Writes down, without waiting, that a request was not run because there was no room for it. Where
    /// [`WAITING_UNHEARD`] such lines wait already it is one of those that are counted and not written.
    pub fn no_room(&self, ruling: &Ruling, why: &str) {
        let now = SystemTime::now();
        self.note(match ruling {
            Ruling::Permitted(permit) => {
                let event = Event::Refused { allowed: true, why };
                Record::new(now, permit.request(), permit.rule()).line(now, &event)
            }
            Ruling::Denied(denial) => {
                let event = Event::Refused { allowed: false, why: &denial.why };
                Record::new(now, &denial.request, &denial.rule).line(now, &event)
            }
            Ruling::Unclear(refusal) => Record::unclear(now, refusal),
        });
    }

    /// Writes down that nobody knows how a request of an earlier agent ended.
    pub async fn lost(&self, unended: &Unended, why: &str) {
        let _ = self.write(Record::lost(SystemTime::now(), unended, why), Keep::Yes).await; // as above
    }

    /// Writes down, without waiting, that the answer to a request went to nobody. As [`no_room`](Self::no_room).
    pub fn undelivered(&self, id: &str, action: &str, why: &str) {
        self.note(Record::undelivered(SystemTime::now(), id, action, why));
    }

    /// Writes a line without waiting.
    fn note(&self, line: Vec<u8>) {
        let place = Arc::clone(&self.inner.unheard).try_acquire_owned();
        let slot = Arc::clone(&self.inner.slots).try_acquire_owned();
        let (Ok(place), Ok(slot), Ok(runtime)) = (place, slot, Handle::try_current()) else {
            self.inner.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let audit = self.clone();
        runtime.spawn(async move {
            let _place = place;
            let _ = audit.write_in(Some(slot), line, Keep::Yes).await;
        });
    }

    async fn write(&self, line: Vec<u8>, keep: Keep) -> Result<(), String> {
        self.write_in(Arc::clone(&self.inner.slots).try_acquire_owned().ok(), line, keep).await
    }

    async fn write_in(
        &self,
        slot: Option<OwnedSemaphorePermit>,
        line: Vec<u8>,
        keep: Keep,
    ) -> Result<(), String> {
        let inner = Arc::clone(&self.inner);
        let path = &self.inner.path;
        let too_slow = |_| format!("the audit file {path:?} takes longer than {PATIENCE:?}");
        let deadline = Instant::now() + PATIENCE;
        let turn = match slot {
            Some(slot) => {
                let turn = timeout_at(deadline, Arc::clone(&inner.turn).acquire_owned()).await;
                turn.map(|turn| (slot, turn)).map_err(too_slow)
            }
            None => Err(format!("{WAITING} lines are waiting for the audit file {path:?} already")),
        };
        let turn = turn.inspect_err(|_| {
            if keep == Keep::Yes {
                inner.lost.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        let job = tokio::task::spawn_blocking(move || {
            // Held until it is written, also where nobody waits for it any more.
            let _turn = turn;
            let mut writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.write(Some(line), keep, &inner.lost)
        });
        let written = timeout_at(deadline, job).await.map_err(too_slow)?;
        written
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| unwritable(path, &error))
    }
}

fn unwritable(path: &Path, error: &io::Error) -> String {
    format!("the audit file {path:?} cannot be written: {}", why(error))
}

impl Entry {
    /// Writes down how the request ended. Where that cannot be written now, it is kept and written before
    /// the next line.
    pub async fn end(mut self, ended: &Ended) {
        if let Some(record) = self.record.take() {
            let line = record.line(SystemTime::now(), &Event::End(ended));
            let _ = self.audit.write(line, Keep::Yes).await;
        }
    }
}

/// A request that panics has ended; what is dropped otherwise is cut off with its agent, and its end is not known.
impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(record) = self.record.take().filter(|_| std::thread::panicking()) {
            self.audit.note(record.line(SystemTime::now(), &Event::End(&Ended::default())));
        }
    }
}

/// Whether a line that cannot be written is kept for later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

/// The blocking side.
#[derive(Debug)]
struct Writer {
    appender: Appender,
    /// What could not be written yet, in order.
    late: VecDeque<Vec<u8>>,
    failing: bool,
}

impl Writer {
    /// Writes what is late, then `line`, or opens the file where there is neither.
    fn write(&mut self, line: Option<Vec<u8>>, keep: Keep, lost: &AtomicU64) -> io::Result<()> {
        let written = self.catch_up(lost).and_then(|()| match &line {
            Some(line) => self.append(line),
            None => self.append(&[]),
        });
        if let (Err(_), Some(line), Keep::Yes) = (&written, line, keep) {
            if self.late.len() == LATE {
                self.late.pop_front();
                lost.fetch_add(1, Ordering::Relaxed);
            }
            self.late.push_back(line);
        }
        self.tell(&written);
        written
    }

    fn catch_up(&mut self, lost: &AtomicU64) -> io::Result<()> {
        let count = lost.load(Ordering::Relaxed);
        if count > 0 {
            self.append(&Record::gap(SystemTime::now(), count))?;
            lost.fetch_sub(count, Ordering::Relaxed);
        }
        while let Some(line) = self.late.pop_front() {
            if let Err(error) = self.append(&line) {
                self.late.push_front(line);
                return Err(error);
            }
        }
        Ok(())
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        match self.appender.append(line) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                StateFolder::at(folder_of(self.appender.path())).open()?;
                self.appender.append(line)
            }
            written => written,
        }
    }

    /// Logs when writing begins to fail and when it works again.
    fn tell(&mut self, written: &io::Result<()>) {
        let path = self.appender.path().display();
        match written {
            Err(error) if !self.failing => {
                let error = why(error);
                tracing::error!(%path, error, "audit file cannot be written");
            }
            Ok(()) if self.failing => tracing::info!(%path, "audit file is written again"),
            _ => {}
        }
        self.failing = written.is_err();
    }
}
