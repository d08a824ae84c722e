//! File systems and block devices. Which mounts are real is decided in `mounts`, how full they are in
//! `space`, what the devices did in `blocks`; this puts them together.
//!
//! # Why not `sysinfo`
//! It asks the file systems one after the other, so one dead server stalls all, and has no busy share.

use std::io;

use serde::Deserialize;
use tokio::time::Instant;

use super::diskstats::Diskstats;
use super::fs_usage::FsUsages;
use super::mounts::{self, Mounted};
use super::procfs::Reader;
use super::{Collector, CollectorContext, Registered, parse, tell};
use crate::model::{Disk, Group, Mount, SystemMetrics};
use crate::values::{Section, key};

/// Which file systems are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskOptions {
    /// Mount points; a `*` at the end stands for any ending, as in `/media/*`.
    pub exclude: Vec<String>,
}

/// Real file systems with their space, and the traffic of the real block devices.
///
/// A remote file system that does not answer within a second is left out and reported as trouble; until
/// it does answer, it costs no further waiting.
#[derive(Debug)]
pub struct DiskCollector {
    options: DiskOptions,
    file: Reader,
    /// The list of mounts as the kernel gave it, and what was selected from it.
    mountinfo: Vec<u8>,
    mounts: Vec<Mounted>,
    spaces: FsUsages,
    blocks: Diskstats,
}

impl DiskCollector {
    /// A collector that has not read yet.
    pub fn new(options: DiskOptions) -> Self {
        Self {
            options,
            file: Reader::default(),
            mountinfo: Vec::new(),
            mounts: Vec::new(),
            spaces: FsUsages::new(),
            blocks: Diskstats::default(),
        }
    }

    /// Selects the mounts again when the kernel's list has changed.
    fn update_mounts(&mut self) -> io::Result<()> {
        let mountinfo = self.file.read("/proc/self/mountinfo")?;
        if mountinfo == self.mountinfo {
            return Ok(());
        }
        self.mountinfo.clear();
        self.mountinfo.extend_from_slice(mountinfo);
        let filesystems = self.file.read("/proc/filesystems").unwrap_or_default();
        self.mounts = mounts::select(&self.mountinfo, filesystems);
        self.mounts
            .retain(|mount| !parse::listed(&self.options.exclude, &mount.point.to_string_lossy()));
        Ok(())
    }
}

impl Registered for DiskCollector {
    const GROUP: Group = Group::Disk;
    type Options = DiskOptions;
    const MANUAL: Option<Section> = Some(Section {
        header: "`disk = { … }` in `from`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\n[[collect.from]]\ndisk.{}\n[write]\nstdout = true",
        keys: &[key(
            "exclude",
            "list of patterns",
            "[]",
            "[\"/mnt\", \"/media/*\"]",
            "mount points that are left out; only a `*` at the end is special",
        )],
    });

    fn build(options: &DiskOptions, _: &CollectorContext<'_>) -> Self {
        Self::new(options.clone())
    }
}

impl Collector for DiskCollector {
    fn group(&self) -> Group {
        Group::Disk
    }

    fn read(&mut self, now: Instant, into: &mut SystemMetrics) {
        if let Err(error) = self.update_mounts() {
            tell(into, Group::Disk, format!("cannot read /proc/self/mountinfo: {error}"));
            if self.mounts.is_empty() {
                return; // there is no list of an earlier reading
            }
        }
        let traffic = self.blocks.read(now).unwrap_or_else(|error| {
            tell(into, Group::Disk, format!("cannot read /proc/diskstats: {error}"));
            None
        });
        let io = traffic.map(|traffic| {
            traffic.left_out.into_iter().for_each(|what| tell(into, Group::Disk, what));
            traffic.io
        });
        let mounts = Vec::with_capacity(self.mounts.len());
        let mut disk = Disk { mounts, io, devices: self.blocks.counters() };
        for (mount, space) in self.mounts.iter().zip(self.spaces.ask(&self.mounts)) {
            let point = mount.point.to_string_lossy();
            match space {
                // A file system that has no size stores nothing.
                Ok(space) if space.total == 0 => {}
                Ok(space) => disk.mounts.push(Mount {
                    mount_point: parse::lossy(point.as_bytes()),
                    device: mount.source.clone(),
                    filesystem: mount.filesystem.clone(),
                    total_bytes: space.total,
                    used_bytes: space.used,
                    available_bytes: space.available,
                    total_inodes: space.inodes.map(|inodes| inodes.total),
                    used_inodes: space
                        .inodes
                        .map(|inodes| inodes.total.saturating_sub(inodes.free)),
                    free_inodes: space.inodes.map(|inodes| inodes.free),
                }),
                // Unmounted since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let what = format!(
                        "cannot tell the space of {point:?} ({}): {error}",
                        mount.filesystem
                    );
                    tell(into, Group::Disk, what);
                }
            }
        }
        into.disk = Some(disk.into());
    }
}
