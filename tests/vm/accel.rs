//! Which accelerator works here. A `/dev/kvm` that opens proves nothing: nested ones exist that never
//! run a kernel, so the kernel itself is booted once, without a root to mount, until it gives up.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, Stdio};

/// How long a kernel may take to find no root under KVM, where it takes half a second.
const PROBE_SECONDS: &str = "6";

/// How a machine runs: QEMU's words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accel {
    pub name: &'static str,
    pub cpu: &'static str,
}

pub const KVM: Accel = Accel { name: "kvm", cpu: "host" };
pub const TCG: Accel = Accel { name: "tcg", cpu: "max" };

impl Accel {
    /// KVM where it boots `kernel`, else emulation. `INFINISERVICE_VM_ACCEL=kvm|tcg` decides instead.
    pub fn find(kernel: &Path) -> Self {
        match std::env::var("INFINISERVICE_VM_ACCEL").as_deref() {
            Ok("kvm") => KVM,
            Ok("tcg") => TCG,
            _ if kvm_boots(kernel) => KVM,
            _ => TCG,
        }
    }
}

fn kvm_boots(kernel: &Path) -> bool {
    if OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return false;
    }
    Command::new("timeout")
        .args(["--signal=KILL", PROBE_SECONDS, "qemu-system-x86_64"])
        .args(["-accel", KVM.name, "-cpu", KVM.cpu, "-m", "256", "-nodefaults", "-no-reboot"])
        .args(["-display", "none", "-append", "panic=-1", "-kernel"])
        .arg(kernel)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
