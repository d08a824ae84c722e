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

What the host can ask for, what the agent then does, and what the answer contains. `infiniservice explain FILE` shows what a
message would run on this machine. This file is generated from the agent's own tables; a test compares the two.

An action is a `SafeCommand` whose arguments stand beside `action`. The third column names the arguments that a rule of
`[enforce]` can match. An action that is not built yet is answered with a failure and the reason given here; one that is not
listed, with \"is not known to this agent\".

";

const TAIL: &str = "
## How long an answer is

Today's host logs a warning for a line of more than 100,000 characters, so answers of actions are kept shorter. Long lists
lose, in this order: nulls, long texts, fields that the host does not read, all texts, and at last their ends (what matters
most comes first in each list). `truncated` and a sentence in `stdout` say how many items are missing. The output of a package
manager is cut in its middle, with a note. Command lines and scripts are not actions: their output is kept as
`[execute] output` says (at most 256 KiB of each stream), and may cause that warning.

## What rules see

Rules are matched against what would happen, not only against the words of the message:

- To start or restart a unit that ends or suspends the system (`reboot.target`, `poweroff.target`, `ctrl-alt-del.target`,
  `runlevel6.target`, `systemd-reboot.service`, `rescue.target`, `suspend.target`, …, and units with a `SuccessAction`) also
  counts as `RebootSystem`, and must be allowed as that, too.
- `UpdateSystemSoftware` counts as `PackageUpdate` of each package that it updates, `RunAllHealthChecks` as every `RunHealthCheck`.
- `:amd64`, `.x86_64`, an epoch, and the `+` or `-` that apt and zypper read as an instruction do not make another package;
  `.service` does not make another unit, and an instance counts as its template. Globs, groups (`@core`), files, versions and
  virtual packages are refused.
- Where a rule limits anything, the agent asks the machine before an action begins: systemd for all names of a unit and for
  the units that start or stop with it; apt (`--simulate`), dnf (`--assumeno`), zypper (`--dry-run`) and pacman (`--print`) for
  every package that would be installed, updated or removed. A rule that denies one of them denies the whole action, and if the
  answer is not clear the action does not run. pacman does not report packages that it would *replace*.
- **Command lines and scripts**: rules see the shell, folder, user and name, and nothing of what they do. A host that may run
  one as root can do everything. Leave `raw_shell` and `scripts` off if rules are to mean anything.

## PrepareGoldenImage

`minimal` removes the agent's own state (at its next start: spool, request log, audit; the shared secret stays, because the
installer put it there), that of cloud-init, the machine id (left empty), random seeds, SSH host keys, DHCP leases and network
settings made by cloud-init. `standard` also removes shell histories, temporary files, crash dumps, the package cache, logs and
the journal. `deep` also removes subscriptions, frees unused disk space with `fstrim`, and has SELinux labels made again at the
next boot. `sanitize_user_data` removes the accounts of people (from `UID_MIN` on) with their homes below `/home`, root's `.ssh`
and mail. Each step may take 120 s. If one fails, the answer is a failure that names it, and the machine stays on.

## JoinDomain

The password goes to the standard input of `realm` and nowhere else: not into arguments, the log, the audit or the answer. Account and domain names are checked; `ou` becomes `--computer-ou`, `computer_name` (at most 15 letters)
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
