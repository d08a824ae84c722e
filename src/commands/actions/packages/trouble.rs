//! Why a package manager failed, by what it said. Decides nothing.

use crate::commands::execute::{Exit, Finished};
use crate::commands::outcome::EXIT_TIMEOUT;

/// What is said, and what it means: the first that fits is told. Texts of apt 1.0 to 3.0 and dpkg
/// (`apt-pkg/`, `cmdline/`), dnf 4 and rpm 4.
const KNOWN: [(&str, &str); 23] = [
    (
        "dpkg was interrupted",
        "an earlier run of dpkg was interrupted; run \"dpkg --configure -a\" first",
    ),
    (
        "Unable to locate package",
        "unable to locate package {name}: it is in none of the machine's sources (is the package index up to date?)",
    ),
    (
        "has no installation candidate",
        "package {name} is only named by others; none of the machine's sources has it",
    ),
    ("Unable to find a match", "unable to locate package {name}: no enabled repository has it"),
    ("No match for argument", "no package {name} was found"),
    ("No packages marked for removal", "package {name} is not installed"),
    ("is not installed", "package {name} is not installed"),
    (
        "Temporary failure resolving",
        "no network: the name of a package server could not be resolved",
    ),
    ("Could not resolve", "no network: the name of a package server could not be resolved"),
    (
        "Cannot download repomd.xml",
        "a repository could not be reached; check the network and its address",
    ),
    ("Could not connect to", "no network: a package server could not be reached"),
    (
        "Failed to fetch",
        "packages could not be fetched (is there a network, and is the package index up to date?)",
    ),
    ("No space left on device", "there is no space left on the device"),
    ("You don't have enough free space", "there is not enough free space"),
    ("is not signed", "a repository is not signed, so nothing was taken from it"),
    ("cannot be authenticated", "a package could not be authenticated, so it was not installed"),
    ("GPG check FAILED", "a package's signature is wrong, so it was not installed"),
    ("Essential packages were removed", "the system needs package {name}; it was not removed"),
    ("essential packages will be removed", "the system needs package {name}; it was not removed"),
    (
        "removal of the following protected packages",
        "the system needs package {name}; it was not removed",
    ),
    (
        "held broken packages",
        "package {name} needs others that cannot be had in the versions it wants",
    ),
    (
        "unmet dependencies",
        "package {name} needs others that cannot be had in the versions it wants",
    ),
    ("are you root?", "the agent may not do that; it must run as root"),
];

/// What a program says when another one holds the lock, in lower case.
const LOCKED: [&str; 7] = [
    "could not get lock",
    "unable to acquire the dpkg frontend lock",
    "unable to lock directory",
    "dpkg frontend lock was locked by another process",
    "another copy is running",
    "another app is currently holding the",
    "can't create transaction lock",
];

/// Why it failed, as a sentence; `None` where it did not.
pub fn explain(finished: &Finished, name: &str) -> Option<String> {
    let code = match finished.exit {
        Exit::Code(0) => return None,
        Exit::TimedOut if lock_holder(finished).is_some() => EXIT_TIMEOUT,
        Exit::TimedOut => {
            return Some(
                "it took longer than the command may, and was ended with all it had started".into(),
            );
        }
        Exit::Cancelled => {
            return Some("the agent is stopping; it was ended with all it had started".into());
        }
        Exit::Signal(signal) => {
            return Some(format!("it was ended by signal {signal}, which this agent did not send"));
        }
        Exit::Code(code) => code,
    };
    if let Some(holder) = lock_holder(finished) {
        return Some(format!(
            "another package manager is at work: the lock is held by {holder}; try again when it is done"
        ));
    }
    let said = [&finished.stderr.text, &finished.stdout.text];
    let known = KNOWN.iter().find(|(text, _)| said.iter().any(|said| said.contains(text)));
    Some(match known {
        Some((_, why)) => why.replace("{name}", name).replace("package  ", "a package "),
        None => match complaint(&finished.stderr.text) {
            Some(line) => format!("the package manager ended with exit code {code}: {line}"),
            None => format!("the package manager ended with exit code {code} and did not say why"),
        },
    })
}

/// Who holds the lock, where that is why a program failed: `process 17 (apt-get)`, or `another process`.
pub fn lock_holder(finished: &Finished) -> Option<String> {
    if matches!(finished.exit, Exit::Code(0) | Exit::Cancelled) {
        return None;
    }
    let said = format!("{}\n{}", finished.stderr.text, finished.stdout.text);
    let lower = said.to_ascii_lowercase();
    if !LOCKED.iter().any(|text| lower.contains(text)) {
        return None;
    }
    let marks = ["held by process ", "running as pid ", "with pid "];
    let holder = said.lines().find_map(|line| {
        let (_, rest) = marks.iter().find_map(|mark| line.split_once(mark))?;
        let until = rest.find(')').map_or(rest.find(['.', ' ']).unwrap_or(rest.len()), |at| at + 1);
        Some(format!("process {}", &rest[..until]))
    });
    Some(holder.unwrap_or_else(|| "another process".into()))
}

/// The line that tells most: the first error, else the last line; at most 300 letters.
fn complaint(stderr: &str) -> Option<String> {
    let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines.clone().find(|line| line.starts_with("E:") || line.starts_with("Error:"));
    let line = error.or_else(|| lines.next_back())?;
    Some(
        line.trim_start_matches("E:")
            .trim_start_matches("Error:")
            .trim()
            .chars()
            .take(300)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::execute::Captured;

    fn failed(code: i32, stderr: &str) -> Finished {
        let stderr =
            Captured { text: stderr.to_owned(), bytes: stderr.len() as u64, truncated: false };
        Finished { exit: Exit::Code(code), stdout: Captured::default(), stderr }
    }

    #[test]
    fn a_held_lock_names_its_holder() {
        let apt = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 4711 (unattended-upgr)\n\
                   E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?";
        assert_eq!(
            lock_holder(&failed(100, apt)).as_deref(),
            Some("process 4711 (unattended-upgr)")
        );
        assert!(explain(&failed(100, apt), "jq").unwrap().contains("4711 (unattended-upgr)"));
        let old = "E: Could not get lock /var/lib/dpkg/lock - open (11: Resource temporarily unavailable)";
        assert_eq!(lock_holder(&failed(100, old)).as_deref(), Some("another process"));
        assert_eq!(lock_holder(&failed(100, "E: Unable to locate package lock")), None);
        assert_eq!(lock_holder(&failed(0, apt)), None);
    }

    #[test]
    fn a_known_failure_is_told_in_words_and_an_unknown_one_by_its_own_line() {
        let cases = [
            (100, "E: Unable to locate package nosuch", "unable to locate package jq"),
            (
                100,
                "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.",
                "dpkg --configure -a",
            ),
            (100, "E: Failed to fetch http://x  Temporary failure resolving 'x'", "no network"),
            (1, "Error: Unable to find a match: nosuch", "no enabled repository"),
            (7, "W: odd\nE: Sub-process said no\nmore", "exit code 7: Sub-process said no"),
            (9, "", "exit code 9 and did not say why"),
        ];
        for (code, stderr, told) in cases {
            let why = explain(&failed(code, stderr), "jq").unwrap();
            assert!(why.contains(told), "{why}");
        }
        assert_eq!(explain(&failed(0, "W: something"), "jq"), None);
    }
}
