//! The memory limit that this process runs under. Reads control groups; sets nothing.
//!
//! Facts: Documentation/admin-guide/cgroup-v2.rst ("Memory Interface Files"), cgroup-v1/memory.rst (its
//! `memory.limit_in_bytes` is some 2^63 where there is none), proc(5) for `mountinfo` and `cgroup`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// More than any machine has: how version 1 spells that there is no limit.
const NO_LIMIT: u64 = 1 << 62;

/// The kernel's share of a limit besides the queues and readings: the agent's own pages, its heap at rest, page tables and
/// sockets.
const RESERVED: u64 = 8 << 20;

/// The queues get this share of the rest …
const CEILING_SHARE: u64 = 2;
/// … and one line of the host this one: it exists as received and as decoded.
const LINE_SHARE: u64 = 8;

/// … and remembered nonces this one.
const NONCES_SHARE: u64 = 16;
/// A remembered nonce: 16 bytes in a map and, with their time, in a set, both with room to grow.
pub(super) const NONCE_BYTES: u64 = 128;
/// The fewest: the commands of a busy minute.
const NONCES_LEAST: usize = 1_024;

/// The smallest ceiling, however small the limit is: with less no reply could be sent.
const CEILING_LEAST: u64 = 512 * 1024;
/// The smallest line limit: many times the length of the host's commands.
const LINE_LEAST: u64 = 64 * 1024;

/// The smallest limit of the control groups that a process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryLimit {
    /// In bytes.
    pub bytes: u64,
    /// The file that sets it.
    pub file: PathBuf,
}

impl MemoryLimit {
    /// That of this process; `None` where there is none, or none can be read. Blocks on files.
    pub(crate) fn find() -> Option<Self> {
        Self::under(Path::new("/"))
    }

    /// The same with the files of the kernel below `root`.
    fn under(root: &Path) -> Option<Self> {
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        let (mounts, own) = (read("proc/self/mountinfo")?, read("proc/self/cgroup")?);
        let limits = folders(&mounts, &own).into_iter().filter_map(|(point, folder, files)| {
            let above = folder.ancestors().take_while(|above| above.starts_with(&point));
            let files = above.flat_map(|folder| files.iter().map(|file| folder.join(file)));
            files.filter_map(|file| limit(root, file)).min_by_key(|limit| limit.bytes)
        });
        limits.min_by_key(|limit| limit.bytes)
    }

    /// The ceiling for the queues within this limit, if it is below `configured`.
    pub(crate) fn ceiling(&self, configured: u64) -> u64 {
        configured.min((self.left() / CEILING_SHARE).max(CEILING_LEAST))
    }

    /// The longest line of the host within this limit, if it is below `configured`.
    pub(crate) fn line(&self, configured: u64) -> u64 {
        configured.min((self.left() / LINE_SHARE).max(LINE_LEAST))
    }

    /// How many nonces are remembered within this limit, if that is below `configured`.
    pub(crate) fn nonces(&self, configured: usize) -> usize {
        let most = self.left() / NONCES_SHARE / NONCE_BYTES;
        configured.min(usize::try_from(most).unwrap_or(usize::MAX).max(NONCES_LEAST))
    }

    fn left(&self) -> u64 {
        self.bytes.saturating_sub(RESERVED)
    }
}

/// `/sys/fs/cgroup/x/memory.max allows 16.0 MiB`.
impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes as f64 / f64::from(1 << 20);
        write!(f, "{} allows {mib:.1} MiB", self.file.display())
    }
}

/// Where limits of this process can be: the mount point, its own folder there, and the names of the files.
fn folders(mounts: &str, own: &str) -> Vec<(PathBuf, PathBuf, &'static [&'static str])> {
    let mut found = Vec::new();
    for line in own.lines() {
        // 4:memory:/path in version 1, 0::/path in version 2
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|one| one == "memory") {
            continue;
        }
        let path = Path::new(path.strip_suffix(" (deleted)").unwrap_or(path));
        let files: &[&str] =
            if is_v2 { &["memory.max", "memory.high"] } else { &["memory.limit_in_bytes"] };
        found.extend(mounts.lines().filter_map(|line| {
            // 36 35 98:0 /root /mount/point options optional-fields... - type source options
            let (mount, kind) = line.split_once(" - ")?;
            let mut kind = kind.split(' ');
            let is_ours = match (kind.next()?, is_v2) {
                ("cgroup2", true) => true,
                ("cgroup", false) => kind.nth(1)?.split(',').any(|option| option == "memory"),
                _ => false,
            };
            let mut fields = mount.split(' ').skip(3);
            let (top, point) = (fields.next()?, PathBuf::from(fields.next()?));
            // Where the mount shows another part of the tree, its top is the nearest that can be seen.
            let below = path.strip_prefix(top).unwrap_or(Path::new(""));
            is_ours.then(|| (point.clone(), point.join(below), files))
        }));
    }
    found
}

