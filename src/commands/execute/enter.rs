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
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::fs::Mode;
use rustix::process::{Gid, Uid};

/// The first argument that means this step and not the agent.
pub const WORD: &str = "__enter";
/// What it exits with when the program could not be started (`env(1)`: found, not runnable).
pub(super) const EXIT: i32 = 126;
/// What a process has that the kernel shall treat as any other when memory is short.
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// What to be before becoming the program. The environment is not in it: it is passed on as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Begins the complaint, so that the agent knows it from what the program itself says.
    pub token: String,
    /// The control group to enter.
    pub group: Option<PathBuf>,
    /// Whether to adopt whatever descendants lose their parent.
    pub adopt: bool,
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
            if self.adopt { "adopt" } else { "" }.into(),
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
        let adopt = next()? == "adopt";
        let user = next()?.into_string().ok()?;
        let (directory, program, name) = (next()?.into(), next()?.into(), next()?);
        let group = (!group.as_os_str().is_empty()).then_some(group);
        let user = if user.is_empty() { None } else { Some(User::parse(&user)?) };
        let arguments = arguments.collect();
        Some(Self { token, group, adopt, user, directory, program, name, arguments })
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
        eprintln!("{WORD} is how the agent starts programs, not for people; see --help");
        return ExitCode::from(EXIT as u8);
    };
    let Err(error) = become_program(&entry);
    eprintln!("{}{error}", entry.token);
    ExitCode::from(EXIT as u8)
}

fn become_program(entry: &Entry) -> Result<Infallible, String> {
    // Already a leader: only when started by hand.
    let _ = rustix::process::setsid();
    if let Some(group) = &entry.group {
        let said = std::fs::write(group.join("cgroup.procs"), "0");
        said.map_err(|error| format!("its control group cannot be entered: {error}"))?;
    }
    if entry.adopt {
        let own = rustix::process::getpid();
        let said = rustix::process::set_child_subreaper(Some(own));
        said.map_err(|error| format!("its descendants cannot be kept together: {error}"))?;
    }
    // The agent may be protected from the out-of-memory killer; what it runs is not.
    if std::fs::read_to_string(OOM_SCORE).is_ok_and(|score| score.starts_with('-')) {
        let _ = std::fs::write(OOM_SCORE, "0");
    }
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    if let Some(user) = &entry.user {
        switch(user).map_err(|error| format!("user {} cannot be taken on: {error}", user.uid))?;
    }
    std::env::set_current_dir(&entry.directory).map_err(|error| {
        format!("directory \"{}\" cannot be entered: {error}", entry.directory.display())
    })?;
    let error = Command::new(&entry.program).arg0(&entry.name).args(&entry.arguments).exec();
    Err(cannot_run(&entry.program, &error))
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

/// Why a program that is there did not start.
pub(super) fn cannot_run(program: &Path, error: &io::Error) -> String {
    let shown = program.display();
    match rustix::io::Errno::from_io_error(error) {
        Some(rustix::io::Errno::NOEXEC) => format!(
            "\"{shown}\" cannot be run: it is no program for this machine, or a script without #!"
        ),
        Some(rustix::io::Errno::NOENT) => {
            format!("\"{shown}\" cannot be run: the interpreter or loader it asks for is missing")
        }
        Some(rustix::io::Errno::TOOBIG) => {
            format!("\"{shown}\" cannot be run: arguments or environment are too long; use a file")
        }
        _ => format!("\"{shown}\" cannot be run: {error}"),
    }
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
            adopt: false,
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
            Entry { group: Some("/sys/fs/cgroup/x".into()), adopt: true, user, ..entry() },
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
