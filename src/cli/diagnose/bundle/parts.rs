//! The parts of a bundle. None holds the value of a variable.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};
use thiserror::Error;

use super::super::machine::{self, below};
use super::super::program::{self, ProgramError};
use super::super::verdict::as_json;
use super::super::{Diagnose, Findings, PATIENCE, UNIT, UNIT_BYTES_MAX};
use super::{PART_BYTES_MAX, secrets};
use crate::cli::validate;
use crate::config::{ConfigError, texts};
use crate::model::Iso8601;
use crate::sort;

/// Lines of the agent's log.
const LOG_LINES: &str = "1000";
/// Entries of the state folder, with those of its folders.
const ENTRIES_MAX: usize = 1_000;

/// A file of the bundle.
pub(super) struct Part {
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Its text; or why there is none.
    pub text: Result<String, Missing>,
}

/// Why a part is missing: the end of a sentence.
#[derive(Debug, Error)]
pub(super) enum Missing {
    #[error("no agent has answered")]
    NoAgent,
    #[error(transparent)]
    NoJson(#[from] serde_json::Error),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("the journal has no line of the unit")]
    NoLine,
    #[error("systemd knows no such unit")]
    NoUnit,
    #[error("systemctl says nothing")]
    NoState,
    #[error("{}: {error}", folder.display())]
    Folder { folder: PathBuf, error: io::Error },
}

/// All parts, in the order in which they are read.
pub(super) fn gather(diagnose: &Diagnose, findings: &Findings, now: SystemTime) -> Vec<Part> {
    let part = |name, about, text| Part { name, about, text };
    let status = findings.status.as_ref().ok_or(Missing::NoAgent);
    let status = status.and_then(|status| Ok(serde_json::to_value(status)?));
    let env = |name: &str| std::env::var(name).ok();
    let is_right = findings.errors.is_empty();
    let validated = validate::as_json(&findings.loaded, &findings.errors, &env, is_right);
    let verdicts = serde_json::from_str(&as_json(&findings.verdicts)).map_err(Missing::from);
    let about_systemd = "the unit's state, as systemd has it";
    vec![
        part("verdicts.json", "what `diagnose` has found", verdicts.map(pretty)),
        part(
            "machine.json",
            "version, kernel, system, ports",
            Ok(pretty(facts(diagnose, findings, now))),
        ),
        part(
            "files.json",
            "the agent's files, variables not filled in",
            Ok(pretty(files(diagnose))),
        ),
        part("validate.json", "what is wrong with the files", Ok(pretty(validated))),
        part("status.json", "what the running agent does", status.map(pretty)),
        part("log.txt", "the last lines of the agent's log in the journal", log()),
        part("unit.txt", "the unit with its drop-ins, without variables", unit()),
        part("unit-state.txt", about_systemd, unit_state()),
        part("state.txt", "the state folder: mode, owner, size, time, name", state(findings)),
    ]
}

/// Data without what looks like a secret.
fn pretty(value: Value) -> String {
    format!("{:#}\n", secrets::data(value))
}

fn facts(diagnose: &Diagnose, findings: &Findings, now: SystemTime) -> Value {
    let root = &diagnose.root;
    let line = |path: &str| {
        let text = fs::read_to_string(below(root, path)).ok()?;
        text.lines().next().map(|line| line.trim().to_owned())
    };
    let kernel = rustix::system::uname();
    let system = fs::read_to_string(below(root, "/etc/os-release")).unwrap_or_default();
    let system: serde_json::Map<_, _> = system
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.trim_matches('"').into()))
        .collect();
    let port = |(device, name): (String, String)| {
        let about = fs::metadata(below(root, format!("/dev/{device}")));
        let mode = about.as_ref().map(|about| format!("{:o}", about.mode())).ok();
        let owner = about.map(|about| format!("{}:{}", about.uid(), about.gid())).ok();
        json!({ "device": device, "name": name, "mode": mode, "owner": owner })
    };
    let variables = findings.pid.and_then(|pid| {
        let text = fs::read(below(root, format!("/proc/{pid}/environ"))).ok()?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let names = text.split('\0').filter_map(|one| one.split_once('='));
        Some(names.map(|(name, _)| name.to_owned()).collect::<Vec<_>>())
    });
    let secret = findings.loaded.commands.as_ref().and_then(|one| one.file.verify.secret.as_ref());
    let text = |bytes: &std::ffi::CStr| bytes.to_string_lossy().into_owned();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "time": Iso8601::new(now).as_str(),
        "kernel": {
            "name": text(kernel.sysname()),
            "release": text(kernel.release()),
            "version": text(kernel.version()),
            "machine": text(kernel.machine()),
        },
        "os_release": system,
        "hypervisor": {
            "vendor": line("/sys/class/dmi/id/sys_vendor"),
            "product": line("/sys/class/dmi/id/product_name"),
        },
        "processors": std::thread::available_parallelism().ok(),
        "memory": line("/proc/meminfo"),
        "uptime_and_idle_seconds": line("/proc/uptime"),
        "security_modules": line("/sys/kernel/security/lsm"),
        "clock_source": line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "has_virtio_console_driver": machine::has_driver(root),
        "ports": machine::ports(root).into_iter().map(port).collect::<Vec<_>>(),
        "agent_variables": variables,
        "user": rustix::process::geteuid().as_raw(),
        "signed_with": secret.map(ToString::to_string),
    })
}

