//! Which mounted file systems are real, and each only once: a pure function of what the kernel lists.
//! Does not ask them anything.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use super::parse;
use crate::sort;

/// A real file system, at the one place where it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    /// The kernel's number of this mount.
    pub id: u64,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Type, as the kernel names it.
    pub filesystem: String,
    /// A device or a remote path.
    pub source: String,
    /// Whether someone else answers for it, a server or a process, who may never do so.
    pub is_remote: bool,
}

/// The real file systems of `/proc/self/mountinfo`, the root first, then in the kernel's order.
/// `filesystems` is the text of `/proc/filesystems`, which tells the types that need no device.
///
/// A type without a device is real only if it is one of those that store data all the same. The root
/// is always real. What is covered by a later mount, on the same place or on a folder above, is left out. Of several
/// mounts of one file system the one of its top counts, then the one with the shortest path.
pub(super) fn select(mountinfo: &[u8], filesystems: &[u8]) -> Vec<Mounted> {
    let without_device: Vec<&[u8]> = parse::lines(filesystems)
        .filter_map(|line| line.strip_prefix(b"nodev"))
        .map(<[u8]>::trim_ascii)
        .collect();
    let mut lines: Vec<Line> = parse::lines(mountinfo).filter_map(parse).collect();
    drop_covered(&mut lines);
    lines.retain(|line| line.point == b"/" || is_real(line.filesystem, &without_device));
    let mut kept: Vec<Line> = Vec::with_capacity(lines.len());
    for line in lines {
        match kept.iter_mut().find(|other| other.device == line.device) {
            None => kept.push(line),
            Some(other) if line.preference() < other.preference() => *other = line,
            Some(_) => {}
        }
    }
    sort::by_key(&mut kept, |line| line.point != b"/"); // stable
    kept.into_iter().map(Line::mounted).collect()
}

/// Types without a device that hold data: on a server, in a host, in a pool of devices.
const REAL_WITHOUT_DEVICE: [&[u8]; 13] = [
    b"nfs",
    b"nfs4",
    b"cifs",
    b"smb3",
    b"smbfs",
    b"9p",
    b"virtiofs",
    b"ceph",
    b"afs",
    b"lustre",
    b"zfs",
    b"btrfs",
    b"ubifs",
];
/// FUSE types that show what is elsewhere already.
const VIEWS: [&[u8]; 6] = [
    b"fuse.gvfsd-fuse",
    b"fuse.portal",
    b"fuse.lxcfs",
    b"fuse.snapfuse",
    b"fuse.squashfuse",
    b"fuse.fuse-overlayfs",
];
/// Images that are read-only and therefore always full, such as one per installed snap.
const IMAGES: [&[u8]; 3] = [b"squashfs", b"erofs", b"iso9660"];
/// Types that another machine or a process answers for, besides those of FUSE.
const REMOTE: [&[u8]; 12] = [
    b"nfs",
    b"nfs4",
    b"cifs",
    b"smb3",
    b"smbfs",
    b"9p",
    b"virtiofs",
    b"ceph",
    b"afs",
    b"lustre",
    b"gfs2",
    b"ocfs2",
];

fn is_fuse(filesystem: &[u8]) -> bool {
    filesystem == b"fuse" || filesystem == b"fuseblk" || filesystem.starts_with(b"fuse.")
}

fn is_real(filesystem: &[u8], without_device: &[&[u8]]) -> bool {
    if is_fuse(filesystem) {
        return !VIEWS.contains(&filesystem);
    }
    let type_of_it = filesystem.split(|byte| *byte == b'.').next().unwrap_or_default();
    if IMAGES.contains(&type_of_it) {
        return false;
    }
    !without_device.contains(&type_of_it) || REAL_WITHOUT_DEVICE.contains(&type_of_it)
}

/// One line of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
#[derive(Debug)]
struct Line<'a> {
    id: u64,
    /// The mount that this one is mounted on.
    parent: u64,
    device: &'a [u8],
    /// What of the file system is mounted: `/` is its top.
    top: &'a [u8],
    point: Vec<u8>,
    filesystem: &'a [u8],
    source: Vec<u8>,
}

impl Line<'_> {
    fn preference(&self) -> (bool, bool, usize) {
        (self.point != b"/", self.top != b"/", self.point.len())
    }

    fn mounted(self) -> Mounted {
        Mounted {
            id: self.id,
            is_remote: is_fuse(self.filesystem) || REMOTE.contains(&self.filesystem),
            point: PathBuf::from(OsString::from_vec(self.point)),
            filesystem: parse::lossy(self.filesystem),
            source: parse::lossy(&self.source),
        }
    }
}

