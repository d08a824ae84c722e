//! What the machine says: driver, port, who holds it, security modules, the unit. All paths are below a root, which a test
//! sets up.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::verdict::{Cause, Verdict};
use super::{PATIENCE, program};
use crate::port::Target;

/// The most of a log that is read, from its end.
const TAIL_BYTES: u64 = 256 * 1024;
/// The most of the kernel's messages that is read: more than [`kernel_messages`] asks for, whose lines have some 200 bytes.
const MESSAGES_BYTES_MAX: u64 = 4 * TAIL_BYTES;
/// `VIRTIO_ID_CONSOLE` of `include/uapi/linux/virtio_ids.h`, as sysfs has it.
const CONSOLE: &str = "0x0003";

/// What keeps the agent from opening `target`, where that is a virtio-serial port.
pub(super) fn port(root: &Path, target: &Target, own: Option<u32>) -> Option<Verdict> {
    let device = match target {
        Target::Name(name) => match named(root, name) {
            Ok(device) => device,
            Err(verdict) => return Some(verdict),
        },
        Target::Path(path) if !below(root, path).exists() => {
            let (names, path) = (known(root), path.display());
            return Some(Verdict::new(
                Cause::NoDevice,
                format!("there is no {path}; {names}"),
                "name the port by its name, which does not change: port = \"org.infinibay.agent\"",
            ));
        }
        Target::Path(path) => path.clone(),
        Target::Unix(_) | Target::Vsock { .. } | Target::Stdio => return None,
    };
    let (pid, name) = holder(root, &device, own)?;
    Some(Verdict::new(
        Cause::PortBusy,
        format!("process {pid} ({name}) has {} open", device.display()),
        format!("a port takes one program at a time; end that one: kill {pid}"),
    ))
}

/// The device of the port of this name; or why there is none.
fn named(root: &Path, name: &str) -> Result<PathBuf, Verdict> {
    let ports = ports(root);
    if let Some((device, _)) = ports.iter().find(|(_, known)| *known == name) {
        return Ok(Path::new("/dev").join(device));
    }
    let has_controller = entries(&below(root, "/sys/bus/virtio/devices")).iter().any(|device| {
        fs::read_to_string(device.join("device")).is_ok_and(|id| id.trim() == CONSOLE)
    });
    Err(match (has_controller, has_driver(root)) {
        (true, false) => Verdict::new(
            Cause::DriverMissing,
            "the machine has a virtio-serial controller, and the kernel has no driver for it",
            "load it with `modprobe virtio_console`; where there is no such module, install the kernel's full set of modules",
        ),
        (false, _) => Verdict::new(
            Cause::NoDevice,
            "the machine has no virtio-serial controller",
            format!(
                "give the machine a channel at the host: <target type='virtio' name='{name}'/> in libvirt; docs/operations.md, \
                 \"The channel at the host\""
            ),
        ),
        (true, true) => Verdict::new(
            Cause::NoDevice,
            format!("there is no port named {name}; {}", known(root)),
            "give the channel at the host that name, or name the one that is there in `port = …`",
        ),
    })
}

/// Whether the kernel has a driver for virtio-serial ports.
pub(super) fn has_driver(root: &Path) -> bool {
    below(root, "/sys/bus/virtio/drivers/virtio_console").exists()
}

fn known(root: &Path) -> String {
    let names: Vec<String> = ports(root).into_iter().map(|(_, name)| name).collect();
    match names.len() {
        0 => "there are no ports".to_owned(),
        _ => format!("there is {}", names.join(", ")),
    }
}

/// Each port: its device and its name, which may be empty.
pub(super) fn ports(root: &Path) -> Vec<(String, String)> {
    let port = |folder: PathBuf| {
        let name = fs::read_to_string(folder.join("name")).unwrap_or_default();
        Some((folder.file_name()?.to_str()?.to_owned(), name.trim().to_owned()))
    };
    entries(&below(root, "/sys/class/virtio-ports")).into_iter().filter_map(port).collect()
}

/// Another process that has `device` open.
fn holder(root: &Path, device: &Path, own: Option<u32>) -> Option<(u32, String)> {
    let processes = entries(&below(root, "/proc"));
    processes.into_iter().find_map(|process| {
        let pid: u32 = process.file_name()?.to_str()?.parse().ok()?;
        if Some(pid) == own {
            return None;
        }
        let is_it = |file: &PathBuf| fs::read_link(file).is_ok_and(|target| target == device);
        entries(&process.join("fd")).iter().any(is_it).then(|| (pid, comm(&process)))
    })
}

fn comm(process: &Path) -> String {
    fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned()
}

