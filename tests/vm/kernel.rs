//! The kernel that boots: an unpacked Debian package under `target/vm/kernel`, put there by
//! `.ci/vm-kernel`. Nothing is installed and nothing is downloaded here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the machine needs to have a virtio-serial port, a disk, an address, a network card, an id of its generation and
/// vsock, also to itself, in the order they are loaded.
const MODULES: [&str; 16] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
    "dummy",
    "failover",
    "net_failover",
    "virtio_net",
    "qemu_fw_cfg",
    "vsock",
    "vmw_vsock_virtio_transport_common",
    "vmw_vsock_virtio_transport",
    "vsock_loopback",
];

/// A kernel image and the modules the machine loads, as the kernel wants them: not compressed.
#[derive(Debug)]
pub struct Kernel {
    pub image: PathBuf,
    pub modules: Vec<(&'static str, Vec<u8>)>,
}

impl Kernel {
    /// Finds the kernel under `root`, the unpacked package.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn find(root: &Path) -> Result<Self, String> {
        let image = entries(&root.join("boot"))
            .into_iter()
            .find(|path| name(path).starts_with("vmlinuz-"))
            .ok_or_else(|| format!("no kernel in {} (run .ci/vm-kernel)", root.display()))?;
        let release = name(&image).trim_start_matches("vmlinuz-").to_owned();
        // A merged /usr moves the modules there in newer packages.
        let tree = ["lib/modules", "usr/lib/modules"]
            .map(|folder| root.join(folder).join(&release))
            .into_iter()
            .find(|tree| tree.is_dir())
            .ok_or_else(|| format!("{} has a kernel but no modules", root.display()))?;
        let mut files = Vec::new();
        walk(&tree.join("kernel"), &mut files);
        let builtin = fs::read_to_string(tree.join("modules.builtin")).unwrap_or_default();
        let mut modules = Vec::new();
        for module in MODULES {
            match files.iter().find(|path| stem(path) == module) {
                Some(path) => modules.push((module, read_module(path)?)),
                None if builtin.lines().any(|line| stem(Path::new(line)) == module) => {}
                None => return Err(format!("the kernel in {} has no {module}", root.display())),
            }
        }
        Ok(Self { image, modules })
    }
}

/// The module's bytes; newer packages ship them compressed, and busybox cannot load those.
fn read_module(path: &Path) -> Result<Vec<u8>, String> {
    let tool = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).map_err(|error| format!("{}: {error}", path.display())),
    };
    let output = Command::new(tool)
        .arg("-dc")
        .arg(path)
        .output()
        .map_err(|error| format!("cannot run {tool} (install {tool}): {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("{tool} cannot unpack {}", path.display()))
    }
}

/// The module a file holds: `virtio_ring.ko.xz` is `virtio_ring`; a dash counts as an underscore.
fn stem(path: &Path) -> String {
    name(path).split(".ko").next().unwrap_or_default().replace('-', "_")
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for path in entries(folder) {
        if path.is_dir() {
            walk(&path, files);
        } else if name(&path).contains(".ko") {
            files.push(path);
        }
    }
}
