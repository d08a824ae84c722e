//! Processor use from `/proc/stat`. Does not know which process used it.
//!
//! # Why not `sysinfo`
//! It does not give steal and iowait, and its first value is 100 % with nothing behind it.

use std::time::Duration;

use tokio::time::Instant;

use super::procfs::Reader;
use super::temperature::TemperatureSensor;
use super::{Collector, CollectorContext, NoOptions, Registered, parse, tell};
use crate::metrics::counter::{Difference, NoInterval, bound};
use crate::model::{Cpu, CpuSeconds, Group, SystemMetrics};

/// Processor use over the time since the reading before: total, per core, steal, iowait; and the
/// temperature.
///
/// Used is what is neither idle nor waiting for I/O. Steal counts as used: the machine wanted the
/// processor and another one had it. A core that has just come has no interval yet and is left out
/// once; one that went away is gone.
///
/// Where the counters began anew (a container or a restored machine), or moved by more than the time allows, there
/// is no value for that interval, and the reading says why; the next one counts from there. Steal alone that is not
/// believable is left out, and the rest is reported without it.
#[derive(Debug, Default)]
pub struct CpuCollector {
    file: Reader,
    before: Option<(Instant, Stat)>,
    sensor: TemperatureSensor,
}

impl CpuCollector {
    /// A collector that has not read yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Registered for CpuCollector {
    const GROUP: Group = Group::Cpu;
    type Options = NoOptions;

    fn build(_: &NoOptions, _: &CollectorContext<'_>) -> Self {
        Self::new()
    }
}

impl Collector for CpuCollector {
    fn group(&self) -> Group {
        Group::Cpu
    }

    fn read(&mut self, now: Instant, into: &mut SystemMetrics) {
        let stat = match self.file.read("/proc/stat").map(parse) {
            Ok(Some(stat)) => stat,
            Ok(None) => {
                return tell(into, Group::Cpu, "cannot find the line \"cpu\" in /proc/stat");
            }
            Err(error) => {
                return tell(into, Group::Cpu, format!("cannot read /proc/stat: {error}"));
            }
        };
        let Some((then, before)) = &self.before else {
            self.before = Some((now, stat));
            return;
        };
        match usage(before, &stat, now.saturating_duration_since(*then)) {
            // Keep the older reading, so that the next one has an interval.
            Usage::NoTick => return,
            Usage::Unknown(why) => {
                let what = format!("no processor use for this interval: in /proc/stat {why}");
                tell(into, Group::Cpu, what);
            }
            Usage::Known(mut cpu, steal) => {
                if let Some(steal) = steal {
                    let what = format!("no steal for this interval: in /proc/stat steal {steal}");
                    tell(into, Group::Cpu, what);
                }
                cpu.temperature_celsius = self.sensor.read(now);
                into.cpu = Some(cpu.into());
            }
        }
        self.before = Some((now, stat));
    }
}

/// Ticks by kind, in the order of the kernel (`Documentation/filesystems/proc.rst`): user, nice,
/// system, idle, iowait, irq, softirq, steal. Guest time follows them there, but is part of user and
/// nice already and must not be counted twice.
type Ticks = [u64; 8];
const KINDS: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
const IOWAIT: usize = 4;
const STEAL: usize = 7;

/// How far a kind may step back on one core without being taken for a restart, in ticks: `proc.rst` says that
/// iowait may decrease, and idle is rounded anew at each reading (`get_idle_time` in `fs/proc/stat.c`).
const IOWAIT_BACK: u64 = 100;
const IDLE_BACK: u64 = 2;

/// Beyond the interval itself, what one core may count in it: a reading may come late, and a guest that was
/// stopped may be given its steal in one go.
const SLACK: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq)]
struct Stat {
    total: Ticks,
    /// How many of the kinds this kernel reports.
    kinds: usize,
    /// By number, because the lines of cores that are off are missing.
    cores: Vec<(u64, Ticks)>,
}

fn parse(text: &[u8]) -> Option<Stat> {
    let mut total = None;
    let mut cores = Vec::new();
    for line in parse::lines(text) {
        let Some(line) = line.strip_prefix(b"cpu") else { break };
        let mut words = line.split(|byte| *byte == b' ');
        let name = words.next().unwrap_or_default();
        let mut ticks = Ticks::default();
        let mut kinds = 0;
        for (tick, word) in ticks.iter_mut().zip(words.filter(|word| !word.is_empty())) {
            *tick = parse::number(word)?;
            kinds += 1;
        }
        match parse::number(name) {
            Some(core) => cores.push((core, ticks)),
            None => total = (kinds > IDLE).then_some((ticks, kinds)),
        }
    }
    total.map(|(total, kinds)| Stat { total, kinds, cores })
}

