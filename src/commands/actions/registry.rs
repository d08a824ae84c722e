//! All actions: a line for each. Whatever knows an action by its name reads it from here.

use super::action::{ActionRequest, Entry};
use super::page::Name;
use super::plan::Argument;
use super::{
    agent, applications, checks, cleanup, domain, golden, not_built, packages, power, processes,
    resources, security_modules, services, system, unsupported, updates, users,
};
use crate::commands::argument::{ArgumentError, shown};
use crate::sort;
use crate::wire::inbound::Arguments;

/// Every action, in the order of `docs/actions.md`.
pub(crate) static ACTIONS: &[Entry] = &[
    Entry::of::<system::SystemInfo>(),
    Entry::of::<system::OsInfo>(),
    Entry::of::<users::UserList>(),
    Entry::of::<services::ServiceList>(),
    Entry::of::<services::ServiceControl>(),
    Entry::of::<packages::PackageList>(),
    Entry::of::<packages::PackageSearch>(),
    Entry::of::<packages::PackageInstall>(),
    Entry::of::<packages::PackageRemove>(),
    Entry::of::<packages::PackageUpdate>(),
    Entry::of::<updates::UpdateSystemSoftware>(),
    Entry::of::<processes::ProcessList>(),
    Entry::of::<processes::ProcessTop>(),
    Entry::of::<processes::ProcessKill>(),
    Entry::of::<checks::disk::CheckDiskSpace>(),
    Entry::of::<resources::CheckResourceOptimization>(),
    Entry::of::<checks::RunHealthCheck>(),
    Entry::of::<checks::RunAllHealthChecks>(),
    Entry::of::<cleanup::DiskCleanup>(),
    Entry::of::<updates::CheckLinuxUpdates>(),
    Entry::of::<applications::GetInstalledApplicationsWMI>(),
    Entry::of::<applications::GetApplicationDetails>(),
    Entry::of::<applications::CheckApplicationUpdates>(),
    Entry::of::<updates::GetUpdateHistory>(),
    Entry::of::<security_modules::CheckSecurityModules>(),
    Entry::of::<golden::PrepareGoldenImage>(),
    Entry::of::<domain::JoinDomain>(),
    Entry::of::<power::RebootSystem>(),
    Entry::of::<agent::AgentStatus>(),
    Entry::of::<agent::AgentTap>(),
    Entry::of::<unsupported::OtherSystem>(),
    Entry::of::<not_built::NotBuilt>(),
];

/// The action name of a shell command line.
pub const RAW_COMMAND: &str = "UnsafeCommand";
/// The action name of a pending script.
pub const SCRIPT: &str = "Script";

/// What is no action, and a rule can be about: by name, with the arguments that it can look at.
const OTHERS: [(&str, &[Argument]); 2] = [
    (RAW_COMMAND, &[Argument::Shell, Argument::Path, Argument::User]),
    (SCRIPT, &[Argument::Name, Argument::Shell, Argument::User]),
];

/// Every name of every action.
pub(crate) fn names() -> impl Iterator<Item = (&'static Entry, &'static Name)> {
    ACTIONS.iter().flat_map(|entry| entry.names.iter().map(move |name| (entry, name)))
}

/// Every name that a rule may use, and the arguments that it can look at. What is not here can still be asked for; only
/// rules with a `*` match it.
pub fn rules() -> impl Iterator<Item = (&'static str, &'static [Argument])> {
    OTHERS.into_iter().chain(names().map(|(entry, name)| (name.name, entry.rules)))
}

/// The arguments that a rule can look at, of the actions that `matches`; `None` where there is no such
/// action.
pub(crate) fn arguments_of(matches: impl Fn(&str) -> bool) -> Option<Vec<Argument>> {
    let mut known = rules().filter(|(name, _)| matches(name)).peekable();
    known.peek()?;
    let mut arguments: Vec<Argument> =
        known.flat_map(|(_, arguments)| arguments).copied().collect();
    sort::by(&mut arguments, Ord::cmp);
    arguments.dedup();
    Some(arguments)
}

/// The action of this name, with its arguments checked.
///
/// # Errors
/// There is none, or an argument is wrong.
pub fn request(asked: &str, arguments: Arguments<'_>) -> Result<ActionRequest, ArgumentError> {
    match names().find(|(_, name)| name.name == asked) {
        Some((entry, name)) => entry.request(name, arguments),
        None if asked.is_empty() => Err(ArgumentError::NoAction),
        None => Err(ArgumentError::UnknownAction(shown(asked))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_action_s_and_says_what_it_does_or_why_not() {
        let mut all: Vec<&str> = rules().map(|(name, _)| name).collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count, "two actions have one name");
        for (_, name) in names() {
            assert_ne!(name.does.is_empty(), name.not_built.is_none(), "{}", name.name);
        }
    }
}
