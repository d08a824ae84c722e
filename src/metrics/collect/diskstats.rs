//! Traffic of the real block devices from `/proc/diskstats`. Does not know what is mounted on them.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::parse;
use super::procfs::Reader;
use crate::metrics::counter::{Difference, NoInterval, bound};
use crate::model::{DiskCounters, DiskIo};

/// Sectors are 512 bytes here, whatever those of the device are
/// (`Documentation/admin-guide/iostats.rst`).
const SECTOR_BYTES: u64 = 512;
/// No device moves more sectors or answers more requests than this in a second: 125 GB, and each at least a sector.
const SECTORS_PER_SECOND_MAX: u64 = 125_000_000_000 / SECTOR_BYTES;
/// A reading may come late.
const SLACK: Duration = Duration::from_secs(1);
/// The kernel adds the time of what is in flight only now and then, and a request that hangs is in flight for minutes.
const IN_FLIGHT: Duration = Duration::from_secs(600);
/// Intervals shorter than this say nothing about a busy share, which is counted in milliseconds.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// The real block devices and their counters at the reading before.
#[derive(Debug, Default)]
pub(super) struct Diskstats {
    file: Reader,
    /// What a device is, asked of `/sys` once when its name appears.
    kinds: HashMap<String, Kind>,
    /// As they were read last.
    devices: Vec<Device>,
    /// What the next interval begins with.
    before: Option<(Instant, Vec<Device>)>,
}

/// Traffic of all devices over an interval.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Traffic {
    pub io: DiskIo,
    /// Why a device is left out, for each that is.
    pub left_out: Vec<String>,
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Hardware of its own, or the host's idea of it.
    Disk,
    /// One path of several to the disk of this name.
    Path(String),
    /// Memory, a file, a partition, or made of other devices.
    Other,
}

impl Diskstats {
    /// The counters of each device at the last reading.
    pub(super) fn counters(&self) -> Vec<DiskCounters> {
        self.devices.iter().map(Device::counters).collect()
    }

    /// Traffic since the reading before; `None` at the first one.
    pub(super) fn read(&mut self, now: Instant) -> io::Result<Option<Traffic>> {
        let mut devices = parse(self.file.read("/proc/diskstats")?);
        self.kinds.retain(|name, _| devices.iter().any(|device| device.name == *name));
        for device in &devices {
            if !self.kinds.contains_key(&device.name) {
                self.kinds.insert(device.name.clone(), kind_of(&device.name));
            }
        }
        select(&mut devices, |name| self.kinds.get(name).unwrap_or(&Kind::Other));
        self.devices.clone_from(&devices);
        let Some((then, before)) = &self.before else {
            self.before = Some((now, devices));
            return Ok(None);
        };
        let interval = now.saturating_duration_since(*then);
        if interval < INTERVAL_MIN {
            return Ok(None); // keep the older reading, so that the next one has an interval
        }
        let traffic = rates(before, &devices, interval);
        self.before = Some((now, devices));
        Ok(Some(traffic))
    }
}

/// Keeps the devices that count: disks, and of a disk with several paths either the disk or its paths.
///
/// The kernel counts on the paths; Linux 6.1 not on the disk itself, later ones on both
/// (`NVME_MPATH_IO_STATS` in `drivers/nvme/host/multipath.c`). So the paths count until the disk has counted.
fn select<'k>(devices: &mut Vec<Device>, kind: impl Fn(&str) -> &'k Kind) {
    let has_counted = |name: &str, devices: &[Device]| {
        let disk = devices.iter().find(|device| device.name == *name);
        disk.is_some_and(|disk| disk.reads > 0 || disk.writes > 0)
    };
    let counts: Vec<bool> = devices
        .iter()
        .map(|device| match kind(&device.name) {
            Kind::Disk => true,
            Kind::Path(disk) => !has_counted(disk, devices),
            Kind::Other => false,
        })
        .collect();
    let mut counts = counts.into_iter();
    devices.retain(|_| counts.next().unwrap_or(false));
}

