//! On how many processors a measurement runs.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps this thread, and every thread it starts, on the first few of the processors that it may use. When this is
/// dropped, this thread may use all of them again.
///
/// Without it, a pipeline on "one thread" takes more than one processor: files are read and written on threads of
/// their own.
#[derive(Debug)]
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Pins this thread to `count` processors, or to all that it may use where these are fewer.
    ///
    /// # Errors
    /// Where the kernel refuses it (sched_setaffinity(2)); above 1,024 processors it always does.
    pub(crate) fn to(count: usize) -> io::Result<Self> {
        let before = sched_getaffinity(None)?;
        let mut first = CpuSet::new();
        (0..CpuSet::MAX_CPU)
            .filter(|at| before.is_set(*at))
            .take(count)
            .for_each(|at| first.set(at));
        sched_setaffinity(None, &first)?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was allowed a moment ago; if it no longer is, the kernel has chosen others by itself.
        let _ = sched_setaffinity(None, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_pinned_one_stay_on_its_processor_until_it_ends() {
        let before = sched_getaffinity(None).expect("the kernel says it");
        let pinned = Pinned::to(1).expect("a thread may always use fewer processors");
        let of_thread = std::thread::spawn(|| sched_getaffinity(None)).join().expect("it ran");
        assert_eq!(of_thread.expect("the kernel says it").count(), 1);
        drop(pinned);
        assert_eq!(sched_getaffinity(None).expect("the kernel says it"), before);
    }
}
