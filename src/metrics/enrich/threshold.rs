//! Reports a value that stays above a bound, and that it is back. Passes every reading on as it is.

use std::time::Duration;

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::json;
use tokio::time::Instant;

use super::{Enricher, Options, EnricherContext};
use crate::model::{Group, PressureStats, SystemMetrics};
use crate::pipeline::{Output, Restore, Transform};
use crate::values::units::Bound;
use crate::values::words::{NEEDED, NONE, TIME};
use crate::values::{Period, Problem, Manual, Section, key};
use crate::wire::outbound::{AgentEvent, Severity};

pub(super) const MANUAL: Manual = Manual {
    key: key(
        "threshold",
        "table, see below",
        NONE,
        "{ of = \"memory\", above = 90, for = \"2m\", until = 80 }",
        "reports a value that stays above a bound, to the log and as an `agent_event`",
        ),
    options: Some(Section {
        header: "`threshold = { … }` in `[[enrich]]`",
        about: "The event goes to a host that takes `agent_event`, once when the value has stayed above the bound for the \
                time, and once when it is back.",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"memory\"]\n[[enrich]]\nthreshold.of = \"memory\"\nthreshold.above = 90\nthreshold.{}\n[write]\nstdout = true",
        keys: &[
            key(
                "of",
                "`\"cpu\"`, `\"iowait\"`, `\"steal\"`, `\"temperature\"`, `\"memory\"`, `\"swap\"`, `\"disk\"`, `\"inodes\"`, `\"load\"`, \
                 `\"cpu-pressure\"`, `\"memory-pressure\"` or `\"io-pressure\"`",
                NEEDED,
                "\"disk\"",
                "what is watched: percent, but for `temperature` (°C) and `load` (one minute); of `disk` and `inodes` the \
                 fullest file system; of pressure the share of the last 60 s in which some task waited",
            ),
            key("above", "number", NEEDED, "90", "the bound"),
            key("for", TIME, "(at once)", "\"2m\"", "how long it must stay above"),
            key("until", "number", "(`above`)", "80", "the value counts as back at or below this"),
        ],
    }),
};

/// What can be watched. Shares are in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Use of all cores together.
    Cpu,
    /// Time spent waiting for I/O.
    Iowait,
    /// Time that the hypervisor gave to others.
    Steal,
    /// The hottest processor sensor, in °C.
    Temperature,
    /// Used memory.
    Memory,
    /// Used swap; nothing where there is no swap.
    Swap,
    /// Used space of the fullest file system.
    Disk,
    /// Used inodes of the fullest file system.
    Inodes,
    /// Load average over one minute.
    Load,
    /// Time in which some task waited for a processor, of the last 60 s.
    CpuPressure,
    /// Time in which some task waited for memory, of the last 60 s.
    MemoryPressure,
    /// Time in which some task waited for I/O, of the last 60 s.
    IoPressure,
}

impl Measure {
    /// Its name in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Iowait => "iowait",
            Self::Steal => "steal",
            Self::Temperature => "temperature",
            Self::Memory => "memory",
            Self::Swap => "swap",
            Self::Disk => "disk",
            Self::Inodes => "inodes",
            Self::Load => "load",
            Self::CpuPressure => "cpu-pressure",
            Self::MemoryPressure => "memory-pressure",
            Self::IoPressure => "io-pressure",
        }
    }

    /// The group that it is in.
    pub const fn group(self) -> Group {
        match self {
            Self::Cpu | Self::Iowait | Self::Steal | Self::Temperature => Group::Cpu,
            Self::Memory | Self::Swap => Group::Memory,
            Self::Disk | Self::Inodes => Group::Disk,
            Self::Load => Group::Load,
            Self::CpuPressure | Self::MemoryPressure | Self::IoPressure => Group::Pressure,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Temperature => " °C",
            Self::Load => "",
            _ => " %",
        }
    }

    /// Its value in `reading`, and the file system that it is of.
    fn of(self, reading: &SystemMetrics) -> Option<(f64, Option<&str>)> {
        let share = |part: u64, whole: u64| {
            (whole > 0).then(|| part.min(whole) as f64 / whole as f64 * 100.0)
        };
        let of_cpu = |value: Option<f64>| value.map(|value| (value, None));
        let some = |stats: &Option<PressureStats>| Some((stats.as_ref()?.some_60s_percent, None));
        match self {
            Self::Cpu => Some((reading.cpu.as_ref()?.usage_percent, None)),
            Self::Iowait => of_cpu(reading.cpu.as_ref()?.iowait_percent),
            Self::Steal => of_cpu(reading.cpu.as_ref()?.steal_percent),
            Self::Temperature => of_cpu(reading.cpu.as_ref()?.temperature_celsius),
            Self::Memory => {
                let memory = reading.memory.as_ref()?;
                Some((share(memory.used_bytes, memory.total_bytes)?, None))
            }
            Self::Swap => {
                let memory = reading.memory.as_ref()?;
                Some((share(memory.swap_used_bytes, memory.swap_total_bytes)?, None))
            }
            Self::Disk | Self::Inodes => {
                let mounts = reading.disk.as_ref()?.mounts.iter();
                let used = mounts.filter_map(|mount| {
                    let used = match self {
                        // As `df` has it: of what an ordinary user can write.
                        Self::Disk => {
                            let usable = mount.used_bytes.saturating_add(mount.available_bytes);
                            share(mount.used_bytes, usable)
                        }
                        _ => share(mount.used_inodes?, mount.total_inodes?),
                    };
                    Some((used?, Some(mount.mount_point.as_str())))
                });
                used.max_by(|(one, _), (other, _)| one.total_cmp(other))
            }
            Self::Load => Some((reading.load.as_ref()?.one, None)),
            Self::CpuPressure => some(&reading.pressure.as_ref()?.cpu),
            Self::MemoryPressure => some(&reading.pressure.as_ref()?.memory),
            Self::IoPressure => some(&reading.pressure.as_ref()?.io),
        }
    }
}