/// Counters of one device since boot.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Device {
    name: String,
    /// Numbers of the device: a name that comes back may be another one.
    numbers: (u64, u64),
    reads: u64,
    read_sectors: u64,
    writes: u64,
    written_sectors: u64,
    busy_ms: u64,
}

impl Device {
    fn counters(&self) -> DiskCounters {
        DiskCounters {
            device: self.name.clone(),
            read_bytes: self.read_sectors.saturating_mul(SECTOR_BYTES),
            written_bytes: self.written_sectors.saturating_mul(SECTOR_BYTES),
            reads: self.reads,
            writes: self.writes,
            busy_seconds: self.busy_ms as f64 / 1_000.0,
        }
    }
}

/// Lines `major minor name`, then reads, merged, sectors, ms, the same for writes, in flight, ms
/// busy, weighted ms; later kernels add discards (4.18) and flushes (5.5) behind them. Partitions
/// of kernels before 2.6.25 have fewer fields and are left out.
fn parse(text: &[u8]) -> Vec<Device> {
    let device = |line| {
        let mut words = parse::words(line);
        let numbers = (parse::number(words.next()?)?, parse::number(words.next()?)?);
        let name = parse::lossy(words.next()?);
        let mut counters = [0; 10];
        for counter in &mut counters {
            *counter = parse::number(words.next()?)?;
        }
        let [reads, _, read_sectors, _, writes, _, written_sectors, _, _, busy_ms] = counters;
        Some(Device { name, numbers, reads, read_sectors, writes, written_sectors, busy_ms })
    };
    parse::lines(text).filter_map(device).collect()
}

/// Sums the devices that were there before. One whose counters went back has been replaced or has overflowed,
/// and one that moved more than a device can is nonsense: it has no interval, and that is said.
fn rates(before: &[Device], after: &[Device], interval: Duration) -> Traffic {
    let seconds = interval.as_secs_f64();
    let most = bound(SECTORS_PER_SECOND_MAX, interval, SLACK);
    let mut sum = Counters::default();
    let most_busy = bound(1_000, interval, IN_FLIGHT);
    let mut busiest_ms = 0;
    let mut left_out = Vec::new();
    for device in after {
        let same = |other: &&Device| other.name == device.name && other.numbers == device.numbers;
        let Some(then) = before.iter().find(same) else { continue };
        match spent(then, device, most) {
            Ok(spent) => {
                for (sum, spent) in sum.iter_mut().zip(spent) {
                    *sum = sum.saturating_add(spent);
                }
                let busy = Difference::between(Some(then.busy_ms), device.busy_ms, most_busy);
                match busy.moved() {
                    Some(ms) => busiest_ms = busiest_ms.max(ms),
                    None => left_out.push(format!(
                        "{} is left out of the busy share: its busy milliseconds {busy}",
                        device.name
                    )),
                }
            }
            Err(why) => left_out
                .push(format!("{} is left out of the traffic: the count of {why}", device.name)),
        }
    }
    let per_second = |count: u64| (count as f64 / seconds).round() as u64;
    let [reads, read, writes, written] = sum;
    let io = DiskIo {
        read_bytes_per_sec: per_second(read.saturating_mul(SECTOR_BYTES)),
        write_bytes_per_sec: per_second(written.saturating_mul(SECTOR_BYTES)),
        read_ops_per_sec: per_second(reads),
        write_ops_per_sec: per_second(writes),
        utilization_percent: (busiest_ms as f64 / 10.0 / seconds).min(100.0),
    };
    Traffic { io, left_out }
}

/// Reads, sectors read, writes, sectors written.
type Counters = [u64; 4];

fn spent(then: &Device, now: &Device, most: u64) -> Result<Counters, NoInterval> {
    let mut spent = Counters::default();
    let counters = [
        ("reads", then.reads, now.reads),
        ("sectors read", then.read_sectors, now.read_sectors),
        ("writes", then.writes, now.writes),
        ("sectors written", then.written_sectors, now.written_sectors),
    ];
    for (spent, (counter, then, now)) in spent.iter_mut().zip(counters) {
        let difference = Difference::between(Some(then), now, most);
        *spent = difference.moved().ok_or(NoInterval { counter, difference })?;
    }
    Ok(spent)
}

