//! What was lost since it was told last, as an event for the host. Counts nothing itself, and sends nothing.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::model::StageCounts;
use crate::pipeline::INTENTIONAL;
use crate::wire::outbound::{AgentEvent, Severity};

/// How often the books are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often, at most, the same host is told.
pub const TELL_EVERY: Duration = Duration::from_secs(60);
/// Kinds of loss in one event; what is behind them is in its sum.
const KINDS_MAX: usize = 32;

/// What a host that leaves may take with it, and has no more use for: that it left is no fault of anybody's.
const HARMLESS: [&str; 3] = ["host_left", "session", "unread"];

/// What a locked agent does with all that it is asked, for as long as it is locked: it says so at its start.
const LOCKED: &str = "locked";

/// What the host was told of the books so far.
#[derive(Debug, Default)]
pub struct DropReport {
    told: HashMap<(String, &'static str), u64>,
    last: Option<(Instant, u64)>,
}

impl DropReport {
    /// What is new in the books, by node and reason; `hosts` counts the hosts that have come. Silent where
    /// nothing is new, where nobody has come yet, and where the same host was told less than a minute ago.
    ///
    /// What is left out because somebody asked for that is no loss ([`INTENTIONAL`]).
    pub fn news(&mut self, now: Instant, hosts: u64, books: &[StageCounts]) -> Option<AgentEvent> {
        let is_early = self
            .last
            .is_some_and(|(told, host)| host == hosts && now.duration_since(told) < TELL_EVERY);
        if hosts == 0 || is_early {
            return None;
        }
        let mut new = Vec::new();
        for node in books {
            let is_loss = |lost: &&(&str, u64)| !INTENTIONAL.contains(&lost.0) && lost.0 != LOCKED;
            for (reason, count) in node.dropped.iter().filter(is_loss) {
                let told = self.told.entry((node.node.clone(), reason)).or_default();
                // Books that began anew begin at 0.
                let more = count.checked_sub(*told).unwrap_or(*count);
                *told = *count;
                if more > 0 {
                    new.push((more, node.node.as_str(), *reason));
                }
            }
        }
        if new.is_empty() {
            return None;
        }
        self.last = Some((now, hosts));
        new.sort_unstable_by(|a, b| b.cmp(a));
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
        vec![StageCounts { node, dropped: lost.to_vec(), ..StageCounts::default() }]
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_host_took_with_it_is_told_and_is_no_warning() {
        let (mut losses, now) = (DropReport::default(), Instant::now());
        let event = losses.news(now, 2, &books(&[("unread", 4), ("session", 1)])).unwrap();
        assert_eq!(
            (event.severity, event.context.unwrap()["sum"].clone()),
            (Severity::Info, json!(5))
        );
        let more = books(&[("unread", 5), ("session", 1), ("overwritten", 1)]);
        let event = losses.news(now + TELL_EVERY, 2, &more).unwrap();
        assert_eq!(event.severity, Severity::Warn);
    }

    #[tokio::test(start_paused = true)]
    async fn each_loss_is_told_once_to_a_host_that_is_there() {
        let (mut losses, now) = (DropReport::default(), Instant::now());
        let gap = books(&[("overwritten", 118), ("unchanged", 1_000)]);
        assert_eq!(losses.news(now, 0, &gap), None, "nobody is there");
        let event = losses.news(now, 1, &gap).unwrap();
        assert_eq!(event.severity, Severity::Warn);
        assert_eq!(event.message, "118 lost, most of them (118) at metrics/port: overwritten");
        let lost = json!([{"node": "metrics/port", "reason": "overwritten", "count": 118}]);
        assert_eq!(event.context.unwrap()["lost"], lost);
        assert_eq!(losses.news(now + TELL_EVERY, 1, &gap), None, "nothing new");

        let more = books(&[("overwritten", 120), ("shed", 7)]);
        assert_eq!(losses.news(now + TELL_EVERY / 2, 1, &more), None, "a minute is not over");
        let event = losses.news(now + TELL_EVERY / 2, 2, &more).unwrap();
        assert_eq!(event.message, "9 lost, most of them (7) at metrics/port: shed");
    }
}
