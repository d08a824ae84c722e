//! Checks of processor, memory, pressure and temperature, over an interval where they need one. Does
//! not say what to do about them.

use std::time::Duration;

use serde_json::json;

use super::super::action::Action;
use super::super::{Context, resources, sample};
use super::{Check, Status, tenth};
use crate::metrics::collect::{
    Collector, CpuCollector, LoadCollector, MemoryCollector, PressureCollector,
};
use crate::model::{Pressure, SystemMetrics};

/// How long the processor is watched.
const INTERVAL: Duration = Duration::from_secs(1);
const MIB: u64 = 1024 * 1024;

/// `memory_usage`: a warning above 85 % in use (what is available without swapping is not in use),
/// failed above 95 %.
pub(super) async fn memory(cx: &Context) -> Check {
    let collectors: Vec<Box<dyn Collector>> = vec![Box::new(MemoryCollector::new())];
    judge(cx, "memory_usage", Duration::ZERO, collectors, |reading| {
        let memory = reading.memory.as_ref().filter(|memory| memory.total_bytes > 0)?;
        let used = tenth(memory.used_bytes as f64 * 100.0 / memory.total_bytes as f64);
        let message = format!("{used} % of {} MiB is used", memory.total_bytes / MIB);
        let details = json!({
            "used_percent": used,
            "total_mb": memory.total_bytes / MIB,
            "available_mb": memory.available_bytes / MIB,
            "swap_total_mb": memory.swap_total_bytes / MIB,
            "swap_used_mb": memory.swap_used_bytes / MIB,
        });
        Some(Check::new("memory_usage", Status::above(used, 85.0, 95.0), message, details))
    })
    .await
}

/// `cpu_usage`: a warning above 90 % over one second; failed where, besides, the load of the last five
/// minutes is more than twice what the processors can do.
pub(super) async fn cpu(cx: &Context) -> Check {
    let collectors: Vec<Box<dyn Collector>> =
        vec![Box::new(CpuCollector::new()), Box::new(LoadCollector::new())];
    judge(cx, "cpu_usage", INTERVAL, collectors, |reading| {
        let (cpu, load) = (reading.cpu.as_ref()?, reading.load.as_ref()?);
        let used = tenth(cpu.usage_percent);
        let cores = cpu.cores_usage_percent.len().max(1);
        let status = cpu_status(used, load.five / cores as f64);
        let message =
            format!("{used} % in use over one second, load {:.2} over five minutes", load.five);
        let details = json!({
            "usage_percent": used,
            "measured_over_ms": INTERVAL.as_millis() as u64,
            "cores": cores,
            "load_1min": load.one,
            "load_5min": load.five,
            "load_15min": load.fifteen,
        });
        Some(Check::new("cpu_usage", status, message, details))
    })
    .await
}

/// `system_temperature`: the hottest sensor in the processor, a warning above 85 °C, failed above 95 °C.
pub(super) async fn temperature(cx: &Context) -> Check {
    const NAME: &str = "system_temperature";
    let collectors: Vec<Box<dyn Collector>> = vec![Box::new(CpuCollector::new())];
    let interval = Duration::from_millis(100);
    judge(cx, NAME, interval, collectors, |reading| {
        let Some(celsius) = reading.cpu.as_ref().and_then(|cpu| cpu.temperature_celsius) else {
            return Some(Check::unavailable(
                NAME,
                "there is no temperature sensor, as in most virtual machines",
            ));
        };
        let celsius = tenth(celsius);
        let message = format!("the processor has {celsius} °C");
        let details = json!({ "celsius": celsius });
        Some(Check::new(NAME, Status::above(celsius, 85.0, 95.0), message, details))
    })
    .await
}

/// `performance_counters`: how long tasks stood still in the last minute (`/proc/pressure`).
pub(super) async fn pressure(cx: &Context) -> Check {
    const NAME: &str = "performance_counters";
    let collectors: Vec<Box<dyn Collector>> = vec![Box::new(PressureCollector::new())];
    judge(cx, NAME, Duration::ZERO, collectors, |reading| {
        Some(match &reading.pressure {
            Some(pressure) => stalled(pressure),
            None => Check::unavailable(NAME, "this kernel does not tell pressure stalls"),
        })
    })
    .await
}

