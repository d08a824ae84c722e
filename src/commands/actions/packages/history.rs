//! What was brought up to date, by the managers' own records. Runs nothing.

use serde::Serialize;

use super::stanzas::Stanza;

/// One past update, as the host reads it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PastUpdate {
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
pub fn apt_history(stanza: Stanza<'_>, zone: &str) -> Vec<PastUpdate> {
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
pub fn dnf_history(text: &str, zone: &str) -> Vec<PastUpdate> {
    let update = |line: &str| {
        let mut columns = line.rsplitn(4, " | ").map(str::trim);
        let (altered, actions, date) = (columns.next()?, columns.next()?, columns.next()?);
        let (id, command) = columns.next()?.split_once(" | ")?;
        id.trim().parse::<u64>().ok()?;
        // A list of several is told by letters; `U` and `Update` are upgrades, `I, U` is both.
        let upgrades =
            actions.split(", ").any(|action| matches!(action, "U" | "Upgrade" | "Update"));
        let failed = altered.ends_with("EE") || altered.ends_with('#');
        let date = format!("{}{zone}", date.replace(' ', "T"));
        let altered = altered.split(' ').next()?;
        upgrades.then(|| past(format!("dnf {} ({altered} packages)", command.trim()), date, failed))
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
}
