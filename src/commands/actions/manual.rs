//! What each action takes, does and answers with, for people: the text of `docs/actions.md`. Decides nothing.

use std::fmt::Write as _;

use crate::commands::actions::registry::ACTIONS;
use crate::commands::decode::{RAW_COMMAND, SCRIPT, why_not_built};

/// What people are told of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The host's name for it.
    pub name: &'static str,
    /// Its arguments, a `?` behind those that may be missing.
    pub takes: &'static str,
    /// What it does.
    pub does: &'static str,
    /// What `data` of the answer holds.
    pub gives: &'static str,
}

const fn page(
    name: &'static str,
    takes: &'static str,
    does: &'static str,
    gives: &'static str,
) -> Page {
    Page { name, takes, does, gives }
}

const OTHER: &str =
    "for Windows: answered with success and `supported: false`; nothing is looked at";
const NONE: &str = "";

/// A page for each action of the catalogue, in its order. One whose `does` is empty is not built: why stands where it
/// is decoded.
pub const PAGES: &[Page] = &[
    page(
        RAW_COMMAND,
        "raw_command, shell?, working_dir?, env_vars?, run_as?, timeout",
        "runs a command line by a shell (needs `raw_shell = true`)",
        "stdout, stderr, exit_code",
    ),
    page(
        SCRIPT,
        "script_content, shell, input_values, run_as?, timeout_seconds",
        "runs a pending script (needs `scripts = true`)",
        "a `script_completion`",
    ),
    page(
        "SystemInfo",
        NONE,
        "tells what system this is",
        "`{os_type, version, architecture, hostname, kernel_version, linux_distro, …}`",
    ),
    page(
        "OsInfo",
        NONE,
        "the same, with package managers and the default shell",
        "as SystemInfo, `available_package_managers`, `default_shell`",
    ),
    page(
        "UserList",
        NONE,
        "lists root and the accounts of people",
        "`{users: [{name, uid, …}], count, truncated}`",
    ),
    page(
        "ServiceList",
        NONE,
        "lists systemd's services, also those that are only files",
        "`[{name, display_name, status, startup_type, can_start, …}]`",
    ),
    page(
        "ServiceControl",
        "service, operation: start, stop, restart, enable, disable or status (beside `action` or in `params`)",
        "does it with a unit of systemd, and waits until it is done",
        "one item of ServiceList",
    ),
    page(
        "RestartServices",
        "service_name",
        "restarts one service; all at once is refused",
        "as ServiceControl",
    ),
    page(
        "PackageList",
        NONE,
        "lists the installed packages",
        "`{packages: [{name, version, description, installed, publisher, source, …}], truncated}`",
    ),
    page("PackageSearch", "query", "finds packages with every word, at most 200", "as PackageList"),
    page(
        "PackageInstall",
        "package",
        "installs one package of exactly this name",
        "stdout, stderr, exit_code",
    ),
    page(
        "PackageRemove",
        "package",
        "removes one; its configuration stays",
        "stdout, stderr, exit_code",
    ),
    page(
        "PackageUpdate",
        "package",
        "brings one up to date; refused with pacman",
        "stdout, stderr, exit_code",
    ),
    page(
        "UpdateSystemSoftware",
        "package?",
        "fetches what is known of packages anew, and brings everything or one package up to date",
        "`{reboot_required}`",
    ),
    page(
        "ProcessList",
        "limit?",
        "lists processes, measured over half a second",
        "`{processes: [{pid, name, cpu_usage, memory_kb, status, command_line, user, start_time}], count, truncated}`",
    ),
    page("ProcessTop", "limit?, sort_by?: cpu or memory", "those that use most", "as ProcessList"),
    page(
        "ProcessKill",
        "pid, force?",
        "sends SIGTERM, or SIGKILL; never to pid 1, the agent or a thread of the kernel",
        "`{pid, name, signal, ended}`",
    ),
    page(
        "CheckDiskSpace",
        "warning_threshold?, critical_threshold? (percent in use)",
        "measures the file systems",
        "`{drives: […], disks: […]}`",
    ),
    page(
        "CheckResourceOptimization",
        NONE,
        "measures for three seconds",
        "`{status, recommendations: […]}`",
    ),
    page(
        "RunHealthCheck",
        "check_name?",
        "makes one check, or all as one",
        "`{status, message, details}`",
    ),
    page(
        "RunAllHealthChecks",
        NONE,
        "makes all checks",
        "a map of check to `{status, message, details}`, `overall_health`, `checks`",
    ),
    page(
        "DiskCleanup",
        "targets?: temp_files, system_cache, browser_cache, recycle_bin",
        "deletes what these name, temporary files where none is",
        "`{space_cleared_mb, files_deleted, targets}`",
    ),
    page("CleanTemporaryFiles", "targets?", "is DiskCleanup", "as DiskCleanup"),
    page(
        "CheckLinuxUpdates",
        NONE,
        "tells pending updates, and those that are held back",
        "`{pending_updates: […], held_updates: […], security_updates_count, total_pending_count, reboot_required, …}`",
    ),
    page("GetInstalledApplications", NONE, "is GetInstalledApplicationsWMI", "as that"),
    page(
        "GetInstalledApplicationsWMI",
        NONE,
        "lists packages as applications, what people asked for first",
        "`{applications: [{name, version, publisher, install_date, size_mb, …}], truncated}`",
    ),
    page(
        "GetApplicationDetails",
        "app_id (or app_name, package)",
        "tells what is known of one installed package",
        "`{name, version, publisher, install_date, size_mb, description, architecture, source, asked_for, …}`",
    ),
    page(
        "CheckApplicationUpdates",
        NONE,
        "tells applications that could be newer",
        "`{applications: [{name, version, update_available, can_update, …}], summary, truncated}`",
    ),
    page("CheckSpecificAppUpdates", NONE, NONE, NONE),
    page(
        "GetUpdateHistory",
        NONE,
        "tells past updates, the newest first",
        "`{updates: [{title, install_date, status, result_code}], truncated}`",
    ),
    page("GetLinuxUpdateHistory", NONE, "is GetUpdateHistory", "as that"),
    page("GetAvailableUpdates", NONE, NONE, NONE),
    page("GetSecurityUpdates", NONE, NONE, NONE),
    page("GetPendingUpdates", NONE, "is CheckLinuxUpdates", "as that"),
    page("GetPendingLinuxUpdates", NONE, "is CheckLinuxUpdates", "as that"),
    page("GetLinuxSecurityUpdates", NONE, NONE, NONE),
    page("EstimateUpdateSize", NONE, NONE, NONE),
    page("EstimateDiskCleanup", NONE, NONE, NONE),
    page("CheckLinuxSecurity", NONE, NONE, NONE),
    page("GetLinuxSecurityStatus", NONE, NONE, NONE),
    page("CheckSecurityModules", NONE, NONE, NONE),
    page("GetFirewallStatus", NONE, "is RunHealthCheck of firewall_status", "as that"),
    page("CheckFirewallStatus", NONE, "is RunHealthCheck of firewall_status", "as that"),
    page("CheckWindowsUpdates", NONE, OTHER, "empty lists"),
    page("CheckWindowsDefender", NONE, OTHER, "empty lists"),
    page("GetDefenderStatus", NONE, OTHER, "empty lists"),
    page("GetThreatHistory", NONE, OTHER, "empty lists"),
    page("RunDefenderQuickScan", NONE, OTHER, "zeros"),
    page("AutoFixWindowsUpdates", NONE, OTHER, NONE),
    page("AutoFixDefender", NONE, OTHER, NONE),
    page("AutoOptimizeDisk", NONE, NONE, NONE),
    page("CheckSystemIntegrity", NONE, NONE, NONE),
    page("ValidateSystemHealth", "check_name?", "is RunHealthCheck", "as that"),
    page("RunMaintenanceTask", NONE, NONE, NONE),
    page("ExecutePowerShellScript", NONE, NONE, NONE),
    page(
        "PrepareGoldenImage",
        "cleanup_level: minimal, standard or deep; sanitize_user_data; shutdown_after; all three, or it is refused",
        "takes away what makes the machine this one, then answers, and switches it off three seconds later",
        "`{os, distro, cleanup_level, sanitize_user_data, shutdown_after, steps: [{name, done, removed, note}]}`",
    ),
    page(
        "JoinDomain",
        "domain, username, password, ou?, computer_name?, restart_after?",
        "runs `realm join` (realmd, with sssd), the password on its standard input; then answers, and restarts three seconds later where asked",
        "`{domain, computer_name, ou, restart_after}`",
    ),
    page(
        "RebootSystem",
        "force?",
        "answers, and restarts three seconds later",
        "`{rebooting, force}`",
    ),
];