fn limit(root: &Path, file: PathBuf) -> Option<MemoryLimit> {
    let text = fs::read_to_string(root.join(file.strip_prefix("/").ok()?)).ok()?;
    let bytes = text.trim().parse().ok().filter(|bytes| *bytes < NO_LIMIT)?;
    Some(MemoryLimit { bytes, file })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      38 31 0:35 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n";

    fn found(mounts: &str, own: &str, files: &[(&str, &str)]) -> Option<(u64, String)> {
        let root = tempfile::tempdir().unwrap();
        let all = [("proc/self/mountinfo", mounts), ("proc/self/cgroup", own)];
        for (path, text) in all.iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let limit = MemoryLimit::under(root.path())?;
        Some((limit.bytes, limit.file.display().to_string()))
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_is_the_one_that_holds() {
        let own = "0::/system.slice/agent.service/agent\n";
        let at = |bytes: u64, file: &str| Some((bytes, format!("/sys/fs/cgroup/{file}")));
        let service = "sys/fs/cgroup/system.slice/agent.service";
        let max = format!("{service}/memory.max");
        let none = format!("{service}/agent/memory.max");
        let slice = "sys/fs/cgroup/system.slice/memory.max";
        assert_eq!(
            found(V2, own, &[(&none, "max\n"), (&max, "16777216\n"), (slice, "33554432\n")]),
            at(16 << 20, "system.slice/agent.service/memory.max")
        );
        assert_eq!(
            found(V2, own, &[(&max, "max\n"), (slice, "33554432\n")]),
            at(32 << 20, "system.slice/memory.max")
        );
        let high = format!("{service}/memory.high");
        assert_eq!(
            found(V2, own, &[(&max, "33554432\n"), (&high, "20971520\n")]),
            at(20 << 20, "system.slice/agent.service/memory.high")
        );
        assert_eq!(found(V2, own, &[(&max, "max\n")]), None);
        assert_eq!(found(V2, own, &[]), None);
    }

    #[test]
    fn version_1_and_a_mount_that_shows_a_part_only_are_read_too() {
        let own = "5:pids:/a\n4:memory:/a/b\n0::/\n";
        let (limit, file) = ("16777216\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes");
        let at = |file: &str| Some((16 << 20, format!("/{file}")));
        assert_eq!(found(V1, own, &[(file, limit)]), at(file));
        assert_eq!(found(V1, own, &[(file, "9223372036854771712\n")]), None);
        let pids = "sys/fs/cgroup/pids/a/memory.limit_in_bytes";
        assert_eq!(found(V1, own, &[(pids, limit)]), None);
        // In a container: the path is the machine's, the mount begins further down.
        let top = "sys/fs/cgroup/memory/memory.limit_in_bytes";
        assert_eq!(found(&V1.replace("0:32 / ", "0:32 /docker/x "), own, &[(top, limit)]), at(top));
        assert_eq!(found(V1, "4:memory:/gone/away\n", &[(top, limit)]), at(top));
    }

    #[test]
    fn the_ceiling_and_a_line_get_shares_of_the_limit() {
        let limit = |mib: u64| MemoryLimit { bytes: mib << 20, file: PathBuf::new() };
        let both = |mib| (limit(mib).ceiling(16 << 20), limit(mib).line(8 << 20));
        assert_eq!(both(16), (4 << 20, 1 << 20));
        assert_eq!(both(24), (8 << 20, 2 << 20));
        assert_eq!(both(72), (16 << 20, 8 << 20));
        assert_eq!(both(1024), (16 << 20, 8 << 20));
        assert_eq!(both(4), (CEILING_LEAST, LINE_LEAST));
    }

    #[test]
    fn a_small_limit_leaves_room_for_few_nonces() {
        let nonces =
            |mib: u64| MemoryLimit { bytes: mib << 20, file: PathBuf::new() }.nonces(16_384);
        assert_eq!([4, 16, 24, 1_024].map(nonces), [NONCES_LEAST, 4_096, 8_192, 16_384]);
    }
}
