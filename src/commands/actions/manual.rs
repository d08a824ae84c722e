//! What each action takes, does and answers with, for people: the text of `docs/actions.md`. Decides nothing.

use std::fmt::Write as _;

use super::page::Name;
use super::registry::{self, RAW_COMMAND, SCRIPT};

/// What is no action, and the host may ask for.
const OTHERS: [Name; 2] = [
    Name::new(
        RAW_COMMAND,
        "runs a command line by a shell (needs `raw_shell = true`)",
        "stdout, stderr, exit_code",
    )
    .takes("raw_command, shell?, working_dir?, env_vars?, run_as?, timeout"),
    Name::new(SCRIPT, "runs a pending script (needs `scripts = true`)", "a `script_completion`")
        .takes("script_content, shell, input_values, run_as?, timeout_seconds"),
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
pub(crate) fn markdown() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("| action | takes | rules see | does | answers with |\n|---|---|---|---|---|\n");
    let pages = OTHERS.iter().chain(registry::names().map(|(_, name)| name));
    for (Name { name, takes, does, gives, not_built, .. }, (_, rules)) in
        pages.zip(registry::rules())
    {
        let rules: Vec<&str> = rules.iter().map(|argument| argument.name()).collect();
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
