//! Reads the output of programs: one that is kept running, one that is run every so often, and `journalctl`.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures::Stream;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::follow::Positions;
use super::split::{Lines, Splitter};
use super::stream::stream;
use crate::pipeline::{Source, StageError};
use crate::records::Records;
use crate::records::batch::Decode;
use crate::records::buffers::Buffers;
use crate::tasks::{spawn_blocking, spawn_in};

/// How long it waits before a program that has ended is started again: at first …
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// … and at most, after ends in a row.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long what a program has written is read after its end.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// How often the cursor is saved at most.
const SAVE: Duration = Duration::from_secs(1);

/// The longest end of what a program writes to its error output that is logged, in bytes.
const ERROR_MAX: usize = 512;

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    /// A program and its arguments, kept running; or run once in every such time.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
        /// How often; `None` keeps it running.
        every: Option<Duration>,
    },
    /// The journal of systemd.
    Journal {
        /// Units whose entries are read; none for all.
        units: Vec<String>,
        /// Where it begins the first time, as `journalctl --since` takes it; else at the start of this boot.
        since: Option<String>,
    },
}

/// Lines that a program writes. It has no input, and of the agent's environment only `PATH`, `TZ` and `LANG`. Its process
/// group is killed when the flow ends.
#[derive(Debug)]
pub(crate) struct Output {
    program: Program,
    decode: Decode,
    max_line: usize,
    buffers: Buffers,
    /// The cursor of the journal. Others have none, and wait for room in a spool nevertheless.
    positions: Positions,
}

impl Output {
    /// Lines of at most `max_line` bytes; longer ones are skipped.
    pub(crate) fn new(
        program: Program,
        decode: Decode,
        max_line: usize,
        buffers: Buffers,
        positions: Positions,
    ) -> Self {
        Self { program, decode, max_line, buffers, positions }
    }

    fn is_journal(&self) -> bool {
        matches!(self.program, Program::Journal { .. })
    }
}

impl Program {
    /// The name under which the position of a journal is kept.
    pub(crate) fn source(&self) -> String {
        match self {
            Self::Exec { command, .. } => command.join(" "),
            Self::Journal { units, .. } => format!("journal:{}", units.join(",")),
        }
    }

    /// The program and its arguments, to go on behind `cursor`.
    fn command(&self, cursor: Option<String>) -> Vec<String> {
        let (units, since) = match self {
            Self::Exec { command, .. } => return command.clone(),
            Self::Journal { units, since } => (units, since),
        };
        let mut command: Vec<String> = [
            "journalctl",
            "--output=json",
            "--all",
            "--follow",
            "--no-pager",
            "--lines=all",
            "--quiet",
        ]
        .map(str::to_owned)
        .into();
        command.push(match (cursor, since) {
            (Some(cursor), _) => format!("--after-cursor={cursor}"),
            (None, Some(since)) => format!("--since={since}"),
            (None, None) => "--boot".to_owned(),
        });
        command.extend(units.iter().map(|unit| format!("--unit={unit}")));
        command
    }
}

impl Source for Output {
    type Out = Records;

    fn name(&self) -> String {
        if self.is_journal() { "journal" } else { "exec" }.to_owned()
    }

    fn detail(&self) -> String {
        match &self.program {
            // Arguments may hold a secret.
            Program::Exec { command, .. } => command.first().cloned().unwrap_or_default(),
            Program::Journal { units, .. } => units.join(", "),
        }
    }

