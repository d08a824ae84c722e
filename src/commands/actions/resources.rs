//! Whether the machine has more or less than it needs, from what was measured. Changes nothing.

use std::time::Duration;

use serde_json::{Value, json};

use super::action::{Action, NoArguments, Unfit};
use super::page::Name;
use super::plan::Plan;
use super::{ActionOutcome, Context, sample};
use crate::commands::outcome::Outcome;
use crate::metrics::collect::*;
use crate::model::{Rank, SystemMetrics};

/// How long the processor is watched; the load averages look back a quarter of an hour besides.
const INTERVAL: Duration = Duration::from_secs(3);
/// Processes told of, the busiest.
const PROCESSES: usize = 10;
const MIB: u64 = 1024 * 1024;
/// Nothing smaller is recommended.
const MEMORY_MIN_MIB: u64 = 1024;

/// `{status: "optimal" | "suboptimal", recommendations, cpu_optimization_available,
/// memory_optimization_available, disk_optimization_available, processes, measured}`.
///
/// What it recommends rests on three seconds of processor use, the load of the last fifteen minutes,
/// and memory and disks as they are now; `measured` says so. To give something up is recommended only
/// when the machine has been up for those fifteen minutes.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckResourceOptimization;

impl Action for CheckResourceOptimization {
    const NAMES: &'static [Name] = &[Name::new(
        "CheckResourceOptimization",
        "measures for three seconds",
        "`{status, recommendations: […]}`",
    )
    .sent_bare()];
    type Arguments = NoArguments;

    fn new(_: &'static str, _: NoArguments) -> Result<Self, Unfit> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::reads("measures for three seconds; runs no program, changes nothing")
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        let processes =
            ProcessesOptions { keep: PROCESSES, by: Rank::Cpu, command_line: cx.command_line };
        let collectors: Vec<Box<dyn Collector>> = vec![
            Box::new(CpuCollector::new()),
            Box::new(MemoryCollector::new()),
            Box::new(LoadCollector::new()),
            Box::new(DiskCollector::new(DiskOptions::default())),
            Box::new(ProcessesCollector::new(processes)),
        ];
        let outcome = match sample::over(cx.deadline, INTERVAL, collectors).await {
            Ok(reading) => Outcome::data(report(&reading)),
            Err(error) => Outcome::failed(error),
        };
        outcome.into()
    }
}

fn report(reading: &SystemMetrics) -> Value {
    let found = [cpu(reading), memory(reading)];
    let disks = disks(reading);
    let available = found.each_ref().map(Option::is_some);
    let recommendations: Vec<Value> =
        found.into_iter().flatten().chain(disks.iter().cloned()).collect();
    let processes = reading.processes.iter().flat_map(|processes| processes.iter());
    let processes = processes.map(|process| {
        json!({
            "name": process.name,
            "executablePath": process.executable,
            "cpuPercent": tenth(process.cpu_percent),
            "memoryKB": process.rss_bytes / 1024,
            "pid": process.pid,
        })
    });
    let troubles: Vec<&str> =
        reading.troubles.iter().map(|trouble| trouble.what.as_str()).collect();
    json!({
        "status": if recommendations.is_empty() { "optimal" } else { "suboptimal" },
        "recommendations": recommendations,
        "cpu_optimization_available": available[0],
        "memory_optimization_available": available[1],
        "disk_optimization_available": !disks.is_empty(),
        "processes": processes.collect::<Vec<_>>(),
        "measured": {
            "seconds": INTERVAL.as_secs(),
            "cpu_usage_percent": reading.cpu.as_ref().map(|cpu| tenth(cpu.usage_percent)),
            "load_15min": reading.load.as_ref().map(|load| load.fifteen),
            "memory_used_percent": reading.memory.as_ref()
                .map(|memory| tenth(percent(memory.used_bytes, memory.total_bytes))),
            "note": "processor use over three seconds and load over fifteen minutes; memory and disks as they are now",
            "not_readable": troubles,
        },
    })
}

/// More processors for a load that has been half again what they can do; fewer where twice the load of
/// a quarter of an hour would still leave one free.
fn cpu(reading: &SystemMetrics) -> Option<Value> {
    let (cpu, load) = (reading.cpu.as_ref()?, reading.load.as_ref()?);
    let cores = cpu.cores_usage_percent.len().max(1) as f64;
    let wanted = (load.fifteen * 2.0).ceil().max(1.0);
    if load.fifteen > cores * 1.5 && cpu.usage_percent > 80.0 {
        let reason =
            format!("load over fifteen minutes is {:.2} on {cores} processors", load.fifteen);
        return Some(recommendation("cpu", cores, load.fifteen.ceil(), "vCPU", reason));
    }
    let spare = wanted < cores && cpu.usage_percent < 50.0;
    (spare && long_enough(reading)).then(|| {
        let reason =
            format!("load over fifteen minutes is {:.2} of {cores} processors", load.fifteen);
        recommendation("cpu", cores, wanted, "vCPU", reason)
    })
}

