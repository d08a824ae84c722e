//! `[web]` of `relay.toml`: where the page of the fleet is served, and to whom.

use std::net::SocketAddr;

use serde::Deserialize;
use serde::de::Deserializer;

use super::commands::{taken, without_rules};
use crate::commands::secret::SecretSource;
use crate::config::check::{Broken, Step};
use crate::config::value::{Problem, text};

/// `[web]`: the fleet as a web page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Web {
    /// Where it is served.
    #[serde(default = "at_8460", deserialize_with = "address")]
    pub address: SocketAddr,
    /// Where the token is that readers of the page must know. An address that is not loopback needs one.
    #[serde(default)]
    pub token: Option<SecretSource>,
    /// Names under which browsers may ask for the page, beside `localhost` and every IP address.
    #[serde(default, deserialize_with = "hosts")]
    pub hosts: Vec<String>,
    /// Whether who knows the token may send commands to guests, as far as `[commands]` allows them.
    #[serde(default, deserialize_with = "taken")]
    pub commands: bool,
}

impl Web {
    /// At `address`, without a token.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, token: None, hosts: Vec::new(), commands: false }
    }

    /// Whether other machines could read the page without a token.
    pub(crate) fn is_open(&self) -> bool {
        !self.address.ip().is_loopback() && self.token.is_none()
    }

    /// What is wrong with it as a whole; `has_rules` says whether the file has `[commands]`.
    pub(super) fn check(&self, has_rules: bool) -> Vec<Broken> {
        let at = |key| [Step::Key("web"), Step::Key(key)];
        let mut broken = Vec::new();
        if self.is_open() {
            broken.push(Broken::new(&at("address"), OPEN, OPEN_HELP));
        }
        if self.commands && !has_rules {
            broken.push(without_rules("web"));
        }
        if self.commands && self.token.is_none() {
            broken.push(Broken::new(&at("commands"), NO_TOKEN, TOKEN_HELP));
        }
        broken
    }
}

/// What is wrong with commands without a token …
pub(crate) const NO_TOKEN: &str =
    "every user of this machine could send commands, and there is no token";
/// … and the remedy.
pub(crate) const TOKEN_HELP: &str =
    "add token = \"file:/etc/infiniservice-host/web\" to [web] (`openssl rand -hex 32`, mode 0600)";

/// What is wrong with an address that is not loopback, without a token …
const OPEN: &str = "other machines could read the page, and there is no token";
/// … and the remedy.
pub(crate) const OPEN_HELP: &str = "add token = \"file:/etc/infiniservice-host/web\" to [web] (`openssl rand -hex 32`, mode 0600), or \
                             serve it at 127.0.0.1";

fn at_8460() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8460))
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let help = "write it as in \"127.0.0.1:8460\" or \"[::1]:8460\"";
    match text(deserializer)?.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(address),
        _ => Err(Problem::new("is not an IP address with a port", help).pack()),
    }
}

fn hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let hosts = super::texts(deserializer, "is no name of a host")?;
    let is_name = |host: &String| {
        let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        !host.is_empty() && host.bytes().all(is_of_names)
    };
    match hosts.iter().all(is_name) {
        true => Ok(hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect()),
        false => {
            let help = "write it without a scheme and a port, as in \"relay.example\"";
            Err(Problem::new("has a text that is no name of a host", help).pack())
        }
    }
}
