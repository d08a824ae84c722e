//! Runs one program from start to end, whatever it does. Does not queue, and knows no request.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join;
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::capture::{OutputStream, ProgramOutput, drain, feed};
use super::cgroup::Parent;
use super::exec_helper::{self, Entry, User};
use super::leftovers::{self, RunWarnings};
use super::process_tree::{Tree, TreeScope};
use super::user;
use super::{Exit, Finished, ProcessError, Program, resolve, sealed};
use crate::files::accounts::Identity;
use crate::tasks::{spawn, spawn_blocking};

/// How programs are run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The agent's own binary, which is started first and becomes the program (`exec_helper`). Only with
    /// it is all of [`Runner`]'s promise kept.
    pub trampoline: Option<PathBuf>,
    /// Whether to give each program a control group of its own, where that can be done.
    pub groups: bool,
    /// Bytes kept of each stream, half from its start and half from its end.
    pub output_bytes: usize,
    /// Processes that one program may have at once, where the kernel counts them for its group.
    pub processes: Option<u32>,
    /// After the deadline: between SIGTERM and SIGKILL.
    pub mercy: Duration,
    /// After the program's own end: how long what it started may still hold its output.
    pub grace: Duration,
}

impl Default for Settings {
    /// For a process that has no [`exec_helper::WORD`] of its own, such as a test.
    fn default() -> Self {
        Self {
            trampoline: None,
            groups: true,
            output_bytes: 256 * 1024,
            processes: Some(512),
            mercy: Duration::from_millis(250),
            grace: Duration::from_millis(200),
        }
    }
}

impl Settings {
    /// For the agent, whose `main` calls [`exec_helper::main`].
    pub fn agent() -> Self {
        Self { trampoline: Some("/proc/self/exe".into()), ..Self::default() }
    }

    /// For an agent that runs nothing: no control group is looked for or made, and nothing is adopted.
    pub fn idle() -> Self {
        Self { trampoline: None, groups: false, ..Self::default() }
    }
}

/// Runs programs; cheap to clone.
///
/// # Promise
/// - Exactly what [`Program`] says is run: no shell (but a text file without `#!` goes to `sh`, as
///   `execvp(3)` has it), nothing inherited but what this process itself
///   got without close-on-exec. The environment is `PATH`, `LANG`, `LC_ALL`, `HOME` and what the
///   caller adds, and `USER`, `LOGNAME` and `SHELL` where it runs as a named account; the umask is 022, the
///   session its own, standard input null or the given bytes.
/// - At the deadline, at the cancel of the runner and when the future is dropped, *everything* the
///   program has started ends: SIGTERM (or SIGINT, [`Program::interrupt`]), and SIGKILL a quarter of a second
///   later.
/// - The answer comes when the program itself has ended. What it leaves behind, a daemon too, is then
///   ended, and `RunWarnings` say so; one that holds the output gets 200 ms to finish. What shall stay is started
///   as a service (`systemctl`, `systemd-run`), whose parent is not the program, or by a program that may
///   leave it ([`Program::detach`]).
/// - Output is always drained, and at most [`Settings::output_bytes`] of each stream is kept.
///
/// # Limits
/// A process of root that moves itself to another control group and detaches is found at the deadline as
/// long as the program itself lives, being its descendant. When the program has ended by itself, it has left
/// on purpose, as with `systemd-run`, and stays. One that root starts on being asked to end (in a handler of
/// SIGTERM) may get away, and so may what root has another process start (`systemd-run`, `at`, `docker`).
///
/// [`Settings::processes`] needs a control group that may be divided: as a systemd service, `Delegate=yes`.
/// With it a fork bomb of root (512 processes) ended 0.1 s after its deadline, in a virtual machine of 2
/// emulated cores; without the limit the same one took 26 s.
///
/// Without a trampoline a program gets no text ([`Program::text`]), there is no session of its own (a process group only), the umask is the agent's,
/// `run_as` has no supplementary groups, and without a control group besides, a daemon that
/// detaches itself completely is not found. Without control groups no other part of this process may
/// start children: what is not the runner's is taken for left behind; and a daemon that has left the
/// session may lose its 200 ms when another program ends.
#[derive(Clone)]
pub struct Runner(Arc<Inner>);