/// The files as data: their comments are not taken.
fn files(diagnose: &Diagnose) -> Value {
    let file = |read: Result<(String, String), ConfigError>| match read {
        Ok((name, text)) => match toml::from_str::<Value>(&text) {
            Ok(settings) => json!({ "file": name, "settings": settings }),
            // The text of the mistake could hold anything.
            Err(_) => {
                json!({ "file": name, "bytes": text.len(), "error": "it is no TOML; see validate.json" })
            }
        },
        Err(error) => json!({ "file": error.file, "error": error.message }),
    };
    texts(&diagnose.pipelines).into_iter().map(file).collect()
}

/// The newest lines, oldest first.
fn log() -> Result<String, Missing> {
    let words = [
        "journalctl",
        "--unit",
        UNIT,
        "--lines",
        LOG_LINES,
        "--reverse",
        "--output",
        "short-iso-precise",
        "--utc",
        "--no-hostname",
        "--no-pager",
        "--quiet",
    ];
    let newest_first = program::output(&words, PART_BYTES_MAX as u64, PATIENCE)?;
    let mut lines: Vec<&str> = newest_first.lines().collect();
    lines.reverse();
    match lines.is_empty() {
        true => Err(Missing::NoLine),
        false => Ok(secrets::log(&format!("{}\n", lines.join("\n")))),
    }
}

fn unit() -> Result<String, Missing> {
    let text =
        program::output(&["systemctl", "cat", UNIT, "--no-pager"], UNIT_BYTES_MAX, PATIENCE)?;
    if text.is_empty() { Err(Missing::NoUnit) } else { Ok(secrets::unit(&text)) }
}

fn unit_state() -> Result<String, Missing> {
    const WANTED: &str = "Id,LoadState,ActiveState,SubState,UnitFileState,Result,MainPID,ExecMainCode,ExecMainStatus,NRestarts,\
        ActiveEnterTimestamp,InactiveEnterTimestamp,StateChangeTimestamp,FragmentPath,DropInPaths,NeedDaemonReload,MemoryCurrent,\
        MemoryMax,TasksCurrent,TasksMax,CPUUsageNSec,User,Group,StatusText";
    let words = ["systemctl", "show", UNIT, "--no-pager", "--property", WANTED];
    let text = program::output(&words, UNIT_BYTES_MAX, PATIENCE)?;
    if text.is_empty() { Err(Missing::NoState) } else { Ok(secrets::log(&text)) }
}

/// A line for each entry of the state folder and of its folders; links are not followed.
fn state(findings: &Findings) -> Result<String, Missing> {
    let folder = &findings.loaded.agent.state.folder;
    let mut lines = Vec::new();
    list(folder, folder, &mut lines)
        .map_err(|error| Missing::Folder { folder: folder.clone(), error })?;
    let more = if lines.len() > ENTRIES_MAX { "and more\n" } else { "" };
    lines.truncate(ENTRIES_MAX);
    Ok(secrets::log(&format!("{}\n{}{more}", folder.display(), lines.concat())))
}

fn list(top: &Path, folder: &Path, lines: &mut Vec<String>) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.flatten().take(ENTRIES_MAX + 1).collect();
    sort::by_key(&mut entries, fs::DirEntry::file_name);
    for entry in entries {
        if lines.len() > ENTRIES_MAX {
            return Ok(());
        }
        let path = entry.path();
        let shown = path.strip_prefix(top).unwrap_or(&path).display();
        let Ok(about) = entry.metadata() else { continue }; // it has gone
        let time = about.modified().map(Iso8601::new);
        let time = time.as_ref().map_or("?", Iso8601::as_str);
        let (mode, owner, size) = (about.mode(), (about.uid(), about.gid()), about.len());
        lines.push(format!("{mode:06o} {}:{} {size:>10} {time} {shown}\n", owner.0, owner.1));
        if about.is_dir() && folder == top {
            let _ = list(top, &path, lines); // one that cannot be read shows by its mode
        }
    }
    Ok(())
}
