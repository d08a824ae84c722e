//! Programs that the kernel saw crash, or killed for want of memory, in the last day. Knows of no other end
//! of a program, and nothing of whether one that runs does what it should.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::super::{Context, blocking};
use super::journal::{count, read_kmsg};
use super::{Check, Status};
use crate::sort;

const NAME: &str = "application_health";
/// How far back is looked.
const LOOKED_BACK: Duration = Duration::from_secs(24 * 60 * 60);
/// The most programs that are named.
const PROGRAMS_MAX: usize = 10;

/// `application_health`: a warning where the kernel's log reports a program that crashed or was killed for
/// want of memory in the last 24 hours.
pub(super) async fn check(cx: &Context) -> Check {
    match blocking(cx.deadline, "reading /dev/kmsg", look).await {
        Ok(Ok(seen)) if seen.reaches.is_zero() => Check::unavailable(
            NAME,
            "whether programs crash is not known: the kernel's log is empty",
        ),
        Ok(Ok(seen)) => judged(&seen),
        Ok(Err(error)) => {
            let why =
                format!("whether programs crash is not known: /dev/kmsg cannot be read: {error}");
            Check::unavailable(NAME, why)
        }
        Err(error) => Check::broken(NAME, error),
    }
}

/// What was seen in the time that was looked at.
#[derive(Debug, Default)]
struct Crashes {
    /// How far back the log reaches, at most [`LOOKED_BACK`].
    reaches: Duration,
    /// How often each program crashed.
    crashed: BTreeMap<String, usize>,
    /// How often each was killed for want of memory.
    killed: BTreeMap<String, usize>,
}

/// The end of a program, and its name.
#[derive(Debug, PartialEq, Eq)]
enum ProgramEnd<'a> {
    Crashed(&'a str),
    Killed(&'a str),
}

fn look() -> io::Result<Crashes> {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32);
    let mut seen = Crashes::default();
    read_kmsg(|record| seen.take(record, now))?;
    Ok(seen)
}

impl Crashes {
    /// Counts what a record of the kernel's log tells, where it is not too old by `now`.
    fn take(&mut self, record: &[u8], now: Duration) {
        let record = String::from_utf8_lossy(record);
        let Some((at, text)) = said_by_the_kernel(&record) else { return };
        let age = now.saturating_sub(at);
        self.reaches = self.reaches.max(age.min(LOOKED_BACK));
        match ended(text).filter(|_| age <= LOOKED_BACK) {
            Some(ProgramEnd::Crashed(name)) => count(&mut self.crashed, name),
            Some(ProgramEnd::Killed(name)) => count(&mut self.killed, name),
            None => {}
        }
    }
}

fn judged(seen: &Crashes) -> Check {
    let (crashes, kills): (usize, usize) =
        (seen.crashed.values().sum(), seen.killed.values().sum());
    let most = |programs: &BTreeMap<String, usize>| {
        let mut programs: Vec<(String, usize)> =
            programs.iter().map(|(name, times)| (name.clone(), *times)).collect();
        sort::by(&mut programs, |a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        programs.truncate(PROGRAMS_MAX);
        programs
    };
    let named = |programs: &[(String, usize)]| {
        let each = programs.iter().map(|(name, times)| json!({ "program": name, "times": times }));
        each.collect::<Vec<_>>()
    };
    let (crashed, killed) = (most(&seen.crashed), most(&seen.killed));
    let hours = seen.reaches.as_secs_f64() / 3600.0;
    let details = json!({
        "crashes": crashes,
        "killed_for_memory": kills,
        "crashed_programs": named(&crashed),
        "killed_programs": named(&killed),
        "in": "the kernel's log",
        "hours": super::tenth(hours),
    });
    let log = format!("in the last {hours:.1} hours by the kernel's log");
    let words = |programs: &[(String, usize)]| {
        super::words(&programs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())
    };
    if crashes + kills == 0 {
        let message = format!("no program crashed or was killed for want of memory {log}");
        return Check::new(NAME, Status::Passed, message, details);
    }
    let message = format!(
        "programs crashed {crashes} times ({}) and were killed for want of memory {kills} times ({}) {log}",
        words(&crashed),
        words(&killed)
    );
    Check::new(NAME, Status::Warning, message, details)
}

/// When the kernel itself said what: `priority,sequence,microseconds,flags;text`
/// (`Documentation/ABI/testing/dev-kmsg`). What a program wrote into the log has another facility.
fn said_by_the_kernel(record: &str) -> Option<(Duration, &str)> {
    let (head, text) = record.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let micros = fields.nth(1)?.parse().ok()?;
    (priority >> 3 == 0).then(|| (Duration::from_micros(micros), text.lines().next().unwrap_or("")))
}

/// The lines of `mm/oom_kill.c` (`Out of memory: Killed process 7 (name) total-vm:…`), of
/// `arch/x86/mm/fault.c` (`name[7]: segfault at …`) and of `arch/x86/kernel/traps.c`
/// (`traps: name[7] general protection fault …`, `traps: name[7] trap invalid opcode …`). A name may hold
/// anything, so it is what lies between the first and the last of what frames it.
fn ended(text: &str) -> Option<ProgramEnd<'_>> {
    if let Some(killed) = ["Out of memory: ", "Memory cgroup out of memory: "]
        .iter()
        .find_map(|cause| text.strip_prefix(cause)?.strip_prefix("Killed process "))
    {
        let (_, name) = killed.split_once(" (")?;
        return Some(ProgramEnd::Killed(name.rsplit_once(") total-vm:")?.0));
    }
    let process = match text.strip_prefix("traps: ") {
        Some(trap) => ["] trap ", "] general protection fault"]
            .iter()
            .find_map(|what| Some(trap.rsplit_once(what)?.0))?,
        None => text.rsplit_once("]: segfault at ")?.0,
    };
    let (name, pid) = process.rsplit_once('[')?;
    pid.parse::<u32>().ok().map(|_| ProgramEnd::Crashed(name))
}

