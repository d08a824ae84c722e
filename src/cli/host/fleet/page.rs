//! The guests in what a relay serves to Prometheus. Pure: connects to nothing.

use std::collections::BTreeMap;

use crate::wire::plain;

/// A guest as the page has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Guest {
    pub site: String,
    pub vm: String,
    /// It is connected, and a line came lately.
    pub is_up: bool,
    /// When its last line came, in seconds since 1970; 0 before the first.
    pub last_seconds: f64,
    /// Shares of what there is, in percent.
    pub cpu: Option<f64>,
    pub memory: Option<f64>,
    /// Of the file system that is fullest, without what is kept for root.
    pub disk: Option<f64>,
    /// What of it was not handed on.
    pub lost: u64,
    /// The version of its agent.
    pub version: Option<String>,
}

/// What is added up before there are shares.
#[derive(Debug, Default)]
struct Sums {
    guest: Guest,
    memory_used: Option<f64>,
    memory_limit: Option<f64>,
    /// Used and free bytes by mount point.
    mounts: BTreeMap<String, [f64; 2]>,
}

/// The guests of a page, by site and name. Lines that are none of theirs are left out.
pub(super) fn guests(page: &str) -> Vec<Guest> {
    let mut all = BTreeMap::<(String, String), Sums>::new();
    for sample in page.lines().filter_map(Sample::of) {
        let (Some(site), Some(vm)) = (sample.label("site"), sample.label("vm")) else { continue };
        let sums = all.entry((site, vm)).or_default();
        let guest = &mut sums.guest;
        let value = sample.value;
        match sample.name {
            "infiniservice_guest_up" => guest.is_up = value > 0.0,
            "infiniservice_guest_last_line_timestamp_seconds" => guest.last_seconds = value,
            "infiniservice_guest_dropped_total" => guest.lost += value as u64,
            "infiniservice_guest_info" => {
                guest.version = sample.label("version").map(|version| plain(&version));
            }
            "system_cpu_utilization_ratio" => guest.cpu = Some(100.0 * value),
            "system_memory_limit_bytes" => sums.memory_limit = Some(value),
            "system_memory_usage_bytes" => {
                if sample.label("system_memory_state").as_deref() == Some("used") {
                    sums.memory_used = Some(value);
                }
            }
            _ => {
                let mount = sample.label("system_filesystem_mountpoint").unwrap_or_default();
                let bytes = sums.mounts.entry(mount).or_default();
                match sample.label("system_filesystem_state").as_deref() {
                    Some("used") => bytes[0] = value,
                    Some("free") => bytes[1] = value,
                    _ => {}
                }
            }
        }
    }
    let shares = |((site, vm), sums): ((String, String), Sums)| {
        let share = |part: f64, whole: f64| (whole > 0.0).then(|| 100.0 * part / whole);
        let memory = sums.memory_used.zip(sums.memory_limit);
        let mounts = sums.mounts.values().filter_map(|[used, free]| share(*used, used + free));
        Guest {
            site: plain(&site),
            vm: plain(&vm),
            memory: memory.and_then(|(used, limit)| share(used, limit)),
            disk: mounts.max_by(f64::total_cmp),
            ..sums.guest
        }
    };
    all.into_iter().map(shares).collect()
}

/// The families that are looked at: a page of many guests has many others.
const NAMES: [&str; 8] = [
    "infiniservice_guest_up",
    "infiniservice_guest_last_line_timestamp_seconds",
    "infiniservice_guest_dropped_total",
    "infiniservice_guest_info",
    "system_cpu_utilization_ratio",
    "system_memory_limit_bytes",
    "system_memory_usage_bytes",
    "system_filesystem_usage_bytes",
];

/// A line of the page: `name{label="value",…} value`.
struct Sample<'p> {
    name: &'static str,
    labels: &'p str,
    value: f64,
}

impl<'p> Sample<'p> {
    fn of(line: &'p str) -> Option<Self> {
        let (name, rest) = line.split_once('{')?;
        let name = *NAMES.iter().find(|known| **known == name)?;
        let (labels, value) = rest.rsplit_once("} ")?;
        Some(Self { name, labels, value: value.parse().ok()? })
    }

    /// The value of a label (exposition format 0.0.4: `\\\\`, `\\"` and `\\n` are escaped).
    fn label(&self, wanted: &str) -> Option<String> {
        let mut rest = self.labels;
        while let Some((name, value)) = rest.split_once("=\"") {
            let (mut text, mut characters) = (String::new(), value.char_indices());
            let end = loop {
                match characters.next()? {
                    (at, '"') => break at,
                    (_, '\\') => match characters.next()?.1 {
                        'n' => text.push('\n'),
                        escaped => text.push(escaped),
                    },
                    (_, other) => text.push(other),
                }
            };
            if name == wanted {
                return Some(text);
            }
            rest = value[end + 1..].trim_start_matches(',');
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_losses_of_each_guest_are_read_and_the_rest_is_left_out() {
        let page = r#"# HELP system_cpu_utilization_ratio Share
# TYPE system_cpu_utilization_ratio gauge
system_cpu_utilization_ratio{site="lab",vm="web-1"} 0.125
system_memory_usage_bytes{site="lab",vm="web-1",system_memory_state="used"} 30
system_memory_usage_bytes{site="lab",vm="web-1",system_memory_state="free"} 70
system_memory_limit_bytes{site="lab",vm="web-1"} 100
system_filesystem_usage_bytes{site="lab",vm="web-1",system_filesystem_mountpoint="/a \"b\", c",system_filesystem_type="ext4",system_filesystem_state="used"} 90
system_filesystem_usage_bytes{site="lab",vm="web-1",system_filesystem_mountpoint="/a \"b\", c",system_filesystem_type="ext4",system_filesystem_state="free"} 10
system_filesystem_usage_bytes{site="lab",vm="web-1",system_filesystem_mountpoint="/a \"b\", c",system_filesystem_type="ext4",system_filesystem_state="reserved"} 900
system_filesystem_usage_bytes{site="lab",vm="web-1",system_filesystem_mountpoint="/empty",system_filesystem_type="proc",system_filesystem_state="used"} 0
infiniservice_guest_up{site="lab",vm="web-1"} 1
infiniservice_guest_up{site="lab",vm="old"} 0
infiniservice_guest_last_line_timestamp_seconds{site="lab",vm="web-1"} 1790000000.5
infiniservice_guest_info{site="lab",vm="web-1",version="0.1.0"} 1
infiniservice_guest_dropped_total{site="lab",vm="web-1",reason="garbage"} 2
infiniservice_guest_dropped_total{site="lab",vm="web-1",reason="output_full"} 40
infiniservice_relay_guests{site="lab",state="connected"} 1
nonsense
infiniservice_guest_up{site="lab",vm="cut
"#;
        let old = Guest { site: "lab".into(), vm: "old".into(), ..Guest::default() };
        let web = Guest {
            vm: "web-1".into(),
            is_up: true,
            last_seconds: 1_790_000_000.5,
            cpu: Some(12.5),
            memory: Some(30.0),
            disk: Some(90.0),
            lost: 42,
            version: Some("0.1.0".into()),
            ..old.clone()
        };
        assert_eq!(guests(page), [old, web]);
    }
}
