//! `spool`: what waits on this machine for its host: shown, checked, given up. Sends nothing.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;

use super::{StateOption, complain, load_or_report, refuse, say, unless};
use crate::agent::control::{Answer, Request, Unanswered, ask, socket_of};
use crate::commands::notify::spool_status::SpoolContents;
use crate::machine_events;
use crate::record_file::File;
use crate::sinks::io_reason;
use crate::spool::{self, Corruption, Entry, NAMES, Scan, Spool};
use crate::wire::plain;

/// Something is wrong with the file.
const EXIT_WRONG: u8 = 1;
/// The limit for an answer of the agent.
const PATIENCE: Duration = Duration::from_secs(2);
/// Characters of a message that are shown.
const EXCERPT_MAX: usize = 60;

#[derive(Debug, Args)]
pub(super) struct SpoolArguments {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    state: StateOption,

    /// A file of the agent, or a folder of them; may be repeated [default: as for run]
    #[arg(long, value_name = "DIR|FILE", global = true)]
    pipelines: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what waits for the host, oldest first
    Ls {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Check whether the spool is intact, and show what could be kept of it if not
    Check,
    /// Drop waiting messages for good; the agent must not run
    Drop {
        /// Numbers of items, as `ls` shows them
        #[arg(value_name = "SEQ", required_unless_present = "all", conflicts_with = "all")]
        numbers: Vec<u64>,

        /// Everything
        #[arg(long)]
        all: bool,
    },
}

impl SpoolArguments {
    pub(super) fn main(self) -> ExitCode {
        let folder = match self.state.chosen() {
            Some((folder, _)) => folder,
            None => match load_or_report(&self.pipelines) {
                Ok(loaded) => loaded.agent.state.folder,
                Err(code) => return code,
            },
        };
        if folder.is_file() {
            let folder = folder.display();
            return refuse(format_args!(
                "{folder} is a file; name the state folder that it lies in"
            ));
        }
        let done = match self.command {
            Command::Ls { json } => list(&folder, json),
            Command::Check => check(&folder),
            Command::Drop { numbers, all } => give_up(&folder, &numbers, all),
        };
        done.unwrap_or_else(|error| {
            let path = folder.join(NAMES.name);
            refuse(format_args!("cannot use {}: {}", path.display(), io_reason(&error)))
        })
    }
}

/// An item of `ls --json`.
#[derive(Debug, Serialize)]
struct Row {
    seq: u64,
    kind: &'static str,
    created_ms: u64,
    age_seconds: u64,
    bytes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    excerpt: Option<String>,
}

fn list(folder: &Path, json: bool) -> io::Result<ExitCode> {
    let in_memory = in_memory(folder);
    for held in &in_memory {
        complain(&format!("infiniservice: {}", held.line));
    }
    let nothing = || nothing(json || !in_memory.is_empty());
    let Some((mut file, found)) = look(folder)? else { return Ok(nothing()) };
    if let Some(why) = &found.unreadable {
        complain(&format!("infiniservice: there may be more: {why}"));
    }
    if let Err(error) = File::check_usable(NAMES, folder) {
        complain(&format!("infiniservice: {}", not_taken(&error)));
    }
    warn_of_another_machine(&found);
    let now = SystemTime::now();
    let mut text = String::new();
    let mut bytes = 0;
    for entry in &found.waiting {
        let row = row(&mut file, entry, now)?;
        bytes += u64::from(row.bytes);
        if json {
            text.push_str(&serde_json::to_string(&row)?);
        } else {
            let age = humantime::format_duration(Duration::from_secs(row.age_seconds));
            let what = row.id.or(row.excerpt).unwrap_or_default();
            let line = format!("{:>6}  {:<10}  {:>8} B  {age:>12}", row.seq, row.kind, row.bytes);
            text.push_str(format!("{line}  {what}").trim_end());
        }
        text.push('\n');
    }
    if found.waiting.is_empty() && found.corruptions.is_empty() {
        return Ok(nothing());
    }
    if !json {
        text.push_str(&format!("{}, {bytes} bytes\n", items(found.waiting.len())));
    }
    if !found.corruptions.is_empty() {
        complain("infiniservice: the spool is damaged; see `infiniservice spool check`");
    }
    Ok(say(&text))
}

/// Says on standard error that what waits was written by another machine: an agent takes that for a clone's.
fn warn_of_another_machine(found: &Scan) {
    let Some(session) = found.session.as_ref().filter(|session| !session.identity.is_empty())
    else {
        return;
    };
    if !machine_events::is_same_machine(
        &session.identity,
        &machine_events::identity(Path::new("/")),
    ) {
        complain(
            "infiniservice: this was written on another machine; an agent here would give it up",
        );
    }
}

/// The fate of a spool that an agent rejects.
fn not_taken(error: &io::Error) -> String {
    let why = io_reason(error);
    format!("an agent of this user would keep durable messages in memory only: {why}")
}

/// What an agent holds in memory only for a port, or that this is not known.
struct InMemory {
    line: String,
    /// Its spool is of no use.
    is_trouble: bool,
}

impl InMemory {
    /// An agent runs, and does not say.
    fn unknown(why: &str) -> Self {
        let line = "an agent runs here and does not say what it holds in memory";
        Self { line: format!("{line}: {}", plain(why)), is_trouble: false }
    }

