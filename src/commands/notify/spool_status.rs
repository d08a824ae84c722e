//! The state and content of the spools: for `infiniservice spool` on this machine and, when the state changes, as events for
//! the hosts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use crate::commands::notify::drop_report::TELL_EVERY;
use crate::spool::{SpoolStatus, State, Waiting};
use crate::sync::IgnorePoison;
use crate::wire::outbound::{AgentEvent, Severity};

/// The spools of the open ports. Clones share the list.
#[derive(Debug, Clone, Default)]
pub struct SpoolReport(Arc<Mutex<Vec<(String, SpoolStatus)>>>);

/// The content of the spool of one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolContents {
    /// The port.
    pub port: String,
    /// The state of its spool.
    pub state: SpoolCondition,
    /// Why it is not ok, if an operator should know.
    pub why: Option<String>,
    /// Unacknowledged items.
    pub items: u64,
    /// Those of them that are in memory only.
    pub in_memory: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// A spool's [`State`], without its reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpoolCondition {
    /// Items are on disk.
    #[default]
    Ok,
    /// It is full, and evicts items.
    Full,
    /// Writes to the disk fail.
    Failing,
    /// No file is usable; items are in memory.
    Memory,
}

/// The states as of the last events.
#[derive(Debug, Default)]
pub(crate) struct SpoolEvents(HashMap<String, (SpoolCondition, Instant)>);

impl SpoolReport {
    /// Replaces the list.
    pub fn set(&self, spools: Vec<(String, SpoolStatus)>) {
        *self.0.lock().ignore_poison() = spools;
    }

    /// The content of each spool now.
    pub fn contents(&self) -> Vec<SpoolContents> {
        let spools = self.0.lock().ignore_poison();
        spools
            .iter()
            .map(|(port, backlog)| SpoolContents::of(port.clone(), backlog.now()))
            .collect()
    }
}

impl SpoolContents {
    fn of(port: String, waiting: Waiting) -> Self {
        let Waiting { items, bytes, in_memory, state, why, .. } = waiting;
        let state = match state {
            State::Ok => SpoolCondition::Ok,
            State::Full => SpoolCondition::Full,
            State::Failing(_) => SpoolCondition::Failing,
            // No file is configured, so none is missing.
            State::Memory if why.is_none() => SpoolCondition::Ok,
            State::Memory => SpoolCondition::Memory,
        };
        Self { port, state, why, items, in_memory, bytes }
    }

    /// Why durable messages are in memory only, as the end of a sentence; `None` if they are on disk.
    pub fn trouble(&self) -> Option<String> {
        let why = self.why.as_deref().unwrap_or("for a reason that is not known");
        match self.state {
            SpoolCondition::Ok | SpoolCondition::Full => None,
            SpoolCondition::Failing => Some(format!("the spool cannot be written: {why}")),
            SpoolCondition::Memory => Some(why.to_owned()),
        }
    }

    fn event(&self, before: SpoolCondition) -> AgentEvent {
        let message = match (self.trouble(), self.state, before) {
            (Some(why), ..) => {
                format!("durable messages are kept in memory only, and lost with the agent: {why}")
            }
            (None, SpoolCondition::Full, _) => {
                "the spool is full: durable messages are evicted, the least important first"
                    .to_owned()
            }
            (None, _, SpoolCondition::Full) => "the spool has room again".to_owned(),
            (None, ..) => "durable messages are kept on disk again".to_owned(),
        };
        let is_well = self.state == SpoolCondition::Ok;
        AgentEvent {
            severity: if is_well { Severity::Info } else { Severity::Warn },
            source: "spool",
            message,
            execution_id: None,
            context: Some(json!(self)),
        }
    }
}

impl SpoolEvents {
    /// The events about changed states; `hosts` counts the connects so far. None if no host has connected yet, and at most
    /// one per spool and minute, about the latest state.
    pub(crate) fn events(
        &mut self,
        now: Instant,
        hosts: u64,
        spools: &[SpoolContents],
    ) -> Vec<AgentEvent> {
        self.0.retain(|port, _| spools.iter().any(|held| held.port == *port));
        if hosts == 0 {
            return Vec::new();
        }
        let mut news = Vec::new();
        for held in spools {
            let reported = self.0.get(&held.port).copied();
            let before = reported.map(|(state, _)| state).unwrap_or_default();
            let is_early = reported.is_some_and(|(_, at)| now.duration_since(at) < TELL_EVERY);
            if held.state != before && !is_early {
                news.push(held.event(before));
                self.0.insert(held.port.clone(), (held.state, now));
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(state: SpoolCondition, why: Option<&str>) -> [SpoolContents; 1] {
        let (port, why) = ("port".to_owned(), why.map(str::to_owned));
        [SpoolContents { port, state, why, items: 3, in_memory: 2, bytes: 500 }]
    }

    fn said(events: &[AgentEvent]) -> Vec<&str> {
        events.iter().map(|event| event.message.as_str()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_hears_once_that_nothing_is_on_disk_and_once_that_it_is_again() {
        let (mut news, now) = (SpoolEvents::default(), Instant::now());
        let failing = held(SpoolCondition::Failing, Some("no space left on device"));
        assert_eq!(news.events(now, 0, &failing), [], "nobody is there");
        let reported = news.events(now, 1, &failing);
        let expected = "durable messages are kept in memory only, and lost with the agent: the spool cannot be \
                        written: no space left on device";
        assert_eq!(said(&reported), [expected]);
        let context = reported[0].context.clone().unwrap();
        assert_eq!((&context["state"], &context["in_memory"]), (&json!("failing"), &json!(2)));

        let ok = held(SpoolCondition::Ok, None);
        assert_eq!(news.events(now + TELL_EVERY / 3, 1, &ok), [], "a minute is not over");
        assert_eq!(news.events(now + TELL_EVERY / 2, 1, &failing), [], "nor anything new");
        assert_eq!(news.events(now + TELL_EVERY, 1, &failing), [], "the latest is as it was told");
        let reported = news.events(now + TELL_EVERY, 1, &ok);
        assert_eq!(said(&reported), ["durable messages are kept on disk again"]);
        assert_eq!(reported[0].severity, Severity::Info);
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_should_have_no_file_misses_none() {
        let waiting = Waiting { state: State::Memory, in_memory: 4, ..Waiting::default() };
        let held = [SpoolContents::of("port".to_owned(), waiting.clone())];
        assert_eq!(SpoolEvents::default().events(Instant::now(), 1, &held), []);
        let why = Some("cannot use /s/spool: it is a symbolic link (remove it)".to_owned());
        let held = [SpoolContents::of("port".to_owned(), Waiting { why, ..waiting })];
        let reported = SpoolEvents::default().events(Instant::now(), 1, &held);
        assert!(
            reported[0].message.ends_with(
                "with the agent: cannot use /s/spool: it is a symbolic link (remove it)"
            )
        );
    }
}
