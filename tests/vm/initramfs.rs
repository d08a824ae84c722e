//! The guest's file system: busybox, the agent, the modules and one script, as a cpio archive in the
//! `newc` format (kernel: Documentation/driver-api/early-userspace/buffer-format.rst).

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
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

/// Builds the archive.
pub fn build(
    busybox: &[u8],
    agent: &[u8],
    modules: &[(&str, Vec<u8>)],
    files: &[(&str, String)],
) -> Vec<u8> {
    let mut cpio = Cpio::default();
    for folder in ["bin", "dev", "etc", "modules", "proc", "root", "sys", "tmp", "pipelines"] {
        cpio.entry(folder, FOLDER, (0, 0), &[]);
    }
    cpio.entry("dev/console", DEVICE, (5, 1), &[]);
    cpio.entry("init", PROGRAM, (0, 0), INIT.as_bytes());
    cpio.entry("bin/busybox", PROGRAM, (0, 0), busybox);
    cpio.entry("bin/infiniservice", PROGRAM, (0, 0), agent);
    let mut order = String::new();
    for (name, bytes) in modules {
        cpio.entry(&format!("modules/{name}.ko"), FILE, (0, 0), bytes);
        order.push_str(name);
        order.push('\n');
    }
    cpio.entry("modules/order", FILE, (0, 0), order.as_bytes());
    for (name, text) in files {
        cpio.entry(&format!("pipelines/{name}"), FILE, (0, 0), text.as_bytes());
    }
    cpio.finish()
}

#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
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