struct Inner {
    settings: Settings,
    stop: CancellationToken,
    parent: Option<Parent>,
    notes: RunWarnings,
}

impl Runner {
    /// A runner with the default settings, for a process that is not the agent.
    pub fn new(stop: CancellationToken) -> Self {
        Self::with(Settings::default(), stop)
    }

    /// A runner; `stop` ends all its programs. Reads files and may make control groups: at the start,
    /// not on an async worker.
    pub fn with(settings: Settings, stop: CancellationToken) -> Self {
        let parent = settings.groups.then(Parent::find).flatten();
        let limits = parent.as_ref().is_some_and(Parent::limits);
        if parent.is_none() && settings.trampoline.is_some() {
            let own = rustix::process::getpid();
            if let Err(error) = rustix::process::set_child_subreaper(Some(own)) {
                tracing::warn!(%error, "programs that detach themselves may outlive their deadline");
            }
        }
        tracing::debug!(groups = parent.is_some(), limits, "programs can be run");
        Self(Arc::new(Inner { settings, stop, parent, notes: RunWarnings::default() }))
    }

    /// The same runner, keeping `output_bytes` of each stream.
    pub fn keeping(&self, output_bytes: usize) -> Self {
        let settings = Settings { output_bytes, ..self.0.settings.clone() };
        self.like(settings, self.0.notes.clone())
    }

    /// The same runner, and what it will have to say of the programs that it runs.
    pub fn with_warnings(&self) -> (Self, RunWarnings) {
        let notes = RunWarnings::default();
        (self.like(self.0.settings.clone(), notes.clone()), notes)
    }

    fn like(&self, settings: Settings, notes: RunWarnings) -> Self {
        let (stop, parent) = (self.0.stop.clone(), self.0.parent.clone());
        Self(Arc::new(Inner { settings, stop, parent, notes }))
    }

    /// Whether it was told to stop: whatever is started now ends at once.
    pub fn is_stopping(&self) -> bool {
        self.0.stop.is_cancelled()
    }

    /// Returns when it is told to stop.
    pub async fn stopping(&self) {
        self.0.stop.cancelled().await;
    }

    /// Bytes kept of each stream.
    pub fn output_bytes(&self) -> usize {
        self.0.settings.output_bytes
    }

    /// Runs a program to its end, or to its deadline.
    ///
    /// Dropping the future ends the program and all it has started.
    ///
    /// # Errors
    /// The program could not be started. What it did itself is no error.
    pub async fn run(&self, program: Program) -> Result<Finished, ProcessError> {
        self.run_into(program, &ProgramOutput::default()).await
    }

    /// The same, with an output that can be read while the program runs.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_into(
        &self,
        program: Program,
        output: &ProgramOutput,
    ) -> Result<Finished, ProcessError> {
        let output = output.clone();
        let stop = self.0.stop.child_token();
        let guard = stop.clone().drop_guard();
        let runner = Arc::clone(&self.0);
        // In a task of its own, so that the tree is ended in order even when nobody waits any more.
        let task = spawn(async move { runner.run(program, output, stop).await });
        let result = task.await.map_err(|error| match error.is_panic() {
            true => ProcessError::Panicked,
            false => ProcessError::Stopping,
        });
        guard.disarm();
        result?
    }
}

impl Inner {
    async fn run(
        self: Arc<Self>,
        program: Program,
        output: ProgramOutput,
        stop: CancellationToken,
    ) -> Result<Finished, ProcessError> {
        output.begin(self.settings.output_bytes);
        if stop.is_cancelled() {
            return Ok(output.finish(Exit::Cancelled));
        }
        if Instant::now() >= program.deadline {
            return Ok(output.finish(Exit::TimedOut));
        }
        let deadline = program.deadline;
        let mercy = program.mercy.unwrap_or(Duration::MAX).min(self.settings.mercy);
        let end = End { deadline, mercy };
        let shown = program.program.display().to_string();
        let runner = Arc::clone(&self);
        let started = spawn_blocking(move || runner.start(program));
        let started = started.await.map_err(|_| ProcessError::Stopping)??;
        let token = started.token.clone();
        let exit = self.attend(started, &output, end, &stop).await?;
        let finished = output.finish(exit);
        match finished.stderr.text.strip_prefix(&token) {
            Some(reason) if finished.exit == Exit::Code(exec_helper::EXIT) => {
                tracing::debug!(program = shown, "a program could not be started");
                Err(ProcessError::Helper(reason.trim_end().to_owned()))
            }
            _ => Ok(finished),
        }
    }

