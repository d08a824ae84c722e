//! The audit: what an operator reads of every request. One JSON line before it runs and one when it has ended, or one
//! that says it was refused; each names the line before it ([`chain`]). Decides nothing, and never holds
//! back an answer for longer than 5 s.
//!
//! The line with `"event":"end"` (or `"refused"`) is the whole record of a request: time, id, action, arguments,
//! decision and rule, user, exit, duration, bytes, truncated. The line with `"event":"begin"` says the same without an
//! end: a record that is required must be with the kernel before the thing it records, which may fill the disk, kill
//! the agent or cut the power. A `begin` without an `end` is a finding: the next agent writes `"event":"lost"` to it. `"event":"undelivered"`: the
//! answer went to nobody, because the connection that had asked for it had ended.
//!
//! Reading order: `line` (one line, pure), [`chain`], this.
//!
//! # What is never written
//! The text of a command or script: of it a length and the first 16 digits of a SHA-256 stand there. Of variables and
//! inputs the names and lengths; not a digest, because a short password can be found from one. What a program said: only
//! how much. What is left goes through [`redact`](crate::redact).

mod error;
pub(crate) mod chain;
mod line;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::oneshot::{self, Receiver, Sender};
use tokio::time::{Instant, timeout};

pub use self::error::AuditError;

use self::chain::Link;
use self::line::Subject;
use crate::commands::authorize::{Authorization, Denial, Permit};
use crate::commands::outcome::Outcome;
use crate::commands::request::{Refusal, Request};
use crate::files::{StateFolder, folder_of};
use crate::pipeline::LogLimit;
use crate::sinks::{Access, Appender, Rotation, io_reason};
use crate::sync::IgnorePoison;

/// How long a request waits for its line before it is refused, where the audit is required.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most lines that may wait to be written; the next one counts as not written.
pub(crate) const WAITING: usize = 256;
/// The most beside which a line waits that nobody waits for, so that a flood of refusals leaves room for what is to run.
pub const WAITING_UNHEARD: usize = WAITING / 2;
/// The most lines that are kept while the file cannot be written; of more the latest are, and the file says how many are
/// missing.
pub const LATE: usize = 64;

/// The audit file. Cheap to clone.
///
/// It is made with mode 0600, and rotated by size as [`Rotation`] says. A symbolic link in its place is refused, and
/// so is a file of another user, or one with a second name. A line that a crash cut short is ended when the file is
/// opened. Its folder is made, with mode 0700, where it is not there. Lines are written on the blocking pool, one at a
/// time, in the order of the calls: of those that wait for theirs and those that do not.
#[derive(Debug, Clone)]
pub struct Audit {
    inner: Arc<Inner>,
    required: bool,
}

#[derive(Debug)]
struct Inner {
    queue: Mutex<Queue>,
    writer: Mutex<Writer>,
    path: PathBuf,
}

/// What is to be written, in its order.
#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Line>,
    /// How many are missing before the next one.
    lost: u64,
    /// A job writes them.
    is_served: bool,
}

#[derive(Debug)]
struct Line {
    text: Vec<u8>,
    /// It is kept where it cannot be written now, and where nobody waits for it any more.
    is_kept: bool,
    waits: Option<Sender<Result<(), AuditError>>>,
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
        let writer = Mutex::new(Writer { appender, last: None, failing: LogLimit::default() });
        Self { inner: Arc::new(Inner { queue: Mutex::default(), writer, path }), required }
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
    /// It cannot be written.
    pub fn open(&self) -> Result<(), AuditError> {
        self.inner.writer().write(&[])
    }

    /// Writes down that a request is about to run.
    ///
    /// # Errors
    /// It may not run, since it cannot be written down. Only where the audit is required.
    pub async fn begin(&self, permit: &Permit) -> Result<Entry, AuditError> {
        let (subject, began) =
            (Subject::of(permit.request(), permit.rule()).await, SystemTime::now());
        match self.write(subject.line("begin", "allowed", None, None), !self.required).await {
            Err(error) if self.required => Err(error),
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
        let line = not_run(&Subject::of(request, rule).await, allowed, why);
        let _ = self.write(line, true).await;
    }

    /// Writes down that a request was not understood.
    pub async fn unclear(&self, refusal: &Refusal) {
        let _ = self.write(line::unclear(refusal), true).await;
    }

    /// Writes down, without waiting, that an agent ended before or, where it had `started`, while it did this.
    pub fn cut(&self, id: &str, action: &str, started: bool, why: &str) {
        self.note(id, action, if started { "lost" } else { "refused" }, why);
    }

    /// Writes down, without waiting, how a request ended that went on while the agent was restarted.
    pub fn ended_without_agent(&self, id: &str, action: &str, outcome: &Outcome) {
        let began = SystemTime::now().checked_sub(outcome.took).unwrap_or(SystemTime::UNIX_EPOCH);
        let why = Some("it went on while the agent was restarted");
        let line = Subject::named(id, action).line("end", "allowed", why, Some((began, outcome)));
        let _ = self.put(line, true, WAITING_UNHEARD);
    }

    /// Writes down, without waiting, that a request was not run because there was no room for it. Where
    /// [`WAITING_UNHEARD`] lines wait already it is one of those that are counted and not written.
    pub fn no_room(&self, authorization: &Authorization, why: &str) {
        let line = match authorization {
            Authorization::Permitted(permit) => refused(permit.request(), permit.rule(), true, why),
            Authorization::Denied(denial) => {
                refused(&denial.request, &denial.rule, false, &denial.why)
            }
            Authorization::Malformed(refusal) => line::unclear(refusal),
        };
        let _ = self.put(line, true, WAITING_UNHEARD); // counted where it is not written
    }

    /// Writes down, without waiting, that the answer to a request went to nobody. As [`no_room`](Self::no_room).
    pub fn undelivered(&self, id: &str, action: &str, why: &str) {
        self.note(id, action, "undelivered", why);
    }

    fn note(&self, id: &str, action: &str, event: &'static str, why: &str) {
        let line = Subject::named(id, action).line(event, "allowed", Some(why), None);
        let _ = self.put(line, true, WAITING_UNHEARD);
    }

    /// Returns when it is written, or will not be soon.
    async fn write(&self, text: Vec<u8>, is_kept: bool) -> Result<(), AuditError> {
        let written = self.put(text, is_kept, WAITING)?;
        match timeout(PATIENCE, written).await {
            Ok(written) => written.unwrap_or(Err(AuditError::Stopping)),
            Err(_) => Err(AuditError::Late { path: self.path().to_owned(), patience: PATIENCE }),
        }
    }

    /// Puts a line behind those that wait, where fewer than `most` do.
    fn put(
        &self,
        text: Vec<u8>,
        is_kept: bool,
        most: usize,
    ) -> Result<Receiver<Result<(), AuditError>>, AuditError> {
        let mut queue = self.inner.queue();
        let (true, Ok(runtime)) = (queue.lines.len() < most, Handle::try_current()) else {
            queue.lost += u64::from(is_kept);
            return Err(AuditError::Full { path: self.path().to_owned(), waiting: most });
        };
        let (waits, written) = oneshot::channel();
        queue.lines.push_back(Line { text, is_kept, waits: Some(waits) });
        if !std::mem::replace(&mut queue.is_served, true) {
            let inner = Arc::clone(&self.inner);
            runtime.spawn_blocking(move || inner.serve());
        }
        Ok(written)
    }
}

impl Inner {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().ignore_poison()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().ignore_poison()
    }