/// `resource_optimization`.
pub(super) async fn resources(cx: &Context) -> Check {
    const NAME: &str = "resource_optimization";
    let outcome = resources::CheckResourceOptimization.run(cx).await.outcome;
    let Some(data) = outcome.data else {
        return Check::broken(NAME, outcome.error.unwrap_or_default());
    };
    let count = data["recommendations"].as_array().map_or(0, Vec::len);
    let status = if count > 0 { Status::Warning } else { Status::Passed };
    Check::new(NAME, status, format!("{count} recommendations"), data)
}

async fn judge(
    cx: &Context,
    name: &'static str,
    interval: Duration,
    collectors: Vec<Box<dyn Collector>>,
    check: impl FnOnce(&SystemMetrics) -> Option<Check>,
) -> Check {
    match sample::over(cx.deadline, interval, collectors).await {
        Ok(reading) => check(&reading).unwrap_or_else(|| {
            let trouble = reading.troubles.into_iter().map(|trouble| trouble.what).next();
            Check::broken(name, trouble.unwrap_or_else(|| "it could not be read".to_owned()))
        }),
        Err(error) => Check::broken(name, error),
    }
}

fn cpu_status(used_percent: f64, load_per_core: f64) -> Status {
    match (used_percent > 90.0, load_per_core > 2.0) {
        (true, true) => Status::Failed,
        (true, false) => Status::Warning,
        (false, _) => Status::Passed,
    }
}

/// A warning where all tasks stood still for a tenth of the minute for want of memory or I/O, failed
/// for a third; the processor cannot make all stand still, so there what counts is some.
fn stalled(pressure: &Pressure) -> Check {
    let full = |stall: &Option<crate::model::PressureStats>| {
        stall.as_ref().and_then(|stall| stall.full_60s_percent).unwrap_or(0.0)
    };
    let (memory, io) = (full(&pressure.memory), full(&pressure.io));
    let cpu = pressure.cpu.as_ref().map_or(0.0, |stall| stall.some_60s_percent);
    let status = Status::above(memory.max(io), 10.0, 33.0).max(Status::above(cpu, 80.0, f64::MAX));
    let message = format!(
        "in the last minute tasks waited {cpu} % for a processor, and all stood still {memory} % for memory and {io} % for disks"
    );
    let details = json!({
        "cpu_some_60s_percent": cpu,
        "memory_full_60s_percent": memory,
        "io_full_60s_percent": io,
    });
    Check::new("performance_counters", status, message, details)
}

#[cfg(test)]
mod tests {
    use super::super::super::test_context;
    use super::*;
    use crate::model::PressureStats;

    #[tokio::test]
    async fn memory_in_use_is_what_proc_meminfo_says() {
        let check = memory(&test_context()).await;
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let kib = |key: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let used = 100.0 - kib("MemAvailable:") * 100.0 / kib("MemTotal:");
        assert!((check.details["used_percent"].as_f64().unwrap() - used).abs() < 10.0);
        assert_eq!(check.details["total_mb"], (kib("MemTotal:") / 1024.0) as u64);
    }

    #[tokio::test]
    async fn the_processor_is_watched_for_a_second() {
        let start = tokio::time::Instant::now();
        let check = cpu(&test_context()).await;
        assert!(start.elapsed() >= INTERVAL);
        assert!((0.0..=100.0).contains(&check.details["usage_percent"].as_f64().unwrap()));
    }

    #[test]
    fn a_busy_second_is_no_failure_by_itself() {
        assert_eq!(cpu_status(99.0, 0.5), Status::Warning);
        assert_eq!(cpu_status(99.0, 3.0), Status::Failed);
        assert_eq!(cpu_status(40.0, 9.0), Status::Passed);
    }

    #[test]
    fn standing_still_for_memory_is_worse_than_waiting_for_a_processor() {
        let stall = |some, full| {
            Some(PressureStats {
                some_60s_percent: some,
                full_60s_percent: full,
                ..PressureStats::default()
            })
        };
        let of = |cpu, memory| stalled(&Pressure { cpu, memory, io: None }).status;
        assert_eq!(of(stall(70.0, None), stall(5.0, Some(5.0))), Status::Passed);
        assert_eq!(of(stall(95.0, None), None), Status::Warning);
        assert_eq!(of(None, stall(50.0, Some(40.0))), Status::Failed);
    }
}
