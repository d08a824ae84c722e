//! The machine: QEMU with a virtio-serial bus, the agent's port and a foreign one, and
//! an empty disk. Ends with its case.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use super::guest::Guest;
use super::host::Host;
use super::initramfs;
use super::lab::Lab;
use super::pipelines::files;
use super::qmp::Qmp;
use super::vsock::{self, Vsock};
use super::wait;

/// The port that is the agent's.
pub const PORT: &str = "org.infinibay.agent";
/// A port that every such machine has too, and that is none of the agent's business.
pub const FOREIGN: &str = "org.qemu.guest_agent.0";

/// An empty disk, `/dev/vda` in the guest.
const DISK_BYTES: u64 = 64 << 20;

/// Under emulation on a busy machine the kernel takes a late timer for a broken one, and panics; it need not check.
pub const KERNEL: &str = "console=ttyS0 quiet panic=-1 no_timer_check";
/// Its journal goes to the console, and so into what is told of a case that failed.
const SYSTEMD: &str = "systemd.show_status=0 systemd.journald.forward_to_console=1";

const BOOT: Duration = Duration::from_secs(90);
/// How long a flow of long lines takes to fill the port.
const FILLED: Duration = Duration::from_secs(60);
const PLUG: Duration = Duration::from_secs(20);

/// What differs between machines.
pub(super) struct Kind<'a> {
    pub plugged: bool,
    /// A disk with a system of its own.
    pub root: Option<&'a Path>,
    pub boot: Duration,
    /// The id of its generation, where it has one.
    pub generation: Option<&'a str>,
    /// The disk of the machine that goes on in this one, which waits for it.
    pub goes_on: Option<&'a Path>,
    /// A vsock device beside the ports.
    pub vsock: bool,
    /// A network card, behind which this machine is at [`GATEWAY`](super::systemd::GATEWAY).
    pub network: bool,
    /// What is said to the kernel beside [`SYSTEMD`], of a machine with a system of its own.
    pub said: &'a str,
}

/// A running machine.
pub struct Vm {
    pub guest: Guest,
    pub qmp: Qmp,
    pub(super) child: Child,
    pub(super) folder: TempDir,
    /// Those of the QEMUs it was in before; the disk is in the first.
    pub(super) left: Vec<TempDir>,
    vsock: Option<Vsock>,
}

impl Vm {
    /// Boots a machine with the agent's port plugged in.
    ///
    /// # Panics
    /// Where it does not boot.
    pub fn boot(lab: &Lab) -> Self {
        Self::boot_small(lab, true)
    }

    /// The same without the agent's port.
    pub fn boot_without_port(lab: &Lab) -> Self {
        Self::boot_small(lab, false)
    }

    /// Boots what is on the disk, which stays as it is; `archive` brings the files that are put there first.
    /// A restart of the machine starts it again. Give it time: systemd under emulation is slow.
    pub fn boot_disk(lab: &Lab, disk: &Path, archive: &[u8], limit: Duration) -> Self {
        let kind = Kind { root: Some(disk), boot: limit, ..Kind::default() };
        Self::start(lab, archive, &kind)
    }

    /// The same with a network card; the kernel's command line ends with what is `said`.
    pub fn boot_disk_with_network(
        lab: &Lab,
        disk: &Path,
        archive: &[u8],
        said: &str,
        limit: Duration,
    ) -> Self {
        let kind = Kind { root: Some(disk), boot: limit, said, network: true, ..Kind::default() };
        Self::start(lab, archive, &kind)
    }

    /// Boots a machine with another program beside the agent.
    pub fn boot_with(lab: &Lab, name: &str, program: &[u8]) -> Self {
        let programs = [("infiniservice", &lab.agent[..]), (name, program)];
        Self::boot_programs(lab, &programs, &Kind::default())
    }

    /// Boots a machine with an id of its generation (a UUID), which goes on in other QEMUs.
    pub fn boot_traveller(lab: &Lab, generation: &str) -> Self {
        let kind = Kind { generation: Some(generation), ..Kind::default() };
        Self::boot_programs(lab, &[("infiniservice", &lab.agent)], &kind)
    }

