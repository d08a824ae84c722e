//! What was brought up to date, by the managers' own records. Runs nothing.

use serde::Serialize;

use std::collections::HashMap;

use super::deb822::Stanza;

/// How much of the end of a log is read, where it may grow without a bound.
pub(super) const HISTORY_MAX: u64 = 4 << 20;

/// One past update, as the host reads it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PastUpdate {
    /// What: a package with its versions, or a command line where only that is recorded.
    pub title: String,
    /// Another system's; always null.
    pub kb_article: Option<String>,
    /// When, `2025-06-24T14:36:25` and the zone's `Z` where the machine's clock is in UTC: the records
    /// have no zone of their own.
    pub install_date: String,
    /// `Succeeded` or `Failed`.
    pub status: &'static str,
    /// 0 where it succeeded, 1 where it did not: the records have no more.
    pub result_code: u8,
}

/// The upgrades of one paragraph of `/var/log/apt/history.log`: one for each package.
pub(crate) fn apt_history(stanza: Stanza<'_>, zone: &str) -> Vec<PastUpdate> {
    let Some(date) = stanza.field("End-Date").or_else(|| stanza.field("Start-Date")) else {
        return Vec::new();
    };
    let install_date =
        format!("{}{zone}", date.split_ascii_whitespace().collect::<Vec<_>>().join("T"));
    let failed = stanza.field("Error").is_some() || stanza.field("End-Date").is_none();
    let update = |item: &str| {
        let (name, versions) = item.split_once(" (")?;
        let (old, new) = versions.trim_end_matches(')').split_once(", ")?;
        let name = name.split(':').next()?; // without the architecture
        Some(past(format!("{name} {new} (was {old})"), install_date.clone(), failed))
    };
    stanza.field("Upgrade").unwrap_or_default().split("), ").filter_map(update).collect()
}

/// The lines of `dnf history list`: `ID | Command line | Date and time | Action(s) | Altered`.
pub(crate) fn dnf_history(text: &str, zone: &str) -> Vec<PastUpdate> {
    let update = |line: &str| {
        let mut columns = line.rsplitn(4, " | ").map(str::trim);
        let (altered, actions, date) = (columns.next()?, columns.next()?, columns.next()?);
        let (id, command) = columns.next()?.split_once(" | ")?;
        id.trim().parse::<u64>().ok()?;
        // A list of several is written as letters; `U` and `Update` are upgrades, `I, U` is both.
        let upgrades =
            actions.split(", ").any(|action| matches!(action, "U" | "Upgrade" | "Update"));
        let failed = altered.ends_with("EE") || altered.ends_with('#');
        let date = format!("{}{zone}", date.replace(' ', "T"));
        let altered = altered.split(' ').next()?;
        upgrades.then(|| past(format!("dnf {} ({altered} packages)", command.trim()), date, failed))
    };
    text.lines().filter_map(update).collect()
}

/// The updates of `/var/log/zypp/history`: lines of `date|install|name|version|…`, under a
/// `date|command|who|'zypper' 'update'|` where a person or a program asked for it. An installation is an
/// update where the record had the package before, or where it is what such a command did.
/// A line `# date file install failed` says what failed.
pub(crate) fn zypper_history(text: &str, zone: &str) -> Vec<PastUpdate> {
    const UPDATES: [&str; 6] =
        ["'update'", "'up'", "'dist-upgrade'", "'dup'", "'patch'", "'upgrade'"];
    let date = |date: &str| format!("{}{zone}", date.trim().replacen(' ', "T", 1));
    let (mut there, mut updating) = (HashMap::<&str, &str>::new(), false);
    let mut updates = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let file = rest.strip_suffix(" install failed").filter(|_| updating);
            if let Some((at, file)) = file.and_then(|rest| rest.split_at_checked(19)) {
                updates.push(past(file.trim().to_owned(), date(at), true));
            }
            continue;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match *cells {
            [_, "command", _, command, ..] => {
                updating = command.split(' ').any(|word| UPDATES.contains(&word));
            }
            [at, "install", name, version, ..] => match there.insert(name, version) {
                Some(old) if old == version => {} // once more
                Some(old) => {
                    updates.push(past(format!("{name} {version} (was {old})"), date(at), false));
                }
                None if updating => {
                    updates.push(past(format!("{name} {version}"), date(at), false))
                }
                None => {}
            },
            [_, "remove", name, ..] => {
                there.remove(name);
            }
            _ => {}
        }
    }
    updates
}

/// The updates of `/var/log/pacman.log`: `[2026-11-22T22:26:25+0000] [ALPM] upgraded bash (5.1-1 -> 5.2-1)`;
/// pacman before 5.2 wrote `[2019-01-31 10:00]`. It records none that failed.
pub(crate) fn pacman_history(text: &str, zone: &str) -> Vec<PastUpdate> {
    let update = |line: &str| {
        let (at, rest) = line.strip_prefix('[')?.split_once("] [ALPM] upgraded ")?;
        let (name, versions) = rest.split_once(" (")?;
        let (old, new) = versions.trim_end().strip_suffix(')')?.split_once(" -> ")?;
        let at = match (at.strip_suffix("+0000"), at.contains('T')) {
            (Some(utc), _) => format!("{utc}Z"),
            (None, true) => at.to_owned(),
            (None, false) => format!("{}{zone}", at.replacen(' ', "T", 1)),
        };
        Some(past(format!("{name} {new} (was {old})"), at, false))
    };
    text.lines().filter_map(update).collect()
}

