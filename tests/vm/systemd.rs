//! A machine with a whole system on its disk: Debian with systemd, the agent installed as its package
//! would, and a shell on the second serial port. The disk is made by `.ci/vm-systemd`.

use std::path::Path;
use std::time::Duration;

use super::initramfs::{FILE, Installed, LINK, PROGRAM, SECRET_FILE, hand_over};
use super::lab::Lab;
use super::qemu::Vm;
use super::talk::SECRET;
use super::unit::UNIT;

/// Systemd under emulation, on processors that others use too.
pub const BOOT: Duration = Duration::from_secs(600);

/// Reads by the byte, as the shell of the small machine does.
const SHELL: &str = r#"[Unit]
Description=A shell for the test at the second serial port
[Service]
ExecStart=/bin/sh -c 'stty -F /dev/ttyS1 raw -echo 115200; exec 3<> /dev/ttyS1; echo ready >&3; dd bs=1 <&3 2> /dev/null | sh >&3 2>&1'
"#;

/// A service to be started and stopped: says when it is there, and can be made to fail.
const SERVICE: &str = r#"[Unit]
Description=A service under test
[Service]
Type=exec
ExecStartPre=/bin/sh -c '! test -e /run/must-fail'
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"#;

/// Boots it with the agent enabled, as it is shipped.
pub fn boot(lab: &Lab, disk: &Path) -> Vm {
    boot_with(lab, disk, &[])
}

/// The same with files of pipelines, by their names.
pub fn boot_with(lab: &Lab, disk: &Path, pipelines: &[(&str, &str)]) -> Vm {
    let pipelines: Vec<(String, &str)> = pipelines
        .iter()
        .map(|(name, text)| (format!("etc/infiniservice/pipelines/{name}"), *text))
        .collect();
    let secret = format!("INFINIBAY_VM_ID=vm-under-test\nINFINISERVICE_SHARED_SECRET={SECRET}\n");
    let files = [
        Installed { path: "opt/infiniservice/infiniservice", mode: PROGRAM, bytes: &lab.agent },
        Installed {
            path: "etc/infiniservice/agent.env",
            mode: SECRET_FILE,
            bytes: secret.as_bytes(),
        },
        file("etc/systemd/system/infiniservice.service", UNIT.as_bytes()),
        file("etc/systemd/system/under-test.service", SERVICE.as_bytes()),
        link(
            "etc/systemd/system/multi-user.target.wants/infiniservice.service",
            "/etc/systemd/system/infiniservice.service",
        ),
    ];
    let pipelines = pipelines.iter().map(|(path, text)| file(path.as_str(), text.as_bytes()));
    boot_files(lab, disk, files.into_iter().chain(pipelines))
}

/// Boots it without the agent, whose executable is in `/root`.
pub fn boot_bare(lab: &Lab, disk: &Path) -> Vm {
    boot_files(
        lab,
        disk,
        [Installed { path: "root/infiniservice", mode: PROGRAM, bytes: &lab.agent }],
    )
}

/// Boots it without the agent, whose package is in `/root`.
pub fn boot_package(lab: &Lab, disk: &Path, deb: &[u8]) -> Vm {
    boot_files(lab, disk, [file("root/agent.deb", deb)])
}

/// Where the guest finds this machine's loopback address (`-netdev user` of QEMU).
pub const GATEWAY: &str = "10.0.2.2";

/// The network card, whatever its name is. cloud-init by itself would take the dummy.
const NETWORK: &str =
    "[Match]\nDriver=virtio_net\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n";

/// Boots it for the first time, as a cloud does: cloud-init, which else does nothing, asks the metadata service at this port.
pub fn boot_cloud(lab: &Lab, disk: &Path, port: u16) -> Vm {
    let wanted = |target: &str, unit: &str| {
        let path = format!("etc/systemd/system/{target}.target.wants/{unit}.service");
        (path, format!("/lib/systemd/system/{unit}.service"))
    };
    let links = [
        wanted("multi-user", "systemd-networkd"),
        wanted("network-online", "systemd-networkd-wait-online"),
    ];
    let network = [
        file("etc/systemd/network/card.network", NETWORK.as_bytes()),
        file("etc/cloud/cloud.cfg.d/network.cfg", b"network: { config: disabled }\n"),
    ];
    let links = links.iter().map(|(path, to)| link(path, to));
    let archive = archive(lab, links.chain(network));
    let said = format!("cloud-init=enabled ds=nocloud-net;s=http://{GATEWAY}:{port}/");
    Vm::boot_disk_with_network(lab, disk, &archive, &said, BOOT)
}

fn file<'a>(path: &'a str, bytes: &'a [u8]) -> Installed<'a> {
    Installed { path, mode: FILE, bytes }
}

fn link<'a>(path: &'a str, to: &'a str) -> Installed<'a> {
    Installed { path, mode: LINK, bytes: to.as_bytes() }
}

/// With the shell of the test, and these files.
fn boot_files<'a>(lab: &Lab, disk: &Path, files: impl IntoIterator<Item = Installed<'a>>) -> Vm {
    Vm::boot_disk(lab, disk, &archive(lab, files), BOOT)
}

/// What hands the machine over to the disk, with the shell of the test and these files.
fn archive<'a>(lab: &Lab, files: impl IntoIterator<Item = Installed<'a>>) -> Vec<u8> {
    let shell = [
        file("etc/systemd/system/vm-shell.service", SHELL.as_bytes()),
        link(
            "etc/systemd/system/multi-user.target.wants/vm-shell.service",
            "/etc/systemd/system/vm-shell.service",
        ),
    ];
    let files: Vec<Installed<'_>> = shell.into_iter().chain(files).collect();
    hand_over(&lab.busybox, &lab.kernel.modules, &files)
}
