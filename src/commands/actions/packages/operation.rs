//! What can be asked of a package manager. Does not know how any of them is asked.

use crate::commands::argument::{PackageName, Query};

/// What is asked of a package manager.
#[derive(Debug, Clone, Copy)]
pub enum Operation<'a> {
    /// Install one package.
    Install(&'a PackageName),
    /// Remove one.
    Remove(&'a PackageName),
    /// Bring one up to date.
    Update(&'a PackageName),
    /// Fetch what is known of packages anew, and bring one up to date.
    UpgradeOne(&'a PackageName),
    /// Fetch it anew, and bring everything up to date.
    UpgradeAll,
    /// Fetch it anew.
    Refresh,
    /// Delete fetched packages.
    CleanCache,
    /// Find packages.
    Search(&'a Query),
    /// Tell installed packages.
    List,
    /// Tell pending upgrades.
    Check,
    /// The same, with what there is to fetch.
    CheckSizes,
    /// Tell past upgrades.
    History,
}

impl<'a> Operation<'a> {
    /// The package it is about; empty where it is about all.
    pub fn name(self) -> &'a str {
        match self {
            Self::Install(name)
            | Self::Remove(name)
            | Self::Update(name)
            | Self::UpgradeOne(name) => name.as_str(),
            _ => "",
        }
    }

    /// What it is, after "cannot".
    pub(super) fn doing(self) -> &'static str {
        match self {
            Self::Install(_) => "install a package",
            Self::Remove(_) => "remove a package",
            Self::Update(_) | Self::UpgradeOne(_) => "update a package",
            Self::UpgradeAll => "update the system",
            Self::Refresh => "refresh the package index",
            Self::CleanCache => "clean the package cache",
            Self::Search(_) => "search packages",
            Self::List => "list packages",
            Self::Check | Self::CheckSizes => "tell pending updates",
            Self::History => "tell past updates",
        }
    }
}