    fn open(&mut self) -> impl Stream<Item = Result<Records, StageError>> + Send + '_ {
        let (program, is_journal) = (self.program.clone(), self.is_journal());
        let splitter = Splitter::new(self.max_line).with_buffers(self.buffers.clone());
        let (decode, positions) = (self.decode, self.positions.clone());
        async_stream::stream! {
            let (sender, mut pieces) = mpsc::channel(1);
            let mut runner = JoinSet::new(); // aborted when it is dropped
            spawn_in(&mut runner, keep_running(program, splitter, positions.clone(), sender));
            let mut tick = interval(SAVE);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut is_saved = true;
            loop {
                tokio::select! {
                    piece = pieces.recv() => {
                        let Some(Lines { bytes, ends, too_long }) = piece else { break };
                        let cursor = if is_journal { cursor(&bytes, &ends) } else { None };
                        let receipt = positions.give_cursor(cursor);
                        is_saved = false;
                        let oldest = Instant::now();
                        yield Ok(Records { bytes, ends, too_long, oldest, decode, receipt });
                    }
                    _ = tick.tick(), if is_journal && !is_saved => {
                        is_saved = !positions.may_change();
                        let positions = positions.clone();
                        let _ = spawn_blocking(move || positions.save()).await;
                    }
                }
            }
            yield Err(StageError::new("the program is not run any more"));
        }
    }

    async fn close(&mut self) {
        if self.is_journal() {
            self.positions.settle().await;
            let positions = self.positions.clone();
            let _ = spawn_blocking(move || positions.save()).await;
        }
    }
}

/// The cursor of the last entry; `journalctl` writes it first in each.
fn cursor(bytes: &[u8], ends: &[u32]) -> Option<String> {
    const KEY: &[u8] = b"\"__CURSOR\":\"";
    let start = ends.len().checked_sub(2).map_or(0, |before| ends[before] as usize);
    let last = bytes.get(start..)?;
    let at = memchr::memmem::find(last, KEY)? + KEY.len();
    let length = memchr::memchr(b'"', last.get(at..)?)?;
    std::str::from_utf8(&last[at..at + length]).ok().map(str::to_owned)
}

/// Runs a program again and again.
async fn keep_running(
    program: Program,
    splitter: Splitter,
    positions: Positions,
    sender: mpsc::Sender<Lines>,
) {
    let name = program.command(None).first().cloned().unwrap_or_default();
    let loaded = positions.clone();
    let _ = spawn_blocking(move || loaded.load_cursor()).await;
    let (mut pause, mut logged) = (PAUSE_MIN, None);
    let every = if let Program::Exec { every, .. } = &program { *every } else { None };
    loop {
        let begun = Instant::now();
        let ended = run(&program.command(positions.cursor()), splitter.anew(), &sender).await;
        if sender.is_closed() {
            return;
        }
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => Some(format!("it cannot be run: {error}")),
        };
        if ended != logged {
            match &ended {
                Some(why) => {
                    tracing::warn!(program = name, why, "a program has failed; it is run again")
                }
                None if every.is_some() => {
                    tracing::info!(program = name, "the program works again")
                }
                None => tracing::info!(program = name, "a program has ended; it is run again"),
            }
            logged = ended;
        }
        if let Some(every) = every {
            sleep(every.saturating_sub(begun.elapsed())).await;
            continue;
        }
        pause = if begun.elapsed() > PAUSE_MAX { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        sleep(pause).await;
    }
}

/// Kills a process group when it is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs a program to its end; returns why it has failed, if it has.
async fn run(
    command: &[String],
    splitter: Splitter,
    sender: &mpsc::Sender<Lines>,
) -> io::Result<Option<String>> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let kept = ["PATH", "TZ", "LANG"].map(|name| (name, std::env::var_os(name)));
    let kept = kept.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(kept)
        .current_dir(Path::new("/"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let mut group = Group(pid);
    let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let begun = AtomicUsize::new(0);
    let mut read = std::pin::pin!(async {
        let (read, errors) = tokio::join!(stream(output, splitter, sender, &begun), last(errors));
        read.map(|()| errors)
    });
    let (status, errors) = tokio::select! {
        biased;
        status = child.wait() => {
            drop(std::mem::replace(&mut group, Group(None))); // what it has left behind
            (status?, timeout(DRAIN_MAX, read).await.unwrap_or_else(|_| Ok(String::new()))?)
        }
        read = &mut read => (child.wait().await?, read?),
    };
    drop(group);
    Ok((!status.success()).then(|| format!("{status} {}", errors.trim()).trim().to_owned()))
}

/// The end of what is written to an error output, as one line.
async fn last(mut from: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut piece) = (Vec::new(), [0; ERROR_MAX]);
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(&piece[..read]);
        kept.drain(..kept.len().saturating_sub(ERROR_MAX));
    }
    String::from_utf8_lossy(&kept).split_whitespace().collect::<Vec<_>>().join(" ")
}
