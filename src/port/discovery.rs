//! Finds a virtio-serial port by its name, and reports early what can never work. It never uses a port of another
//! name: the guest agent of QEMU and SPICE own theirs.

use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Target;
use crate::sort;

/// Checks whether `target` can work. The error says, as a sentence, what is there instead of a port. A missing
/// device is fine, because it may appear. Blocks for a few file lookups.
pub(crate) fn check(target: &Target) -> Result<(), NotAPort> {
    match target {
        Target::Name(name) => check_path(&link(Path::new("/dev"), name), &CHARACTER_DEVICE),
        Target::Path(path) => {
            check_path(path, &CHARACTER_DEVICE)?;
            no_memory_device(path)
        }
        Target::Unix(path) => check_path(path, &SOCKET),
        Target::Vsock { .. } | Target::Stdio => Ok(()),
    }
}

/// `/dev/null` and the like are character devices too, of the memory driver: `MEM_MAJOR` of
/// `include/uapi/linux/major.h`.
fn no_memory_device(path: &Path) -> Result<(), NotAPort> {
    use std::os::unix::fs::MetadataExt;
    let is_memory = |found: std::fs::Metadata| rustix::fs::major(found.rdev()) == 1;
    if std::fs::metadata(path).is_ok_and(is_memory) {
        return Err(NotAPort::Memory(path.to_owned()));
    }
    Ok(())
}

/// The device of the port called `name`, or `None` while there is none. Blocks.
///
/// udev makes the link `/dev/virtio-ports/NAME`. Where it is missing, `/sys/class/virtio-ports/*/name` is read. The
/// name appears after the device node, so a port that is just being added is `None` too.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    find_under(Path::new("/dev"), Path::new("/sys/class/virtio-ports"), name)
}

/// Fails with what is at `path` unless it is a character device.
pub(super) fn must_be_character_device(path: &Path, what: FileType) -> Result<(), NotAPort> {
    must_be(path, what, &CHARACTER_DEVICE)
}

/// What is at the path of a port is no port.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotAPort {
    /// It is of another kind.
    #[error("{} is {is}, not {wanted} ({advice})", path.display())]
    FileKind {
        /// The path.
        path: PathBuf,
        /// What is there, with its article.
        is: &'static str,
        /// What is wanted, with its article.
        wanted: &'static str,
        /// What to give instead.
        advice: &'static str,
    },
    /// A device of the memory driver, such as `/dev/null`.
    #[error("{} is no port that a host could read", .0.display())]
    Memory(PathBuf),
    /// It cannot be looked at.
    #[error("cannot look at {}: {error}", path.display())]
    Unseen {
        /// The path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

struct FileKind {
    article_and_name: &'static str,
    is: fn(&FileType) -> bool,
    advice: &'static str,
}

static CHARACTER_DEVICE: FileKind = FileKind {
    article_and_name: "a character device",
    is: FileType::is_char_device,
    advice: "give the port's name or its device, such as /dev/vport0p1",
};
static SOCKET: FileKind = FileKind {
    article_and_name: "a socket",
    is: FileType::is_socket,
    advice: "give the path that the host's side listens at",
};

fn check_path(path: &Path, kind: &'static FileKind) -> Result<(), NotAPort> {
    match fs::metadata(path).map(|metadata: Metadata| metadata.file_type()) {
        Ok(found) => must_be(path, found, kind),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(NotAPort::Unseen { path: path.to_owned(), error }),
    }
}

fn must_be(path: &Path, found: FileType, kind: &'static FileKind) -> Result<(), NotAPort> {
    if (kind.is)(&found) {
        return Ok(());
    }
    let is = match found {
        t if t.is_dir() => "a directory",
        t if t.is_file() => "a regular file",
        t if t.is_fifo() => "a named pipe",
        t if t.is_socket() => "a socket",
        t if t.is_block_device() => "a block device",
        t if t.is_char_device() => "a character device",
        _ => "something else",
    };
    Err(NotAPort::FileKind {
        path: path.to_owned(),
        is,
        wanted: kind.article_and_name,
        advice: kind.advice,
    })
}

fn link(dev: &Path, name: &str) -> PathBuf {
    dev.join("virtio-ports").join(name)
}

fn find_under(dev: &Path, class: &Path, name: &str) -> Option<PathBuf> {
    let linked = link(dev, name);
    if linked.exists() {
        return Some(linked);
    }
    let mut nodes: Vec<_> = fs::read_dir(class)
        .ok()?
        .flatten()
        .filter(|entry| has_name(&entry.path(), name))
        .map(|entry| dev.join(entry.file_name()))
        .filter(|node| node.exists())
        .collect();
    sort::by(&mut nodes, Ord::cmp);
    nodes.into_iter().next()
}

fn has_name(port: &Path, name: &str) -> bool {
    fs::read(port.join("name"))
        .is_ok_and(|text| text.strip_suffix(b"\n").unwrap_or(&text) == name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `/dev` and a `/sys/class/virtio-ports` with the guest agent's port and ours.
    fn tree() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (dev, class) = (root.path().join("dev"), root.path().join("class"));
        fs::create_dir_all(&dev).unwrap();
        for (node, name) in [("vport1p1", "org.qemu.guest_agent.0"), ("vport1p2", "ours")] {
            fs::create_dir_all(class.join(node)).unwrap();
            fs::write(class.join(node).join("name"), format!("{name}\n")).unwrap();
            fs::write(dev.join(node), "").unwrap();
        }
        (root, dev, class)
    }

    #[test]
    fn without_udev_the_port_is_found_by_the_kernels_name_for_it() {
        let (_root, dev, class) = tree();
        assert_eq!(find_under(&dev, &class, "ours"), Some(dev.join("vport1p2")));
    }

    #[test]
    fn the_udev_link_is_preferred() {
        let (_root, dev, class) = tree();
        fs::create_dir(dev.join("virtio-ports")).unwrap();
        std::os::unix::fs::symlink("../vport1p2", dev.join("virtio-ports/ours")).unwrap();
        assert_eq!(find_under(&dev, &class, "ours"), Some(dev.join("virtio-ports/ours")));
        fs::remove_file(dev.join("vport1p2")).unwrap();
        assert_eq!(find_under(&dev, &class, "ours"), None, "a link to nothing is no port");
    }

    #[test]
    fn a_port_of_another_name_is_never_taken() {
        let (_root, dev, class) = tree();
        for other in ["org.infinibay.agent", "our", "ours2", "org.qemu.guest_agent"] {
            assert_eq!(find_under(&dev, &class, other), None, "{other}");
        }
        assert_eq!(find_under(&dev, Path::new("/nowhere"), "ours"), None);
    }

    #[test]
    fn what_can_never_be_a_port_is_an_error_and_a_missing_device_is_not() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let says = |target: Target| check(&target).unwrap_err().to_string();
        assert!(
            says(Target::Path(file.clone())).contains("is a regular file, not a character device")
        );
        assert!(says(Target::Path(root.path().into())).contains("is a directory"));
        assert!(says(Target::Unix(file.clone())).contains("is a regular file, not a socket"));
        assert!(says(Target::Path(file.join("under"))).starts_with("cannot look at"));
        assert!(check(&Target::Path(root.path().join("later"))).is_ok());
        assert!(says(Target::Path("/dev/null".into())).contains("no port that a host could read"));
        assert!(check(&Target::Path("/dev/ptmx".into())).is_ok());
        assert!(check(&Target::default()).is_ok());
    }
}