    /// Writes all that wait, or until one cannot be written.
    fn serve(&self) {
        loop {
            let mut queue = self.queue();
            let Some(mut line) = queue.lines.pop_front() else {
                queue.is_served = false;
                return;
            };
            let lost = queue.lost;
            drop(queue);
            if !line.is_kept && line.waits.as_ref().is_none_or(Sender::is_closed) {
                continue; // its request was refused
            }
            let gap = if lost > 0 { self.writer().write(&line::gap(lost)) } else { Ok(()) };
            if gap.is_ok() {
                self.queue().lost -= lost;
            }
            match gap.and_then(|()| self.writer().write(&line.text)) {
                Ok(()) => drop(line.waits.take().map(|waits| waits.send(Ok(())))),
                Err(why) => {
                    let mut queue = self.queue();
                    queue.lines.push_front(line);
                    queue.give_up(&why);
                    return;
                }
            }
        }
    }
}

impl Queue {
    /// Tells all that wait why they wait no more, and keeps what may be written later.
    fn give_up(&mut self, why: &AuditError) {
        self.is_served = false;
        self.lines.retain_mut(|line| {
            line.waits.take().map(|waits| waits.send(Err(why.clone())));
            line.is_kept
        });
        let most = self.lines.len().saturating_sub(LATE);
        self.lines.drain(..most);
        self.lost += most as u64;
    }
}

fn refused(request: &Request, rule: &str, allowed: bool, why: &str) -> Vec<u8> {
    not_run(&Subject::new(request, rule), allowed, why)
}

fn not_run(subject: &Subject, allowed: bool, why: &str) -> Vec<u8> {
    let decision = if allowed { "allowed" } else { "denied" };
    subject.line("refused", decision, Some(why), None)
}

impl Entry {
    /// Writes down how the request ended. Where that cannot be written now, it is kept and written before the next line.
    pub async fn end(mut self, outcome: &Outcome) {
        if let Some(line) = self.last_line(outcome) {
            let _ = self.audit.write(line, true).await;
        }
    }

    fn last_line(&mut self, outcome: &Outcome) -> Option<Vec<u8>> {
        let subject = self.subject.take()?;
        Some(subject.line("end", "allowed", None, Some((self.began, outcome))))
    }
}

/// A request that panics has ended; what is dropped otherwise is cut off with its agent, and its end is not known.
impl Drop for Entry {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(line) = self.last_line(&Outcome::default())
        {
            let _ = self.audit.put(line, true, WAITING_UNHEARD);
        }
    }
}

/// The blocking side.
#[derive(Debug)]
struct Writer {
    appender: Appender,
    /// The last line, where one was written or looked up.
    last: Option<Link>,
    failing: LogLimit,
}

impl Writer {
    /// Writes a line, or opens the file where there is none.
    fn write(&mut self, line: &[u8]) -> Result<(), AuditError> {
        let written = self.append(line);
        let path = self.appender.path();
        match &written {
            Err(error) if self.failing.happened(Instant::now()).is_some() => {
                tracing::error!(path = %path.display(), error = io_reason(error), "audit file cannot be written");
            }
            Ok(()) if self.failing.is_over() => {
                tracing::info!(path = %path.display(), "audit file is written again");
            }
            _ => {}
        }
        let path = path.to_owned();
        written.map_err(|error| AuditError::Unwritable { path, error: Arc::new(error) })
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.last.is_none() {
            self.append_raw(&[])?; // that ends a line which a crash cut short
            self.last = Some(Link::last(self.appender.path()));
        }
        if line.is_empty() {
            return Ok(());
        }
        let line = self.last.unwrap_or_default().join(line);
        self.append_raw(&line)?;
        self.last = Some(Link::of(line.trim_ascii_end()));
        Ok(())
    }

    fn append_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.appender.append(bytes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                StateFolder::at(folder_of(self.appender.path())).open()?;
                self.appender.append(bytes)
            }
            written => written,
        }
    }
}
