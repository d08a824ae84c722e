//! `[nats]` of `relay.toml`: the servers, the stream, and who the relay is to them.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::Deserializer;

use super::commands::{taken, without_rules};
use crate::commands::secret::SecretSource;
use crate::config::check::{Broken, Step};
use crate::config::units::{Period, Size};
use crate::config::value::{Problem, text};

/// `[nats]`: lines go to a stream of NATS JetStream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nats {
    /// The servers of one cluster; `tls://` asks for TLS. Never empty.
    #[serde(deserialize_with = "servers")]
    pub servers: Vec<String>,
    /// The stream. It is created with the limits below where it is not there; one that is there stays as it is.
    #[serde(default = "infini", deserialize_with = "stream")]
    pub stream: String,
    /// What the stream may hold; the oldest lines go.
    #[serde(default = "one_gib")]
    pub max_size: Size,
    /// How long the stream keeps a line.
    #[serde(default = "seven_days", deserialize_with = "age")]
    pub max_age: Period,
    /// How long the stream knows a message id, so that a line that comes again is not stored again.
    #[serde(default = "two_minutes")]
    pub duplicates: Period,
    /// Certificates of authorities, in PEM, beside those of the system.
    #[serde(default, deserialize_with = "path")]
    pub ca: Option<PathBuf>,
    /// A credentials file of NATS (JWT and seed).
    #[serde(default, deserialize_with = "path")]
    pub credentials: Option<PathBuf>,
    /// The user, with `secret` as the password.
    #[serde(default, deserialize_with = "some_text")]
    pub user: Option<String>,
    /// Where the password of `user` is.
    #[serde(default)]
    pub secret: Option<SecretSource>,
    /// Whether commands for guests are taken over NATS, as far as `[commands]` allows them.
    #[serde(default, deserialize_with = "taken")]
    pub commands: bool,
}

impl Nats {
    /// What is wrong with it as a whole; `has_rules` says whether the file has `[commands]`.
    pub(super) fn check(&self, has_rules: bool) -> Vec<Broken> {
        let at = |key| [Step::Key("nats"), Step::Key(key)];
        let mut broken = Vec::new();
        if self.user.is_some() != self.secret.is_some() {
            let key = if self.user.is_some() { "user" } else { "secret" };
            let help = "give both, as in user = \"relay\" and secret = \"file:/etc/infiniservice-host/nats\"";
            broken.push(Broken::new(&at(key), "a user and its secret go together", help));
        }
        if self.credentials.is_some() && self.user.is_some() {
            let what = "the relay can be one user only";
            broken.push(Broken::new(
                &at("credentials"),
                what,
                "keep credentials, or user and secret",
            ));
        }
        if self.duplicates > self.max_age {
            let what = "message ids cannot be known for longer than their lines are kept";
            broken.push(Broken::new(&at("duplicates"), what, "make it shorter than max_age"));
        }
        if self.commands && !has_rules {
            broken.push(without_rules("nats"));
        }
        broken
    }
}

fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let servers = super::texts(deserializer, "is no server of NATS")?;
    if servers.is_empty() {
        let help = "name one, as in \"nats://127.0.0.1:4222\"";
        return Err(Problem::new("names no server", help).pack());
    }
    for server in &servers {
        check_server(server).map_err(Problem::pack)?;
    }
    Ok(servers)
}

fn check_server(server: &str) -> Result<(), Problem> {
    let help = "write nats:// or tls://, a name or an address, and a port, as in \"tls://nats.example:4222\"";
    let address = server.strip_prefix("nats://").or_else(|| server.strip_prefix("tls://"));
    let address = address.ok_or_else(|| Problem::new("is no server of NATS", help))?;
    if address.contains('@') {
        let help = "take them out, and use user and secret, or credentials";
        return Err(Problem::new("has a user or a token in it", help));
    }
    crate::values::address::check_address(address)
}

/// Lines are kept for longer than anything else lasts.
fn age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
    let longest = Duration::from_secs(366 * 24 * 3600);
    Period::at_most(deserializer, longest, "the shortest is \"10ms\", the longest \"366days\"")
}

/// NATS allows no space, dot, wildcard, slash or backslash in the name of a stream.
fn stream<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = text(deserializer)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if (1..=255).contains(&name.len()) && name.bytes().all(is_plain) {
        return Ok(name);
    }
    let help = "take at most 255 letters, digits, - and _";
    Err(Problem::new("is no name of a stream", help).pack())
}

pub(super) fn path<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    let path = text(deserializer)?;
    match path.starts_with('/') && !path.ends_with('/') {
        true => Ok(Some(path.into())),
        false => {
            let help = "write the path of a file from the root on";
            Err(Problem::new("is no path of a file from the root on", help).pack())
        }
    }
}

fn some_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer).map(Some)
}

fn infini() -> String {
    "infini".into()
}

const fn one_gib() -> Size {
    Size::kib(1 << 20)
}

const fn seven_days() -> Period {
    Period::millis(7 * 24 * 3_600_000)
}

const fn two_minutes() -> Period {
    Period::millis(120_000)
}
