//! The step between the agent and a program: this same binary, started again, which puts itself where
//! the program shall be and becomes it. Decides nothing; all was decided by the agent.
//!
//! # Why
//! What must happen in the child before the program runs (its own session and control group, another
//! user with that user's groups, the umask) needs a `fork` with code behind it, which is unsafe in a
//! process with threads. A fresh process with one thread may do all of it with safe calls. It costs one
//! `exec` more: `true` from ask to answer took 2.1 to 4.0 ms with it and 1.1 to 3.8 ms without, both in
//! a control group (medians of 100; 2 cores, Linux 6.18, other work going on).

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Uid};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::ProcessError;

/// The first argument that means this step and not the agent.
pub const WORD: &str = "__enter";
/// What it exits with when the program could not be started (`env(1)`: found, not runnable).
pub(super) const EXIT: i32 = 126;
/// Where the descriptor of a text is, if that is free: scripts use those below 10, and 99, 100 and 200, as
/// they like.
const TEXT: i32 = 87;
/// What a process has that the kernel shall treat as any other when memory is short.
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// What to be before becoming the program. The environment is not in it: it is passed on as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Begins the complaint, so that the agent knows it from what the program itself says.
    pub token: String,
    /// The control group to enter.
    pub group: Option<PathBuf>,
    /// Whether standard input is a text, whose path is to be the last argument ([`sealed`](super::sealed)).
    pub text: bool,
    /// Whom to become.
    pub user: Option<User>,
    /// Where to start.
    pub directory: PathBuf,
    /// The program's file.
    pub program: PathBuf,
    /// The name it is called by.
    pub name: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// A user to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

impl Entry {
    /// As arguments, [`WORD`] first.
    pub(super) fn to_arguments(&self) -> Vec<OsString> {
        let user = self.user.as_ref().map(|user| {
            let ids = [user.uid, user.gid];
            let ids: Vec<_> = ids.iter().chain(&user.groups).map(u32::to_string).collect();
            ids.join(",")
        });
        let mut all: Vec<OsString> = vec![
            WORD.into(),
            (&self.token).into(),
            self.group.clone().unwrap_or_default().into(),
            if self.text { "text" } else { "" }.into(),
            user.unwrap_or_default().into(),
            (&self.directory).into(),
            (&self.program).into(),
            (&self.name).into(),
        ];
        all.extend(self.arguments.iter().cloned());
        all
    }

    /// From the arguments after [`WORD`].
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut next = || arguments.next();
        let token = next()?.into_string().ok()?;
        let group = next().map(PathBuf::from)?;
        let text = next()? == "text";
        let user = next()?.into_string().ok()?;
        let (directory, program, name) = (next()?.into(), next()?.into(), next()?);
        let group = (!group.as_os_str().is_empty()).then_some(group);
        let user = if user.is_empty() { None } else { Some(User::parse(&user)?) };
        let arguments = arguments.collect();
        Some(Self { token, group, text, user, directory, program, name, arguments })
    }
}

impl User {
    fn parse(text: &str) -> Option<Self> {
        let mut ids = text.split(',').map(|id| id.parse().ok());
        let (uid, gid) = (ids.next()??, ids.next()??);
        Some(Self { uid, gid, groups: ids.collect::<Option<_>>()? })
    }
}

/// Does the step with the arguments after [`WORD`]. Comes back only when it fails; the complaint is on
/// standard error.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(entry) = Entry::parse(arguments) else {
        complain(format_args!(
            "{WORD} is how the agent starts programs, not for people; see --help"
        ));
        return ExitCode::from(EXIT as u8);
    };
    let Err(error) = become_program(&entry);
    complain(format_args!("{}{error}", entry.token));
    ExitCode::from(EXIT as u8)
}

/// Prints to standard error, which nobody may hear.
fn complain(what: std::fmt::Arguments<'_>) {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{what}\n"));
}

fn become_program(entry: &Entry) -> Result<Infallible, ProcessError> {
    // Already a leader: only when started by hand.
    let _ = rustix::process::setsid();
    if let Some(group) = &entry.group {
        std::fs::write(group.join("cgroup.procs"), "0").map_err(ProcessError::EnterGroup)?;
    }
    // What loses its parent becomes its child, so while it lives all its descendants can be found.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| ProcessError::Subreaper(error.into()))?;
    heed_signals();
    // The agent may be protected from the out-of-memory killer; what it runs is not.
    if std::fs::read_to_string(OOM_SCORE).is_ok_and(|score| score.starts_with('-')) {
        let _ = std::fs::write(OOM_SCORE, "0");
    }
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    if let Some(user) = &entry.user {
        switch(user).map_err(|error| ProcessError::User { uid: user.uid, error })?;
    }
    std::env::set_current_dir(&entry.directory)
        .map_err(|error| ProcessError::Enter { path: entry.directory.clone(), error })?;
    let mut program = Command::new(&entry.program);
    program.arg0(&entry.name).args(&entry.arguments);
    if entry.text {
        program.arg(text().map_err(ProcessError::PassText)?);
    }
    Err(ProcessError::Exec { error: program.exec(), program: entry.program.clone() })
}

