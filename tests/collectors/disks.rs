//! File systems, and what goes to and from disks.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use infiniservice::metrics::collect::{DiskCollector, DiskOptions};
use tokio::time::Instant;

use super::rig::{MIB, close, file, read_well, tool};

#[test]
fn file_systems_are_those_of_df_once_each_and_none_made_up() {
    let disk =
        read_well(&mut DiskCollector::new(DiskOptions::default()), Instant::now()).disk.unwrap();
    assert_eq!(disk.mounts[0].mount_point, "/");
    assert!(disk.io.is_none(), "no interval yet, no value");
    let places: BTreeSet<_> = disk.mounts.iter().map(|mount| &mount.mount_point).collect();
    assert_eq!(places.len(), disk.mounts.len());
    let made_up = ["proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "squashfs"];
    assert!(disk.mounts.iter().all(|mount| !made_up.contains(&mount.filesystem.as_str())));

    let Some(df) = tool("df", &["-B1", "--output=size,used,avail,source,target"]) else { return };
    let mut compared = 0;
    for line in df.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [size, used, available, source, target] = words[..] else { continue };
        let Some(mount) = disk.mounts.iter().find(|mount| mount.mount_point == target) else {
            let elsewhere = disk.mounts.iter().any(|mount| mount.device == source);
            let is_disk = source.starts_with("/dev/") && !source.starts_with("/dev/loop");
            assert!(elsewhere || !is_disk, "df has {target}, which is left out");
            continue;
        };
        let bytes = |word: &str| word.parse::<f64>().unwrap();
        assert_eq!(mount.total_bytes as f64, bytes(size), "{target}");
        // 512 MiB: a build may be writing.
        close(mount.used_bytes as f64, bytes(used), 512.0 * MIB as f64);
        close(mount.available_bytes as f64, bytes(available), 512.0 * MIB as f64);
        compared += 1;
    }
    assert!(compared > 0, "the root at least is in df");
}

#[test]
fn inodes_are_those_of_df_and_left_out_where_there_is_no_limit() {
    let disk =
        read_well(&mut DiskCollector::new(DiskOptions::default()), Instant::now()).disk.unwrap();
    let Some(df) = tool("df", &["--output=itotal,iused,iavail,target"]) else { return };
    let mut compared = 0;
    for line in df.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [total, used, free, target] = words[..] else { continue };
        let Some(mount) = disk.mounts.iter().find(|one| one.mount_point == target) else {
            continue;
        };
        let count = |word: &str| word.parse::<u64>().ok().filter(|_| !["0", "-"].contains(&total));
        // A file system that makes them as they are needed, such as xfs, has another total a moment later.
        let same = mount.total_inodes == count(total);
        let (Some(ours), Some(used), Some(free)) = (mount.used_inodes, count(used), count(free))
        else {
            assert!(same, "{target}");
            continue;
        };
        close(ours as f64, used as f64, 50_000.0);
        close(mount.free_inodes.unwrap() as f64, free as f64, 50_000.0);
        assert_eq!(ours + mount.free_inodes.unwrap(), mount.total_inodes.unwrap());
        compared += 1;
    }
    assert!(compared > 0 || disk.mounts.iter().all(|mount| mount.total_inodes.is_none()));
}

#[test]
fn the_counters_of_a_device_are_those_of_diskstats_from_the_first_reading_on() {
    let sectors_and_counts = || -> Vec<(String, [u64; 5])> {
        let text = file("/proc/diskstats");
        let device = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let field = |field: usize| words[field - 1].parse::<u64>().unwrap();
            let counters = [field(6) * 512, field(10) * 512, field(4), field(8), field(13)];
            (words[2].to_owned(), counters)
        };
        text.lines().map(device).collect()
    };
    let before = sectors_and_counts();
    let disk =
        read_well(&mut DiskCollector::new(DiskOptions::default()), Instant::now()).disk.unwrap();
    let after = sectors_and_counts();
    for device in &disk.devices {
        let of =
            |all: &[(String, [u64; 5])]| all.iter().find(|one| one.0 == device.device).unwrap().1;
        let (low, high) = (of(&before), of(&after));
        let busy_ms = (device.busy_seconds * 1_000.0).round() as u64;
        let ours = [device.read_bytes, device.written_bytes, device.reads, device.writes, busy_ms];
        for (at, value) in ours.into_iter().enumerate() {
            assert!((low[at]..=high[at]).contains(&value), "{} {at}: {value}", device.device);
        }
    }
}

#[test]
fn an_excluded_mount_is_left_out() {
    let exclude = vec!["/*".to_owned()];
    let disk =
        read_well(&mut DiskCollector::new(DiskOptions { exclude }), Instant::now()).disk.unwrap();
    assert_eq!(disk.mounts, []);
}

/// Bytes read, bytes written of the disks that are hardware to the kernel: those with a `device`.
fn disk_bytes() -> (u64, u64) {
    let text = file("/proc/diskstats");
    text.lines().fold((0, 0), |(read, written), line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !Path::new(&format!("/sys/block/{}/device", words[2])).exists() {
            return (read, written);
        }
        let bytes = |at: usize| words[at].parse::<u64>().unwrap() * 512;
        (read + bytes(5), written + bytes(9))
    })
}

#[test]
fn disk_traffic_is_that_of_diskstats() {
    if disk_bytes() == (0, 0) {
        println!("not compared with /proc/diskstats: this machine has no disk of its own");
        return;
    }
    let mut collector = DiskCollector::new(DiskOptions::default());
    let now = Instant::now();
    let outer = disk_bytes();
    read_well(&mut collector, now);
    let inner = disk_bytes();
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("disk-traffic");
    let mut written = fs::File::create(&path).unwrap();
    written.write_all(&vec![0xa5; 4 * MIB as usize]).unwrap();
    written.sync_all().unwrap();
    let inner = (disk_bytes().0 - inner.0, disk_bytes().1 - inner.1);
    // One second later as the collector sees it, so that a rate is the difference.
    let io =
        read_well(&mut collector, now + Duration::from_secs(1)).disk.unwrap().io.clone().unwrap();
    let outer = (disk_bytes().0 - outer.0, disk_bytes().1 - outer.1);
    fs::remove_file(&path).unwrap();

    // What was counted inside of the two readings ≤ ours ≤ what was counted around them.
    let within = |ours: u64, inner: u64, outer: u64| (inner..=outer).contains(&ours);
    assert!(within(io.read_bytes_per_sec, inner.0, outer.0), "{io:?} {inner:?} {outer:?}");
    assert!(within(io.write_bytes_per_sec, inner.1, outer.1), "{io:?} {inner:?} {outer:?}");
    assert!(io.write_ops_per_sec > 0 || inner.1 == 0);
    assert!((0.0..=100.0).contains(&io.utilization_percent));
}
