//! The actions on packages. How a package manager is asked is in the modules beside this one.

use futures::FutureExt;
use serde::Deserialize;

use super::super::action::{Action, NoArguments, SideEffects, Unfit};
use super::super::page::{Missing, Name, text};
use super::super::plan::{Argument, Plan};
use super::super::{ActionOutcome, Context};
use super::{Operation, Root, change_in, list_in, search_in, side_effects, would_run};
use crate::commands::argument::{ArgumentError, PackageName, Query};

/// What an action does that asks the package manager, where it is not known how.
pub(in super::super) const ASKS: &str =
    "asks the machine's package manager; fails where there is none that this agent can use for it";

/// What an action does that lists the installed packages.
pub(in super::super) const LISTS: &str =
    "reads the database of installed packages, or asks rpm for it";

/// The name of a package.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct PackageArguments {
    package: Option<String>,
}

impl PackageArguments {
    fn name(self) -> Result<PackageName, ArgumentError> {
        PackageName::new(self.package.as_deref().unwrap_or_default())
    }

    /// The package, where one is named.
    pub(in super::super) fn if_named(self) -> Result<Option<PackageName>, ArgumentError> {
        let is_named = self.package.as_ref().is_some_and(|name| !name.is_empty());
        is_named.then(|| self.name()).transpose()
    }
}

/// All installed packages: `{packages:[…], truncated}`; `truncated` says how many are missing.
#[derive(Debug, Clone, PartialEq)]
pub struct PackageList;

impl Action for PackageList {
    const NAMES: &'static [Name] = &[Name::new(
        "PackageList",
        "lists the installed packages",
        "`{packages: [{name, version, description, installed, publisher, source, …}], truncated}`",
    )
    .sent(&[])];
    type Arguments = NoArguments;

    fn new(_: &'static str, _: NoArguments) -> Result<Self, Unfit> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::reads(LISTS)
    }

    fn programs(&self, place: &Root) -> Option<Vec<Vec<String>>> {
        would_run(place, Operation::List)
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        list_in(&Root::machine(), cx).await.into()
    }
}

/// Packages whose name or description has every word of the query, at most `FOUND_MAX`, exact names
/// first: `{packages:[…], truncated}`.
#[derive(Debug, Clone, PartialEq)]
pub struct PackageSearch(pub Query);

/// What to search for.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct QueryArguments {
    query: Option<String>,
}

impl Action for PackageSearch {
    const NAMES: &'static [Name] = &[Name::new(
        "PackageSearch",
        "finds packages that match every word, at most 200",
        "as PackageList",
    )
    .takes("query")
    .sent(&[text("query", Missing::Empty)])];
    const RULES: &'static [Argument] = &[Argument::Query];
    type Arguments = QueryArguments;

    fn new(_: &'static str, arguments: QueryArguments) -> Result<Self, Unfit> {
        Ok(Self(Query::new(arguments.query.as_deref().unwrap_or_default())?))
    }

    fn plan(&self) -> Plan {
        Plan::reads(ASKS).with(Argument::Query, self.0.as_str())
    }

    fn programs(&self, place: &Root) -> Option<Vec<Vec<String>>> {
        would_run(place, Operation::Search(&self.0))
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        search_in(&Root::machine(), cx, &self.0).await.into()
    }
}

/// Declares an action that changes one package: its name, what it does, and the operation of the package manager.
macro_rules! changes_one_package {
    ($(#[$about:meta])* $Action:ident, $does:literal, $operation:ident) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $Action(pub PackageName);

        impl $Action {
            fn operation(&self) -> Operation<'_> {
                Operation::$operation(&self.0)
            }
        }

        impl Action for $Action {
            const NAMES: &'static [Name] =
                &[Name::new(stringify!($Action), $does, "stdout, stderr, exit_code")
                    .takes("package")
                    .sent(&[text("package", Missing::Empty)])];
            const RULES: &'static [Argument] = &[Argument::Package];
            type Arguments = PackageArguments;

            fn new(_: &'static str, arguments: PackageArguments) -> Result<Self, Unfit> {
                Ok(Self(arguments.name()?))
            }

            fn plan(&self) -> Plan {
                Plan::changes(ASKS).with(Argument::Package, self.0.as_str())
            }

            fn programs(&self, place: &Root) -> Option<Vec<Vec<String>>> {
                would_run(place, self.operation())
            }

            fn side_effects<'a>(&'a self, cx: &'a Context) -> SideEffects<'a> {
                side_effects(cx, self.operation()).boxed()
            }

            async fn run(&self, cx: &Context) -> ActionOutcome {
                change_in(&Root::machine(), cx, self.operation()).await.into()
            }
        }
    };
}

changes_one_package! {
    /// Installs one package.
    PackageInstall, "installs one package of exactly this name", Install
}

changes_one_package! {
    /// Removes one package; its configuration files stay.
    PackageRemove, "removes one package; its configuration stays", Remove
}

changes_one_package! {
    /// Brings one package up to date; does not install it where it is not. Refused with pacman, which brings a
    /// system up to date as a whole.
    PackageUpdate, "updates one package; refused with pacman", Update
}