/// The signals that are ignored in this process, by `SigIgn` of `proc_pid_status(5)`, and can be set back to their
/// defaults. None where there is no `/proc`.
///
/// A handler is what sets one back: ignored signals stay so over `exec`, and handled ones do not (`execve(2)`). Left
/// out are SIGPIPE, which Rust ignores and sets back for a program that it starts; KILL and STOP, which cannot be
/// handled; ILL, FPE and SEGV, of which no handler is safe; and 32 and 33, which the C library keeps for itself.
pub(crate) fn ignored_signals() -> impl Iterator<Item = SignalKind> {
    use rustix::process::Signal;
    const OMITTED: [Signal; 6] =
        [Signal::PIPE, Signal::KILL, Signal::STOP, Signal::ILL, Signal::FPE, Signal::SEGV];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    (1..=64)
        .filter(move |number| set >> (number - 1) & 1 == 1)
        .filter(|number| !matches!(number, 32 | 33))
        .filter(|number| OMITTED.iter().all(|signal| signal.as_raw() != *number))
        .map(SignalKind::from_raw)
}

/// Has the program begin with no signal ignored, however the agent was started (`nohup`, a shell's `trap ''`).
fn heed_signals() {
    let mut ignored = ignored_signals().peekable();
    if ignored.peek().is_none() {
        return;
    }
    let Ok(runtime) = Builder::new_current_thread().enable_io().build() else { return };
    let _inside = runtime.enter();
    ignored.for_each(|kind| drop(signal(kind)));
}

/// Makes the text in standard input a file for the program: gives its path, and empties standard input.
fn text() -> io::Result<OsString> {
    // A mere place: what is opened through it is opened anew, with its reader's rights.
    let place = rustix::fs::open("/proc/self/fd/0", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let inherited = rustix::io::fcntl_dupfd_cloexec(&place, TEXT)
        // Fewer descriptors than that are allowed.
        .or_else(|_| rustix::io::fcntl_dupfd_cloexec(&place, 3))?;
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty())?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    // Kept open: it is the program's from here on.
    Ok(format!("/proc/self/fd/{}", inherited.into_raw_fd()).into())
}

/// Groups first: the right to set them goes with the user.
fn switch(user: &User) -> io::Result<()> {
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    fn entry() -> Entry {
        Entry {
            token: "t: ".into(),
            group: None,
            text: false,
            user: None,
            directory: "/".into(),
            program: "/bin/sh".into(),
            name: "sh".into(),
            arguments: Vec::new(),
        }
    }

    #[test]
    fn an_entry_survives_the_way_through_arguments() {
        let user = Some(User { uid: 1000, gid: 100, groups: vec![100, 27] });
        let odd = OsStr::from_bytes(b"\xFF ;$(x)\n").to_owned();
        for entry in [
            entry(),
            Entry { group: Some("/sys/fs/cgroup/x".into()), user, ..entry() },
            Entry { text: true, ..entry() },
            Entry { arguments: vec!["".into(), odd, "__enter".into()], ..entry() },
            Entry { user: Some(User { uid: 1, gid: 2, groups: Vec::new() }), ..entry() },
        ] {
            let arguments = entry.to_arguments();
            assert_eq!(arguments[0], WORD);
            assert_eq!(Entry::parse(arguments.into_iter().skip(1)), Some(entry));
        }
    }

    #[test]
    fn half_an_entry_is_none() {
        let user = Some(User { uid: 1, gid: 2, groups: vec![] });
        let whole = Entry { user, ..entry() }.to_arguments();
        for short in 0..whole.len() - 1 {
            assert_eq!(Entry::parse(whole[1..=short].iter().cloned()), None, "{short}");
        }
        for wrong in ["x", "1", "1,", "1,2,x", "-1,2", "1,2,"] {
            let mut arguments = whole.clone();
            arguments[4] = wrong.into();
            assert_eq!(Entry::parse(arguments.into_iter().skip(1)), None, "{wrong}");
        }
    }
}