/// `id parent major:minor top point options [optional…] - type source super-options`
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut words = line.split(|byte| *byte == b' ');
    let (id, parent) = (parse::number(words.next()?)?, parse::number(words.next()?)?);
    let device = words.next()?;
    let (top, point) = (words.next()?, unescape(words.next()?));
    let mut words = words.skip_while(|word| *word != b"-").skip(1);
    let filesystem = words.next()?;
    Some(Line { id, parent, device, top, point, filesystem, source: unescape(words.next()?) })
}

/// Drops the mounts that no path leads to any more.
///
/// A path that comes to a place on which something is mounted goes on there. So a mount is covered by one that is
/// mounted on its own root; by one on a folder of its path that has the same parent, for otherwise it would be
/// mounted on that one; and by whatever covers its parent's place in this way. The order of the lines says nothing:
/// a mount that was moved keeps its line. The root of the reader is where its paths begin, so nothing covers it.
fn drop_covered(lines: &mut Vec<Line>) {
    let by_id: HashMap<u64, &Line> = lines.iter().map(|line| (line.id, line)).collect();
    let places: HashSet<(u64, &[u8])> =
        lines.iter().map(|line| (line.parent, line.point.as_slice())).collect();
    let parent = |line: &Line| by_id.get(&line.parent).filter(|parent| parent.id != line.id);
    let is_covered = |line: &Line| match line.point.as_slice() {
        b"/" => parent(line).is_some_and(|parent| parent.point == b"/"),
        point => places.contains(&(line.id, point)),
    };
    let is_below_another = |line: &Line| {
        let ends = line.point.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
        ends.map(|(end, _)| &line.point[..end]).any(|above| places.contains(&(line.parent, above)))
    };
    let is_out_of_reach = |line: &Line| {
        let mut way = std::iter::successors(Some(line), |line| parent(line).copied());
        way.by_ref().take(lines.len()).any(is_below_another)
    };
    // A kernel lists one more mount on a place only as covered; of what else is on one place the last counts.
    let mut last = HashMap::new();
    for (index, line) in lines.iter().enumerate() {
        if !is_covered(line) && !is_out_of_reach(line) {
            last.insert(line.point.clone(), index);
        }
    }
    let mut index = 0..;
    lines.retain(|line| last.get(&line.point).copied() == index.next());
}

/// Undoes the kernel's `\040` for space, tab, newline and backslash (`seq_path` in `fs/seq_file.c`).
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.first_chunk::<3>().filter(|_| *first == b'\\').and_then(octal);
        (rest, _) = match octal {
            Some(byte) => (&after[3..], bytes.push(byte)),
            None => (after, bytes.push(*first)),
        };
    }
    bytes
}