const HEAD: &str = "# Actions

What the host may ask for, what is done, and what the answer holds. `infiniservice explain FILE` shows what a message would
run here. This file is made from the agent's own tables; a test compares them.

An action is a `SafeCommand`; its arguments stand beside `action`. What a rule of `[enforce]` can look at is in the third
column. One that is not built is answered with failure and the reason that is told here. An action that is not listed is
answered with \"is not known to this agent\".

";

const TAIL: &str = "
## How long an answer is

A line longer than 100,000 characters is a warning in the host's log. AckTracker of actions are shorter: from the items of long
lists nulls go first, then long texts, fields that the host does not read, all texts, and last the ends of the lists, which
have what matters first. How many items are missing is in `truncated` and in a sentence on `stdout`. What a package manager
printed is cut in its middle, with a note. Command lines and scripts are not actions: what they print is kept as
`[execute] output` says (at most 256 KiB of each stream), because whoever runs them wants to read it, and the host warns of
a line that is longer than 100,000 characters.

## What rules see

Rules are held against what would happen, not only against words:

- Start or restart of a unit that ends or suspends the system (`reboot.target`, `poweroff.target`, `ctrl-alt-del.target`,
  `runlevel6.target`, `systemd-reboot.service`, `rescue.target`, `suspend.target`, …, and units with a `SuccessAction`) is
  `RebootSystem`, too: it has to be allowed as that.