fn past(title: String, install_date: String, failed: bool) -> PastUpdate {
    let (status, result_code) = if failed { ("Failed", 1) } else { ("Succeeded", 0) };
    PastUpdate { title, kb_article: None, install_date, status, result_code }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: &str = include_str!("../../../../tests/packages/apt-history.txt");

    #[test]
    fn a_recorded_log_tells_one_update_for_each_package_and_no_installs() {
        let found: Vec<PastUpdate> =
            HISTORY.split("\n\n").flat_map(|text| apt_history(Stanza::of(text), "Z")).collect();
        assert_eq!(found.len(), 2 + 1 + 4);
        assert_eq!(found[2].title, "tzdata 2025b-0+deb12u2 (was 2025b-0+deb12u1)");
        assert_eq!(found[2].install_date, "2026-05-09T07:28:50Z");
        assert_eq!((found[2].status, found[2].result_code), ("Succeeded", 0));
    }

    #[test]
    fn what_has_an_error_or_never_ended_failed() {
        let text = "Start-Date: 2025-01-01  00:00:00\nUpgrade: a:amd64 (1, 2)\nError: Sub-process dpkg returned 1\nEnd-Date: 2025-01-01  00:00:01";
        assert_eq!(apt_history(Stanza::of(text), "")[0].status, "Failed");
        let cut = "Start-Date: 2025-01-01  00:00:00\nUpgrade: a:amd64 (1, 2)";
        assert_eq!(apt_history(Stanza::of(cut), "")[0].install_date, "2025-01-01T00:00:00");
        assert_eq!(apt_history(Stanza::of(cut), "")[0].result_code, 1);
    }

    #[test]
    fn a_recorded_table_of_dnf_tells_its_upgrades() {
        let text = "ID     | Command line             | Date and time    | Action(s)      | Altered\n\
                    -------------------------------------------------------------------------------\n\
                    \x20    2 | -y upgrade | 2026-11-22 16:40 | Upgrade        |    1   \n\
                    \x20    1 | --installroot=/tmp/pk/ro | 2026-11-22 16:35 | Install        |    1   \n";
        let found = dnf_history(text, "Z");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].title, "dnf -y upgrade (1 packages)");
        assert_eq!(found[0].install_date, "2026-11-22T16:40Z");
    }

    #[test]
    fn a_recorded_log_of_zypper_tells_what_was_newer_than_before_and_what_an_update_brought() {
        let text = "2026-11-22 22:18:43|command|root@vm|'zypper' 'install' '--' 'infini-hello'|\n\
            # 2026-11-22 22:18:43 infini-hello-1.0-1.noarch.rpm installed ok\n\
            2026-11-22 22:18:43|install|infini-hello|1:1.0-1|noarch|root@vm|local|9c5c|\n\
            2026-11-22 22:22:47|command|root@vm|'zypper' '--non-interactive' 'update'|\n\
            # 2026-11-22 22:22:47 infini-bad-1.0-1.noarch.rpm install failed\n\
            2026-11-22 22:22:48|install|infini-hello|1:2.0-1|noarch||local|6c3c|\n\
            2026-11-22 22:22:48|install|infini-image|1-1|noarch||local|6c3c|\n\
            2026-11-22 22:22:49|command|root@vm|'zypper' 'remove' 'infini-hello'|\n\
            2026-11-22 22:22:49|remove |infini-hello|1:2.0-1|noarch|root@vm|\n\
            2026-11-22 22:22:50|command|root@vm|'zypper' 'install' 'infini-hello'|\n\
            2026-11-22 22:22:50|install|infini-hello|1:2.0-1|noarch|root@vm|local|6c3c|\n";
        let found = zypper_history(text, "Z");
        let shown: Vec<_> = found.iter().map(|one| (&*one.title, one.status)).collect();
        assert_eq!(
            shown,
            [
                ("infini-bad-1.0-1.noarch.rpm", "Failed"),
                ("infini-hello 1:2.0-1 (was 1:1.0-1)", "Succeeded"),
                ("infini-image 1-1", "Succeeded"),
            ]
        );
        assert_eq!(found[1].install_date, "2026-11-22T22:22:48Z");
    }

    #[test]
    fn a_recorded_log_of_pacman_tells_upgrades_with_the_zone_they_have() {
        let text = "[2026-11-22T22:26:25+0000] [PACMAN] starting full system upgrade\n\
            [2026-11-22T22:26:25+0000] [ALPM] upgraded infini-hello (1.0-1 -> 2.0-1)\n\
            [2026-11-22T22:26:25+0100] [ALPM] upgraded b (1 -> 2)\n\
            [2026-11-22T22:26:25+0000] [ALPM] installed c (1.0-1)\n\
            [2019-01-31 10:00] [ALPM] upgraded d (1 -> 2)\n";
        let found = pacman_history(text, "");
        let dates: Vec<_> = found.iter().map(|one| &*one.install_date).collect();
        assert_eq!(dates, ["2026-11-22T22:26:25Z", "2026-11-22T22:26:25+0100", "2019-01-31T10:00"]);
        assert_eq!(found[0].title, "infini-hello 2.0-1 (was 1.0-1)");
    }
}
