//! Why a package manager failed, by what it said. Decides nothing.

use crate::commands::execute::{Exit, Finished};
use crate::commands::outcome::EXIT_TIMEOUT;

/// What is said, and what it means: the first that fits is told. Texts of apt 1.0 to 3.0 and dpkg
/// (`apt-pkg/`, `cmdline/`), dnf 4, rpm 4, zypper 1.14 and pacman 6.
const KNOWN: [(&str, &str); 35] = [
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
    ("Root privileges are required", "the agent may not do that; it must run as root"),
    ("unless you are root", "the agent may not do that; it must run as root"),
    ("No matching items found.", "unable to locate package {name}: no enabled repository has it"),
    ("No provider of", "unable to locate package {name}: no enabled repository has it"),
    (
        "need for license confirmation",
        "package {name} has a license that somebody must agree to; this agent does not",
    ),
    (
        "This is a transactional-server",
        "packages of this system are changed by transactional-update only, which this agent does not drive",
    ),
    (
        "does not exist (use '-Sy' to download)",
        "pacman has no package lists yet; bring the system up to date first",
    ),
    (
        "target not found:",
        "unable to locate package {name}: no package list has it (a system that was never brought up to date has none)",
    ),
    ("' was not found", "no package {name} was found"),
    ("breaks dependency", "other installed packages need package {name}, so nothing was changed"),
    ("HoldPkg was found in target list", "the system needs package {name}; it was not removed"),
    (
        "failed to synchronize all databases",
        "package lists could not be fetched; check the network and the mirrors",
    ),
];

/// What a program says when another one holds the lock, in lower case.
const LOCKED: [&str; 9] = [
    "could not get lock",
    "unable to acquire the dpkg frontend lock",
    "unable to lock directory",
    "dpkg frontend lock was locked by another process",
    "another copy is running",
    "another app is currently holding the",
    "can't create transaction lock",
    "system management is locked by the application",
    "unable to lock database",
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
        let left_over = left_over(&finished.stderr.text)
            .map(|file| format!(" (if none is, an earlier one left {file} behind; remove it)"));
        return Some(format!(
            "another package manager is at work: the lock is held by {holder}; try again when it is done{}",
            left_over.unwrap_or_default()
        ));
    }
    let said = [&finished.stderr.text, &finished.stdout.text];
    let known = KNOWN.iter().find(|(text, _)| said.iter().any(|said| said.contains(text)));
    Some(match known {
        Some((_, why)) => why.replace("{name}", name).replace("package  ", "a package "),
        None => match complaint(&finished.stderr.text, &finished.stdout.text) {
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

/// The lock that pacman says may be one that nobody holds: it is a file, and stays when its maker is killed.
fn left_over(stderr: &str) -> Option<&str> {
    stderr.lines().find_map(|line| line.trim().strip_prefix("running, you can remove "))
}

/// The line that tells most: the first error, else the last line, else zypper's error in its XML; at most
/// 300 letters.
fn complaint(stderr: &str, stdout: &str) -> Option<String> {
    const MARKS: [&str; 3] = ["E:", "Error:", "error:"];
    let hint = |line: &str| line.is_empty() || line.starts_with("Please see the above error");
    let mut lines = stderr.lines().map(str::trim).filter(|line| !hint(line));
    let error = lines.clone().find(|line| MARKS.iter().any(|mark| line.starts_with(mark)));
    let within = || stdout.split_once("<message type=\"error\">")?.1.split(['<', '\n']).next();
    let line = error.or_else(|| lines.next_back()).or_else(within)?;
    let line = MARKS.iter().fold(line, |line, mark| line.trim_start_matches(mark));
    Some(line.trim().chars().take(300).collect())
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
        let zypper = "System management is locked by the application with pid 1809 (zypper).\nClose this application before trying again.\n";
        assert_eq!(lock_holder(&failed(7, zypper)).as_deref(), Some("process 1809 (zypper)"));
    }

    #[test]
    fn a_lock_that_may_be_left_over_is_told_with_its_file() {
        let pacman = "error: failed to init transaction (unable to lock database)\nerror: could not lock database: File exists\n\
                      \x20 if you're sure a package manager is not already\n  running, you can remove /var/lib/pacman/db.lck\n";
        let why = explain(&failed(1, pacman), "jq").unwrap();
        assert!(why.contains("held by another process"), "{why}");
        assert!(why.contains("left /var/lib/pacman/db.lck behind"), "{why}");
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
            (104, "No provider of 'nosuch' found.", "unable to locate package jq"),
            (8, "Odd\nPlease see the above error message for a hint.", "exit code 8: Odd"),
            (1, "error: target not found: nosuch", "unable to locate package jq"),
            (1, "error: odd thing\nmore", "exit code 1: odd thing"),
        ];
        for (code, stderr, told) in cases {
            let why = explain(&failed(code, stderr), "jq").unwrap();
            assert!(why.contains(told), "{why}");
        }
        assert_eq!(explain(&failed(0, "W: something"), "jq"), None);
    }
}
