//! What a program tells the host, and what the host tells it of the guest.

use std::time::{Duration, Instant};

use super::clock::Clock;
use super::keep_alive::KeepAlive;
use crate::commands::secret::Secret;

/// How the host behaves.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Signs every line; without one nothing can be sent but unsigned.
    pub secret: Option<Secret>,
    /// How often the guest is sent a keep-alive; never if `None` or zero. The Infinibay host sends one every two
    /// minutes.
    pub keep_alive: Option<Duration>,
}

/// The state of the guest, as far as it has sent it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Status {
    /// Lines that came, blank ones not counted.
    pub lines: u64,
    /// When the last one came.
    pub last: Option<Instant>,
    /// The guest's clock.
    pub clock: Clock,
    /// Requests and echoes.
    pub keep_alive: KeepAlive,
}
