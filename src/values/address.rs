//! Addresses of sockets, as a file has them.

use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer};

use super::value::{Problem, text};

/// The path of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketPath(pub(crate) PathBuf);

impl<'de> Deserialize<'de> for SocketPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = text(deserializer)?;
        check_socket(&path).map_err(Problem::pack)?;
        Ok(Self(path.into()))
    }
}

/// Whether the kernel takes `path` as that of a socket: `sun_path` of unix(7) has 108 bytes, the last of them a NUL.
pub(crate) fn check_socket(path: &str) -> Result<(), Problem> {
    match path.len() {
        0 => {
            Err(Problem::new("names no socket", "write its path, as in \"unix:/run/metrics.sock\""))
        }
        1..=107 => Ok(()),
        _ => Err(Problem::new("is too long for a socket", "the kernel takes 107 bytes at most")),
    }
}

/// A name or an IP address with a port; an IPv6 address stands in brackets.
pub(crate) fn check_address(address: &str) -> Result<(), Problem> {
    let help = "write name:port, as in \"metrics.example:5170\" or \"[2001:db8::1]:5170\"";
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err(Problem::new("names no port", help));
    };
    let is_bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || is_bare_v6 || host.contains(char::is_whitespace) {
        return Err(Problem::new("is not a name or an IP address with a port", help));
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(Problem::new("has no port from 1 to 65535 after the colon", help)),
    }
}

/// As [`check_address`] has it.
pub(crate) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let address = text(deserializer)?;
    check_address(&address).map_err(Problem::pack)?;
    Ok(address)
}