#[cfg(test)]
mod tests {
    use super::super::super::test_context;
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600_000_000;

    #[test]
    fn the_end_of_a_program_is_known_by_the_kernel_s_own_words() {
        for (text, expected) in [
            (
                "Out of memory: Killed process 912 (java) total-vm:9kB, anon-rss:1kB, UID:0 pgtables:1kB oom_score_adj:0",
                Some(ProgramEnd::Killed("java")),
            ),
            (
                "Memory cgroup out of memory: Killed process 9 (a) b (c) total-vm:9kB, anon-rss:1kB",
                Some(ProgramEnd::Killed("a) b (c")),
            ),
            (
                "Web Content[77]: segfault at 0 ip 000055 sp 00007f error 4 in firefox[55+1] likely on CPU 1 (core 1, socket 0)",
                Some(ProgramEnd::Crashed("Web Content")),
            ),
            (
                "traps: qemu[7] general protection fault ip:7f sp:7f error:0 in libc.so.6[7f+1]",
                Some(ProgramEnd::Crashed("qemu")),
            ),
            (
                "traps: a[b]c[7] trap invalid opcode ip:55 sp:7f error:0 in a[55+1]",
                Some(ProgramEnd::Crashed("a[b]c")),
            ),
            ("oom_reaper: reaped process 912 (java), now anon-rss:0kB", None),
            ("x[y]: segfault at 0", None),
            ("ata1: failed", None),
        ] {
            assert_eq!(ended(text), expected, "{text}");
        }
    }

    #[test]
    fn only_what_the_kernel_said_in_the_last_day_counts() {
        let mut seen = Crashes::default();
        let now = Duration::from_micros(30 * HOUR);
        for (priority, hour, text) in [
            (6, 1, "old[1]: segfault at 0 ip 1"),
            (6, 7, "app[2]: segfault at 0 ip 1\n SUBSYSTEM=x"),
            (3, 8, "Out of memory: Killed process 3 (big) total-vm:1kB"),
            (14, 9, "forged[4]: segfault at 0 ip 1"),
            (6, 10, "app[5]: segfault at 0 ip 1"),
        ] {
            seen.take(format!("{priority},12,{},-;{text}\n", hour * HOUR).as_bytes(), now);
        }
        let check = judged(&seen);
        assert_eq!(check.status, Status::Warning);
        assert_eq!(
            check.message,
            "programs crashed 2 times (app) and were killed for want of memory 1 times (big) \
             in the last 24.0 hours by the kernel's log"
        );
        assert_eq!(check.details["crashed_programs"], json!([{ "program": "app", "times": 2 }]));
        assert_eq!(judged(&Crashes::default()).status, Status::Passed);
    }

    #[tokio::test]
    async fn what_this_machine_s_log_tells_is_counted_or_said_to_be_unknown() {
        let check = check(&test_context()).await;
        match check.details["crashes"].as_u64() {
            Some(_) => assert!(check.details["hours"].as_f64().unwrap() <= 24.0),
            None => {
                assert_eq!(check.details["available"], false);
                assert!(check.message.contains("is not known"), "{}", check.message);
            }
        }
    }

    proptest! {
        #[test]
        fn any_record_is_read_without_panic(
            bytes: Vec<u8>,
            text in "(6,1,1,-;)?((traps: |Out of memory: Killed process |a|\\[7|\\]: segfault at |\\] trap |\\(|\\) total-vm:){0,6})",
        ) {
            let mut seen = Crashes::default();
            seen.take(&bytes, Duration::ZERO);
            seen.take(text.as_bytes(), Duration::ZERO);
        }
    }
}
