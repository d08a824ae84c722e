//! `relay.toml`: which guests' sockets a relay reads, what each guest may take, and where the lines go.

mod commands;
mod nats;
mod otlp;
mod pattern;
mod web;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::Deserializer;

use super::check::{Broken, Check, Step, somewhere_to_write};
use super::table::{one_or_many, some_table, table};
use super::units::{Count, Period, Size};
use super::value::{Problem, text_or_none};
use super::write::{Delivery, Target, Write};
use crate::commands::secret::{Secret, SecretError, SecretSource};
use crate::sinks::Destination;
use crate::wire::{Format, steers};
pub(crate) use commands::{NO_RULES, RULES_HELP, RelayCommands};
pub(crate) use nats::Nats;
pub(crate) use otlp::{Endpoint, Otlp};
pub(crate) use pattern::{SocketPattern, find};
pub(crate) use web::{NO_TOKEN, OPEN_HELP, TOKEN_HELP, Web};

/// What stands for a guest's name in a pattern and in the place of its secret.
const VM: &str = "{vm}";

/// The whole of `relay.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RelayFile {
    /// The name of this place, which every line and metric carries; without one, the name of the machine.
    #[serde(default, deserialize_with = "text_or_none")]
    pub site: Option<String>,
    /// The guests.
    #[serde(deserialize_with = "table")]
    pub guests: Guests,
    /// Where the lines go, beside `nats` and `otlp`. One of them is there.
    #[serde(default, deserialize_with = "one_or_many")]
    pub write: Vec<Write>,
    /// A stream of NATS that the lines go to.
    #[serde(default, deserialize_with = "some_table")]
    pub nats: Option<Nats>,
    /// A receiver of OTLP that the lines go to.
    #[serde(default, deserialize_with = "some_table")]
    pub otlp: Option<Otlp>,
    /// Where the fleet is served as a web page.
    #[serde(default, deserialize_with = "some_table")]
    pub web: Option<Web>,
    /// What may be asked of guests, where `nats` or `web` takes commands; without it, nothing.
    #[serde(default, deserialize_with = "some_table")]
    pub commands: Option<RelayCommands>,
}

impl RelayFile {
    /// Whether it has rules for commands, and nothing takes commands.
    pub(crate) fn is_without_commands(&self) -> bool {
        let takes = self.nats.as_ref().is_some_and(|nats| nats.commands)
            || self.web.as_ref().is_some_and(|web| web.commands);
        self.commands.is_some() && !takes
    }
}

/// `[guests]`: their sockets, and what each of them may take.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guests {
    /// Where the sockets are. Never empty where `vsock` is not there.
    #[serde(default, deserialize_with = "one_or_more")]
    pub sockets: Vec<SocketPattern>,
    /// Guests that are reached over vsock.
    #[serde(default, deserialize_with = "some_table")]
    pub vsock: Option<Vsock>,
    /// Signs what guests are sent. Without one they are sent nothing, and acknowledged nothing.
    #[serde(default)]
    pub secret: Option<GuestSecret>,
    /// The same, with a key for each guest that is derived of this one and the guest's name.
    #[serde(default)]
    pub master: Option<SecretSource>,
    /// How often a guest is asked whether it is there.
    #[serde(default = "two_minutes")]
    pub keep_alive: Period,
    /// How long after its last line a guest counts as gone.
    #[serde(default = "ninety_seconds")]
    pub silence: Period,
    /// How often the folders are looked at.
    #[serde(default = "two_seconds")]
    pub scan: Period,
    /// The bytes a second that are read of a guest; each line counts 256 at least.
    #[serde(default = "one_mib")]
    pub rate: Size,
    /// The longest line that is taken.
    #[serde(default = "one_mib", deserialize_with = "line")]
    pub max_line: Size,
    /// What may wait of a guest in front of an output.
    #[serde(default = "one_mib")]
    pub queue: Size,
    /// Series of a guest that are served to Prometheus.
    #[serde(default = "five_hundred")]
    pub series: Count,
    /// Guests at once.
    #[serde(default = "ten_thousand")]
    pub max: Count,
    /// Whether readings wait for an output that does not take them, as everything else does.
    #[serde(default)]
    pub metrics: Delivery,
}