/// What two readings come to.
#[derive(Debug, PartialEq)]
enum Usage {
    /// No tick has passed.
    NoTick,
    /// The counters say nothing about this interval, and why.
    Unknown(NoInterval),
    /// What was used; and why steal is left out, where it had to be.
    Known(Cpu, Option<Difference>),
}

fn usage(before: &Stat, after: &Stat, elapsed: Duration) -> Usage {
    let hertz = rustix::param::clock_ticks_per_second();
    let a_core = bound(hertz, elapsed, SLACK);
    let spent = match spent(&before.total, &after.total, a_core, after.cores.len() as u64) {
        Ok(spent) => spent,
        Err(why) => return Usage::Unknown(why),
    };
    let Some(usage_percent) = busy(&spent.ticks) else { return Usage::NoTick };
    let share =
        |kind| (after.kinds > kind).then(|| percent(spent.ticks[kind], spent.ticks.iter().sum()));
    let cores = after.cores.iter().filter_map(|(core, ticks)| {
        let (_, before) = before.cores.iter().find(|(number, _)| number == core)?;
        let spent = self::spent(before, ticks, a_core, 1).ok()?;
        Some(busy(&spent.ticks).unwrap_or(0.0))
    });
    let cpu = Cpu {
        usage_percent,
        cores_usage_percent: cores.collect(),
        steal_percent: share(STEAL).filter(|_| spent.steal.is_none()),
        iowait_percent: share(IOWAIT),
        temperature_celsius: None,
        seconds: Some(seconds(&after.total, hertz)),
    };
    Usage::Known(cpu, spent.steal)
}

/// Ticks since boot as seconds.
fn seconds(ticks: &Ticks, hertz: u64) -> CpuSeconds {
    let [user, nice, system, idle, iowait, irq, softirq, steal] =
        ticks.map(|ticks| ticks as f64 / hertz.max(1) as f64);
    CpuSeconds { user, nice, system, idle, iowait, irq, softirq, steal }
}

/// Ticks between two readings of one line.
struct Spent {
    ticks: Ticks,
    /// Why steal counts as none, where it is not believable.
    steal: Option<Difference>,
}

/// The ticks between two readings of a line that sums up `cores`, each of which counts at most `a_core`; or
/// why there are none.
fn spent(before: &Ticks, after: &Ticks, a_core: u64, cores: u64) -> Result<Spent, NoInterval> {
    let cores = cores.max(1);
    let most = a_core.saturating_mul(cores);
    let mut spent = Spent { ticks: Ticks::default(), steal: None };
    for kind in 0..KINDS.len() {
        let difference = Difference::between(Some(before[kind]), after[kind], most);
        spent.ticks[kind] = match (kind, difference) {
            (_, Difference::Moved(ticks)) => ticks,
            (IDLE, Difference::Restarted { from, to }) if from - to <= IDLE_BACK * cores => 0,
            (IOWAIT, Difference::Restarted { from, to }) if from - to <= IOWAIT_BACK * cores => 0,
            (STEAL, difference) => {
                spent.steal = Some(difference);
                0
            }
            (kind, difference) => return Err(NoInterval { counter: KINDS[kind], difference }),
        };
    }
    Ok(spent)
}