/// Whether a device stands for hardware (or the host's idea of it) of its own: a whole disk, no
/// memory, no file, and nothing that is made of other devices, whose traffic is counted there.
fn kind_of(name: &str) -> Kind {
    const MADE_OF_OTHERS: [&str; 5] = ["loop", "ram", "zram", "dm-", "md"];
    if MADE_OF_OTHERS.iter().any(|start| name.starts_with(start)) {
        return Kind::Other;
    }
    // `/sys/block` has whole disks only, with `!` for a slash in the name.
    let dir = format!("/sys/block/{}", name.replace('/', "!"));
    let Ok(metadata) = std::fs::metadata(&dir) else { return Kind::Other };
    let made_of_others =
        std::fs::read_dir(format!("{dir}/slaves")).is_ok_and(|mut slaves| slaves.next().is_some());
    if !metadata.is_dir() || made_of_others {
        return Kind::Other;
    }
    let is_hidden = std::fs::read(format!("{dir}/hidden")).is_ok_and(|text| text.starts_with(b"1"));
    match (is_hidden, disk_of_path(name)) {
        (false, _) => Kind::Disk,
        (true, Some(disk)) => Kind::Path(disk),
        (true, None) => Kind::Other,
    }
}

/// The disk that a path of this name leads to: `nvme0n1` of `nvme0c1n1` (`nvme_alloc_ns` in
/// `drivers/nvme/host/core.c`: subsystem, controller, name space).
fn disk_of_path(name: &str) -> Option<String> {
    let (subsystem, rest) = name.strip_prefix("nvme")?.split_once('c')?;
    let (controller, space) = rest.split_once('n')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    [subsystem, controller, space]
        .into_iter()
        .all(is_number)
        .then(|| format!("nvme{subsystem}n{space}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: &[u8] =
        b"   8       0 sda 100 1 2000 10 50 2 1000 20 0 300 30\n   8       1 sda1 4 30 5 40\n";
    const NEW: &[u8] = b" 259       0 nvme0n1 36379 9583 4142586 14985 18912 19812 4459432 9585 0 6384 25051 5190 54 547808 338 3892 142\n \
        259       1 nvme0n1p1 1 0 8 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n 179       0 mmcblk0 7 0 56 9 3 0 24 1 0 11 10\n";

    #[test]
    fn lines_of_any_kernel_are_read_nvme_and_mmc_included() {
        let names = |text| parse(text).into_iter().map(|device| device.name).collect::<Vec<_>>();
        assert_eq!(names(OLD), ["sda"]);
        assert_eq!(names(NEW), ["nvme0n1", "nvme0n1p1", "mmcblk0"]);
        let disk = &parse(NEW)[0];
        assert_eq!(
            (disk.reads, disk.read_sectors, disk.writes, disk.written_sectors),
            (36379, 4142586, 18912, 4459432)
        );
        assert_eq!((disk.numbers, disk.busy_ms), ((259, 0), 6384));
    }

    fn device(name: &str, count: u64, busy_ms: u64) -> Device {
        let name = name.to_owned();
        Device {
            name,
            numbers: (8, 0),
            reads: count,
            read_sectors: count,
            writes: count,
            written_sectors: count,
            busy_ms,
        }
    }

    #[test]
    fn rates_are_sums_and_the_busiest_device_counts() {
        let before = [device("sda", 0, 0), device("sdb", 10, 100)];
        let after = [device("sda", 20, 1_500), device("sdb", 30, 600)];
        let io = rates(&before, &after, Duration::from_secs(2)).io;
        assert_eq!((io.read_ops_per_sec, io.write_bytes_per_sec), (20, 20 * 512));
        assert_eq!(io.utilization_percent, 75.0);
        let full = rates(&before, &after, Duration::from_secs(1)).io;
        assert_eq!(full.utilization_percent, 100.0);
    }

    #[test]
    fn a_device_that_comes_goes_or_starts_again_gives_no_absurd_rate() {
        let nothing = Traffic::default();
        let second = Duration::from_secs(1);
        assert_eq!(rates(&[device("sda", 9, 9)], &[], second), nothing);
        assert_eq!(rates(&[], &[device("sda", u64::MAX, 9)], second), nothing);
        let other = Device { numbers: (8, 16), ..device("sda", 1 << 40, 9) };
        assert_eq!(rates(&[device("sda", 9, 9)], &[other], second), nothing);
        for (after, why) in [(3, "went back from 9 to 3"), (u64::MAX, "moved by")] {
            let traffic = rates(
                &[device("sda", 9, 9)],
                &[device("sda", after, 9), device("sdb", 1, 1)],
                second,
            );
            assert_eq!(traffic.io, nothing.io);
            assert!(
                matches!(&traffic.left_out[..], [reported] if reported.contains(why)),
                "{traffic:?}"
            );
        }
    }

    /// The kernel counts it in 32 bits.
    #[test]
    fn a_busy_time_that_goes_back_or_cannot_be_is_left_out_and_a_late_one_is_full() {
        let busy = |from, to| {
            let (before, after) = ([device("sda", 0, from)], [device("sda", 10, to)]);
            rates(&before, &after, Duration::from_secs(1))
        };
        assert_eq!(busy(0, 500_000).io.utilization_percent, 100.0);
        for (from, to, why) in [(5, u64::MAX, "moved by"), (4_294_967_290, 5, "went back from")] {
            let traffic = busy(from, to);
            let reported = traffic.left_out.join("; ");
            assert_eq!((traffic.io.utilization_percent, traffic.io.read_ops_per_sec), (0.0, 10));
            assert!(
                reported.starts_with("sda is left out of the busy share: ")
                    && reported.contains(why),
                "{reported}"
            );
        }
    }

    #[test]
    fn a_disk_with_several_paths_counts_once_wherever_the_kernel_counts() {
        let path = |name: &str| disk_of_path(name);
        assert_eq!(path("nvme0c1n2").as_deref(), Some("nvme0n2"));
        for name in ["nvme0n1", "nvmec1n2", "nvme0c1", "nvme0c1nx", "sda"] {
            assert_eq!(path(name), None, "{name}");
        }
        let kinds: HashMap<&str, Kind> = [
            ("nvme0n1", Kind::Disk),
            ("nvme0c0n1", Kind::Path("nvme0n1".into())),
            ("nvme0c1n1", Kind::Path("nvme0n1".into())),
            ("nvme0n1p1", Kind::Other),
        ]
        .into();
        let counted = |on_disk| {
            let mut devices = vec![
                device("nvme0n1", on_disk, 0),
                device("nvme0c0n1", 5, 0),
                device("nvme0c1n1", 7, 0),
                device("nvme0n1p1", 12, 0),
            ];
            select(&mut devices, |name| &kinds[name]);
            devices.into_iter().map(|device| device.name).collect::<Vec<_>>()
        };
        assert_eq!(counted(0), ["nvme0n1", "nvme0c0n1", "nvme0c1n1"]);
        assert_eq!(counted(12), ["nvme0n1"]);
    }

    #[test]
    fn what_is_made_of_other_devices_is_not_counted_again() {
        for name in ["loop0", "ram1", "zram0", "dm-0", "md127", "no-such-disk", "../../class"] {
            assert_eq!(kind_of(name), Kind::Other, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_two_texts_give_finite_rates(bytes: Vec<u8>, a in "(8 0 sda( [0-9]{1,20}){10}\n){0,3}", b in "(8 0 sda( [0-9]{1,20}){10}\n){0,3}") {
            let _ = parse(&bytes);
            let io = rates(&parse(a.as_bytes()), &parse(b.as_bytes()), Duration::from_millis(10)).io;
            prop_assert!((0.0..=100.0).contains(&io.utilization_percent));
            prop_assert!(io.read_bytes_per_sec <= 3 * 101 * 125_000_000_000);
        }
    }
}