    /// Everything up to the running program. Blocks: files, `fork`, `exec`.
    fn start(&self, program: Program) -> Result<Started, ProcessError> {
        resolve::arguments(&program.program, &program.arguments)?;
        let file = resolve::find(&program.program)?;
        let directory = resolve::directory(program.directory.as_deref())?;
        let user = self.user(&program)?;
        let whose = user::variables(program.run_as.as_ref())?;
        let environment = resolve::environment(whose, &program.environment)?;
        let input = self.input(&program, user.as_ref())?;
        let group = match &self.parent {
            Some(parent) => {
                Some(parent.group(self.settings.processes).map_err(ProcessError::CreateGroup)?)
            }
            None => None,
        };
        let entry = Entry {
            token: format!("{:016x}: ", RandomState::new().hash_one(std::process::id())),
            group: group.as_ref().map(|group| group.path().to_owned()),
            text: program.text.is_some(),
            user,
            directory,
            program: file,
            name: program.program.into_os_string(),
            arguments: program.arguments,
        };
        let mut command = match &self.settings.trampoline {
            Some(trampoline) => through(trampoline, &entry),
            None => straight(&entry),
        };
        command.env_clear().envs(environment).stdin(input);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let adopting = self.parent.is_none() && self.settings.trampoline.is_some();
        let started = Tree::start(|| command.spawn(), group, adopting);
        let (child, tree) = started
            .map_err(|error| ProcessError::Exec { program: entry.program.clone(), error })?;
        let tree = if program.interrupt { tree.asked_with(Signal::INT) } else { tree };
        if self.settings.trampoline.is_none() {
            take(&child, &tree)?;
        }
        Ok(Started {
            child,
            tree,
            token: entry.token,
            input: program.input,
            detach: program.detach,
        })
    }

    /// Whom to become, where that is another than this process is.
    fn user(&self, program: &Program) -> Result<Option<User>, ProcessError> {
        let own = rustix::process::geteuid().as_raw();
        let Some(account) = &program.run_as else { return Ok(None) };
        let Identity { uid, gid, groups, .. } = user::identity(account)?;
        match own {
            // Also root for root: its groups may be others than the agent's.
            0 => Ok(Some(User { uid, gid, groups })),
            _ if own == uid => Ok(None),
            _ => Err(ProcessError::NotRoot { account: account.clone(), own }),
        }
    }