    /// `None`: everything is on disk, as it should be.
    fn of(held: &SpoolContents) -> Option<Self> {
        let count = items(usize::try_from(held.in_memory).unwrap_or(usize::MAX));
        let line = format!("the agent that runs holds {count} for {} in memory only", held.port);
        let (line, is_trouble) = match held.trouble() {
            Some(why) => (format!("{line}: {why}"), true),
            None if held.in_memory > 0 => (line, false),
            None => return None,
        };
        Some(Self { line: plain(&line), is_trouble })
    }
}

/// What the agent that runs here holds in memory only, one for each port where that is so.
fn in_memory(folder: &Path) -> Vec<InMemory> {
    let held = match ask(&socket_of(folder), &Request::SpoolReport, PATIENCE) {
        Ok(Answer::SpoolReport(held)) => held,
        Err(Unanswered::NoAgent) => return Vec::new(),
        Ok(Answer::Refused(why)) => return vec![InMemory::unknown(&why)],
        Ok(
            Answer::Reloaded(_)
            | Answer::Status(_)
            | Answer::Log(_)
            | Answer::Tapping(_)
            | Answer::Tapped(_),
        ) => return vec![InMemory::unknown("its answer is to another question")],
        Err(Unanswered::Late) => return vec![InMemory::unknown("it has not answered in time")],
        Err(Unanswered::Io(error)) => return vec![InMemory::unknown(&io_reason(&error))],
    };
    held.iter().filter_map(InMemory::of).collect()
}

fn nothing(is_quiet: bool) -> ExitCode {
    if is_quiet { ExitCode::SUCCESS } else { say("nothing waits for the host\n") }
}

fn check(folder: &Path) -> io::Result<ExitCode> {
    let path = folder.join(NAMES.name);
    let path = path.display();
    let mut lines = Vec::new();
    if let Err(error) = File::check_usable(NAMES, folder) {
        lines.push(format!("{path}: {}", not_taken(&error)));
    }
    let mut beside = Vec::new();
    if folder.join(NAMES.aside).symlink_metadata().is_ok() {
        let kept = format!("{path} was once of no use to an agent, and is kept as {}", NAMES.aside);
        beside.push(format!("{kept} (`spool drop --all` removes it)"));
    }
    for held in in_memory(folder) {
        if held.is_trouble { &mut lines } else { &mut beside }.push(held.line);
    }
    let Some((_, found)) = look(folder)? else {
        let is_well = lines.is_empty();
        lines.push(format!("{path}: there is none, so nothing waits on disk"));
        lines.extend(beside);
        return Ok(verdict(is_well, &lines));
    };
    let kept = items(found.waiting.len());
    for Corruption { offset, bytes, what } in &found.corruptions {
        lines.push(format!("{path}: at byte {offset}: {what} ({bytes} bytes are of no use)"));
    }
    if let Some(why) = &found.unreadable {
        let rest = "an agent would leave it as it is, and keep durable messages in memory only";
        lines.push(format!("{path}: {why}; {rest}"));
    }
    let is_well = lines.is_empty();
    if is_well {
        lines.push(format!("{path}: ok ({kept} in {} bytes)", found.length));
    } else if found.corruptions.is_empty() {
        lines.push(format!("{kept} can be read"));
    } else {
        lines.push(format!("{kept} would be kept"));
        if File::is_in_use(folder) {
            let half = "its last record may be half written; check again";
            lines.push(format!("an agent is at work: {half}"));
        }
    }
    lines.extend(beside);
    warn_of_another_machine(&found);
    Ok(verdict(is_well, &lines))
}

fn verdict(is_well: bool, lines: &[String]) -> ExitCode {
    unless(say(&format!("{}\n", lines.join("\n"))), if is_well { 0 } else { EXIT_WRONG })
}

fn give_up(folder: &Path, numbers: &[u64], all: bool) -> io::Result<ExitCode> {
    if File::open_read_only(NAMES, folder)?.is_none() {
        return match numbers {
            [] => Ok(say("nothing waits for the host\n")),
            _ => Ok(refuse("there is no spool, so no item has that number")),
        };
    }
    let file = match File::open(NAMES, folder) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Ok(refuse(format_args!(
                "an agent is running with {}; stop it first, because it may be sending just that",
                folder.display()
            )));
        }
        file => file?,
    };
    let aside = match all && file.remove_aside()? {
        true => format!("; {} is removed", NAMES.aside),
        false => String::new(),
    };
    let (mut spool, found) = Spool::edit(file);
    if let Some(why) = found.unreadable {
        return Ok(refuse(format_args!("{why}; nothing was given up")));
    }
    let waiting = found.waiting.len();
    if all {
        spool.drop_all("dropped");
    } else {
        let numbers: BTreeSet<u64> = numbers.iter().copied().collect();
        let missing = spool.drop_items(&Vec::from_iter(numbers));
        if !missing.is_empty() {
            let missing: Vec<String> = missing.iter().map(u64::to_string).collect();
            let missing = missing.join(", ");
            return Ok(refuse(format_args!(
                "no item has the number {missing}; nothing was given up"
            )));
        }
    }
    let dropped = waiting - spool.waiting().len();
    let now_ms = spool::millis(SystemTime::now());
    match spool.compact(now_ms) {
        Err(_) if all => spool.empty(now_ms)?,
        Err(error) => {
            let why = io_reason(&error);
            return Ok(refuse(format_args!(
                "the spool cannot be written without them: {why}; nothing was given up (`spool drop --all` takes no space)"
            )));
        }
        Ok(()) => {}
    }
    let left = items(spool.waiting().len());
    Ok(say(&format!("{} given up, {left} left{aside}\n", items(dropped))))
}