- `UpdateSystemSoftware` is `PackageUpdate` of what it brings up to date; `RunAllHealthChecks` is every `RunHealthCheck`.
- A package is the same with `:amd64`, `.x86_64`, an epoch, and the `+` or `-` that apt and zypper read as an
  instruction; a unit with and without `.service`, and an instance is its template's. Globs, groups (`@core`), files, versions and what a
  package provides are no names: they are refused.
- Where a rule limits anything, the machine is asked before an action begins: systemd for all names of a unit and for
  what it pulls in or takes along; apt (`--simulate`), dnf (`--assumeno`), zypper (`--dry-run`) and pacman (`--print`) for every package
  that would be installed, updated or removed. A rule that denies one of them denies the whole; what cannot be told is not done. What pacman would *replace* it
  does not tell.
- **Command lines and scripts**: rules see their shell, folder, user and name, and nothing of what they do. Whoever may run
  one as root may do everything. Leave `raw_shell` and `scripts` off where rules are to hold.

## PrepareGoldenImage

`minimal` takes away: the agent's own state (at its next start: spool, journal, audit; the shared secret stays, it is
the installer's), cloud-init's, the machine id (left empty), random seeds, SSH host keys, DHCP leases, network settings that
cloud-init made. `standard` also: shell histories, temporary files, crash dumps, the package cache, logs and the journal.
`deep` also: subscriptions, and free room is given back with `fstrim`; SELinux labels are made anew at the next boot.
`sanitize_user_data` removes the accounts of people (from `UID_MIN` on) with their homes below `/home`, root's `.ssh` and mail. Each step
has at most 120 s. Where one fails the answer is a failure that names it, and the machine is not switched off.

## JoinDomain

The password is written to the standard input of `realm`, and nowhere else: not into arguments, the log, the audit or the
answer. Account and domain names are checked; `ou` becomes `--computer-ou`, `computer_name` (at most 15 letters)
`--computer-name`.
";

/// The text of `docs/actions.md`.
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("| action | takes | rules see | does | answers with |\n|---|---|---|---|---|\n");
    for (Page { name, takes, does, gives }, (_, rules)) in PAGES.iter().zip(ACTIONS) {
        let rules: Vec<&str> = rules.iter().map(|argument| argument.name()).collect();
        let not_built = why_not_built(name).filter(|_| does.is_empty());
        let does = match not_built {
            Some(why) => format!("not built: {why}"),
            None => (*does).to_owned(),
        };
        let dash = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {does} | {} |",
            dash(takes),
            dash(&rules.join(", ")),
            dash(gives)
        );
    }
    text.push_str(TAIL);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_a_page_and_one_that_is_not_built_says_why() {
        let names: Vec<&str> = PAGES.iter().map(|page| page.name).collect();
        assert_eq!(names, ACTIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for page in PAGES {
            assert!(!page.does.is_empty() || why_not_built(page.name).is_some(), "{}", page.name);
        }
    }

    /// `UPDATE_DOCS=1 cargo test manual` writes the file anew.
    #[test]
    fn the_document_says_what_the_tables_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/actions.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let text = std::fs::read_to_string(path).unwrap();
        assert!(
            text == markdown(),
            "docs/actions.md is out of date: UPDATE_DOCS=1 cargo test manual"
        );
    }
}
