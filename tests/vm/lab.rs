//! What this machine must have for a case to run, found once; and the turn each case waits for: cases
//! that measure run alone, because the figures of two machines at once would be worth nothing.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use super::accel::{Accel, KVM};
use super::kernel::Kernel;

/// Everything a machine is made of.
#[derive(Debug)]
pub struct Lab {
    pub accel: Accel,
    pub kernel: Kernel,
    pub busybox: Vec<u8>,
    pub agent: Vec<u8>,
    target: PathBuf,
}

/// Held while a machine runs.
static TURNS: RwLock<()> = RwLock::new(());

/// A case's turn.
pub struct Turn<T = RwLockReadGuard<'static, ()>> {
    pub lab: &'static Lab,
    _turn: T,
}

/// Waits for the turn of a case that measures nothing: others like it run beside it, as many as there are test
/// threads. Whoever asks for a case wants it run: where it cannot be, that is a failure.
///
/// # Panics
/// Where this machine lacks something, and where the agent does not build.
pub fn turn() -> Turn {
    Turn { _turn: TURNS.read().unwrap_or_else(PoisonError::into_inner), lab: lab() }
}

/// Waits for the turn of a case that measures: no other machine runs while it is held.
///
/// # Panics
/// As [`turn`].
pub fn alone() -> Turn<RwLockWriteGuard<'static, ()>> {
    Turn { _turn: TURNS.write().unwrap_or_else(PoisonError::into_inner), lab: lab() }
}

fn lab() -> &'static Lab {
    static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();
    match LAB.get_or_init(|| Lab::find(&target())) {
        Ok(lab) => lab,
        Err(why) => panic!("{why}"),
    }
}

/// Says `what` beside the name of the running case, past the capture of test output: figures and
/// reasons are for the reader of a run that went well, too.
pub fn say(what: &str) {
    let case = std::thread::current().name().unwrap_or("vm").to_owned();
    // A closed stderr is no reason to fail.
    let _ = writeln!(std::io::stderr(), "vm: {case}: {what}");
}

impl Lab {
    fn find(target: &Path) -> Result<Self, String> {
        if !cfg!(target_arch = "x86_64") {
            let what = "the guest is built for x86_64, and this machine is another";
            return Err(what.to_owned());
        }
        Command::new("qemu-system-x86_64")
            .arg("--version")
            .output()
            .map_err(|error| format!("no qemu-system-x86_64 (package qemu-system-x86): {error}"))?;
        let busybox = static_busybox()?;
        let root = env::var_os("INFINISERVICE_VM_KERNEL")
            .map_or_else(|| target.join("vm/kernel"), PathBuf::from);
        let kernel = Kernel::find(&root)?;
        let agent = read(&agent(target)?)?;
        let accel = Accel::find(&kernel.image);
        let probe = if accel == KVM { "" } else { ": KVM does not boot a kernel here" };
        say(&format!("accelerator {}{probe}; agent {} KiB", accel.name, agent.len() >> 10));
        Ok(Self { accel, kernel, busybox, agent, target: target.to_owned() })
    }

    /// The program that does the guest's half of a port's script, built as the tests are.
    ///
    /// # Panics
    /// Where it does not build.
    pub fn port_script(&self) -> Vec<u8> {
        // Its debug information alone is more than the guest has room for.
        let what = ["rustc", "--example", "port_script", "--", "-C", "strip=debuginfo"];
        let path = build(&self.target, &what).expect("the example builds");
        let path = path.join("debug/examples/port_script");
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The program that is the host's half of a vsock device.
    ///
    /// # Panics
    /// Where it is not installed.
    pub fn vsock_program(&self) -> PathBuf {
        let program = self.target.join("vm/tools/bin/vhost-device-vsock");
        assert!(program.exists(), "there is no vhost-device-vsock (run .ci/vm-vsock)");
        program
    }

    /// The disk with a whole system on it.
    ///
    /// # Panics
    /// Where there is none.
    pub fn systemd_disk(&self) -> PathBuf {
        let disk = self.target.join("vm/systemd.img");
        assert!(disk.exists(), "there is no disk with systemd on it (run .ci/vm-systemd as root)");
        disk
    }
}

/// The agent as it is shipped, linked statically so that the guest needs no libraries.
fn agent(target: &Path) -> Result<PathBuf, String> {
    if let Some(path) = env::var_os("INFINISERVICE_VM_AGENT") {
        return Ok(path.into());
    }
    let started = Instant::now();
    say("building the static release agent");
    let path =
        build(target, &["build", "--release", "--no-default-features", "--bin", "infiniservice"])?;
    say(&format!("built it in {:.0} s", started.elapsed().as_secs_f64()));
    Ok(path.join("release/infiniservice"))
}

/// Has cargo build something static; gives the folder of its profiles.
fn build(target: &Path, what: &[&str]) -> Result<PathBuf, String> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(what)
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_BUILD_TARGET", "x86_64-unknown-linux-gnu")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("RUSTFLAGS") // the project's own, in .cargo/config.toml, make it static
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{what:?} does not build:\n{log}"));
    }
    Ok(target.join("x86_64-unknown-linux-gnu"))
}

fn static_busybox() -> Result<Vec<u8>, String> {
    let path = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .ok_or("no busybox (package busybox-static)")?;
    let bytes = read(Path::new(path))?;
    // A program that needs a loader names it right after its headers, and the guest has none.
    let head = &bytes[..bytes.len().min(4096)];
    if memchr::memmem::find(head, b"/ld-linux").is_some() {
        return Err(format!("{path} is not static (package busybox-static)"));
    }
    Ok(bytes)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Cargo's target folder, wherever it was put; what is built for a named target lies one deeper.
fn target() -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = scratch.parent().unwrap_or(scratch);
    let is_target = |name: &std::ffi::OsStr| name.to_string_lossy().contains("-linux-");
    match folder.file_name() {
        Some(name) if is_target(name) => folder.parent().unwrap_or(folder).to_owned(),
        _ => folder.to_owned(),
    }
}
