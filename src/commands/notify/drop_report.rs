//! An event for the host about what was dropped since the last such event.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::pipeline::StageCounts;
use crate::sort;
use crate::wire::outbound::{AgentEvent, Severity};

/// How often the counters are read.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The shortest interval between two events to the same host.
pub(crate) const TELL_EVERY: Duration = Duration::from_secs(60);
/// Node and reason pairs in one event; its sum includes the rest.
const KINDS_MAX: usize = 32;

/// Reasons of drops that a disconnect explains, which are no fault.
const HARMLESS: [&str; 3] = ["host_left", "session", "unread"];

/// The reason of drops in a locked agent. It drops every message, and logs that at its start.
const LOCKED: &str = "locked";

/// The counters as of the last event.
#[derive(Debug, Default)]
pub struct DropReport {
    reported: HashMap<(String, &'static str), u64>,
    last: Option<(Instant, u64)>,
}

impl DropReport {
    /// The event about new drops, by node and reason; `hosts` counts the connects so far. `None` if there are none, if no
    /// host has connected yet, or if the same host got an event less than a minute ago.
    pub fn event(
        &mut self,
        now: Instant,
        hosts: u64,
        counters: &[StageCounts],
    ) -> Option<AgentEvent> {
        let is_early = self.last.is_some_and(|(reported, host)| {
            host == hosts && now.duration_since(reported) < TELL_EVERY
        });
        if hosts == 0 || is_early {
            return None;
        }
        let mut new = Vec::new();
        for node in counters {
            let is_loss = |lost: &&(&str, u64)| lost.0 != LOCKED;
            for (reason, count) in node.dropped.iter().filter(is_loss) {
                let reported = self.reported.entry((node.node.clone(), reason)).or_default();
                // A restarted counter begins at 0.
                let more = count.checked_sub(*reported).unwrap_or(*count);
                *reported = *count;
                if more > 0 {
                    new.push((more, node.node.as_str(), *reason));
                }
            }
        }
        if new.is_empty() {
            return None;
        }
        self.last = Some((now, hosts));
        sort::by(&mut new, |a, b| b.cmp(a));
        let sum: u64 = new.iter().map(|(count, ..)| count).sum();
        let (most, node, reason) = new[0];
        let lost = |(count, node, reason): &(u64, &str, &str)| json!({"node": node, "reason": reason, "count": count});
        let lost: Vec<_> = new.iter().take(KINDS_MAX).map(lost).collect();
        let is_harmless = new.iter().all(|(_, _, reason)| HARMLESS.contains(reason));
        Some(AgentEvent {
            severity: if is_harmless { Severity::Info } else { Severity::Warn },
            source: "infiniservice",
            message: format!("{sum} lost, most of them ({most}) at {node}: {reason}"),
            execution_id: None,
            context: Some(json!({ "lost": lost, "sum": sum })),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(lost: &[(&'static str, u64)]) -> Vec<StageCounts> {
        let node = "metrics/port".to_owned();
        let discarded = vec![("unchanged", 1_000)];
        vec![StageCounts { node, dropped: lost.to_vec(), discarded, ..StageCounts::default() }]
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_host_took_with_it_is_told_and_is_no_warning() {
        let (mut losses, now) = (DropReport::default(), Instant::now());
        let event = losses.event(now, 2, &books(&[("unread", 4), ("session", 1)])).unwrap();
        assert_eq!(
            (event.severity, event.context.unwrap()["sum"].clone()),
            (Severity::Info, json!(5))
        );
        let more = books(&[("unread", 5), ("session", 1), ("overwritten", 1)]);
        let event = losses.event(now + TELL_EVERY, 2, &more).unwrap();
        assert_eq!(event.severity, Severity::Warn);
    }

    #[tokio::test(start_paused = true)]
    async fn each_loss_is_told_once_to_a_host_that_is_there() {
        let (mut losses, now) = (DropReport::default(), Instant::now());
        let gap = books(&[("overwritten", 118)]);
        assert_eq!(losses.event(now, 0, &gap), None, "nobody is there");
        let event = losses.event(now, 1, &gap).unwrap();
        assert_eq!(event.severity, Severity::Warn);
        assert_eq!(event.message, "118 lost, most of them (118) at metrics/port: overwritten");
        let lost = json!([{"node": "metrics/port", "reason": "overwritten", "count": 118}]);
        assert_eq!(event.context.unwrap()["lost"], lost);
        assert_eq!(losses.event(now + TELL_EVERY, 1, &gap), None, "nothing new");

        let more = books(&[("overwritten", 120), ("shed", 7)]);
        assert_eq!(losses.event(now + TELL_EVERY / 2, 1, &more), None, "a minute is not over");
        let event = losses.event(now + TELL_EVERY / 2, 2, &more).unwrap();
        assert_eq!(event.message, "9 lost, most of them (7) at metrics/port: shed");
    }
}