    /// What is standard input at first: its text, or a pipe, or nothing.
    fn input(&self, program: &Program, user: Option<&User>) -> Result<Stdio, ProcessError> {
        let Some(text) = &program.text else {
            return Ok(if program.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        };
        if self.settings.trampoline.is_none() || !program.input.is_empty() {
            return Err(ProcessError::TextNotPossible);
        }
        let text = sealed::sealed(text.as_bytes(), user.map(|user| (user.uid, user.gid)))
            .map_err(ProcessError::KeepText)?;
        Ok(text.into())
    }

    /// Listens to the program until nothing of it is left.
    async fn attend(
        self: &Arc<Self>,
        started: Started,
        output: &ProgramOutput,
        end: End,
        stop: &CancellationToken,
    ) -> Result<Exit, ProcessError> {
        let Started { mut child, tree, input, detach, .. } = started;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let drain = join(
            drain(stdout, OutputStream::Stdout, output),
            drain(stderr, OutputStream::Stderr, output),
        );
        let talk = std::pin::pin!(join(feed(stdin, input), drain));
        let last = if detach { Leftovers::Keep } else { Leftovers::End };
        self.see_out(child, tree, last, talk, end, stop).await
    }

    /// Waits until the program ends or has to, then ends what is left of its tree.
    async fn see_out<T>(
        self: &Arc<Self>,
        mut child: Child,
        tree: Tree,
        last: Leftovers,
        mut talk: Pin<&mut impl Future<Output = T>>,
        End { deadline, mercy }: End,
        stop: &CancellationToken,
    ) -> Result<Exit, ProcessError> {
        let mut late = std::pin::pin!(sleep_until(deadline));
        let mut has_talked = false;
        let exit = loop {
            tokio::select! {
                biased;
                status = child.wait() => break exit(status)?,
                () = &mut late => break Exit::TimedOut,
                () = stop.cancelled() => break Exit::Cancelled,
                _ = &mut talk, if !has_talked => has_talked = true,
            }
        };
        let by_itself = matches!(exit, Exit::Code(_) | Exit::Signal(_));
        let reach = if by_itself { TreeScope::Group } else { TreeScope::Everything };
        if by_itself && !has_talked {
            has_talked = timeout(self.settings.grace, &mut talk).await.is_ok();
        }
        let runner = Arc::clone(self);
        // In a task of its own, because it may take longer than the answer.
        let mut ending = spawn(async move {
            let tree = match by_itself {
                true => runner.look_behind(tree, last).await,
                false => runner.ask(tree, &mut child, mercy).await,
            };
            let Some(tree) = tree else { return };
            let tree = tree.end(reach).await;
            // Reaped before the tree forgets it, or it would be taken for left behind.
            let _ = timeout(runner.settings.grace, child.wait()).await;
            let _ = spawn_blocking(move || drop(tree)).await;
        });
        // Listening goes on, or a program that is asked to end could hang in what it has to say.
        loop {
            tokio::select! {
                biased;
                _ = &mut ending => break,
                _ = &mut talk, if !has_talked => has_talked = true,
            }
        }
        if !has_talked {
            let _ = timeout(self.settings.grace, &mut talk).await;
        }
        Ok(exit)
    }

    /// Tells what a program that has ended by itself has left behind, and lets that go where it may stay.
    async fn look_behind(&self, tree: Tree, last: Leftovers) -> Option<Tree> {
        let notes = self.notes.clone();
        let looked = spawn_blocking(move || {
            let names = tree.left();
            match last {
                _ if names.is_empty() => {}
                Leftovers::Keep => notes.add(leftovers::keep(tree.group(), names)),
                Leftovers::End => notes.add(leftovers::ended(names)),
            }
            tree
        });
        looked.await.ok()
    }

    /// Asks a tree to end, and waits for its program to do so.
    async fn ask(&self, tree: Tree, child: &mut Child, mercy: Duration) -> Option<Tree> {
        let asked = spawn_blocking(move || {
            tree.ask();
            tree
        });
        let tree = asked.await.ok()?;
        let _ = timeout(mercy, child.wait()).await;
        Some(tree)
    }
}

/// A program that runs.
struct Started {
    child: Child,
    tree: Tree,
    token: String,
    input: Vec<u8>,
    detach: bool,
}

/// When a program ends.
#[derive(Debug, Clone, Copy)]
struct End {
    deadline: Instant,
    /// Between SIGTERM and SIGKILL.
    mercy: Duration,
}

/// What becomes of what a program leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leftovers {
    End,
    Keep,
}

/// By way of the agent's own binary.
fn through(trampoline: &Path, entry: &Entry) -> Command {
    let mut command = Command::new(trampoline);
    command.args(entry.to_arguments());
    command
}

/// By itself: what a child can do without code of its own.
fn straight(entry: &Entry) -> Command {
    let mut command = Command::new(&entry.program);
    command.arg0(&entry.name).args(&entry.arguments);
    command.current_dir(&entry.directory).process_group(0);
    if let Some(user) = &entry.user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// Puts a program that runs already into its group. One that has ended meanwhile needs none.
fn take(child: &Child, tree: &Tree) -> Result<(), ProcessError> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let (Some(group), Some(pid)) = (tree.group(), pid) else { return Ok(()) };
    match group.take(pid) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::SRCH) => {
            Err(ProcessError::EnterGroup(error))
        }
        _ => Ok(()),
    }
}

fn exit(status: io::Result<ExitStatus>) -> Result<Exit, ProcessError> {
    let status = status.map_err(ProcessError::Wait)?;
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    })
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}
