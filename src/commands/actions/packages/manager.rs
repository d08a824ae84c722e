//! What this agent does with a package manager: each implements it in its own file.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::super::Context;
use super::history::PastUpdate;
use super::transaction::Step;
use super::upgrades::Upgrades;
use super::{Operation, Package, PackageError, Planned, Root};
use crate::commands::argument::Query;

/// What a package manager is asked for, once it has answered.
pub(in super::super) type Answer<'a, T> = BoxFuture<'a, Result<T, PackageError>>;

/// Takes the packages that would be changed from what a simulation prints.
pub(in super::super) type Parse = fn(&str) -> Vec<Planned>;

/// Fills in what only the files of the database have, until then.
pub(in super::super) type LookCloser = fn(&Root, &mut [Package], std::time::Instant);

/// A package manager. The defaults are those of one that is not driven: its packages are listed, and the rest is refused.
pub(in super::super) trait PackageManager: Sync {
    /// The tool's name.
    fn tool(&self) -> &'static str;

    /// Its name in answers.
    fn name(&self) -> &'static str {
        self.tool()
    }

    /// The installed packages.
    fn installed<'a>(&self, place: &'a Root, cx: &'a Context) -> Answer<'a, Vec<Package>>;

    /// The steps of `change`, for the real run and for `explain` alike; none where files are read instead.
    fn steps(
        &self,
        _: &Root,
        change: Operation<'_>,
        _: Instant,
    ) -> Result<Vec<Step>, PackageError> {
        match change {
            Operation::List => Ok(Vec::new()),
            _ => Err(PackageError::NotDriven { tool: self.tool(), task: change.doing() }),
        }
    }

    /// The steps that tell what `change` would do, the last of which prints it; none where it changes nothing.
    fn simulation(&self, _: &Root, _: Operation<'_>, _: Instant) -> (Vec<Step>, Parse) {
        (Vec::new(), |_| Vec::new())
    }

    /// The packages with every word of `query`, at most [`FOUND_MAX`](super::FOUND_MAX), and how many are left out.
    fn search<'a>(
        &self,
        _: &'a Root,
        _: &'a Context,
        _: &'a Query,
    ) -> Answer<'a, (Vec<Package>, usize)> {
        refused(self.tool(), "search packages")
    }

    /// The pending upgrades, with the bytes to fetch where `sizes` is wanted.
    fn pending<'a>(&self, _: &'a Root, _: &'a Context, _sizes: bool) -> Answer<'a, Upgrades> {
        refused(self.tool(), "tell pending updates")
    }

    /// The past upgrades; times are those of the machine's clock, which ends with `zone`.
    fn history<'a>(
        &self,
        _: &'a Root,
        _: &'a Context,
        _zone: &'static str,
    ) -> Answer<'a, Vec<PastUpdate>> {
        refused(self.tool(), "tell past updates")
    }

    /// Whether it says which updates are for security.
    fn tells_security(&self) -> bool {
        true
    }

    /// Whether it brings one package up to date without the others.
    fn updates_one_alone(&self) -> bool {
        true
    }

    /// Whether it fetches its index anew by itself, when it finds it too old.
    fn fetches_index(&self) -> bool {
        true
    }

    /// How old its index is, where that is known.
    fn index_age(&self, _: &Root) -> Option<Duration> {
        None
    }

    /// The folder of what it has fetched, in the tree; `None` where it is not driven.
    fn cache(&self) -> Option<&'static str> {
        None
    }

    /// What tells whether the machine waits for a restart, beside Debian's mark.
    fn restart_check(&self, place: &Root) -> RestartCheck {
        needs_restarting(place)
    }

    /// What finds the rest of what is known of packages, where listing them does not.
    fn look_closer(&self) -> Option<LookCloser> {
        None
    }
}

/// What tells whether the machine waits for a restart.
#[derive(Debug)]
pub(in super::super) enum RestartCheck {
    /// The mark alone: without it, the machine does not.
    Mark,
    /// A program: exit code 0 is no, `yes` is yes, anything else is not known.
    Program {
        /// The program.
        program: &'static str,
        /// Its arguments.
        arguments: Vec<String>,
        /// The exit code.
        yes: i32,
    },
    /// Nothing.
    Unknown,
}

/// `needs-restarting -r`, which comes with dnf's plugins. It speaks of the running machine only.
pub(in super::super) fn needs_restarting(place: &Root) -> RestartCheck {
    match place.elsewhere() {
        Some(_) => RestartCheck::Unknown,
        None => RestartCheck::Program {
            program: "needs-restarting",
            arguments: vec!["-r".to_owned()],
            yes: 1,
        },
    }
}

fn refused<'a, T: Send + 'a>(tool: &'static str, task: &'static str) -> Answer<'a, T> {
    async move { Err(PackageError::NotDriven { tool, task }) }.boxed()
}
