//! Work that runs behind everything else on the machine. Does not know what the work is.

use std::sync::LazyLock;

use rustix::io::Errno;
use rustix::process::{getpriority_process, setpriority_process};

/// How much nicer a thread is while it reads the machine: beside another one it gets a quarter of the processor. With
/// 10, a tenth, readings were seen to be late on a machine that was busy, which is when they are wanted.
const NICER: i32 = 5;
/// The nicest there is.
const NICEST: i32 = 19;

/// Whether a thread that was made nicer can be made what it was: not without `CAP_SYS_NICE`, or a limit that
/// allows it (setpriority(2)). Tried out once, by a thread that does nothing else.
static COMES_BACK: LazyLock<bool> = LazyLock::new(|| {
    let there_and_back = || setpriority_process(None, nicer()?);
    let thread = std::thread::Builder::new().name("nice".into()).stack_size(64 << 10);
    let tried = thread.spawn(move || there_and_back().is_ok());
    tried.ok().and_then(|thread| thread.join().ok()).unwrap_or(false)
});

/// Runs `work`, which blocks, with a thread that is nicer meanwhile, where it can be made what it was.
///
/// # Why
/// Readings can wait, and what the machine is there for cannot; nor can an answer to a command, whose way leads
/// through threads that would each have to wait for a reading to be over. A nice value is a thread's own on Linux
/// (sched(7)), and a thread of the pool does other work too, so it gets its own back.
pub(super) fn politely<T>(work: impl FnOnce() -> T) -> T {
    let before = if *COMES_BACK { nicer().ok() } else { None };
    let done = work();
    if let Some(before) = before
        && let Err(error) = setpriority_process(None, before)
    {
        tracing::warn!(%error, "a thread cannot get its priority back");
    }
    done
}

/// Makes this thread nicer; gives what it was.
fn nicer() -> Result<i32, Errno> {
    let before = getpriority_process(None)?;
    setpriority_process(None, (before + NICER).min(NICEST))?;
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_nicer_while_it_reads_where_it_can_be_what_it_was_afterwards() {
        let now = || getpriority_process(None).unwrap();
        let (before, meanwhile, after) = (now(), politely(now), now());
        assert_eq!(after, before);
        let nicer = if *COMES_BACK { (before + NICER).min(NICEST) } else { before };
        assert_eq!(meanwhile, nicer);
    }
}
