//! How the C library keeps freed memory: given back, rather than kept for the next burst.
//!
//! # Why
//! glibc gives each thread that allocates an arena of its own, up to eight for each processor, and
//! once a large block was freed it keeps twice as much of each for later. A burst of commands whose answers are
//! long grew the agent from 8.4 to 29.5 MiB and left it there; with one arena that is trimmed from 128 KiB on it
//! grew to 12.4 and went back to 8.1 (`cargo bench --bench commands`, 1,000 at once of ten kinds). Frames that wait for
//! a host lie between what stays, so that the end of the arena is never free: after a host that read nothing for
//! 45 s the agent stayed at 20 MiB. With blocks of 16 KiB and more mapped by themselves it went back to 8
//! (`cargo bench --bench soak`). Such a block is mapped only where the arena has no room for it, and by default the
//! arena grows by 128 KiB at a time, in which the next frames then lay; so it grows by 16. And the stacks of threads
//! that have ended are kept for the next ones, up to 40 MiB: 19 of them after that burst, 0.6 MiB. They are given back.
//!
//! # Why by starting again
//! `mallopt(3)` is an unsafe call, and the variable is read before `main` (`GLIBC_TUNABLES`, "Memory
//! Allocation Tunables" in the glibc manual). So the program sets it and becomes itself once more, before it has
//! a thread or a descriptor: the same process id, a millisecond. Rejected: the variable in the unit's
//! file alone, which is missing wherever else the agent is started; another allocator, which is code
//! to trust for what two settings do.

use std::io;
use std::os::unix::process::CommandExt;

use super::same_program::same_program;

/// The variable. A value set by the user is respected.
const VARIABLE: &str = "GLIBC_TUNABLES";
const VALUE: &str = "glibc.malloc.arena_max=1:glibc.malloc.trim_threshold=131072:\
    glibc.malloc.mmap_threshold=16384:glibc.malloc.top_pad=16384:glibc.pthread.stack_cache_size=0";

/// Makes sure of it: does not come back where the program has to begin again for that. To be called before
/// anything is opened or started.
///
/// # Errors
/// It cannot be started again; it runs as well, and keeps more memory after a burst.
pub(crate) fn settle() -> io::Result<()> {
    if !cfg!(target_env = "gnu") || std::env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    Err(same_program()?.env(VARIABLE, VALUE).exec())
}
