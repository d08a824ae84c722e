//! What is wrong: its class, what was seen, and what to do next; as text and as data.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

use crate::cli::wrapped;

/// A class of what is wrong.
pub(in crate::cli) trait Class: Copy + Serialize {
    /// For people.
    fn title(self) -> &'static str;
    /// Of the program.
    fn exit_code(self) -> u8;
}

/// The classes, those that others follow from first. The number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub(in crate::cli) enum Cause {
    /// A file does not parse, or is not taken.
    Files = 10,
    /// The state folder is not the agent's alone, or cannot be written.
    StateFolder = 11,
    /// The kernel has no driver for virtio-serial ports.
    DriverMissing = 12,
    /// The machine has no port of the name.
    NoDevice = 13,
    /// A security module of the kernel has refused something to the agent.
    SecurityModule = 14,
    /// Another process has the port open.
    PortBusy = 15,
    /// The unit is not started, or does not stay up.
    NotRunning = 16,
    /// The agent has crashed.
    Crashed = 17,
    /// It runs and does not answer.
    NoAnswer = 18,
    /// No program at the host has the port open.
    HostAbsent = 19,
    /// The host has it open and does not read.
    HostNotReading = 20,
    /// The host reads and does not acknowledge.
    WindowExhausted = 21,
    /// There is no secret, or it cannot be read, or it is another than the host's.
    Secret = 22,
    /// The clocks of host and machine are apart.
    ClockSkew = 23,
    /// The policy has denied what the host asked for.
    PolicyDenies = 24,
}

impl Class for Cause {
    fn exit_code(self) -> u8 {
        self as u8
    }

    fn title(self) -> &'static str {
        match self {
            Self::Files => "files are wrong",
            Self::StateFolder => "state folder",
            Self::DriverMissing => "driver missing",
            Self::NoDevice => "no such port",
            Self::SecurityModule => "security module",
            Self::PortBusy => "port is busy",
            Self::NotRunning => "not running",
            Self::Crashed => "has crashed",
            Self::NoAnswer => "no answer",
            Self::HostAbsent => "host is absent",
            Self::HostNotReading => "host does not read",
            Self::WindowExhausted => "window is full",
            Self::Secret => "secret",
            Self::ClockSkew => "clocks are apart",
            Self::PolicyDenies => "policy denies",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Verdict<C = Cause> {
    pub cause: C,
    /// What was seen: a sentence without its stop.
    pub seen: String,
    /// What to do next: the same.
    pub next: String,
}

impl<C> Verdict<C> {
    pub(in crate::cli) fn new(cause: C, seen: impl Into<String>, next: impl Into<String>) -> Self {
        Self { cause, seen: seen.into(), next: next.into() }
    }
}

/// For a person; `nothing` is the sentence where nothing is wrong.
pub(in crate::cli) fn as_text<C: Class>(verdicts: &[Verdict<C>], nothing: &str) -> String {
    let mut text = String::new();
    if verdicts.is_empty() {
        wrapped(&mut text, 0, &format!("nothing is wrong: {nothing}"));
    }
    for Verdict { cause, seen, next } in verdicts {
        let blank = if text.is_empty() { "" } else { "\n" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{blank}{} (exit code {})", cause.title(), cause.exit_code());
        wrapped(&mut text, 2, seen);
        wrapped(&mut text, 2, &format!("next: {next}"));
    }
    text
}

/// One JSON object on a line.
pub(in crate::cli) fn as_json<C: Class>(verdicts: &[Verdict<C>]) -> String {
    let verdict = |verdict: &Verdict<C>| {
        json!({
            "cause": verdict.cause,
            "exit_code": verdict.cause.exit_code(),
            "seen": verdict.seen,
            "next": verdict.next,
        })
    };
    let all: Vec<_> = verdicts.iter().map(verdict).collect();
    format!("{}\n", json!({ "ok": verdicts.is_empty(), "verdicts": all }))
}
