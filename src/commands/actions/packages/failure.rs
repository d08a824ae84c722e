//! Why a package manager failed, by what it said. Decides nothing.

use crate::commands::process::EXIT_TIMEOUT;
use crate::commands::process::{Exit, Finished};
use crate::redact::redact;

/// What is said, and what it means: the first that fits is reported. Texts of apt 1.0 to 3.0 and dpkg
/// (`apt-pkg/`, `cmdline/`), dnf 4, rpm 4, zypper 1.14 and pacman 6.
const KNOWN: [(&str, &str); 36] = [
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
        "Hash Sum mismatch",
        "what was fetched is not what the package index names (its checksum is another); bring the index up to date, and see whether the repository is in order",
    ),
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
        "package {name} has a license that a person must agree to; this agent does not",
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
const LOCKED: [&str; 11] = [
    "could not get lock",
    "unable to acquire the dpkg frontend lock",
    "unable to lock directory",
    "dpkg frontend lock was locked by another process",
    "another copy is running",
    "another app is currently holding the",
    "can't create transaction lock",
    "failed to obtain the transaction lock",
    "failed to obtain rpm transaction lock",
    "system management is locked by the application",
    "unable to lock database",
];

/// What stands before a tool's own complaints. Everything else that it passes on may be a script's, or of a
/// program that a script has run, and is only believed where a line begins with the very sentence of [`KNOWN`].
fn marks(tool: &str) -> &'static [&'static str] {
    match tool {
        "apt-get" | "apt-cache" => {
            &["E: ", "W: ", "WARNING: ", "Waiting for cache lock: ", "dpkg: error: "]
        }
        "pacman" => &["error: ", "warning: ", ":: "],
        "rpm" => &["error: ", "package "],
        _ => &[
            "Error: ",
            "error: ",
            "[RPM] error: ",
            "Problem: ",
            "- Curl error",
            "Error message: ",
            "Existing lock ",
            "<message type=\"error\">",
            "<message type=\"info\">",
        ],
    }
}

/// The most lines and letters that are reported of what a failing script said.
const SCRIPT_LINES: usize = 3;
const LINE_LETTERS: usize = 200;

