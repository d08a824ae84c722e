//! A text in memory that one program reads as a file. Nothing of it is on a disk, and it is gone with
//! the last process that holds it, also when the agent is killed.
//!
//! # Why
//! In an argument or variable a text is limited (`MAX_ARG_STRLEN` of linux/binfmts.h), and from standard
//! input the commands in it would read it. A file below the state folder can only be opened by users
//! who may enter that folder (0700 under the shipped unit), and stays when the agent is killed.
//!
//! # How
//! The agent hands a sealed `memfd` (memfd_create(2)) to [`exec_helper`](super::exec_helper) as standard input, which
//! is the one descriptor that no program started meanwhile inherits. That step opens it as a mere place
//! (`O_PATH`) at another number, which the program inherits, and names it `/proc/self/fd/NUMBER`. So
//! a process that opens it must pass its owner and mode: a child that has become another user has the
//! number, too, and cannot read it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Gid, MemfdFlags, Mode, SealFlags, Uid};
use rustix::io::Errno;

/// A text that nobody can change and only `owner` (user and group; this process's own where absent) and
/// root can open. Not for an async worker.
///
/// # Errors
/// What the kernel says, such as that memory is short.
pub(super) fn sealed(text: &[u8], owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // It is read and never executed, which a kernel may insist on (`vm.memfd_noexec`); one before Linux
    // 6.3 does not know the flag.
    let made = rustix::fs::memfd_create("script", flags | MemfdFlags::NOEXEC_SEAL);
    let made = match made {
        Err(Errno::INVAL) => rustix::fs::memfd_create("script", flags),
        made => made,
    };
    let mut file = File::from(made?);
    file.write_all(text)?;
    rustix::fs::fchmod(&file, Mode::RUSR)?;
    if let Some((uid, gid)) = owner {
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}