/// Share of time in use; `None` where no tick has passed.
fn busy(spent: &Ticks) -> Option<f64> {
    let total: u64 = spent.iter().sum();
    (total > 0).then(|| percent(total - spent[IDLE] - spent[IOWAIT], total))
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stat(text: &str) -> Stat {
        parse(text.as_bytes()).unwrap()
    }

    fn known(before: &Stat, after: &Stat) -> Cpu {
        match usage(before, after, SECOND) {
            Usage::Known(cpu, None) => cpu,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn use_is_what_is_neither_idle_nor_waiting_and_guests_count_once() {
        let before =
            stat("cpu  100 0 100 1000 50 0 0 0 100 0\ncpu0 100 0 100 1000 50 0 0 0 100 0\n");
        let after = stat(
            "cpu  140 0 110 1030 60 0 0 10 140 0\ncpu0 140 0 110 1030 60 0 0 10 140 0\nintr 5",
        );
        let cpu = known(&before, &after);
        assert_eq!(cpu.usage_percent, 60.0);
        assert_eq!(cpu.cores_usage_percent, [60.0]);
        assert_eq!((cpu.steal_percent, cpu.iowait_percent), (Some(10.0), Some(10.0)));
    }

    #[test]
    fn a_core_that_comes_or_goes_leaves_the_others_in_place() {
        let both = stat("cpu  0 0 0 0\ncpu0 0 0 0 0\ncpu2 0 0 0 0\n");
        let other = stat("cpu  30 0 0 70\ncpu1 9 0 0 1\ncpu2 20 0 0 80\n");
        assert_eq!(known(&both, &other).cores_usage_percent, [20.0]);
    }

    #[test]
    fn iowait_that_steps_back_is_no_time() {
        let before = stat("cpu  10 0 0 100 50 0 0 0\n");
        let after = stat("cpu  20 0 0 110 40 0 0 0\n");
        let cpu = known(&before, &after);
        assert_eq!((cpu.usage_percent, cpu.iowait_percent), (50.0, Some(0.0)));
    }

    #[test]
    fn counters_that_began_anew_cost_one_interval_and_say_so() {
        let before = stat("cpu 1000090 0 500045 9000135 0 0 0 7\n");
        let restarted = stat("cpu  500 0 300 4000 0 0 0 0\n");
        let Usage::Unknown(why) = usage(&before, &restarted, SECOND) else { panic!("a value") };
        assert_eq!(why.to_string(), "user went back from 1000090 to 500");
        let after = stat("cpu  505 0 300 4095 0 0 0 0\n");
        assert_eq!(known(&restarted, &after).usage_percent, 5.0);
    }

    #[test]
    fn idle_far_back_is_not_taken_for_a_busy_machine() {
        let before = stat("cpu  10 0 0 400000 0 0 0 0\n");
        let after = stat("cpu  20 0 0 51539 0 0 0 0\n");
        assert!(matches!(usage(&before, &after, SECOND), Usage::Unknown(_)));
        let rounded = stat("cpu  20 0 0 399999 0 0 0 0\n");
        assert!(matches!(usage(&before, &rounded, SECOND), Usage::Known(..)), "a tick");
    }

    #[test]
    fn steal_that_is_not_believable_is_left_out_and_the_rest_is_right() {
        let before = stat("cpu  10 0 0 100 0 0 0 7\ncpu0 10 0 0 100 0 0 0 7\n");
        for steal in [1_800_000_000_000, u64::MAX, 6] {
            let line = format!(" 30 0 0 180 0 0 0 {steal}\n");
            let after = stat(&format!("cpu{line}cpu0{line}"));
            let Usage::Known(cpu, Some(why)) = usage(&before, &after, SECOND) else {
                panic!("no value for {steal}")
            };
            assert_eq!((cpu.usage_percent, cpu.steal_percent), (20.0, None), "{why}");
            assert_eq!(cpu.cores_usage_percent, [20.0]);
        }
    }

    #[test]
    fn user_time_beyond_the_interval_is_not_believed() {
        let before = stat("cpu  10 0 0 100 0 0 0 0\n");
        let after = stat("cpu  18446744073709551615 0 0 190 0 0 0 0\n");
        assert!(matches!(usage(&before, &after, SECOND), Usage::Unknown(_)));
    }

    #[test]
    fn two_readings_within_one_tick_have_no_interval() {
        let same = stat("cpu  10 0 0 100 50 0 0 0\n");
        assert_eq!(usage(&same, &same, SECOND), Usage::NoTick);
    }

    #[test]
    fn a_kernel_without_steal_says_none_and_an_unreadable_text_is_refused() {
        let cpu = known(&stat("cpu  0 0 0 0\n"), &stat("cpu  1 0 0 1\n"));
        assert_eq!((cpu.usage_percent, cpu.steal_percent, cpu.iowait_percent), (50.0, None, None));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"cpu 1 2\n"), None);
        assert_eq!(parse(b"cpu 1 2 x 4\n"), None);
    }

    proptest! {
        #[test]
        fn any_two_texts_give_shares_between_0_and_100(
            a in "(cpu[0-9 ]{0,60}\n){0,4}", b in "(cpu[0-9 ]{0,60}\n){0,4}", bytes: Vec<u8>,
        ) {
            let _ = parse(&bytes);
            let (Some(a), Some(b)) = (parse(a.as_bytes()), parse(b.as_bytes())) else { return Ok(()) };
            let Usage::Known(cpu, _) = usage(&a, &b, SECOND) else { return Ok(()) };
            prop_assert!((0.0..=100.0).contains(&cpu.usage_percent));
            prop_assert!(cpu.cores_usage_percent.iter().all(|core| (0.0..=100.0).contains(core)));
        }
    }
}