    /// Boots a machine with a vsock device beside the agent's port.
    pub fn boot_with_vsock(lab: &Lab) -> Self {
        let kind = Kind { vsock: true, ..Kind::default() };
        Self::boot_programs(lab, &[("infiniservice", &lab.agent)], &kind)
    }

    fn boot_small(lab: &Lab, plugged: bool) -> Self {
        let kind = Kind { plugged, ..Kind::default() };
        Self::boot_programs(lab, &[("infiniservice", &lab.agent)], &kind)
    }

    fn boot_programs(lab: &Lab, programs: &[(&str, &[u8])], kind: &Kind<'_>) -> Self {
        let archive = initramfs::build(&lab.busybox, programs, &lab.kernel.modules, &files());
        Self::start(lab, &archive, kind)
    }

    fn start(lab: &Lab, archive: &[u8], kind: &Kind<'_>) -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("initramfs"), archive).expect("the initramfs can be written");
        let disk = fs::File::create(at("disk")).expect("a disk can be made");
        disk.set_len(DISK_BYTES).expect("a disk of zeroes takes no room");
        // QEMU connects to these two, so that nobody has to guess when they are there.
        let qmp = UnixListener::bind(at("qmp")).expect("a socket can be made");
        let shell = UnixListener::bind(at("shell")).expect("a socket can be made");
        let vsock = kind.vsock.then(|| Vsock::start(lab, folder.path()));
        let mut child = command(lab, folder.path(), kind)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("qemu.log")).expect("a log can be made"))
            .spawn()
            .expect("QEMU starts");
        match connect(&mut child, &qmp, &shell, kind.boot) {
            Ok((qmp, guest)) => Self { guest, qmp, child, folder, left: Vec::new(), vsock },
            Err(why) => {
                end(&mut child);
                panic!("the machine did not start: {why}\n{}", told(folder.path()));
            }
        }
    }

    /// Where the agent's port listens for its host.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// Connects to the agent's port, as the host does.
    pub fn host(&self) -> Host {
        Host::connect(&self.socket())
    }

    /// The host's half of its vsock device.
    ///
    /// # Panics
    /// Where it was booted without one.
    pub fn vsock(&self) -> &Vsock {
        self.vsock.as_ref().expect("booted with a vsock device")
    }

    /// Everything the machine has said on its console.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(
            &fs::read(self.folder.path().join("console.log")).unwrap_or_default(),
        )
        .into_owned()
    }

    /// Pulls the agent's port out.
    pub fn unplug(&mut self) {
        self.qmp.run("device_del", json!({ "id": "agent" }));
        self.qmp.event("DEVICE_DELETED", PLUG, |data| data["device"] == "agent");
    }

    /// Puts the agent's port in.
    pub fn plug(&mut self) {
        let port = json!({
            "driver": "virtserialport", "bus": "serial.0", "id": "agent", "name": PORT,
            "chardev": "agent",
        });
        self.qmp.run("device_add", port);
    }

    /// Waits until the port takes no more: more than 4 MiB are on their way to a host that does not read.
    pub fn port_full(&mut self) {
        self.guest.until("grep -q 'outvq_full: 1' /sys/kernel/debug/virtio-ports/*", FILLED);
    }

    /// Waits until the agent has opened its port, as the host is told it.
    pub fn port_opened(&mut self, limit: Duration) {
        self.qmp
            .event("VSERPORT_CHANGE", limit, |data| data["id"] == "agent" && data["open"] == true);
    }
}

impl Default for Kind<'_> {
    fn default() -> Self {
        Self {
            plugged: true,
            root: None,
            boot: BOOT,
            generation: None,
            goes_on: None,
            vsock: false,
            network: false,
            said: "",
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        end(&mut self.child);
        if std::thread::panicking() {
            eprintln!("{}", told(self.folder.path()));
        }
    }
}

