//! What kind of machine this is. Does not give it a name of its own: that is the `identity` enricher.
//!
//! # Why not `sysinfo`
//! Three of its calls give what one `uname(2)` gives, which cannot fail, and it does not read
//! `PRETTY_NAME`. One reading costs five small files.

use tokio::time::Instant;

use super::procfs::{self, BootTime, Reader};
use super::{Collector, CollectorContext, NoOptions, Registered, parse};
use crate::model::{Group, Host, SystemMetrics};

/// Facts about the machine: operating system, kernel, names, boot time, processors.
#[derive(Debug, Default)]
pub struct HostCollector {
    file: Reader,
    boot: BootTime,
}

impl HostCollector {
    /// A collector that has not read yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn first<T>(&mut self, paths: &[&str], parse: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        paths.iter().find_map(|path| parse(self.file.read(*path).ok()?))
    }
}

impl Registered for HostCollector {
    const GROUP: Group = Group::Host;
    type Options = NoOptions;

    fn build(_: &NoOptions, _: &CollectorContext<'_>) -> Self {
        Self::new()
    }
}

impl Collector for HostCollector {
    fn group(&self) -> Group {
        Group::Host
    }

    fn read(&mut self, _now: Instant, into: &mut SystemMetrics) {
        let uname = rustix::system::uname();
        // The order of os-release(5).
        let release = self
            .first(&["/etc/os-release", "/usr/lib/os-release"], |text| Some(os_release(text)))
            .unwrap_or_default();
        // The order of machine-id(5) and of D-Bus before it.
        let machine_id = self.first(&["/etc/machine-id", "/var/lib/dbus/machine-id"], machine_id);
        let boot_id = self.first(&["/proc/sys/kernel/random/boot_id"], one_word);
        let cores = self.file.processors(procfs::ONLINE);
        let host = Host {
            hostname: parse::lossy(uname.nodename().to_bytes()),
            os: release.pretty_name.unwrap_or_else(|| parse::lossy(uname.sysname().to_bytes())),
            os_id: release.id,
            kernel: parse::lossy(uname.release().to_bytes()),
            architecture: parse::lossy(uname.machine().to_bytes()),
            machine_id,
            boot_id,
            boot_time: Some(self.boot.get()),
            cores,
        };
        into.host = Some(host.into());
    }
}

/// What os-release(5) says of the system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Release {
    /// `PRETTY_NAME`; made of `NAME` and what there is of a version where that is missing.
    pub pretty_name: Option<String>,
    /// `ID`, such as `debian`.
    pub id: Option<String>,
    /// `VERSION_ID`; where that is missing `VERSION`, `BUILD_ID` (`rolling`) or `VERSION_CODENAME` (`sid`).
    pub version: Option<String>,
}

impl Release {
    /// Reads it from where os-release(5) says it is; empty where it is in neither place.
    pub(crate) fn read() -> Self {
        Self::of(std::path::Path::new("/"))
    }

    /// That of the system in the tree at `root`.
    pub(crate) fn of(root: &std::path::Path) -> Self {
        let text =
            ["etc/os-release", "usr/lib/os-release"].map(|file| std::fs::read(root.join(file)));
        text.into_iter().find_map(Result::ok).map(|text| os_release(&text)).unwrap_or_default()
    }
}

/// The facts of os-release(5) that are reported. As in a shell, the last assignment counts.
fn os_release(text: &[u8]) -> Release {
    let value = |name: &str| {
        let values = parse::lines(text)
            .filter_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(unquote));
        values.last().flatten()
    };
    let any = |names: &[&str]| names.iter().find_map(|name| value(name));
    let made = || {
        let version = any(&["VERSION", "VERSION_ID", "BUILD_ID", "VERSION_CODENAME"]);
        let words = [value("NAME"), version.filter(|_| value("NAME").is_some())];
        let words: Vec<String> = words.into_iter().flatten().collect();
        (!words.is_empty()).then(|| words.join(" "))
    };
    Release {
        pretty_name: value("PRETTY_NAME").or_else(made),
        id: value("ID"),
        version: any(&["VERSION_ID", "VERSION", "BUILD_ID", "VERSION_CODENAME"]),
    }
}

/// A value without its shell quotes: os-release(5) allows `'…'`, `"…"` with backslashes, or neither.
fn unquote(value: &[u8]) -> Option<String> {
    let value = value.trim_ascii();
    let inner = |quote: &[u8]| value.strip_prefix(quote)?.strip_suffix(quote);
    let bytes = if let Some(verbatim) = inner(b"'") {
        verbatim.to_vec()
    } else {
        let mut bytes = Vec::with_capacity(value.len());
        let mut rest = inner(b"\"").unwrap_or(value).iter().copied();
        while let Some(byte) = rest.next() {
            bytes.extend(if byte == b'\\' { rest.next() } else { Some(byte) });
        }
        bytes
    };
    (!bytes.is_empty()).then(|| parse::lossy(&bytes))
}

/// 32 hexadecimal digits: an image may have an empty file, or one that says `uninitialized`.
fn machine_id(text: &[u8]) -> Option<String> {
    one_word(text).filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn one_word(text: &[u8]) -> Option<String> {
    parse::words(text).next().map(parse::lossy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_os_is_named_by_its_release_file_in_any_quoting() {
        let debian = b"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n";
        let release = os_release(debian);
        assert_eq!(release.pretty_name.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(release.id.as_deref(), Some("debian"));
        assert_eq!(release.version.as_deref(), Some("12"));
        let odd = os_release(
            b"# a comment\nID='alpine'\nPRETTY_NAME=\"the \\\"best\\\" \\$1\"\nID_LIKE=x\n",
        );
        assert_eq!(odd.pretty_name.as_deref(), Some("the \"best\" $1"));
        assert_eq!(odd.id.as_deref(), Some("alpine"));
        assert_eq!(os_release(b"ID=\nPRETTY_NAME=\"\"\n"), Release::default());
    }

    #[test]
    fn what_os_release_leaves_out_is_made_of_what_it_has() {
        let name_and_version = |text: &str| {
            let release = os_release(text.as_bytes());
            [release.pretty_name, release.version].map(Option::unwrap_or_default)
        };
        for (text, name, version) in [
            ("NAME=\"Alpine Linux\"\nVERSION_ID=3.20.1\n", "Alpine Linux 3.20.1", "3.20.1"),
            ("NAME='Arch Linux'\nBUILD_ID=rolling\n", "Arch Linux rolling", "rolling"),
            ("PRETTY_NAME=Sid\nVERSION_CODENAME=sid\n", "Sid", "sid"),
            ("NAME=Fedora\nVERSION=\"40 (Server)\"\nVERSION_ID=40\n", "Fedora 40 (Server)", "40"),
            ("NAME=Odd\n", "Odd", ""),
            ("VERSION_ID=7\n", "", "7"),
        ] {
            assert_eq!(name_and_version(text), [name, version], "{text}");
        }
    }

    #[test]
    fn an_image_that_has_no_machine_id_yet_gives_none() {
        assert!(machine_id(b"3d1219c7c4c5404aaa1f6d2a48adfda4\n").is_some());
        for none in [&b""[..], b"uninitialized\n", b"3d12\n"] {
            assert_eq!(machine_id(none), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>, quoted in "ID=['\"]?.{0,9}['\"\\\\]?") {
            let _ = (os_release(&bytes), os_release(quoted.as_bytes()));
            let _ = machine_id(&bytes);
        }
    }
}
