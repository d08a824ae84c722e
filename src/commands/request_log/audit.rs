//! The audit: what an operator reads of every request. One JSON line before it runs and one when it has ended, or one
//! that says it was refused; each names the line before it ([`chain`](super::chain)). Decides nothing, and never holds
//! back an answer for longer than [`PATIENCE`].
//!
//! The line with `"event":"end"` (or `"refused"`) is the whole record of a request: time, id, action, arguments,
//! decision and rule, user, exit, duration, bytes, truncated. The line with `"event":"begin"` says the same without an
//! end: a record that is required must be with the kernel before the thing it records, which may fill the disk, kill
//! the agent or cut the power. A `begin` without an `end` is a finding: the next agent writes `"event":"lost"` to it. `"event":"undelivered"`: the
//! answer went to nobody, because the connection that had asked for it had ended.
//!
//! # What is never written
//! The text of a command or script: of it a length and the first 16 digits of a SHA-256 stand there. Of variables and
//! inputs the names and lengths; not a digest, because a short password can be found from one. What a program said: only
//! how much. What is left goes through [`redact`](crate::redact).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::PATIENCE;
use super::audit_line::{self, Subject};
use super::chain::Link;
use super::recovery::why as why_lost;
use crate::commands::authorize::{Denial, Permit, Ruled};
use crate::commands::decode::Refusal;
use crate::commands::decode::request::Request;
use crate::files::{StateFolder, folder_of};
use crate::sinks::{Access, Appender, Rotation, why};

pub use super::audit_line::Ended;

/// The most lines that may wait to be written; the next one counts as not written.
pub const WAITING: usize = 256;
/// The most of them that nobody waits for, so that a flood of refusals leaves room for what is to run.
pub const WAITING_UNHEARD: usize = WAITING / 2;
/// The most lines of ended requests that are kept while the file cannot be written.
pub const LATE: usize = 64;

/// The audit file. Cheap to clone.
///
/// It is made with mode 0600, and turned over by size as [`Rotation`] says. A symbolic link in its place is refused, and
/// so is a file of another user, or one with a second name. A line that a crash cut short is ended when the file is
/// opened. Its folder is made, with mode 0700, where it is not there. Lines are written on the blocking pool, one at a
/// time, in the order of the calls.
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
}

/// A request that was written down and runs.
#[derive(Debug)]
#[must_use = "its end has to be written down too"]
pub struct Entry {
    audit: Audit,
    began: SystemTime,
    /// None: its end was written down.
    subject: Option<Subject>,
}

impl Audit {
    /// Writes to `path`, which is opened by [`open`](Self::open) or when it is first needed. With `required`, what
    /// cannot be written down may not run.
    pub fn new(path: impl Into<PathBuf>, rotation: Rotation, required: bool) -> Self {
        let path = path.into();
        let appender = Appender::new(path.clone(), rotation, Access::Private);
        let writer = Writer { appender, last: None, late: VecDeque::new(), failing: false };
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let inner = Arc::new(Inner {
            path,
            writer: Mutex::new(writer),
            slots: semaphore(WAITING),
            turn: semaphore(1),
            unheard: semaphore(WAITING_UNHEARD),
            lost: AtomicU64::new(0),
        });
        Self { inner, required }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Whether nothing may run that cannot be written down.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// The same file under other rules, with one writer for both. Blocks while a line is being written.
    pub fn under(&self, rotation: Rotation, required: bool) -> Self {
        self.inner.writer().appender.rotate_by(rotation);
        Self { inner: Arc::clone(&self.inner), required }
    }

    /// Opens the file, so that what is wrong with it is told at the start and not at the first request. Blocks: for the
    /// start, not for an async worker.
    ///
    /// # Errors
    /// A sentence that says why it cannot be written.
    pub fn open(&self) -> Result<(), String> {
        let Inner { path, lost, .. } = &*self.inner;
        self.inner.writer().write(None, Keep::No, lost).map_err(|error| unwritable(path, &error))
    }

    /// Writes down that a request is about to run.
    ///
    /// # Errors
    /// It may not run: a sentence for the host that says why. Only where the audit is required.
    pub async fn begin(&self, permit: &Permit) -> Result<Entry, String> {
        let (subject, began) =
            (Subject::of(permit.request(), permit.rule()).await, SystemTime::now());
        let keep = if self.required { Keep::No } else { Keep::Yes };
        match self.write(subject.line("begin", "allowed", None), keep).await {
            Err(error) if self.required => {
                Err(format!("nothing is run that cannot be written down, and {error}"))
            }
            _ => Ok(Entry { audit: self.clone(), began, subject: Some(subject) }),
        }
    }

    /// Writes down that the policy refused a request.
    pub async fn denied(&self, denial: &Denial) {
        self.refused(&denial.request, &denial.rule, false, &denial.why).await;
    }

    /// Writes down that a request was not run, though the policy (where `allowed`) had let it through: too many were
    /// waiting, or its time was over.
    pub async fn refused(&self, request: &Request, rule: &str, allowed: bool, why: &str) {
        self.tell(line(&Subject::of(request, rule).await, allowed, why)).await;
    }

    /// Writes down that a request was not understood.
    pub async fn unclear(&self, refusal: &Refusal) {
        self.tell(audit_line::unclear(refusal)).await;
    }

    /// Writes down that an agent ended before or, where it had `started`, while it did this.
    pub async fn ended(&self, id: &str, action: &str, started: bool) {
        let event = if started { "lost" } else { "refused" };
        self.tell(Subject::named(id, action).line(event, "allowed", Some(why_lost(started)))).await;
    }

    /// Writes down, without waiting, that a request was not run because there was no room for it. Where
    /// [`WAITING_UNHEARD`] such lines wait already it is one of those that are counted and not written.
    pub fn no_room(&self, ruling: &Ruled, why: &str) {
        self.note(match ruling {
            Ruled::Permitted(permit) => refused(permit.request(), permit.rule(), true, why),
            Ruled::Denied(denial) => refused(&denial.request, &denial.rule, false, &denial.why),
            Ruled::Unclear(refusal) => audit_line::unclear(refusal),
        });
    }

    /// Writes down, without waiting, that the answer to a request went to nobody. As [`no_room`](Self::no_room).
    pub fn undelivered(&self, id: &str, action: &str, why: &str) {
        self.note(Subject::named(id, action).line("undelivered", "allowed", Some(why)));
    }

    /// Writes a line without waiting.
    fn note(&self, line: Vec<u8>) {
        let place = Arc::clone(&self.inner.unheard).try_acquire_owned();
        let slot = Arc::clone(&self.inner.slots).try_acquire_owned();
        let (Ok(place), Ok(slot), Ok(runtime)) = (place, slot, Handle::try_current()) else {
            self.inner.lost.fetch_add(1, Relaxed);
            return;
        };
        let audit = self.clone();
        runtime.spawn(async move {
            let _place = place;
            let _ = audit.write_in(Some(slot), line, Keep::Yes).await;
        });
    }

    /// Writes a line of what is over, or never was: nothing has to be undone where it fails, and the log tells that.
    async fn tell(&self, line: Vec<u8>) {
        let _ = self.write(line, Keep::Yes).await;
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
                inner.lost.fetch_add(1, Relaxed);
            }
        })?;
        let job = tokio::task::spawn_blocking(move || {
            let _turn = turn; // until it is written, also where nobody waits for it any more
            inner.writer().write(Some(line), keep, &inner.lost)
        });
        let written = timeout_at(deadline, job).await.map_err(too_slow)?;
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|error| unwritable(path, &error))
    }
}