/// Why it failed, as a sentence; `None` where it did not.
///
/// # What is believed
/// How it ended; then what the package that failed says of itself (its script, with the script's last lines);
/// then the tool's own lines, which bear its mark ([`marks`]). A script prints whatever it likes, so words that
/// merely occur somewhere are no reason.
pub(super) fn explain(tool: &str, finished: &Finished, name: &str) -> Option<String> {
    let code = match finished.exit {
        Exit::Code(0) => return None,
        Exit::TimedOut if lock_holder(tool, finished).is_some() => EXIT_TIMEOUT,
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
    let (stdout, stderr) = (&*finished.stdout.text, &*finished.stderr.text);
    if let Some(failed) = failed_script(tool, stdout, stderr) {
        return Some(failed);
    }
    if let Some(holder) = lock_holder(tool, finished) {
        let left_over = left_over(stderr)
            .map(|file| format!(" (if none is, an earlier one left {file} behind; remove it)"));
        return Some(format!(
            "another package manager is at work: the lock is held by {holder}; try again when it is done{}",
            left_over.unwrap_or_default()
        ));
    }
    let archive = failed_archive(tool, stderr);
    let says = |text: &str| {
        archive.as_ref().is_some_and(|(_, why)| why.contains(text))
            || [stderr, stdout].iter().flat_map(|said| said.lines()).any(|line| {
                let line = line.trim_start();
                line.starts_with(text) || own(tool, line).is_some_and(|rest| rest.contains(text))
            })
    };
    Some(match (KNOWN.iter().find(|(text, _)| says(text)), archive) {
        (Some((text, why)), _) => {
            let why = why.replace("{name}", name).replace("package  ", "a package ");
            match unmet(stdout).filter(|_| UNMET.contains(text)) {
                Some(unmet) => format!("{why}: {unmet}"),
                None => why,
            }
        }
        (None, Some((package, why))) => format!("package {package}: {why}"),
        (None, None) => match complaint(tool, stderr, stdout) {
            Some(line) => format!("the package manager ended with exit code {code}: {line}"),
            None => format!("the package manager ended with exit code {code} and did not say why"),
        },
    })
}

/// Who holds the lock, where that is why a program failed: `process 17 (apt-get)`, or `another process`.
pub(super) fn lock_holder(tool: &str, finished: &Finished) -> Option<String> {
    if matches!(finished.exit, Exit::Code(0) | Exit::Cancelled) {
        return None;
    }
    let (stdout, stderr) = (&*finished.stdout.text, &*finished.stderr.text);
    let lines = || stderr.lines().chain(stdout.lines());
    let locked = lines().any(|line| {
        let line = line.trim_start();
        let rest = own(tool, line).map(str::to_ascii_lowercase);
        let line = line.to_ascii_lowercase();
        let says = |text: &&str| {
            line.starts_with(*text) || rest.as_ref().is_some_and(|rest| rest.contains(*text))
        };
        // apt says that of who may not open it, too.
        LOCKED.iter().any(says) && !line.ends_with("are you root?")
    });
    if !locked || failed_script(tool, stdout, stderr).is_some() {
        return None;
    }
    let marks = ["held by process ", "running as pid ", "with pid "];
    let holder = lines().find_map(|line| {
        let (_, rest) = marks.iter().find_map(|mark| line.split_once(mark))?;
        let until = rest.find(')').map_or(rest.find(['.', ' ']).unwrap_or(rest.len()), |at| at + 1);
        Some(format!("process {}", &rest[..until]))
    });
    Some(holder.unwrap_or_else(|| "another process".into()))
}

/// What a tool says itself, without its mark.
fn own<'a>(tool: &str, line: &'a str) -> Option<&'a str> {
    marks(tool).iter().find_map(|mark| line.strip_prefix(mark))
}

/// The lock that pacman says may have no holder: it is a file, and stays when its maker is killed.
fn left_over(stderr: &str) -> Option<&str> {
    stderr.lines().find_map(|line| line.trim().strip_prefix("running, you can remove "))
}

/// The first script of a package that failed, with its last lines.
fn failed_script(tool: &str, stdout: &str, stderr: &str) -> Option<String> {
    match tool {
        "apt-get" => dpkg_script(stdout, stderr),
        "dnf" | "zypper" => rpm_script(stdout, stderr),
        _ => None,
    }
}

/// The line by which dpkg says that it failed at a package, and the package.
fn dpkg_failed(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("dpkg: error processing ")?;
    let (what, rest) = rest.split_once(' ')?;
    let name = rest.rsplit_once(" (-")?.0;
    match what {
        "package" => Some(name),
        // A file: `name_version_architecture.deb`.
        _ => name.rsplit('/').next()?.split('_').next(),
    }
}

/// `dpkg: error processing package x (--configure):`, and indented below it ` installed x package
/// post-installation script subprocess returned error exit status 1`. What a script says on standard error stands
/// before that; on standard output below the line with which dpkg begins with the package.
fn dpkg_script(stdout: &str, stderr: &str) -> Option<String> {
    const SCRIPTS: [&str; 4] =
        ["pre-installation", "post-installation", "pre-removal", "post-removal"];
    let lines: Vec<&str> = stderr.lines().collect();
    let (at, package, which, how) = lines.windows(2).enumerate().find_map(|(at, pair)| {
        let package = dpkg_failed(pair[0])?;
        let why = pair[1].strip_prefix(' ')?;
        let which = SCRIPTS.iter().find(|script| why.contains(&format!("{script} script")))?;
        let how = why.split_once("script ")?.1;
        Some((at, package, which, how.strip_prefix("subprocess ").unwrap_or(how)))
    })?;
    let begins = |line: &str| {
        ["Setting up ", "Removing ", "Unpacking ", "Preparing to unpack ", "Purging "]
            .iter()
            .any(|word| line.starts_with(word))
    };
    let base = package.split(':').next().unwrap_or(package);
    let about = |line: &str| begins(line) && line.contains(base);
    let from = stdout.lines().collect::<Vec<_>>();
    let from = match from.iter().rposition(|line| about(line)) {
        Some(at) => from[at + 1..].to_vec(),
        None => Vec::new(),
    };
    let ends = |line: &&&str| !begins(line) && !line.starts_with("Errors were encountered");
    let out = from.iter().take_while(ends).copied();
    let before = lines[..at].iter().rposition(|line| line.starts_with("dpkg: error processing "));
    // Its reason stands on the line below the one before.
    let err = lines[before.map_or(0, |before| before + 2).min(at)..at].iter().copied();
    let said = last_lines(out, err);
    Some(format!("package {package}: its {which} script {how}{said}"))
}

