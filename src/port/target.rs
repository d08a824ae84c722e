//! The value of `--port` and `port = …`: which device to open.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The port name of today's host.
pub(crate) const DEFAULT_PORT: &str = "org.infinibay.agent";

/// Which device is meant.
///
/// ```
/// use infiniservice::internals::port::Target;
/// assert_eq!("unix:/run/vm.sock".parse(), Ok(Target::Unix("/run/vm.sock".into())));
/// assert_eq!("org.infinibay.agent".parse(), Ok(Target::default()));
/// assert!("tcp:10.0.0.1:80".parse::<Target>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The virtio-serial port of this name, and no other.
    Name(String),
    /// This character device.
    Path(PathBuf),
    /// A Unix stream socket that the host's side listens on.
    Unix(PathBuf),
    /// A vsock port of another machine, to which this one connects (vsock(7)).
    Vsock {
        /// The machine; 2 is the host.
        cid: u32,
        /// Its port.
        port: u32,
    },
    /// Standard output, and standard input unless that is a file.
    Stdio,
}

impl Default for Target {
    fn default() -> Self {
        Self::Name(DEFAULT_PORT.to_owned())
    }
}

/// Why a text names no device: a sentence without its final stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidTarget(String);

impl fmt::Display for InvalidTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidTarget {}

const FORMS: &str = "a port name such as org.infinibay.agent, a device path such as /dev/vport0p1, unix:PATH, vsock:CID:PORT, or stdio";
/// Linux `NAME_MAX`: the udev link of a longer name could not exist.
const NAME_BYTES_MAX: usize = 255;
/// Linux `sun_path` with its NUL (`include/uapi/linux/un.h`).
const SOCKET_PATH_BYTES_MAX: usize = 107;

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let wrong = |what: String| Err(InvalidTarget(format!("{what}; a port is {FORMS}")));
        if text.trim().is_empty() {
            return wrong("no port is given".to_owned());
        }
        if text.chars().any(char::is_control) {
            return wrong(format!("{text:?} holds a control character"));
        }
        if text == "stdio" {
            return Ok(Self::Stdio);
        }
        if matches!(text, "-" | "stdin" | "stdout" | "stderr") {
            return wrong(format!("{text:?} is no port name (did you mean \"stdio\"?)"));
        }
        if text.starts_with('/') {
            return Ok(Self::Path(text.into()));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => wrong("\"unix:\" lacks the path of a socket".to_owned()),
                1..=SOCKET_PATH_BYTES_MAX => Ok(Self::Unix(path.into())),
                length => wrong(format!(
                    "the socket path is {length} bytes long and a socket's is at most {SOCKET_PATH_BYTES_MAX}"
                )),
            };
        }
        if let Some(address) = text.strip_prefix("vsock:") {
            let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number < u32::MAX);
            let parsed =
                address.split_once(':').and_then(|(cid, port)| number(cid).zip(number(port)));
            return match parsed {
                Some((cid, port)) => Ok(Self::Vsock { cid, port }),
                None => wrong(format!(
                    "{text:?} is no port of a machine, as vsock:2:8460 is one of the host"
                )),
            };
        }
        if let Some((scheme, _)) = text.split_once(':') {
            return wrong(format!("{scheme:?} is an unknown kind of port"));
        }
        if text.contains('/') {
            return wrong(format!("{text:?} is a relative path, and a device path starts with /"));
        }
        if text.contains(char::is_whitespace) || matches!(text, "." | "..") {
            return wrong(format!("{text:?} is no port name"));
        }
        if text.len() > NAME_BYTES_MAX {
            return wrong(format!("a port name is at most {NAME_BYTES_MAX} bytes long"));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Self::Stdio => f.write_str("stdio"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Target>().expect_err(text).to_string()
    }

    #[test]
    fn each_form_is_read_and_shown_as_it_was_written() {
        for (text, target) in [
            ("org.infinibay.agent", Target::default()),
            ("/dev/vport0p1", Target::Path("/dev/vport0p1".into())),
            ("unix:/run/a b.sock", Target::Unix("/run/a b.sock".into())),
            ("unix:relative.sock", Target::Unix("relative.sock".into())),
            ("vsock:2:8460", Target::Vsock { cid: 2, port: 8460 }),
            ("stdio", Target::Stdio),
        ] {
            assert_eq!(text.parse(), Ok(target.clone()));
            assert_eq!(target.to_string(), text);
        }
    }

    #[test]
    fn each_mistake_is_named_with_the_valid_forms() {
        for (text, says) in [
            ("", "no port is given"),
            (" ", "no port is given"),
            ("tcp:host:1", "\"tcp\" is an unknown kind of port"),
            ("unix:", "lacks the path"),
            ("vsock:8460", "is no port of a machine"),
            ("vsock:2:", "is no port of a machine"),
            ("vsock:host:1", "is no port of a machine"),
            ("vsock:4294967295:1", "is no port of a machine"),
            ("dev/vport0p1", "starts with /"),
            ("..", "no port name"),
            ("two words", "no port name"),
            ("stdout", "did you mean \"stdio\"?"),
            ("a\nb", "control character"),
        ] {
            assert!(error(text).contains(says), "{text:?}: {}", error(text));
            assert!(error(text).ends_with(FORMS), "{text:?}: {}", error(text));
        }
        assert!(error(&"n".repeat(256)).contains("255 bytes"));
        assert!(error(&format!("unix:/{}", "p".repeat(107))).contains("108 bytes long"));
    }
}