impl Inner {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(request: &Request, rule: &str, allowed: bool, why: &str) -> Vec<u8> {
    line(&Subject::new(request, rule), allowed, why)
}

fn line(subject: &Subject, allowed: bool, why: &str) -> Vec<u8> {
    let decision = if allowed { "allowed" } else { "denied" };
    subject.line("refused", decision, Some(why))
}

fn unwritable(path: &Path, error: &io::Error) -> String {
    format!("the audit file {path:?} cannot be written: {}", why(error))
}

impl Entry {
    /// Writes down how the request ended. Where that cannot be written now, it is kept and written before the next line.
    pub async fn end(mut self, ended: &Ended) {
        if let Some(subject) = self.subject.take() {
            self.audit.tell(subject.ended(self.began, ended)).await;
        }
    }
}

/// A request that panics has ended; what is dropped otherwise is cut off with its agent, and its end is not known.
impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(subject) = self.subject.take().filter(|_| std::thread::panicking()) {
            self.audit.note(subject.ended(self.began, &Ended::default()));
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
    /// The last line, where one was written or looked up.
    last: Option<Link>,
    /// What could not be written yet, in order.
    late: VecDeque<Vec<u8>>,
    failing: bool,
}

impl Writer {
    /// Writes what is late, then `line`, or opens the file where there is neither.
    fn write(&mut self, line: Option<Vec<u8>>, keep: Keep, lost: &AtomicU64) -> io::Result<()> {
        let written = self.catch_up(lost).and_then(|()| self.append(line.as_deref()));
        if let (Err(_), Some(line), Keep::Yes) = (&written, line, keep) {
            if self.late.len() == LATE {
                self.late.pop_front();
                lost.fetch_add(1, Relaxed);
            }
            self.late.push_back(line);
        }
        let path = self.appender.path().display();
        match &written {
            Err(error) if !self.failing => {
                tracing::error!(%path, error = why(error), "audit file cannot be written");
            }
            Ok(()) if self.failing => tracing::info!(%path, "audit file is written again"),
            _ => {}
        }
        self.failing = written.is_err();
        written
    }

    fn catch_up(&mut self, lost: &AtomicU64) -> io::Result<()> {
        let count = lost.load(Relaxed);
        if count > 0 {
            self.append(Some(&audit_line::gap(count)))?;
            lost.fetch_sub(count, Relaxed);
        }
        while let Some(line) = self.late.pop_front() {
            if let Err(error) = self.append(Some(&line)) {
                self.late.push_front(line);
                return Err(error);
            }
        }
        Ok(())
    }

    fn append(&mut self, line: Option<&[u8]>) -> io::Result<()> {
        if self.last.is_none() {
            match self.appender.append(&[]) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_folder()?,
                opened => opened?, // that ends a line which a crash cut short
            }
            self.last = Some(Link::last(self.appender.path()));
        }
        let line = line.map(|line| self.last.unwrap_or_default().join(line)).unwrap_or_default();
        match self.appender.append(&line) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_folder()?;
                self.appender.append(&line)?;
            }
            written => written?,
        }
        if !line.is_empty() {
            self.last = Some(Link::of(line.trim_ascii_end()));
        }
        Ok(())
    }

    fn make_folder(&self) -> io::Result<()> {
        StateFolder::at(folder_of(self.appender.path())).open().map(drop)
    }
}