/// What rpm says of a scriptlet: `error: %prein(x-1-1.noarch) scriptlet failed, exit status 1`, or that its Lua
/// failed; dnf adds `Error in PREIN scriptlet in rpm package x`.
fn rpm_script(stdout: &str, stderr: &str) -> Option<String> {
    let failed = |line: &str| {
        let line = line.strip_prefix("[RPM] ").unwrap_or(line);
        let said = line.strip_prefix("error: ").or_else(|| line.strip_prefix("warning: "))?;
        let (_, rest) = said.split_once('%')?;
        let (which, rest) = rest.split_once('(')?;
        let (package, _) = rest.split_once(')')?;
        let is_scriptlet = said.starts_with('%') && said.contains(" scriptlet failed")
            || said.starts_with("lua script failed: ");
        is_scriptlet.then(|| (package.to_owned(), format!("%{which}"), said.to_owned()))
    };
    let dnf = |line: &str| {
        let (which, package) =
            line.strip_prefix("Error in ")?.split_once(" scriptlet in rpm package ")?;
        Some((package.to_owned(), format!("%{}", which.to_lowercase()), String::new()))
    };
    let either = |line: &str| failed(line).or_else(|| dnf(line));
    let (package, which, how) = [stderr, stdout]
        .iter()
        .flat_map(|said| said.lines())
        .find_map(failed)
        .or_else(|| [stderr, stdout].iter().flat_map(|said| said.lines()).find_map(dnf))?;
    // Before it, down from the line with which the tool begins with the package.
    let before = |text| {
        let lines = str::lines(text).take_while(|line| either(line).is_none());
        let mut said: Vec<&str> = lines.collect();
        if either(text).is_none() && said.len() == text.lines().count() {
            said.clear(); // nothing failed in this one
        }
        let begin = |line: &&str| {
            ["Running scriptlet", "Installing", "Upgrading", "Erasing", "Preparing"]
                .iter()
                .any(|word| line.trim_start().starts_with(word))
                || line.contains("RPM failed: ")
        };
        match said.iter().rposition(begin) {
            Some(at) => said.split_off(at + 1),
            None => said,
        }
    };
    let (out, err) = (before(stdout), before(stderr));
    let said = last_lines(out.into_iter(), err.into_iter());
    let how = match how.rsplit_once("scriptlet failed, ") {
        Some((_, status)) => format!("failed ({status})"),
        None => "failed".to_owned(),
    };
    Some(format!("package {package}: its {which} script {how}{said}"))
}