/// `[guests.vsock]`: machines of hypervisors that have vsock as Unix sockets, or the kernel's own.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vsock {
    /// Where the Unix sockets of their vsock are.
    #[serde(default, deserialize_with = "one_or_more")]
    pub sockets: Vec<SocketPattern>,
    /// Guests by their names, each with the CID of its machine: they connect to the vsock of this host.
    #[serde(default, deserialize_with = "cids")]
    pub cids: BTreeMap<String, u32>,
    /// The port.
    #[serde(default = "vsock_port")]
    pub port: Count,
    /// Whether the relay connects to the guests of `sockets`, and not they to the relay.
    #[serde(default)]
    pub connect: bool,
}

/// Where the secret of a guest is: one place for all, or one for each with `{vm}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestSecret(String);

impl GuestSecret {
    /// Loads the secret of the guest `vm`; blocks on files. `None` where it is empty.
    ///
    /// # Errors
    /// As of [`Secret::load`].
    pub(crate) fn load(&self, vm: &str) -> Result<Option<Secret>, SecretError> {
        Secret::load(&self.0.replace(VM, vm).parse::<SecretSource>()?)
    }
}

impl<'de> Deserialize<'de> for GuestSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = super::value::text(deserializer)?;
        // The name in it has no influence on what kind of place it is.
        match text.replace(VM, "x").parse::<SecretSource>() {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(Problem::new(
                "is no place of a secret",
                "write where it is, as in \"file:/etc/infiniservice/guests/{vm}\" or \"env:NAME\"",
            )
            .pack()),
        }
    }
}

use Step::{Item, Key};

impl Check for RelayFile {
    fn check(&self) -> Vec<Broken> {
        let has_other = self.nats.is_some() || self.otlp.is_some();
        let mut broken = match has_other && self.write.is_empty() {
            true => Vec::new(),
            false => somewhere_to_write(&self.write),
        };
        let has_rules = self.commands.is_some();
        broken.extend(self.nats.iter().flat_map(|nats| nats.check(has_rules)));
        broken.extend(self.web.iter().flat_map(|web| web.check(has_rules)));
        let signs = self.guests.signs();
        broken.extend(self.commands.iter().flat_map(|commands| commands.check(signs)));
        if self.guests.secret.is_some() && self.guests.master.is_some() {
            let what = "a guest can have one key only";
            let help = "keep secret, or master";
            broken.push(Broken::new(&[Key("guests"), Key("master")], what, help));
        }
        let vsock = self.guests.vsock.as_ref();
        let vsock = vsock.map(|vsock| vsock.sockets.is_empty() && vsock.cids.is_empty());
        if vsock == Some(true) || vsock.is_none() && self.guests.sockets.is_empty() {
            let help = "name the sockets, as in \"/run/guests/{vm}.socket\"";
            let path = [Key("guests"), Key("sockets")];
            broken.push(Broken::new(&path, "no socket is read", help).missing());
        }
        let mut served = None;
        for (index, write) in self.write.iter().enumerate() {
            let path = |key| [Key("write"), Item(index), Key(key)];
            match &write.target {
                Target::Port(_) => {
                    let help =
                        "a relay reads ports; write to a file, a socket, stdout or prometheus";
                    broken.push(Broken::new(&path("port"), "a relay writes to no port", help));
                }
                Target::Sink(Destination::Prometheus(_)) => {
                    if let Some(first) = served.replace(index) {
                        let other = vec![Key("write"), Item(first), Key("prometheus")];
                        let help = "keep one of them: it serves all guests";
                        let twice = "the metrics are served already";
                        broken.push(Broken::new(&path("prometheus"), twice, help).beside(other));
                    }
                }
                _ if write.format.is_some_and(|format| format != Format::JsonLines) => {
                    let help = "leave this line out";
                    broken.push(Broken::new(
                        &path("format"),
                        "a relay writes lines of guests as json-lines",
                        help,
                    ));
                }
                _ => {}
            }
        }
        broken
    }