/// More memory where less than a tenth is available or a quarter of the swap space is used; less where
/// twice what is used would still leave half of it.
fn memory(reading: &SystemMetrics) -> Option<Value> {
    let memory = reading.memory.as_ref().filter(|memory| memory.total_bytes > 0)?;
    let total = memory.total_bytes / MIB;
    let used = memory.used_bytes / MIB;
    let swapped = percent(memory.swap_used_bytes, memory.swap_total_bytes);
    let available = percent(memory.available_bytes, memory.total_bytes);
    if available < 10.0 || swapped > 25.0 {
        let reason =
            format!("{available:.1} % of memory is available, {swapped:.1} % of swap is used");
        let wanted = (used + memory.swap_used_bytes / MIB).max(total) * 3 / 2;
        return Some(recommendation("memory", total as f64, wanted as f64, "MiB", reason));
    }
    let wanted = (used * 2).max(MEMORY_MIN_MIB);
    (wanted * 2 <= total && memory.swap_used_bytes == 0 && long_enough(reading)).then(|| {
        let reason = format!("{used} of {total} MiB are used");
        recommendation("memory", total as f64, wanted as f64, "MiB", reason)
    })
}

/// More space where more than 85 % is used: so much that it would be 70 %.
fn disks(reading: &SystemMetrics) -> Vec<Value> {
    let mounts = reading.disk.iter().flat_map(|disk| disk.mounts.iter());
    let full = mounts.filter_map(|mount| {
        let size = mount.used_bytes + mount.available_bytes;
        let used = percent(mount.used_bytes, size);
        (used > 85.0).then(|| {
            let gib = |bytes: u64| tenth(bytes as f64 / (1024.0 * MIB as f64));
            let wanted = gib((mount.used_bytes as f64 / 0.7) as u64);
            let reason = format!("{used:.1} % of {} is used", mount.mount_point);
            recommendation(
                "disk",
                gib(mount.total_bytes),
                wanted.max(gib(mount.total_bytes)),
                "GiB",
                reason,
            )
        })
    });
    full.collect()
}

fn recommendation(resource: &str, current: f64, wanted: f64, unit: &str, reason: String) -> Value {
    let saved = if current > 0.0 { ((current - wanted) / current * 100.0).max(0.0) } else { 0.0 };
    json!({
        "resource": resource,
        "current_value": current,
        "recommended_value": wanted,
        "unit": unit,
        "reason": reason,
        "potential_savings_percent": tenth(saved),
    })
}

fn long_enough(reading: &SystemMetrics) -> bool {
    reading.load.as_ref().is_some_and(|load| load.uptime_seconds >= 15 * 60)
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::super::test_context;
    use super::*;
    use crate::model::{Cpu, Disk, Load, Memory, Mount};

    fn machine(load: f64, cpu: f64, used_mib: u64, uptime_seconds: u64) -> SystemMetrics {
        let now = tokio::time::Instant::now();
        let mut reading =
            SystemMetrics::empty(std::time::SystemTime::now(), now, Duration::ZERO, 0);
        let cores_usage_percent = vec![cpu; 4];
        reading.cpu =
            Some(Cpu { usage_percent: cpu, cores_usage_percent, ..Cpu::default() }.into());
        reading.load = Some(Load { one: load, five: load, fifteen: load, uptime_seconds }.into());
        let (total, used) = (8_192 * MIB, used_mib * MIB);
        let memory = Memory {
            total_bytes: total,
            used_bytes: used,
            available_bytes: total - used,
            ..Memory::default()
        };
        reading.memory = Some(memory.into());
        reading
    }

    fn advice(reading: &SystemMetrics) -> Vec<(String, f64, f64)> {
        let data = report(reading);
        let list = data["recommendations"].as_array().unwrap().clone();
        assert_eq!(data["status"] == "optimal", list.is_empty());
        let of = |r: &Value| {
            (
                r["resource"].as_str().unwrap().to_owned(),
                r["current_value"].as_f64().unwrap(),
                r["recommended_value"].as_f64().unwrap(),
            )
        };
        list.iter().map(of).collect()
    }

    #[test]
    fn a_machine_that_fits_is_left_alone() {
        assert_eq!(advice(&machine(2.0, 45.0, 4_000, 9_000)), []);
    }

    #[test]
    fn an_idle_machine_may_give_up_what_it_does_not_use_but_not_just_after_boot() {
        assert_eq!(
            advice(&machine(0.2, 2.0, 700, 9_000)),
            [("cpu".into(), 4.0, 1.0), ("memory".into(), 8_192.0, 1_400.0)]
        );
        assert_eq!(advice(&machine(0.2, 2.0, 700, 60)), []);
    }

    #[test]
    fn a_machine_in_need_is_recommended_more() {
        assert_eq!(
            advice(&machine(9.5, 99.0, 7_800, 60)),
            [("cpu".into(), 4.0, 10.0), ("memory".into(), 8_192.0, 12_288.0)]
        );
        let mut reading = machine(2.0, 45.0, 4_000, 9_000);
        let gib = 1024 * MIB;
        let mount = Mount {
            mount_point: "/".into(),
            total_bytes: 100 * gib,
            used_bytes: 91 * gib,
            available_bytes: 9 * gib,
            ..Mount::default()
        };
        reading.disk = Some(Disk { mounts: vec![mount], ..Disk::default() }.into());
        assert_eq!(advice(&reading), [("disk".into(), 100.0, 130.0)]);
    }

    #[tokio::test]
    async fn what_is_told_was_measured_on_this_machine() {
        let data = CheckResourceOptimization.run(&test_context()).await.outcome.data.unwrap();
        let load: f64 = std::fs::read_to_string("/proc/loadavg")
            .unwrap()
            .split(' ')
            .nth(2)
            .unwrap()
            .parse()
            .unwrap();
        assert!((data["measured"]["load_15min"].as_f64().unwrap() - load).abs() < 0.1);
        let cpu = data["measured"]["cpu_usage_percent"].as_f64().unwrap();
        assert!((0.0..=100.0).contains(&cpu));
        assert_eq!(data["processes"].as_array().unwrap().len(), PROCESSES);
    }
}
