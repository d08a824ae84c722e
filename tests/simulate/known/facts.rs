//! What is known by itself: plain data. Judges nothing.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use tokio::time::Instant;

use super::Known;

/// What is known, by all who tell.
pub type Shared = Arc<Locked>;

/// A lock around it.
#[derive(Debug)]
pub struct Locked(pub(super) Mutex<Known>);

impl Locked {
    /// Tells or asks.
    pub fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of a command (`c7`) or script (`s7`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// Its number.
    pub number: u64,
    /// A script and not a command.
    pub is_script: bool,
}

impl Id {
    /// From its text; nothing where it is none of ours.
    pub fn of(text: &str) -> Option<Self> {
        let is_script = text.starts_with('s');
        let number = text.strip_prefix(['c', 's'])?.parse().ok()?;
        Some(Self { number, is_script })
    }
}

/// What became of a command or script.
#[derive(Debug, Default)]
pub struct Asked {
    /// How often a host asked for it, and when it did last.
    pub times: usize,
    pub at: Option<Instant>,
    /// How far the clock was set when it was asked for with a stamp that is too old.
    pub stale: Option<i64>,
    /// Bytes of its text, and of them those that are taken and not answered.
    pub bytes: usize,
    pub under_way: usize,
    /// The life in which it was taken last, and how often in it.
    pub taken: Option<u32>,
    pub taken_times: usize,
    /// The lives in which it was carried out.
    pub began: Vec<u32>,
    pub made: Vec<Answer>,
    pub unmarked: usize,
    pub marked: usize,
    pub may_be_lost: bool,
}

/// An answer that was made.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub order: u64,
    pub at: Instant,
    pub life: u32,
    pub said: usize,
}

/// How a life of the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// In order, with all handed over.
    Drained,
    /// `kill -9`, or the drain took too long.
    Killed,
    /// The power was cut.
    PowerCut,
}

/// One connection of a host, as it looks from outside.
#[derive(Debug)]
pub struct Connection {
    pub accepted: u64,
    pub consumed: u64,
    pub consumed_at: Instant,
    /// Beginnings of the agent since.
    pub begun: u64,
    /// Lines that the host has sent since then.
    pub said: u64,
    /// Where bare newlines are.
    pub bare: VecDeque<u64>,
    /// When a barrier was answered for the first time since the last beginning.
    pub answers: Option<Instant>,
    /// The barriers that the host got since.
    pub barriers: Vec<u64>,
    pub is_swapped: bool,
    pub was_stopped: bool,
    pub lines: u64,
    /// The last answer that came since the last beginning.
    pub last_made: u64,
}

impl Connection {
    pub fn new(is_swapped: bool) -> Self {
        Self {
            accepted: 0,
            consumed: 0,
            consumed_at: Instant::now(),
            begun: 0,
            said: 0,
            bare: VecDeque::new(),
            answers: None,
            barriers: Vec::new(),
            is_swapped,
            was_stopped: false,
            lines: 0,
            last_made: 0,
        }
    }
}

/// What a line is to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// To be answered with its number.
    KeepAlive(u64),
    /// To be answered with a list.
    RequestPendingScripts,
    /// Nothing to answer.
    Other,
}

#[derive(Deserialize)]
pub struct Parsed<'a> {
    #[serde(rename = "type", borrow)]
    pub kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub execution_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub message: Option<Cow<'a, str>>,
    pub sequence_number: Option<u64>,
    pub sequence: Option<u64>,
    #[serde(default)]
    pub redelivered: bool,
}
