//! The processor's temperature through `sysinfo`. Does not read fans, voltages or other sensors.

use std::time::Duration;

use sysinfo::Components;
use tokio::time::Instant;

/// How long to wait before looking again for a sensor where there was none: a driver may be loaded
/// late, and a look walks all of `/sys/class/hwmon` and `/sys/class/thermal`.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// Words in the names of sensors that are in a processor: the Intel, AMD and Arm drivers, the names
/// they give their channels, and the thermal zones of the same.
const PROCESSOR: [&str; 9] = [
    "coretemp",
    "k10temp",
    "k8temp",
    "zenpower",
    "via_cputemp",
    "x86_pkg_temp",
    "cpu",
    "tctl",
    "tdie",
];

/// The sensors of the processor. They are looked for once; a reading reads only them.
#[derive(Debug, Default)]
pub(super) struct TemperatureSensor {
    /// All sensors; `None` where none is in the processor.
    sensors: Option<Components>,
    looked: Option<Instant>,
}

impl TemperatureSensor {
    /// The hottest of the processor's sensors, °C; `None` where there is none.
    pub(super) fn read(&mut self, now: Instant) -> Option<f64> {
        if self.sensors.is_none() {
            if self.looked.is_some_and(|looked| now.duration_since(looked) < LOOK_AGAIN) {
                return None;
            }
            self.looked = Some(now);
            // A machine without sensors is no trouble, and neither is one that cannot be asked.
            self.sensors = Components::new_with_refreshed_list().ok();
        }
        let of_processor = self.sensors.iter_mut().flat_map(|sensors| sensors.iter_mut());
        let hottest = hottest(
            of_processor.filter(|sensor| is_in_processor(sensor.label())).filter_map(|sensor| {
                sensor.refresh();
                sensor.temperature()
            }),
        );
        if hottest.is_none() {
            self.sensors = None; // there is none, or its driver has gone: look again later
        }
        hottest
    }
}

fn is_in_processor(label: &str) -> bool {
    let label = label.to_ascii_lowercase();
    PROCESSOR.iter().any(|word| label.contains(word))
}

fn hottest(temperatures: impl Iterator<Item = f32>) -> Option<f64> {
    temperatures.filter(|celsius| celsius.is_finite()).max_by(f32::total_cmp).map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_told_from_a_disk_or_a_battery() {
        for label in
            ["coretemp Package id 0", "k10temp Tctl", "cpu_thermal temp1", "x86_pkg_temp temp1"]
        {
            assert!(is_in_processor(label), "{label}");
        }
        for label in ["nvme Composite", "acpitz temp1", "BAT0 temp1", "iwlwifi_1 temp1"] {
            assert!(!is_in_processor(label), "{label}");
        }
    }

    #[test]
    fn the_hottest_counts_and_a_broken_sensor_does_not() {
        assert_eq!(hottest([41.5, f32::NAN, 47.0].into_iter()), Some(47.0));
        assert_eq!(hottest([f32::NAN].into_iter()), None);
    }
}
