//! What zypper 1.14 says, parsed. Runs nothing. What is not as expected is an error, not an empty list.

use std::collections::HashMap;

use super::super::PackageError;
use super::super::upgrades::Upgrade;
use super::super::{ChangeKind, Package, Planned};

/// Whether the XML of a search has a package of exactly this name, or name and architecture.
pub(super) fn lists(text: &str, name: &str) -> bool {
    elements(text, "solvable").any(|element| {
        let part = |of| attribute(element, of).unwrap_or_default();
        part("kind") == "package"
            && (part("name") == name || format!("{}.{}", part("name"), part("arch")) == name)
    })
}

/// The summary of a dry run: `<to-install>`, `<to-upgrade>`, `<to-remove>` and the like, with `<solvable …>` in them.
pub(crate) fn planned(text: &str) -> Vec<Planned> {
    let (mut kind, mut all) = (None, Vec::new());
    for piece in text.split('<') {
        if let Some(section) = piece.strip_prefix("to-") {
            kind = match section.split(['>', ' ']).next().unwrap_or_default() {
                "install" => Some(ChangeKind::Install),
                "remove" => Some(ChangeKind::Remove),
                _ => Some(ChangeKind::Update),
            };
        } else if piece.starts_with("/to-") {
            kind = None;
        } else if let (Some(kind), Some(element)) = (kind, piece.strip_prefix("solvable "))
            && let Some(name) = attribute(element, "name")
        {
            all.push(Planned::new(kind, &name));
        }
    }
    all
}

/// Name and summary of each package of a search without details.
pub(super) fn summaries(text: &str, cut: bool) -> Result<HashMap<String, String>, PackageError> {
    whole(text, cut)?;
    let each = elements(text, "solvable").filter_map(|element| {
        Some((attribute(element, "name")?, attribute(element, "summary").unwrap_or_default()))
    });
    Ok(each.collect())
}

/// The packages of a search with details, by name: of each the installed version, else the first, which
/// is the newest.
pub(super) fn solvables(text: &str, cut: bool) -> Result<HashMap<String, Package>, PackageError> {
    whole(text, cut)?;
    let mut found: HashMap<String, Package> = HashMap::new();
    for element in elements(text, "solvable") {
        let part = |of| attribute(element, of);
        let (Some(name), Some(version), Some(status)) =
            (part("name"), part("edition"), part("status"))
        else {
            continue; // its end was cut off
        };
        // "installed"; else "not-installed" and "other-version".
        let installed = status.starts_with("installed");
        if found.get(&name).is_some_and(|known| known.installed || !installed) {
            continue;
        }
        let package = Package {
            name: name.clone(),
            version,
            installed,
            source: "zypper",
            repository: part("repository").filter(|name| !name.starts_with('(')), // (System Packages)
            architecture: part("arch").unwrap_or_default(),
            ..Package::default()
        };
        found.insert(name, package);
    }
    Ok(found)
}

/// The table of `list-updates`.
pub(super) fn updates(text: &str) -> Result<Vec<Upgrade>, PackageError> {
    let columns = ["Repository", "Name", "Current Version", "Available Version", "Arch"];
    let rows = rows(text, columns, "No updates found.")?;
    let upgrade = |[repository, name, current, available, architecture]: [&str; 5]| Upgrade {
        package_name: name.to_owned(),
        current_version: current.to_owned(),
        available_version: available.to_owned(),
        repository: repository.to_owned(),
        architecture: architecture.to_owned(),
        ..Upgrade::default()
    };
    Ok(rows.into_iter().map(upgrade).collect())
}

/// The names of the table of `list-patches`.
pub(super) fn patches(text: &str) -> Result<Vec<&str>, PackageError> {
    let rows = rows(text, ["Name", "Category"], "No updates found.")?;
    Ok(rows.into_iter().map(|[name, _]| name).collect())
}

/// The names of `Conflicts` of `info --type patch`: `bash < 5.2-1`, `bash.x86_64 < 5.2-1`; one beside the
/// heading, several below it.
pub(super) fn conflicts(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter_map(move |line| {
        let entry = match line.split_once(" : ") {
            Some((heading, rest)) if !heading.starts_with(' ') => {
                inside = heading.trim() == "Conflicts";
                rest
            }
            _ => {
                inside &= line.starts_with("    ");
                line
            }
        };
        let name = entry.split_ascii_whitespace().next().filter(|_| inside)?;
        (!name.starts_with(['[', '-'])).then_some(name)
    })
}

/// The cells of these columns, found by the heading of the table; an error where there is neither the
/// table nor the sentence that stands for an empty one.
fn rows<'a, const N: usize>(
    text: &'a str,
    columns: [&str; N],
    nothing: &str,
) -> Result<Vec<[&'a str; N]>, PackageError> {
    let mut lines = text.lines();
    let heading = lines.by_ref().find_map(|line| {
        let names: Vec<&str> = line.split('|').map(str::trim).collect();
        let at = columns.map(|column| names.iter().position(|name| *name == column));
        at.iter().all(Option::is_some).then(|| (names.len(), at.map(Option::unwrap_or_default)))
    });
    let Some((width, at)) = heading else {
        return match text.contains(nothing) {
            true => Ok(Vec::new()),
            false => Err(PackageError::Output("zypper", "its table is missing")),
        };
    };
    let row = |line: &'a str| {
        let cells: Vec<&str> = line.splitn(width, '|').map(str::trim).collect();
        (cells.len() == width).then(|| at.map(|at| cells[at]))
    };
    Ok(lines.filter_map(row).collect())
}