fn octal(digits: &[u8; 3]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |value, digit| {
        let digit = matches!(digit, b'0'..=b'7').then(|| digit - b'0')?;
        value.checked_mul(8)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILESYSTEMS: &[u8] = b"nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tcgroup2\nnodev\tdevtmpfs\nnodev\tdevpts\n\
        \text4\n\tsquashfs\n\tfuseblk\nnodev\tfuse\nnodev\toverlay\nnodev\tautofs\n\txfs\n\tbtrfs\n\tvfat\nnodev\tnfs4\nnodev\t9p\nnodev\tzfs\n";

    fn points(mountinfo: &str) -> Vec<String> {
        let mounts = select(mountinfo.as_bytes(), FILESYSTEMS);
        mounts.into_iter().map(|mount| mount.point.display().to_string()).collect()
    }

    #[test]
    fn a_desktop_has_its_disks_and_shares_and_nothing_made_up() {
        let text = "\
22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw
24 27 0:6 / /dev rw - devtmpfs udev rw,size=1k
26 24 0:24 / /dev/pts rw - devpts devpts rw
27 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
28 27 8:1 / /boot/efi rw shared:2 master:1 - vfat /dev/sda1 rw
29 27 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro
30 27 0:50 / /mnt/share rw - nfs4 server:/export rw
31 27 0:51 / /home/u/remote rw - fuse.sshfs u@h: rw
32 27 0:52 / /run/user/1/gvfs rw - fuse.gvfsd-fuse gvfsd-fuse rw
33 27 0:53 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
34 27 0:54 / /host rw - 9p hostshare rw
35 27 0:55 / /auto rw - autofs systemd-1 rw
36 27 0:56 / /tank rw - zfs tank rw
37 27 8:17 / /mnt/ntfs rw - fuseblk /dev/sdb1 rw
";
        let mounts = select(text.as_bytes(), FILESYSTEMS);
        let shown: Vec<_> =
            mounts.iter().map(|m| (m.point.to_str().unwrap(), m.is_remote)).collect();
        assert_eq!(
            shown,
            [
                ("/", false),
                ("/boot/efi", false),
                ("/mnt/share", true),
                ("/home/u/remote", true),
                ("/host", true),
                ("/tank", false),
                ("/mnt/ntfs", true),
            ]
        );
        assert_eq!(
            (mounts[2].source.as_str(), mounts[2].filesystem.as_str()),
            ("server:/export", "nfs4")
        );
    }

    #[test]
    fn the_root_is_told_whatever_it_is_and_first() {
        assert_eq!(
            points("1 0 8:1 / /data rw - ext4 /dev/sda1 rw\n2 0 0:9 / / rw - overlay overlay rw\n"),
            ["/", "/data"]
        );
        assert_eq!(points("1 0 0:2 / / rw - rootfs rootfs rw\n"), ["/"]);
    }

    #[test]
    fn a_file_system_is_told_once_at_its_top_or_shortest_place() {
        let bind = "\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:1 /srv /srv rw - ext4 /dev/sda1 rw
3 1 8:2 /a /b rw - xfs /dev/sdb rw
4 1 8:2 / /mnt/long/place rw - xfs /dev/sdb rw
5 1 8:2 / /mnt/long/place/twice rw - xfs /dev/sdb rw
6 1 0:40 /@home /home rw - btrfs /dev/sdc rw
7 1 0:40 /@snapshots /var/snapshots rw - btrfs /dev/sdc rw
";
        assert_eq!(points(bind), ["/", "/mnt/long/place", "/home"]);
    }

    #[test]
    fn a_covered_mount_is_not_told() {
        let text = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /mnt rw - ext4 /dev/sdb rw\n3 2 0:7 / /mnt rw - tmpfs tmpfs rw\n";
        assert_eq!(points(text), ["/"]);
    }

    #[test]
    fn a_mount_under_a_covered_folder_is_not_told_with_the_numbers_of_what_covers_it() {
        let text = "\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 / /mnt/disk rw - xfs /dev/sdb rw
3 2 8:3 / /mnt/disk/deep rw - xfs /dev/sdc rw
4 1 8:4 / /mnt rw - ext4 /dev/sdd rw
5 4 8:5 / /mnt/disk/deep rw - ext4 /dev/sde rw
";
        let mounts = select(text.as_bytes(), FILESYSTEMS);
        let shown: Vec<_> =
            mounts.iter().map(|m| (m.point.to_str().unwrap(), m.source.as_str(), m.id)).collect();
        let below = ("/mnt/disk/deep", "/dev/sde", 5);
        assert_eq!(shown, [("/", "/dev/sda1", 1), ("/mnt", "/dev/sdd", 4), below]);
    }

    #[test]
    fn a_mount_that_was_moved_onto_another_covers_it_whatever_the_order_of_the_lines() {
        let text = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n3 2 8:3 / /a rw - xfs /dev/sdc rw\n2 1 8:2 / /a rw - xfs /dev/sdb rw\n";
        let mounts = select(text.as_bytes(), FILESYSTEMS);
        assert_eq!(mounts[1].source, "/dev/sdc");
        let on_root = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / / rw - tmpfs tmpfs rw\n";
        let mounts = select(on_root.as_bytes(), FILESYSTEMS);
        assert_eq!(mounts[0].source, "/dev/sda1", "paths begin below what covers the root");
    }

    #[test]
    fn escapes_in_paths_are_undone() {
        assert_eq!(points("1 0 8:1 / /a\\040b\\134c\\011 rw - ext4 /dev/x rw\n"), ["/a b\\c\t"]);
        assert_eq!(unescape(b"\\9z\\777\\04"), b"\\9z\\777\\04", "what is no escape stays");
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>, text in "(1 0 [0-9]:1 /[a\\\\0-9]{0,6} /[a-c/]{0,3} rw - (ext4|tmpfs|nfs4) x rw\n){0,9}") {
            let _ = select(&bytes, &bytes);
            let mounts = select(text.as_bytes(), FILESYSTEMS);
            let mut points: Vec<_> = mounts.iter().map(|mount| mount.point.as_os_str()).collect();
            points.sort();
            points.dedup();
            prop_assert_eq!(points.len(), mounts.len());
        }
    }
}