pub(super) fn command(lab: &Lab, folder: &Path, kind: &Kind<'_>) -> Command {
    let at = |name: &str| folder.join(name).display().to_string();
    // The machine must not outlive a test run that is killed.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"])
        .args(["-accel", lab.accel.name, "-cpu", lab.accel.cpu, "-smp", "2"])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .arg("-kernel")
        .arg(&lab.kernel.image)
        .args(["-initrd", &at("initramfs")])
        .args(["-chardev", &format!("socket,id=qmp,path={}", at("qmp"))])
        .args(["-mon", "chardev=qmp,mode=control"])
        .args(["-serial", &format!("file:{}", at("console.log"))])
        .args(["-chardev", &format!("socket,id=shell,path={}", at("shell"))])
        .args(["-serial", "chardev:shell"])
        .args(["-serial", &format!("file:{}", at("agent.log"))])
        .args(["-device", "virtio-serial-pci,id=serial"]);
    let disk = match kind.root {
        Some(root) => {
            let said = format!("{KERNEL} {SYSTEMD} {}", kind.said);
            command.args(["-m", "512", "-append", &said]);
            format!("file={},snapshot=on,if=none,id=disk,format=raw", root.display())
        }
        None => {
            command.args(["-m", "256", "-no-reboot", "-append", KERNEL]);
            let disk = kind.goes_on.map_or_else(|| folder.join("disk"), Path::to_owned);
            format!("file={},if=none,id=disk,format=raw", disk.display())
        }
    };
    if let Some(id) = kind.generation {
        command.args(["-device", &format!("vmgenid,guid={id}")]);
    }
    if kind.goes_on.is_some() {
        command.args(["-incoming", "defer"]);
    }
    if kind.vsock {
        // The program reads and writes the guest's memory itself.
        command
            .args(["-object", "memory-backend-memfd,id=memory,size=256M,share=on"])
            .args(["-machine", "memory-backend=memory"])
            .args(["-chardev", &format!("socket,id=vsock,path={}", at(vsock::DEVICE))])
            .args(["-device", "vhost-user-vsock-pci,chardev=vsock"]);
    }
    if kind.network {
        // It has no program to boot from it.
        command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
    }
    command.args(["-drive", &disk, "-device", "virtio-blk-pci,drive=disk"]);
    for (id, name) in [("foreign", FOREIGN), ("agent", PORT)] {
        let socket = at(&format!("{id}.sock"));
        command.args(["-chardev", &format!("socket,id={id},path={socket},server=on,wait=off")]);
        if id != "agent" || kind.plugged {
            let port = format!("virtserialport,bus=serial.0,id={id},name={name},chardev={id}");
            command.args(["-device", &port]);
        }
    }
    command
}

fn connect(
    child: &mut Child,
    qmp: &UnixListener,
    shell: &UnixListener,
    limit: Duration,
) -> Result<(Qmp, Guest), String> {
    let until = Instant::now() + limit;
    let mut alive = || match child.try_wait() {
        Ok(None) => Ok(()),
        Ok(Some(status)) => Err(format!("QEMU ended: {status}")),
        Err(error) => Err(error.to_string()),
    };
    let qmp = wait::accept(qmp, until, &mut alive)?;
    let shell = wait::accept(shell, until, &mut alive)?;
    let qmp = Qmp::start(qmp)?;
    let guest = Guest::start(shell, until.saturating_duration_since(Instant::now()))?;
    Ok((qmp, guest))
}

pub(super) fn end(child: &mut Child) {
    // It may have ended by itself; then there is nothing to kill and the status is there at once.
    let _ = child.kill();
    let _ = child.wait();
}

/// The end of everything the machine has said.
pub fn told(folder: &Path) -> String {
    ["qemu.log", vsock::LOG, "console.log", "agent.log"]
        .map(|name| tail(&folder.join(name)))
        .concat()
}

fn tail(path: &PathBuf) -> String {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(40)..].join("\n");
    format!("--- {}\n{last}\n", path.file_name().unwrap_or_default().display())
}