/// The file and its content; `None` if it does not exist.
fn look(folder: &Path) -> io::Result<Option<(File, Scan)>> {
    let Some(mut file) = File::open_read_only(NAMES, folder)? else { return Ok(None) };
    let found = spool::scan(&mut file, 2 * spool::SIZE_MAX);
    Ok(Some((file, found)))
}

fn row(file: &mut File, entry: &Entry, now: SystemTime) -> io::Result<Row> {
    let age = now.duration_since(spool::time(entry.at_ms)).unwrap_or_default();
    let body = spool::body(file, entry)?.unwrap_or_default();
    let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let says: Value = serde_json::from_slice(line).unwrap_or_default();
    let text = |name: &str| says.get(name)?.as_str().map(shown);
    let excerpt = || text("message").or_else(|| (!line.is_empty()).then(|| shown(&lossy(line))));
    let id = text("id").or_else(|| text("execution_id"));
    Ok(Row {
        seq: entry.seq,
        kind: entry.kind.name(),
        created_ms: entry.at_ms,
        age_seconds: age.as_secs(),
        bytes: entry.length,
        excerpt: if id.is_some() { None } else { excerpt() },
        id,
    })
}

/// The beginning of `text` for a terminal: what a program has said could move its cursor.
fn shown(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_MAX) {
        Some((end, _)) => plain(&text[..end]) + "…",
        None => plain(text),
    }
}

fn lossy(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(4 * EXCERPT_MAX + 4)]).into_owned()
}

fn items(count: usize) -> String {
    format!("{count} item{}", if count == 1 { "" } else { "s" })
}
