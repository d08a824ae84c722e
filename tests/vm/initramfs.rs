//! The guest's file system: busybox, the agent, the modules and one script, as a cpio archive in the
//! `newc` format (kernel: Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;

const FOLDER: u32 = 0o040_755;
pub const PROGRAM: u32 = 0o100_755;
pub const FILE: u32 = 0o100_644;
pub const SECRET_FILE: u32 = 0o100_600;
pub const LINK: u32 = 0o120_777;
const DEVICE: u32 = 0o020_600;

/// What runs first in the guest. The first serial port is the console, the second takes commands, the
/// third carries the agent's log out as it is written. The shell reads a pipe, because at a terminal it
/// would edit lines; the terminal is opened once, because opening it anew drops what has arrived;
/// and it is read by the byte, because `cat` splices, and a spliced terminal was seen to fall asleep.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t debugfs debugfs /sys/kernel/debug
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /tmp
hostname vm-under-test
while read -r module; do insmod "/modules/$module.ko"; done < /modules/order
ip link set lo up
ip addr add 192.0.2.10/24 dev dummy0
ip link set dummy0 up
for port in 1 2; do stty -F /dev/ttyS$port raw -echo 115200; done
touch /tmp/agent.log
tail -f -n +1 /tmp/agent.log > /dev/ttyS2 &
cd /
exec 3<> /dev/ttyS1
echo ready >&3
dd bs=1 <&3 2> /dev/null | sh >&3 2>&1
"#;

/// What runs first where the system is on a disk: it brings the disk its files and hands over.
const HAND_OVER: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module.ko"; done < /modules/order
until mount -t ext4 /dev/vda /root 2> /dev/null; do sleep 0.1; done
cp -a /install/. /root/
umount /sys /proc
mount --move /dev /root/dev
exec switch_root /root /sbin/init
"#;

/// Builds the archive of a machine that is nothing but busybox and the agent.
pub fn build(
    busybox: &[u8],
    programs: &[(&str, &[u8])],
    modules: &[(&str, Vec<u8>)],
    files: &[(&str, String)],
) -> Vec<u8> {
    let mut cpio = Cpio::start(INIT, busybox, modules);
    for (name, program) in programs {
        cpio.entry(&format!("bin/{name}"), PROGRAM, (0, 0), program);
    }
    for folder in ["pipelines", "commands", "load", "records"] {
        cpio.entry(folder, FOLDER, (0, 0), &[]);
    }
    for (path, text) in files {
        cpio.entry(path, FILE, (0, 0), text.as_bytes());
    }
    cpio.finish()
}

/// A file that is put onto the disk before its system starts.
pub struct Installed<'a> {
    /// Where, without the slash in front.
    pub path: &'a str,
    /// Mode and kind, as in [`build`]: a link's bytes are what it points to.
    pub mode: u32,
    pub bytes: &'a [u8],
}

/// Builds the archive that finds a disk, puts `files` there, and hands the machine over to what is on it.
pub fn hand_over(busybox: &[u8], modules: &[(&str, Vec<u8>)], files: &[Installed<'_>]) -> Vec<u8> {
    let mut cpio = Cpio::start(HAND_OVER, busybox, modules);
    let mut folders = BTreeSet::new();
    for Installed { path, mode, bytes } in files {
        let path = format!("install/{path}");
        for (end, _) in path.match_indices('/') {
            if folders.insert(path[..end].to_owned()) {
                cpio.entry(&path[..end], FOLDER, (0, 0), &[]);
            }
        }
        cpio.entry(&path, *mode, (0, 0), bytes);
    }
    cpio.finish()
}

#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    /// What every machine starts with: busybox, the modules and the script that runs first.
    fn start(init: &str, busybox: &[u8], modules: &[(&str, Vec<u8>)]) -> Self {
        let mut cpio = Self::default();
        for folder in ["bin", "dev", "etc", "modules", "proc", "root", "sys", "tmp"] {
            cpio.entry(folder, FOLDER, (0, 0), &[]);
        }
        cpio.entry("dev/console", DEVICE, (5, 1), &[]);
        cpio.entry("init", PROGRAM, (0, 0), init.as_bytes());
        cpio.entry("bin/busybox", PROGRAM, (0, 0), busybox);
        let mut order = String::new();
        for (name, bytes) in modules {
            cpio.entry(&format!("modules/{name}.ko"), FILE, (0, 0), bytes);
            order.push_str(name);
            order.push('\n');
        }
        cpio.entry("modules/order", FILE, (0, 0), order.as_bytes());
        cpio
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(data.len()).expect("a file of the guest is below 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("a name is short");
        let fields = [
            self.entries, // inode
            mode,
            0, // owner
            0, // group
            1, // links
            0, // modified
            size,
            0, // device the file is on
            0,
            device.0,
            device.1,
            name_size,
            0, // check sum, not used
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}