/// The last time that a security module refused something to the agent, by the logs of this machine; by the kernel's messages in
/// the journal where no log has it, as on a Debian without a syslog daemon.
pub(super) fn security_module(root: &Path) -> Option<Verdict> {
    let logs = ["/var/log/audit/audit.log", "/var/log/kern.log", "/var/log/messages"];
    let texts = logs.into_iter().map(|log| (log, tail(&below(root, log))));
    let journal = std::iter::once_with(|| ("journalctl -k", kernel_messages(root)));
    let denied = texts.chain(journal).find_map(|(log, text)| {
        let text = text?;
        let is_ours = |line: &&str| line.contains("comm=\"infiniservice\"");
        let is_denied =
            |line: &&str| line.contains("apparmor=\"DENIED\"") || line.contains("avc:  denied");
        text.lines().rev().filter(is_ours).find(is_denied).map(|line| (log, line.to_owned()))
    });
    let (log, line) = denied?;
    let selinux = line.contains("avc:");
    let what: String = line
        .chars()
        .skip(line.find("apparmor=").or(line.find("avc:")).unwrap_or(0))
        .take(200)
        .collect();
    let next = match selinux {
        true => {
            "`ausearch -m avc -c infiniservice` shows all of it; allow it with a policy module (audit2allow)"
        }
        false => {
            "allow it in the profile that the message names, and load that with `apparmor_parser -r`"
        }
    };
    Some(Verdict::new(Cause::SecurityModule, format!("{log}: {what}"), next))
}

/// The kernel's last messages of this boot, as the journal has them.
fn kernel_messages(root: &Path) -> Option<String> {
    const LINES_MAX: &str = "1000";
    // A test puts them there.
    if root != Path::new("/") {
        return fs::read_to_string(root.join("kernel-messages")).ok();
    }
    let words =
        ["journalctl", "--dmesg", "--lines", LINES_MAX, "--output", "cat", "--no-pager", "--quiet"];
    program::output(&words, MESSAGES_BYTES_MAX, PATIENCE).ok()
}

/// What systemd says of the unit; see systemd.service(5) and `org.freedesktop.systemd1(5)`.
pub(super) fn unit(properties: &str) -> Option<Verdict> {
    let properties: BTreeMap<&str, &str> =
        properties.lines().filter_map(|line| line.split_once('=')).collect();
    let of = |name: &str| properties.get(name).copied().unwrap_or_default();
    let restarts: u64 = of("NRestarts").parse().unwrap_or(0);
    let log = "`journalctl -u infiniservice -n 50` has its last words";
    let is_signal = matches!(of("ExecMainCode"), "2" | "3" | "killed" | "dumped");
    match (of("LoadState"), of("ActiveState")) {
        ("loaded", "active") if restarts > 0 && of("Result") == "success" => Some(Verdict::new(
            Cause::Crashed,
            format!("it runs, and systemd has restarted it ({restarts} so far)"),
            format!(
                "{log}; `coredumpctl info infiniservice` has the crash, where systemd-coredump is installed"
            ),
        )),
        ("loaded", "active") => None,
        ("loaded", state) if is_signal || of("Result") == "watchdog" => Some(Verdict::new(
            Cause::Crashed,
            format!(
                "the unit is {state}: its process ended by signal {} ({})",
                of("ExecMainStatus"),
                of("Result")
            ),
            format!(
                "{log}; `coredumpctl info infiniservice` has the crash, where systemd-coredump is installed"
            ),
        )),
        ("loaded", "inactive") if of("Result") == "success" => Some(Verdict::new(
            Cause::NotRunning,
            format!("the unit is not started, and {} at boot", of("UnitFileState")),
            "`systemctl enable --now infiniservice`",
        )),
        ("loaded", state) => Some(Verdict::new(
            Cause::NotRunning,
            format!("the unit is {state}: {}, exit code {}", of("Result"), of("ExecMainStatus")),
            format!("{log}; exit code 78: `infiniservice validate`"),
        )),
        _ => None,
    }
}

/// Whether the policy has denied anything lately, by the audit.
pub(super) fn policy(audit: &Path) -> Option<Verdict> {
    let text = tail(audit)?;
    let denied = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_denied =
            record.get("decision").and_then(|decision| decision.as_str()) == Some("denied");
        is_denied.then_some(record)
    };
    let all: Vec<_> = text.lines().filter_map(denied).collect();
    let last = all.last()?;
    let of = |name: &str| last.get(name).and_then(|value| value.as_str()).unwrap_or("?");
    Some(Verdict::new(
        Cause::PolicyDenies,
        format!(
            "{} of the last requests were denied; the last one at {}: {}, {}",
            all.len(),
            of("time"),
            of("action"),
            of("why")
        ),
        "to let the host do that, allow it in [enforce] of commands.toml; `infiniservice explain` tries a message",
    ))
}

/// The end of a file, from the first whole line.
fn tail(path: &Path) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let start = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match start {
        0 => Some(text),
        _ => text.split_once('\n').map(|(_, whole)| whole.to_owned()),
    }
}

pub(super) fn below(root: &Path, path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}
