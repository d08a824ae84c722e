//! What is wrong: its class, what was seen, and what to do next.

use serde::Serialize;

/// The classes, those that others follow from first. The number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub(super) enum Cause {
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

impl Cause {
    /// For people.
    pub(super) fn title(self) -> &'static str {
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
pub(super) struct Verdict {
    pub cause: Cause,
    /// What was seen: a sentence without its stop.
    pub seen: String,
    /// What to do next: the same.
    pub next: String,
}

impl Verdict {
    pub(super) fn new(cause: Cause, seen: impl Into<String>, next: impl Into<String>) -> Self {
        Self { cause, seen: seen.into(), next: next.into() }
    }
}