    fn find(&mut self, source: &str) {
        self.commands.iter_mut().for_each(|commands| commands.find(source));
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketPattern>, D::Error> {
    let texts = texts(deserializer, "is no pattern of sockets")?;
    texts.iter().map(|text| text.parse().map_err(Problem::pack)).collect()
}

/// A table of names and CIDs. No two guests have one; 0 and 2 are no guests, and the last number is everybody (vsock(7)).
fn cids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, u32>, D::Error> {
    let help = "write each guest's name and the CID of its machine, as in { web-1 = 3, db-1 = 4 }";
    let cids = BTreeMap::<String, u32>::deserialize(deserializer)
        .map_err(|_| Problem::new("is no table of guests and CIDs", help).pack())?;
    let mut seen = BTreeSet::new();
    for (vm, cid) in &cids {
        if vm.is_empty() || vm.chars().any(steers) {
            return Err(Problem::new("has a guest without a name that can be printed", help).pack());
        }
        if matches!(*cid, 0 | 2 | u32::MAX) || !seen.insert(*cid) {
            let what = format!("gives {vm:?} the CID {cid}, which is no guest's or another one's");
            return Err(Problem::new(what, help).pack());
        }
    }
    Ok(cids)
}

/// One text, or a list of them; anything else `is_none`.
fn texts<'de, D: Deserializer<'de>>(
    deserializer: D,
    is_none: &str,
) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    match OneOrMore::deserialize(deserializer) {
        Ok(OneOrMore::One(text)) => Ok(vec![text]),
        Ok(OneOrMore::More(texts)) => Ok(texts),
        Err(_) => Err(Problem::new(is_none, "write one in quotes, or a list of them").pack()),
    }
}

/// Shorter lines than a guest's own readings are no use; longer ones no agent sends.
fn line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    let help = "from \"4KiB\" to \"4MiB\"";
    Size::within(deserializer, 4096..=4 << 20, "is too large", help)
}

const fn two_minutes() -> Period {
    Period::millis(120_000)
}

const fn ninety_seconds() -> Period {
    Period::millis(90_000)
}

const fn two_seconds() -> Period {
    Period::millis(2_000)
}

const fn one_mib() -> Size {
    Size::kib(1024)
}

const fn vsock_port() -> Count {
    Count::fixed(8460)
}

const fn five_hundred() -> Count {
    Count::fixed(500)
}

const fn ten_thousand() -> Count {
    Count::fixed(10_000)
}

impl Guests {
    /// The defaults of everything beside the sockets.
    #[cfg(test)]
    pub(crate) fn at(sockets: Vec<SocketPattern>) -> Self {
        Self {
            sockets,
            vsock: None,
            secret: None,
            master: None,
            keep_alive: two_minutes(),
            silence: ninety_seconds(),
            scan: two_seconds(),
            rate: one_mib(),
            max_line: one_mib(),
            queue: one_mib(),
            series: five_hundred(),
            max: ten_thousand(),
            metrics: Delivery::Latest,
        }
    }

    /// Whether guests are sent anything.
    pub(crate) fn signs(&self) -> bool {
        self.secret.is_some() || self.master.is_some()
    }

    /// Loads or derives the key of the guest `vm`; blocks on files. `None` where there is none, or it is empty.
    ///
    /// # Errors
    /// The secret cannot be loaded, or is too short to derive keys of it.
    pub(crate) fn key(&self, vm: &str) -> Result<Option<Secret>, SecretError> {
        match (&self.secret, &self.master) {
            (Some(secret), _) => secret.load(vm),
            (None, Some(master)) => {
                let master = Secret::load(master)?;
                master.map(|master| master.derive(vm)).transpose()
            }
            (None, None) => Ok(None),
        }
    }
}