/// An error where the XML has no end, though nothing of it was cut here.
fn whole(text: &str, cut: bool) -> Result<(), PackageError> {
    match cut || text.trim_end().ends_with("</stream>") {
        true => Ok(()),
        false => Err(PackageError::Output("zypper", "its end is missing")),
    }
}

/// The insides of each `<name …>`. zypper escapes every sign of XML in values.
fn elements<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let inside = move |part: &'a str| {
        let rest = part.strip_prefix(name)?.strip_prefix(' ')?;
        Some(rest.split_once('>')?.0)
    };
    text.split('<').filter_map(inside)
}

/// The value of an attribute, without its escapes.
fn attribute(element: &str, name: &str) -> Option<String> {
    let mut rest = element;
    loop {
        let (key, after) = rest.split_once("=\"")?;
        let (value, next) = after.split_once('"')?;
        if key.trim_start() == name {
            let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'")];
            let value = plain
                .iter()
                .fold(value.to_owned(), |text, (escape, sign)| text.replace(escape, sign));
            return Some(value.replace("&amp;", "&"));
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DETAILS: &str = "<?xml version='1.0'?>\n<stream>\n<search-result version=\"0.0\">\n<solvable-list>\n\
        <solvable status=\"other-version\" name=\"infini-hello\" kind=\"package\" edition=\"1:2.0-1\" arch=\"noarch\" repository=\"local\"/>\n\
        <solvable status=\"installed\" name=\"infini-hello\" kind=\"package\" edition=\"1:1.0-1\" arch=\"noarch\" repository=\"(System Packages)\"/>\n\
        <solvable status=\"not-installed\" name=\"infini-many\" kind=\"package\" edition=\"1:10.0-1\" arch=\"noarch\" repository=\"local\"/>\n\
        <solvable status=\"not-installed\" name=\"infini-many\" kind=\"package\" edition=\"1:9.0-1\" arch=\"noarch\" repository=\"local\"/>\n\
        </solvable-list>\n</search-result>\n</stream>\n";

    #[test]
    fn of_several_versions_the_installed_one_is_told_else_the_newest() {
        let found = solvables(DETAILS, false).unwrap();
        let hello = &found["infini-hello"];
        assert_eq!((hello.version.as_str(), hello.installed), ("1:1.0-1", true));
        assert_eq!(hello.repository, None, "it is in no repository");
        assert_eq!(found["infini-many"].version, "1:10.0-1");
        assert_eq!(found["infini-many"].repository.as_deref(), Some("local"));
    }

    #[test]
    fn a_name_is_listed_as_a_whole_or_not_at_all() {
        for name in ["infini-hello", "infini-many.noarch"] {
            assert!(lists(DETAILS, name), "{name}");
        }
        for name in ["infini", "+infini-hello", "local:infini-hello", "infini-hello.x86_64"] {
            assert!(!lists(DETAILS, name), "{name}");
        }
    }

    #[test]
    fn an_answer_that_ends_early_is_an_error_and_one_that_was_cut_is_what_is_left() {
        let half = &DETAILS[..DETAILS.len() - 100];
        assert!(solvables(half, false).unwrap_err().to_string().contains("its end is missing"));
        assert!(solvables(half, true).unwrap().contains_key("infini-hello"));
        assert!(summaries("", false).is_err());
    }

    #[test]
    fn escapes_are_read_once_and_a_value_is_no_attribute() {
        let element =
            "status=\"installed\" summary=\"a &quot;name=&quot; &amp;lt; b\" name=\"c++\"/";
        assert_eq!(attribute(element, "name").as_deref(), Some("c++"));
        assert_eq!(attribute(element, "summary").as_deref(), Some("a \"name=\" &lt; b"));
        assert_eq!(attribute(element, "edition"), None);
    }

    #[test]
    fn a_table_is_read_by_its_columns_and_one_that_is_not_there_is_an_error() {
        let text = "Loading repository data...\n\
            S | Repository | Name         | Current Version | Available Version | Arch\n\
            --+------------+--------------+-----------------+-------------------+-------\n\
            v | local      | infini-hello | 1:1.0-1         | 1:2.0-1           | noarch\n";
        let found = updates(text).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (&*found[0].current_version, &*found[0].available_version),
            ("1:1.0-1", "1:2.0-1")
        );
        assert_eq!((&*found[0].repository, &*found[0].architecture), ("local", "noarch"));
        assert_eq!(updates("Loading...\nNo updates found.\n").unwrap(), []);
        assert!(updates("Loading...\n").is_err());
        let text = "Repository | Name        | Category | Severity  | Interactive | Status | Summary\n\
            -----------+-------------+----------+-----------+-------------+--------+--------\n\
            local      | TEST-2026-1 | security | important | ---         | needed | a | b\n\
            \nFound 1 applicable patch:\n1 patch needed (1 security patch)\n";
        assert_eq!(patches(text).unwrap(), ["TEST-2026-1"]);
    }

    #[test]
    fn a_patch_speaks_of_the_packages_it_conflicts_with_and_of_no_word_of_its_description() {
        let text = "Summary     : hello\nDescription : \n    Conflicts : glibc < 1\n    x\n\
            Provides    : patch:T-1 = 1\nConflicts   : [2]\n    infini-hello < 1:2.0-1\n\
            \x20   infini-other.noarch < 1:2.0-1\n\nInformation for patch T-2:\n\
            Conflicts   : bash < 5\nConflicts   : ---\n";
        assert_eq!(
            conflicts(text).collect::<Vec<_>>(),
            ["infini-hello", "infini-other.noarch", "bash"]
        );
    }
}
