//! Processor use from `/proc/stat`. Does not know which process used it.
//!
//! # Why not `sysinfo`
//! It does not give steal and iowait, and its first value is 100 % with nothing behind it.

use tokio::time::Instant;

use super::proc::Reader;
use super::sensor::Sensor;
use super::{Collector, tell, text};
use crate::model::{Cpu, Group, SystemMetrics};

/// Processor use over the time since the reading before: total, per core, steal, iowait; and the
/// temperature.
///
/// Used is what is neither idle nor waiting for I/O. Steal counts as used: the machine wanted the
/// processor and another one had it. A core that has just come has no interval yet and is left out
/// once; one that went away is gone.
#[derive(Debug, Default)]
pub struct CpuCollector {
    file: Reader,
    before: Option<Stat>,
    sensor: Sensor,
}

impl CpuCollector {
    /// A collector that has not read yet.
    pub fn new() -> Self {
        Self::default()
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
        let Some(before) = &self.before else {
            self.before = Some(stat);
            return;
        };
        // No tick has passed: keep the older reading, so that the next one has an interval.
        let Some(mut cpu) = usage(before, &stat) else { return };
        cpu.temperature_celsius = self.sensor.read(now);
        into.cpu = Some(cpu.into());
        self.before = Some(stat);
    }
}

/// Ticks by kind, in the order of the kernel (`Documentation/filesystems/proc.rst`): user, nice,
/// system, idle, iowait, irq, softirq, steal. Guest time follows them there, but is part of user and
/// nice already and must not be counted twice.
type Ticks = [u64; 8];
const IDLE: usize = 3;
const IOWAIT: usize = 4;
const STEAL: usize = 7;

#[derive(Debug, Clone, PartialEq)]
struct Stat {
    total: Ticks,
    /// How many of the kinds this kernel tells.
    kinds: usize,
    /// By number, because the lines of cores that are off are missing.
    cores: Vec<(u64, Ticks)>,
}

fn parse(text: &[u8]) -> Option<Stat> {
    let mut total = None;
    let mut cores = Vec::new();
    for line in text::lines(text) {
        let Some(line) = line.strip_prefix(b"cpu") else { break };
        let mut words = line.split(|byte| *byte == b' ');
        let name = words.next().unwrap_or_default();
        let mut ticks = Ticks::default();
        let mut kinds = 0;
        for (tick, word) in ticks.iter_mut().zip(words.filter(|word| !word.is_empty())) {
            *tick = text::number(word)?;
            kinds += 1;
        }
        match text::number(name) {
            Some(core) => cores.push((core, ticks)),
            None => total = (kinds > IDLE).then_some((ticks, kinds)),
        }
    }
    total.map(|(total, kinds)| Stat { total, kinds, cores })
}

fn usage(before: &Stat, after: &Stat) -> Option<Cpu> {
    let spent = spent(&before.total, &after.total);
    let share = |kind| (after.kinds > kind).then(|| percent(spent[kind], spent.iter().sum()));
    Some(Cpu {
        usage_percent: busy(&spent)?,
        cores_usage_percent: after
            .cores
            .iter()
            .filter_map(|(core, ticks)| {
                let (_, before) = before.cores.iter().find(|(number, _)| number == core)?;
                Some(busy(&self::spent(before, ticks)).unwrap_or(0.0))
            })
            .collect(),
        steal_percent: share(STEAL),
        iowait_percent: share(IOWAIT),
        temperature_celsius: None,
    })
}

/// Ticks between two readings. Idle and iowait can step back a little (proc.rst says so of iowait),
/// which is no time at all.
fn spent(before: &Ticks, after: &Ticks) -> Ticks {
    std::array::from_fn(|kind| after[kind].saturating_sub(before[kind]))
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

    fn stat(text: &str) -> Stat {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn use_is_what_is_neither_idle_nor_waiting_and_guests_count_once() {
        let before =
            stat("cpu  100 0 100 1000 50 0 0 0 100 0\ncpu0 100 0 100 1000 50 0 0 0 100 0\n");
        let after = stat(
            "cpu  140 0 110 1030 60 0 0 10 140 0\ncpu0 140 0 110 1030 60 0 0 10 140 0\nintr 5",
        );
        let cpu = usage(&before, &after).unwrap();
        assert_eq!(cpu.usage_percent, 60.0);
        assert_eq!(cpu.cores_usage_percent, [60.0]);
        assert_eq!((cpu.steal_percent, cpu.iowait_percent), (Some(10.0), Some(10.0)));
    }

    #[test]
    fn a_core_that_comes_or_goes_leaves_the_others_in_place() {
        let both = stat("cpu  0 0 0 0\ncpu0 0 0 0 0\ncpu2 0 0 0 0\n");
        let other = stat("cpu  30 0 0 70\ncpu1 9 0 0 1\ncpu2 20 0 0 80\n");
        assert_eq!(usage(&both, &other).unwrap().cores_usage_percent, [20.0]);
    }

    #[test]
    fn iowait_that_steps_back_is_no_time() {
        let before = stat("cpu  10 0 0 100 50 0 0 0\n");
        let after = stat("cpu  20 0 0 110 40 0 0 0\n");
        let cpu = usage(&before, &after).unwrap();
        assert_eq!((cpu.usage_percent, cpu.iowait_percent), (50.0, Some(0.0)));
    }

    #[test]
    fn two_readings_within_one_tick_have_no_interval() {
        let same = stat("cpu  10 0 0 100 50 0 0 0\n");
        assert_eq!(usage(&same, &same), None);
    }

    #[test]
    fn a_kernel_without_steal_says_none_and_an_unreadable_text_is_refused() {
        let cpu = usage(&stat("cpu  0 0 0 0\n"), &stat("cpu  1 0 0 1\n")).unwrap();
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
            let Some(cpu) = usage(&a, &b) else { return Ok(()) };
            prop_assert!((0.0..=100.0).contains(&cpu.usage_percent));
            prop_assert!(cpu.cores_usage_percent.iter().all(|core| (0.0..=100.0).contains(core)));
        }
    }
}
