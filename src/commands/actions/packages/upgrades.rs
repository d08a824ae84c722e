//! Pending upgrades, as data. Runs nothing.

use serde::Serialize;

/// One installed package that could be newer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Upgrade {
    /// Its name.
    pub package_name: String,
    /// The version that is there.
    pub current_version: String,
    /// The one that can be had.
    pub available_version: String,
    /// Where from: `Debian-Security:12/stable-security`, or a repository's id.
    pub repository: String,
    /// Whether where it comes from calls it a security update.
    pub is_security: bool,
    /// For which machine.
    pub architecture: String,
    /// Bytes to fetch, where that was asked and told.
    #[serde(skip)]
    pub fetch_bytes: Option<u64>,
}

/// The pending upgrades of a machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Upgrades {
    /// Those that are reported.
    pub list: Vec<Upgrade>,
    /// How many there are in all: more than the list has, where the manager's output was cut.
    pub total: usize,
    /// Those that could be newer and are kept as they are: held, locked or ignored on purpose, or kept back by the
    /// manager itself. Not among the others.
    pub held: Vec<Upgrade>,
}

impl Upgrades {
    /// How many of the list are security updates.
    pub(crate) fn security(&self) -> usize {
        self.list.iter().filter(|upgrade| upgrade.is_security).count()
    }
}
