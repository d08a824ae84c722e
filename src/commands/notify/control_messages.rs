//! The control messages of the port, in the format of the host.

use std::time::SystemTime;

use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use crate::port::{self, ControlLines};
use crate::spool::SessionIds;
use crate::wire::outbound::{self, AgentEvent, Breaker, BreakerState, Severity};

/// Encodes the event that opens each session, keep-alives and the state of the circuit breaker.
///
/// The first line contains the time as text: the host learns this machine's clock from it, and stamps signed messages by
/// that clock. A host that does not know the event drops it.
#[derive(Debug, Clone)]
pub struct ControlMessages {
    /// Session ids, which increase over restarts.
    pub epochs: SessionIds,
    /// The boot id of the machine.
    pub boot_id: Option<String>,
    /// The wall clock.
    pub clock: fn() -> SystemTime,
}

impl ControlMessages {
    /// Uses the wall clock.
    pub fn new(epochs: SessionIds, boot_id: Option<String>) -> Self {
        Self { epochs, boot_id, clock: SystemTime::now }
    }

    fn line(&self, encode: impl FnOnce(SystemTime, &mut Vec<u8>)) -> Bytes {
        let mut line = Vec::new();
        encode((self.clock)(), &mut line);
        line.into()
    }
}

impl ControlLines for ControlMessages {
    fn session(&mut self, connects: u64) -> Bytes {
        let version = env!("CARGO_PKG_VERSION");
        let context = json!({
            "epoch": self.epochs.next_id(),
            "session": connects,
            "boot_id": self.boot_id,
            "version": version,
        });
        let event = AgentEvent {
            severity: Severity::Info,
            source: "infiniservice",
            message: format!("agent {version} speaks: session {connects} of this run"),
            execution_id: None,
            context: Some(context),
        };
        self.line(|at, line| outbound::agent_event(&event, at, line))
    }

    fn keep_alive(&mut self, number: u64) -> Bytes {
        self.line(|at, line| outbound::keep_alive(number, at, line))
    }

    fn breaker(&mut self, breaker: &port::Breaker) -> Bytes {
        let rest = breaker.rests_until;
        let encoded = Breaker {
            state: match breaker.state {
                port::BreakerState::Closed => BreakerState::Closed,
                port::BreakerState::Open => BreakerState::Open,
                port::BreakerState::HalfOpen => BreakerState::HalfOpen,
            },
            failure_count: breaker.failures,
            last_failure: breaker.last_failure,
            recovery_eta: rest.map(|at| at.saturating_duration_since(Instant::now())),
        };
        self.line(|at, line| outbound::circuit_breaker_state(&encoded, at, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> ControlMessages {
        let boot_id = Some("b7".to_owned());
        ControlMessages { epochs: SessionIds::default(), boot_id, clock: || SystemTime::UNIX_EPOCH }
    }

    fn read(line: &Bytes) -> serde_json::Value {
        assert!(line.is_ascii() && line.ends_with(b"\n"));
        serde_json::from_slice(line).unwrap()
    }

    #[test]
    fn a_session_begins_with_who_speaks_and_a_time_as_text() {
        let mut messages = messages();
        messages.session(1);
        let line = read(&messages.session(2));
        assert_eq!((&line["type"], &line["severity"]), (&json!("agent_event"), &json!("info")));
        let version = env!("CARGO_PKG_VERSION");
        let context = json!({"epoch": 2, "session": 2, "boot_id": "b7", "version": version});
        assert_eq!((&line["context"], line["timestamp"].is_string()), (&context, true));
    }

    #[test]
    fn a_barrier_is_a_keep_alive_and_never_longer_than_the_port_allows_for() {
        let line = messages().keep_alive(u64::MAX);
        assert!(line.len() <= 256, "{}", line.len());
        assert_eq!(read(&line)["sequence_number"], json!(u64::MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_breaker_tells_when_it_will_try_again() {
        let mut breaker = port::Breaker::default();
        while breaker.failed(Instant::now(), SystemTime::UNIX_EPOCH).is_none() {}
        let line = read(&messages().breaker(&breaker));
        assert_eq!((&line["state"], &line["failure_count"]), (&json!("Open"), &json!(5)));
        assert_eq!(line["recovery_eta_seconds"], json!(15));
    }
}