/// `; its last lines: …`, or nothing where it said nothing. Notes of what runs around it are left out.
fn last_lines<'a>(
    out: impl Iterator<Item = &'a str>,
    err: impl Iterator<Item = &'a str>,
) -> String {
    const AROUND: [&str; 6] =
        ["debconf: ", "dpkg-preconfigure: ", "rpm: ", "dpkg: ", "W: ", "Unable to detect release"];
    let around = |line: &&str| {
        !line.is_empty() && !AROUND.iter().any(|beginning| line.starts_with(beginning))
    };
    let lines: Vec<&str> = out.chain(err).map(str::trim).filter(around).collect();
    let last = &lines[lines.len().saturating_sub(SCRIPT_LINES)..];
    // A script prints whatever it likes: it may have been asked for a password.
    let last: Vec<String> =
        last.iter().map(|line| redact(line).chars().take(LINE_LETTERS).collect()).collect();
    match last.is_empty() {
        true => String::new(),
        false => format!("; its last lines: {}", last.join(" | ")),
    }
}

/// What apt says of dependencies that it cannot meet, among [`KNOWN`].
const UNMET: [&str; 2] = ["held broken packages", "unmet dependencies"];

/// The first dependency that apt cannot meet: `x : Depends: y (>= 2) but it is not installable`.
fn unmet(stdout: &str) -> Option<String> {
    let mut lines = stdout.lines();
    lines.find(|line| *line == "The following packages have unmet dependencies:")?;
    let line = lines.next()?.strip_prefix(' ')?;
    let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(words.chars().take(LINE_LETTERS).collect())
}

/// The package that dpkg failed at for another reason than a script of it, and that reason; of an archive that cannot be
/// read, with what is wrong with it.
fn failed_archive<'a>(tool: &str, stderr: &'a str) -> Option<(&'a str, String)> {
    const MARKS: [&str; 2] = ["dpkg-deb (subprocess): ", "dpkg-deb: error: "];
    let lines: Vec<&str> = stderr.lines().filter(|_| tool == "apt-get").collect();
    let (at, package) =
        lines.iter().enumerate().find_map(|(at, line)| Some((at, dpkg_failed(line)?)))?;
    let why = lines.get(at + 1)?.strip_prefix(' ')?.trim();
    let marked = |line: &&'a str| MARKS.iter().find_map(|mark| line.strip_prefix(mark));
    let fault = lines[..at].iter().find_map(marked).filter(|_| why.starts_with("dpkg-deb "));
    let why = match fault {
        Some(fault) => format!("{why}: {}", fault.chars().take(LINE_LETTERS).collect::<String>()),
        None => why.to_owned(),
    };
    Some((package, why))
}

