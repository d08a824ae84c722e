//! Traffic of the real block devices from `/proc/diskstats`. Does not know what is mounted on them.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::proc::Reader;
use super::text;
use crate::model::DiskIo;

/// Sectors are 512 bytes here, whatever those of the device are
/// (`Documentation/admin-guide/iostats.rst`).
const SECTOR_BYTES: u64 = 512;
/// Intervals shorter than this say nothing about a busy share, which is counted in milliseconds.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// The real block devices and their counters at the reading before.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    file: Reader,
    /// Whether a device is real, asked of `/sys` once when its name appears.
    real: HashMap<String, bool>,
    before: Option<(Instant, Vec<Device>)>,
}

impl Blocks {
    /// Traffic since the reading before; `None` at the first one.
    pub(super) fn read(&mut self, now: Instant) -> io::Result<Option<DiskIo>> {
        let mut devices = parse(self.file.read("/proc/diskstats")?);
        self.real.retain(|name, _| devices.iter().any(|device| device.name == *name));
        devices.retain(|device| match self.real.get(&device.name) {
            Some(real) => *real,
            None => *self.real.entry(device.name.clone()).or_insert(is_real(&device.name)),
        });
        let Some((then, before)) = &self.before else {
            self.before = Some((now, devices));
            return Ok(None);
        };
        let interval = now.saturating_duration_since(*then);
        if interval < INTERVAL_MIN {
            return Ok(None); // keep the older reading, so that the next one has an interval
        }
        let io = rates(before, &devices, interval);
        self.before = Some((now, devices));
        Ok(Some(io))
    }
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

/// Lines `major minor name`, then reads, merged, sectors, ms, the same for writes, in flight, ms
/// busy, weighted ms; later kernels add discards (4.18) and flushes (5.5) behind them. Partitions
/// of kernels before 2.6.25 have fewer fields and are left out.
fn parse(text: &[u8]) -> Vec<Device> {
    let device = |line| {
        let mut words = text::words(line);
        let numbers = (text::number(words.next()?)?, text::number(words.next()?)?);
        let name = text::lossy(words.next()?);
        let mut counters = [0; 10];
        for counter in &mut counters {
            *counter = text::number(words.next()?)?;
        }
        let [reads, _, read_sectors, _, writes, _, written_sectors, _, _, busy_ms] = counters;
        Some(Device { name, numbers, reads, read_sectors, writes, written_sectors, busy_ms })
    };
    text::lines(text).filter_map(device).collect()
}

/// Sums the devices that were there before. One whose counters stepped back has been replaced or has
/// overflowed: it has no interval.
fn rates(before: &[Device], after: &[Device], interval: Duration) -> DiskIo {
    let seconds = interval.as_secs_f64();
    let (mut reads, mut read, mut writes, mut written, mut busiest_ms) =
        (0_u64, 0_u64, 0_u64, 0_u64, 0);
    for device in after {
        let same = |other: &&Device| other.name == device.name && other.numbers == device.numbers;
        let Some(spent) = before.iter().find(same).and_then(|then| spent(then, device)) else {
            continue;
        };
        reads = reads.saturating_add(spent.reads);
        read = read.saturating_add(spent.read_sectors);
        writes = writes.saturating_add(spent.writes);
        written = written.saturating_add(spent.written_sectors);
        busiest_ms = spent.busy_ms.max(busiest_ms);
    }
    let per_second = |count: u64| (count as f64 / seconds).round() as u64;
    DiskIo {
        read_bytes_per_sec: per_second(read.saturating_mul(SECTOR_BYTES)),
        write_bytes_per_sec: per_second(written.saturating_mul(SECTOR_BYTES)),
        read_ops_per_sec: per_second(reads),
        write_ops_per_sec: per_second(writes),
        utilization_percent: (busiest_ms as f64 / 10.0 / seconds).min(100.0),
    }
}

fn spent(then: &Device, now: &Device) -> Option<Device> {
    Some(Device {
        name: String::new(),
        numbers: now.numbers,
        reads: now.reads.checked_sub(then.reads)?,
        read_sectors: now.read_sectors.checked_sub(then.read_sectors)?,
        writes: now.writes.checked_sub(then.writes)?,
        written_sectors: now.written_sectors.checked_sub(then.written_sectors)?,
        // The kernel adds the time of what is in flight only now and then.
        busy_ms: now.busy_ms.saturating_sub(then.busy_ms),
    })
}

/// Whether a device stands for hardware (or the host's idea of it) of its own: a whole disk, no
/// memory, no file, and nothing that is made of other devices, whose traffic is counted there.
fn is_real(name: &str) -> bool {
    const MADE_OF_OTHERS: [&str; 5] = ["loop", "ram", "zram", "dm-", "md"];
    if MADE_OF_OTHERS.iter().any(|start| name.starts_with(start)) {
        return false;
    }
    // `/sys/block` has whole disks only, with `!` for a slash in the name.
    let dir = format!("/sys/block/{}", name.replace('/', "!"));
    let Ok(metadata) = std::fs::metadata(&dir) else { return false };
    let made_of_others =
        std::fs::read_dir(format!("{dir}/slaves")).is_ok_and(|mut slaves| slaves.next().is_some());
    // One path of several to an NVMe disk, which is counted as a disk too.
    let hidden = std::fs::read(format!("{dir}/hidden")).is_ok_and(|text| text.starts_with(b"1"));
    metadata.is_dir() && !made_of_others && !hidden
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
        let io = rates(&before, &after, Duration::from_secs(2));
        assert_eq!((io.read_ops_per_sec, io.write_bytes_per_sec), (20, 20 * 512));
        assert_eq!(io.utilization_percent, 75.0);
        let full = rates(&before, &after, Duration::from_secs(1));
        assert_eq!(full.utilization_percent, 100.0);
    }

    #[test]
    fn a_device_that_comes_goes_or_starts_again_gives_no_absurd_rate() {
        let nothing = DiskIo::default();
        let second = Duration::from_secs(1);
        assert_eq!(rates(&[device("sda", 9, 9)], &[], second), nothing);
        assert_eq!(rates(&[], &[device("sda", u64::MAX, 9)], second), nothing);
        assert_eq!(rates(&[device("sda", 9, 9)], &[device("sda", 3, 3)], second), nothing);
        let other = Device { numbers: (8, 16), ..device("sda", 1 << 40, 9) };
        assert_eq!(rates(&[device("sda", 9, 9)], &[other], second), nothing);
    }

    #[test]
    fn what_is_made_of_other_devices_is_not_counted_again() {
        for name in ["loop0", "ram1", "zram0", "dm-0", "md127", "no-such-disk", "../../class"] {
            assert!(!is_real(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_two_texts_give_finite_rates(bytes: Vec<u8>, a in "(8 0 sda( [0-9]{1,20}){10}\n){0,3}", b in "(8 0 sda( [0-9]{1,20}){10}\n){0,3}") {
            let _ = parse(&bytes);
            let io = rates(&parse(a.as_bytes()), &parse(b.as_bytes()), Duration::from_millis(10));
            prop_assert!((0.0..=100.0).contains(&io.utilization_percent));
        }
    }
}
