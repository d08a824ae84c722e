//! What rpm's database says is installed, asked of `rpm`: its files are no text. Changes nothing.

use std::time::{Duration, UNIX_EPOCH};

use futures::FutureExt;
use tokio::time::Instant;

use super::super::Context;
use super::PackageError;
use super::manager::{Answer, PackageManager};
use super::transaction::{Step, StepKind, ask};
use super::{Operation, Package, Root};
use crate::commands::argument::PackageName;

/// `--qf` of one package: `rpm(8)` QUERY, tags of `rpm --querytags`.
const FORMAT: &str =
    "%{NAME}\\t%{EVR}\\t%{ARCH}\\t%{VENDOR}\\t%{SIZE}\\t%{INSTALLTIME}\\t%{SUMMARY}\\n";

/// Patterns that take every name once, by its first letter, for a machine with more packages than a
/// program's output may hold. `rpm` reads them itself; no shell does.
const PARTS: [&str; 6] = ["[a-f]*", "[g-k]*", "l*", "[m-o]*", "p*", "[!a-p]*"];

/// rpm's database, and only the `yum` that came before `dnf`: listed, not driven.
pub(super) struct Yum;

impl PackageManager for Yum {
    fn tool(&self) -> &'static str {
        "yum"
    }

    fn installed<'a>(&self, place: &'a Root, cx: &'a Context) -> Answer<'a, Vec<Package>> {
        installed(place, cx).boxed()
    }

    fn steps(
        &self,
        place: &Root,
        change: Operation<'_>,
        deadline: Instant,
    ) -> Result<Vec<Step>, PackageError> {
        match change {
            Operation::List => Ok(vec![query(place, deadline, &[])]),
            _ => Err(PackageError::NotDriven { tool: self.tool(), task: change.doing() }),
        }
    }
}

/// The installed packages, without the keys that rpm keeps among them.
pub(super) async fn installed(place: &Root, cx: &Context) -> Result<Vec<Package>, PackageError> {
    let (text, cut) = ask(cx, &query(place, cx.deadline, &[]), &[0]).await?;
    if !cut {
        return Ok(text.lines().filter_map(package).collect());
    }
    let mut packages = Vec::new();
    for part in PARTS {
        let (text, _) = ask(cx, &query(place, cx.deadline, &[part]), &[0]).await?;
        packages.extend(text.lines().filter_map(package));
    }
    Ok(packages)
}

/// The step that asks for the packages whose name fits one of `patterns`, or for all.
pub(super) fn query(place: &Root, deadline: Instant, patterns: &[&str]) -> Step {
    let root = place.elsewhere().map(|root| format!("--root={}", root.display()));
    let words = ["-qa", "--qf", FORMAT].into_iter().chain(patterns.iter().copied());
    Step::new(
        "rpm",
        root.into_iter().chain(words.map(str::to_owned)).collect(),
        deadline,
        StepKind::Ask,
    )
}

/// Asks whether exactly this is the name, or name and architecture, of a package that is installed.
pub(super) fn there(place: &Root, deadline: Instant, name: &PackageName) -> Step {
    let root = place.elsewhere().map(|root| format!("--root={}", root.display()));
    let words =
        ["-q", "--qf", "%{NAME}\\n%{NAME}.%{ARCH}\\n", "--", name.as_str()].map(str::to_owned);
    let kind = StepKind::Known(vec![name.to_string()]);
    Step::new("rpm", root.into_iter().chain(words).collect(), deadline, kind)
}

/// One line of [`FORMAT`]; `None` for keys, and for what is cut.
pub(super) fn package(line: &str) -> Option<Package> {
    let [name, version, architecture, vendor, size, installed_at, description] =
        *line.splitn(7, '\t').collect::<Vec<&str>>()
    else {
        return None;
    };
    if name == "gpg-pubkey" {
        return None;
    }
    let some = |text: &str| (text != "(none)").then(|| text.to_owned());
    let since = installed_at.parse().ok().map(Duration::from_secs);
    Some(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        description: description.to_owned(),
        installed: true,
        publisher: some(vendor),
        source: "rpm",
        architecture: architecture.to_owned(),
        size_bytes: size.parse().ok(),
        installed_at: since.and_then(|since| UNIX_EPOCH.checked_add(since)),
        ..Package::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_line_is_a_package_and_a_key_is_none() {
        let line =
            "infini-hello\t1:1.0-1\tnoarch\tTest Vendor\t3\t1795365349\tA file that\tsays hello";
        let hello = package(line).unwrap();
        assert_eq!((hello.name.as_str(), hello.version.as_str()), ("infini-hello", "1:1.0-1"));
        assert_eq!(hello.publisher.as_deref(), Some("Test Vendor"));
        assert_eq!(hello.size_bytes, Some(3));
        assert_eq!(hello.description, "A file that\tsays hello");
        assert_eq!(package("gpg-pubkey\t1-2\t(none)\t(none)\t0\t1\tgpg(x)"), None);
        assert_eq!(package("infini-hello\t1:1.0"), None);
    }

    #[test]
    fn every_first_letter_is_in_one_part() {
        let takes =
            |part: &str, first: char| match part.trim_end_matches('*').trim_matches(['[', ']']) {
                "!a-p" => !('a'..='p').contains(&first),
                range if range.len() == 3 => {
                    (range.chars().next().unwrap()..=range.chars().last().unwrap()).contains(&first)
                }
                letter => letter.starts_with(first),
            };
        for first in ('a'..='z').chain('A'..='Z').chain('0'..='9') {
            assert_eq!(PARTS.iter().filter(|part| takes(part, first)).count(), 1, "{first}");
        }
    }
}