/// When a value is too high, and when it is well again.
#[derive(Debug, Clone, PartialEq)]
pub struct Crossing {
    /// What is watched.
    pub of: Measure,
    /// It is too high above this.
    pub above: f64,
    /// And stays there for this long.
    pub hold: Duration,
    /// Then it is well again at this or below. At most `above`: between the two nothing changes.
    pub until: f64,
}

impl<'de> Deserialize<'de> for Crossing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ThresholdKeys { of, above: Bound(above), hold, until } =
            ThresholdKeys::deserialize(deserializer)?;
        let until = until.map_or(above, |Bound(until)| until);
        if until > above {
            let help = "until = 80 belongs to above = 90: between the two nothing changes";
            return Err(Problem::new("has an `until` above its `above`", help).pack());
        }
        Ok(Self { of, above, hold: hold.map(Period::get).unwrap_or_default(), until })
    }
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ThresholdKeys {
    of: Measure,
    above: Bound,
    #[serde(rename = "for")]
    hold: Option<Period>,
    until: Option<Bound>,
}

impl Options for Crossing {
    fn build(&self, context: &EnricherContext<'_>) -> Enricher {
        let notify = (context.notify)();
        context
            .stateful("threshold", Threshold::new(context.pipeline, self.clone(), notify))
    }

    fn needs(&self) -> Vec<Group> {
        vec![self.of.group()]
    }
}

/// Gets the events.
pub type Notify = Box<dyn Fn(AgentEvent) + Send>;

/// Watches one value of the readings that pass. One that stays above its bound for the time is reported once, and once
/// more when it is well again; both are logged, too. A reading without the value changes nothing.
pub struct Threshold {
    pipeline: String,
    crossing: Crossing,
    phase: Phase,
    notify: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Well,
    /// Above the bound since then, and not reported.
    High(Instant),
    Reported,
}

impl Threshold {
    /// Watches as `crossing` says and gives the events of `pipeline` to `notify`.
    pub fn new(pipeline: &str, crossing: Crossing, notify: Notify) -> Self {
        Self { pipeline: pipeline.to_owned(), crossing, phase: Phase::Well, notify }
    }

    fn look(&mut self, taken: Instant, value: f64, place: Option<&str>) {
        let Crossing { above, hold, until, .. } = self.crossing;
        self.phase = match self.phase {
            Phase::Reported if value <= until => {
                self.report(Severity::Info, value, place);
                Phase::Well
            }
            Phase::Reported => Phase::Reported,
            _ if value.is_nan() || value <= above => Phase::Well,
            Phase::High(since) if taken.saturating_duration_since(since) < hold => {
                Phase::High(since)
            }
            Phase::Well if !hold.is_zero() => Phase::High(taken),
            _ => {
                self.report(Severity::Warn, value, place);
                Phase::Reported
            }
        };
    }

    fn report(&self, severity: Severity, value: f64, place: Option<&str>) {
        let Crossing { of, above, hold, until } = self.crossing;
        let (name, unit) = (of.name(), of.unit());
        let of_place = place.map(|place| format!(" of {place}")).unwrap_or_default();
        let is_high = severity == Severity::Warn;
        let message = match (is_high, hold.is_zero()) {
            (true, true) => format!("{name}{of_place} is above {above}{unit}: {value:.1}{unit}"),
            (true, false) => {
                let hold = humantime::format_duration(hold);
                format!("{name}{of_place} is above {above}{unit} for {hold}: {value:.1}{unit}")
            }
            (false, _) => format!("{name}{of_place} is back at {value:.1}{unit}"),
        };
        match is_high {
            true => tracing::warn!(pipeline = self.pipeline, "{message}"),
            false => tracing::info!(pipeline = self.pipeline, "{message}"),
        }
        let context = json!({
            "pipeline": self.pipeline,
            "of": name,
            "state": if is_high { "above" } else { "back" },
            "value": value,
            "above": above,
            "until": until,
            "mount_point": place,
        });
        let (source, execution_id, context) = ("threshold", None, Some(context));
        (self.notify)(AgentEvent { severity, source, message, execution_id, context });
    }
}

