//! What the agent needs of the system before it starts: descriptors, threads, memory to address, a stack. Checked
//! at the start, so that a low limit is an error message there and not a panic later.

use std::io;
use std::sync::RwLock;
use std::thread;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use crate::sync::IgnorePoison;

/// Descriptors that are free at the start: about 30 are open while metrics and commands run (the port, the
/// netlink sockets, the files of a reading, control clients), and a program that is started takes six.
const DESCRIPTORS: usize = 64;

/// Bytes that can be mapped beyond what the program is: a thread of the blocking pool maps a stack of 2 MiB, the
/// queues take `[memory] ceiling`.
const ADDRESSES: usize = 64 << 20;

/// The stack of the first thread, on which all tasks run.
const STACK: u64 = 1 << 20;

/// What the system does not give the agent at its start; of a limit the text says where it is set.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum LimitError {
    /// The stack of the first thread, which is this long.
    #[error(
        "cannot start with a stack of {0} bytes; {STACK} are needed (raise LimitSTACK of the unit, or `ulimit -s`)"
    )]
    Stack(u64),
    /// File descriptors.
    #[error(
        "cannot start with fewer than {DESCRIPTORS} free file descriptors: {0} \
         (raise LimitNOFILE of the unit, or `ulimit -n`, to 256 or more)"
    )]
    Descriptors(io::Error),
    /// Memory that can be mapped.
    #[error(
        "cannot start where less than {} MiB more can be mapped \
         (raise LimitAS and LimitDATA of the unit, or `ulimit -v` and `ulimit -d`)",
        ADDRESSES >> 20
    )]
    Addresses,
    /// Threads.
    #[error(
        "cannot start with fewer than {count} more threads: {error} \
         (raise TasksMax and LimitNPROC of the unit, pids.max of the control group, or `ulimit -u`)"
    )]
    Threads {
        /// How many are needed.
        count: usize,
        /// Why they cannot be had.
        error: io::Error,
    },
    /// The agent cannot be started as a child of process 1.
    #[error("cannot start the agent as a child: {0}")]
    Child(io::Error),
    /// The runtime, for another reason.
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
}

/// Whether there is enough of everything but descriptors, with `threads` threads.
///
/// # Errors
/// The limit that is too low.
pub(super) fn suffice(threads: usize) -> Result<(), LimitError> {
    addresses()?;
    self::threads(threads)
}

/// Sees to the stack of the first thread. To be called before anything else: even the arguments may not fit.
///
/// # Errors
/// As of `suffice`.
pub(crate) fn raise_stack() -> Result<(), LimitError> {
    raise(Resource::Stack, STACK).map_err(LimitError::Stack)
}

/// Whether enough descriptors are free. A soft limit below the need is raised where the hard one allows it; programs that
/// the agent starts inherit that. To be called before the first file is read.
///
/// Takes as many as are needed and gives them back: others that are open count, too.
///
/// # Errors
/// As of `suffice`.
pub(crate) fn suffice_descriptors() -> Result<(), LimitError> {
    let free = || {
        let mut taken = Vec::with_capacity(DESCRIPTORS);
        (0..DESCRIPTORS).try_for_each(|_| {
            fcntl_dupfd_cloexec(rustix::stdio::stderr(), 0).map(|descriptor| taken.push(descriptor))
        })
    };
    let Err(error) = free() else { return Ok(()) };
    // The limit counts descriptors that are open already, so more than the need is requested.
    let _ = raise(Resource::Nofile, 4 * DESCRIPTORS as u64);
    free().map_err(|_| LimitError::Descriptors(error.into()))
}

/// Closes what the parent has left open beside the standard streams: a program of the host would inherit it, and may run as
/// another user. To be called before the agent opens anything.
pub(crate) fn close_inherited() {
    let number =
        |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let open: Vec<i32> = match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.filter_map(number).collect(),
        Err(_) => (0..=255).collect(), // without /proc
    };
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        let _ = nix::unistd::close(descriptor); // the one that listed them is closed already
    }
}

/// Checked only under a limit: a machine that promises no more memory than it has would refuse it, too.
fn addresses() -> Result<(), LimitError> {
    let is_limited = |resource| getrlimit(resource).current.is_some();
    if !is_limited(Resource::As) && !is_limited(Resource::Data) {
        return Ok(());
    }
    Vec::<u8>::new().try_reserve_exact(ADDRESSES).map_err(|_| LimitError::Addresses)
}

/// Starts as many as are needed, which end at once.
fn threads(count: usize) -> Result<(), LimitError> {
    let gate = RwLock::new(());
    let started = thread::scope(|scope| {
        let closed = gate.write().ignore_poison();
        let pass = || drop(gate.read());
        let started =
            (0..count).try_for_each(|_| thread::Builder::new().spawn_scoped(scope, pass).map(drop));
        drop(closed);
        started
    });
    started.map_err(|error| LimitError::Threads { count, error })
}

/// Raises a soft limit to `need`, or returns the current one.
fn raise(resource: Resource, need: u64) -> Result<(), u64> {
    let Rlimit { current, maximum } = getrlimit(resource);
    match current {
        Some(current) if current < need => {
            let raised =
                Rlimit { current: Some(maximum.map_or(need, |most| most.min(need))), maximum };
            match setrlimit(resource, raised) {
                Ok(()) if maximum.is_none_or(|most| most >= need) => Ok(()),
                _ => Err(getrlimit(resource).current.unwrap_or(current)),
            }
        }
        _ => Ok(()),
    }
}