/// The line that tells most: the first error, else the last line, else zypper's error in its XML; at most
/// 300 letters.
fn complaint(tool: &str, stderr: &str, stdout: &str) -> Option<String> {
    const MARKS: [&str; 4] = ["E:", "Error:", "error:", "[RPM] error:"];
    const HINTS: [&str; 5] =
        ["Please see the above error", "debconf: ", "dpkg-preconfigure: ", "W: ", "warning: "];
    let hint = |line: &str| line.is_empty() || HINTS.iter().any(|hint| line.starts_with(hint));
    let mut lines = stderr.lines().map(str::trim).filter(|line| !hint(line));
    let error = |line: &&str| {
        let rest = MARKS.iter().find_map(|mark| line.strip_prefix(mark));
        rest.is_some_and(|rest| !rest.trim().is_empty()) || own(tool, line).is_some()
    };
    let within = || stdout.split_once("<message type=\"error\">")?.1.split(['<', '\n']).next();
    let line = lines.clone().find(error).or_else(|| lines.next_back()).or_else(within)?;
    let line = MARKS.iter().fold(line, |line, mark| line.trim_start_matches(mark));
    Some(line.trim().chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::process::Captured;

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
            lock_holder("apt-get", &failed(100, apt)).as_deref(),
            Some("process 4711 (unattended-upgr)")
        );
        assert!(
            explain("apt-get", &failed(100, apt), "jq").unwrap().contains("4711 (unattended-upgr)")
        );
        let old = "E: Could not get lock /var/lib/dpkg/lock - open (11: Resource temporarily unavailable)";
        assert_eq!(lock_holder("apt-get", &failed(100, old)).as_deref(), Some("another process"));
        assert_eq!(lock_holder("apt-get", &failed(100, "E: Unable to locate package lock")), None);
        assert_eq!(lock_holder("apt-get", &failed(0, apt)), None);
        let zypper = "System management is locked by the application with pid 1809 (zypper).\nClose this application before trying again.\n";
        assert_eq!(
            lock_holder("zypper", &failed(7, zypper)).as_deref(),
            Some("process 1809 (zypper)")
        );
    }

    #[test]
    fn a_lock_that_may_be_left_over_is_told_with_its_file() {
        let pacman = "error: failed to init transaction (unable to lock database)\nerror: could not lock database: File exists\n\
                      \x20 if you're sure a package manager is not already\n  running, you can remove /var/lib/pacman/db.lck\n";
        let why = explain("pacman", &failed(1, pacman), "jq").unwrap();
        assert!(why.contains("held by another process"), "{why}");
        assert!(why.contains("left /var/lib/pacman/db.lck behind"), "{why}");
    }

    #[test]
    fn a_known_failure_is_told_in_words_and_an_unknown_one_by_its_own_line() {
        let cases = [
            ("apt-get", 100, "E: Unable to locate package nosuch", "unable to locate package jq"),
            (
                "apt-get",
                100,
                "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.",
                "dpkg --configure -a",
            ),
            (
                "apt-get",
                100,
                "E: Failed to fetch http://x  Temporary failure resolving 'x'",
                "no network",
            ),
            ("dnf", 1, "Error: Unable to find a match: nosuch", "no enabled repository"),
            ("apt-get", 7, "W: odd\nE: Sub-process said no\nmore", "code 7: Sub-process said no"),
            ("apt-get", 9, "", "exit code 9 and did not say why"),
            ("zypper", 104, "No provider of 'nosuch' found.", "unable to locate package jq"),
            ("zypper", 8, "Odd\nPlease see the above error message for a hint.", "code 8: Odd"),
            ("pacman", 1, "error: target not found: nosuch", "unable to locate package jq"),
            ("pacman", 1, "error: odd thing\nmore", "exit code 1: odd thing"),
            ("rpm", 1, "package nosuch is not installed", "package jq is not installed"),
            (
                "apt-get",
                100,
                "E: Unable to acquire the dpkg frontend lock (/x), are you root?",
                "must run as root",
            ),
        ];
        for (tool, code, stderr, expected) in cases {
            let why = explain(tool, &failed(code, stderr), "jq").unwrap();
            assert!(why.contains(expected), "{why}");
        }
        assert_eq!(explain("apt-get", &failed(0, "W: something"), "jq"), None);
    }

    #[test]
    fn dependencies_that_cannot_be_met_are_named_and_a_wrong_checksum_is_no_missing_network() {
        let stdout = "Some packages could not be installed.\n\nThe following packages have unmet dependencies:\n \
            bad : Depends: nowhere (>= 2) but it is not installable\n       Conflicts: x\n";
        let finished = Finished {
            stdout: Captured { text: stdout.into(), ..Captured::default() },
            ..failed(100, "E: Unable to correct problems, you have held broken packages.\n")
        };
        assert_eq!(
            explain("apt-get", &finished, "bad").unwrap(),
            "package bad needs others that cannot be had in the versions it wants: \
             bad : Depends: nowhere (>= 2) but it is not installable"
        );
        let sum = "E: Failed to fetch file:/srv/x.deb  Hash Sum mismatch\n   Hashes of expected file:\n\
            E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?\n";
        let why = explain("apt-get", &failed(100, sum), "bad").unwrap();
        assert!(why.contains("its checksum is another") && !why.contains("network"), "{why}");
    }

    /// Every sentence of the table, said by something that the tool has run.
    #[test]
    fn words_that_merely_occur_are_no_reason_and_hold_no_lock() {
        let loose = KNOWN.iter().map(|(text, _)| *text).chain(LOCKED);
        for text in loose.filter(|text| text.len() > 4) {
            for tool in ["apt-get", "dnf", "zypper", "pacman"] {
                let stderr =
                    format!("debconf: odd, since apt-utils is not installed\nnote: {text}");
                let why = explain(tool, &failed(1, &stderr), "jq").unwrap();
                assert!(why.contains(&format!("exit code 1: note: {text}")), "{tool}: {why}");
            }
        }
        let only = failed(
            100,
            "debconf: delaying package configuration, since apt-utils is not installed",
        );
        let why = explain("apt-get", &only, "jq").unwrap();
        assert!(why.ends_with("exit code 100 and did not say why"), "{why}");
    }

    #[test]
    fn a_script_that_failed_is_the_reason_with_its_last_lines_whatever_it_printed() {
        let stdout = "Reading package lists...\nSetting up other (1) ...\nfine\nSetting up huntbad (1.0) ...\nasking the thing\n";
        let stderr = "debconf: delaying package configuration, since apt-utils is not installed\n\
            E: Could not get lock /x. It is held by process 7 (y)\nUnable to locate package z\nno thing here\n\
            dpkg: error processing package huntbad (--configure):\n \
            installed huntbad package post-installation script subprocess returned error exit status 3\n\
            Errors were encountered while processing:\n huntbad\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n";
        let finished = Finished {
            stdout: Captured { text: stdout.into(), ..Captured::default() },
            ..failed(100, stderr)
        };
        assert_eq!(lock_holder("apt-get", &finished), None);
        assert_eq!(
            explain("apt-get", &finished, "huntbad").unwrap(),
            "package huntbad: its post-installation script returned error exit status 3; its last lines: \
             E: Could not get lock /x. It is held by process 7 (y) | Unable to locate package z | no thing here"
        );
        let archive = "dpkg: error processing archive /var/cache/apt/archives/bad_1_all.deb (--unpack):\n \
            trying to overwrite '/usr/bin/x', which is also in package good 1\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n";
        assert_eq!(
            explain("apt-get", &failed(100, archive), "bad").unwrap(),
            "package bad: trying to overwrite '/usr/bin/x', which is also in package good 1"
        );
        let full = archive.replace("which is also in package good 1", "No space left on device");
        assert_eq!(
            explain("apt-get", &failed(100, &full), "bad").unwrap(),
            "there is no space left on the device"
        );
        let cut = "dpkg-deb (subprocess): cannot copy archive member from '/x/bad_1_all.deb' to decompressor pipe: unexpected end of file or stream\n\
            dpkg-deb: error: tar subprocess returned error exit status 2\n\
            dpkg: error processing archive /x/bad_1_all.deb (--unpack):\n dpkg-deb --control subprocess returned error exit status 2\n";
        let why = explain("apt-get", &failed(100, cut), "bad").unwrap();
        assert!(
            why.starts_with("package bad: dpkg-deb --control subprocess returned error "),
            "{why}"
        );
        assert!(why.ends_with("unexpected end of file or stream"), "{why}");
        let zypper = "Installation of bad-1-1.noarch failed:\nError: Subprocess failed. Error: RPM failed: rpm: odd\n\
            the thing is not installed\nerror: %pre(bad-1-1.noarch) scriptlet failed, exit status 4\n\
            error: bad-1-1.noarch: install failed\n";
        assert_eq!(
            explain("zypper", &failed(8, zypper), "bad").unwrap(),
            "package bad-1-1.noarch: its %pre script failed (exit status 4); its last lines: the thing is not installed"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_explained_without_panic(text: String, lines in "(dpkg: error processing (package|archive) [a-z_/]{0,5}( \\(-)?\n? ?(script )?|error: %[a-z]{0,3}\\(?x?\\)?|\n| ){0,6}") {
            for tool in ["apt-get", "dnf", "zypper", "pacman", "rpm"] {
                for text in [&text, &lines] {
                    let _ = (explain(tool, &failed(1, text), "x"), lock_holder(tool, &failed(1, text)));
                }
            }
        }
    }
}