impl Transform for Threshold {
    type In = SystemMetrics;
    type Out = SystemMetrics;

    fn name(&self) -> String {
        "threshold".to_owned()
    }

    fn apply(&mut self, _now: Instant, input: &SystemMetrics, out: &mut Output<SystemMetrics>) {
        if let Some((value, place)) = self.crossing.of.of(input) {
            self.look(input.taken, value, place);
        }
        out.push(input.clone());
    }
}

impl Restore for Threshold {
    fn restore(&mut self, before: Self) {
        if before.crossing.of == self.crossing.of {
            self.phase = before.phase;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Disk, Memory, Mount};
    use std::sync::{Arc, mpsc};
    use std::time::SystemTime;

    fn crossing(of: Measure, hold: u64) -> Crossing {
        Crossing { of, above: 90.0, hold: Duration::from_secs(hold), until: 80.0 }
    }

    /// A threshold, and where its events arrive.
    fn watched(crossing: Crossing) -> (Threshold, mpsc::Receiver<AgentEvent>) {
        let (send, events) = mpsc::sync_channel(16);
        let notify = move |event| send.send(event).unwrap();
        (Threshold::new("metrics", crossing, Box::new(notify)), events)
    }

    /// The events of readings with this used memory, of a hundred bytes, ten seconds apart.
    fn count_passed(threshold: &mut Threshold, start: Instant, used: &[u64]) -> usize {
        let mut out = Output::default();
        for (number, used_bytes) in used.iter().enumerate() {
            let taken = start + Duration::from_secs(10 * number as u64);
            let mut reading =
                SystemMetrics::empty(SystemTime::UNIX_EPOCH, taken, Duration::ZERO, 0);
            let memory = Memory { total_bytes: 100, used_bytes: *used_bytes, ..Memory::default() };
            reading.memory = Some(Arc::new(memory));
            threshold.apply(taken, &reading, &mut out);
        }
        out.drain().count()
    }

    #[test]
    fn what_stays_above_is_told_once_and_its_end_once() {
        let (mut threshold, events) = watched(crossing(Measure::Memory, 20));
        let used = [91, 91, 90, 91, 91, 95, 99, 85, 95, 81, 80, 85, 91];
        assert_eq!(count_passed(&mut threshold, Instant::now(), &used), used.len(), "all pass");
        let events: Vec<_> = events.try_iter().collect();
        let messages: Vec<_> = events.iter().map(|event| event.message.as_str()).collect();
        assert_eq!(messages, ["memory is above 90 % for 20s: 95.0 %", "memory is back at 80.0 %"]);
        assert_eq!(
            events.iter().map(|event| event.severity).collect::<Vec<_>>(),
            [Severity::Warn, Severity::Info]
        );
        assert_eq!(events[0].context.as_ref().unwrap()["value"], 95.0);
    }

    #[test]
    fn without_a_time_the_first_reading_above_is_told() {
        let (mut threshold, events) = watched(crossing(Measure::Memory, 0));
        count_passed(&mut threshold, Instant::now(), &[90, 91, 92]);
        let events: Vec<_> = events.try_iter().map(|event| event.message).collect();
        assert_eq!(events, ["memory is above 90 %: 91.0 %"]);
    }

    #[test]
    fn a_reload_goes_on_with_what_was_told() {
        let (mut old, first) = watched(crossing(Measure::Memory, 0));
        count_passed(&mut old, Instant::now(), &[95]);
        assert_eq!(first.try_iter().count(), 1);
        let (mut new, second) = watched(crossing(Measure::Memory, 0));
        new.restore(old);
        count_passed(&mut new, Instant::now(), &[95, 70]);
        let messages: Vec<_> = second.try_iter().map(|event| event.message).collect();
        assert_eq!(messages, ["memory is back at 70.0 %"]);
    }

    #[test]
    fn of_file_systems_the_fullest_counts_and_one_of_no_size_does_not() {
        let mount = |mount_point: &str, used_bytes, available_bytes| Mount {
            mount_point: mount_point.to_owned(),
            total_bytes: 1_000,
            used_bytes,
            available_bytes,
            ..Mount::default()
        };
        let mut reading =
            SystemMetrics::empty(SystemTime::UNIX_EPOCH, Instant::now(), Duration::ZERO, 0);
        assert_eq!(Measure::Disk.of(&reading), None);
        let mounts = vec![mount("/proc", 0, 0), mount("/", 500, 500), mount("/srv", 900, 60)];
        reading.disk = Some(Arc::new(Disk { mounts, ..Disk::default() }));
        assert_eq!(Measure::Disk.of(&reading), Some((93.75, Some("/srv"))));
        assert_eq!(Measure::Inodes.of(&reading), None);
    }
}
