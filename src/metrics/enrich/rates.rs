//! Turns network counters into traffic per second. Does not change the counters.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{Enricher, MAX_CADENCES, Options, EnricherContext};
use crate::metrics::counter::{Difference, bound};
use crate::model::{AnyGroup, Group, Interface, InterfaceRates, Kind, Network, OwnGroups, SystemMetrics};
use crate::pipeline::{Output, Restore, Transform};
use crate::values::{Manual, key};
use crate::values::words::NONE;

pub(super) const MANUAL: Manual = Manual {
    key: key("rates", "empty table", NONE, "{}", "adds traffic per second to interfaces"),
    options: None,
};

/// Options of `rates`: there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatesOptions {}

impl Options for RatesOptions {
    fn build(&self, context: &EnricherContext<'_>) -> Enricher {
        context.stateful("rates", Rates::default())
    }

    fn needs(&self) -> Vec<Group> {
        vec![Group::Network]
    }
}

/// No rate above this is believed, in bytes or packets per second: one terabit per second, more than any
/// virtual interface moves. An interface that was replaced by one of the same name between two
/// readings can look like such a jump.
const MAX_PER_SECOND: u64 = 125_000_000_000;

/// Fills [`Interface::rates`], and of groups that a reading has no field for the rates of their counters, from the counters of two consecutive readings of the same cadence,
/// over the monotonic time between them.
///
/// There is no rate, rather than a wrong one, for an interface that is seen for the first time or
/// again after it was away, when any of its counters is lower than before (it was reset, or a
/// 32-bit counter went round), when no time has passed, and above one terabit per second.
///
/// Keeps the last groups with counters of each cadence, by reference. A reading without any passes.
///
/// # Why monotonic time
/// It cannot be set, and it does not count a suspend, in which no counter counts either: a reading that
/// straddles one has the rate of the time in which the machine ran. Over a stop by the host both go
/// on or both stand still, or the time goes on alone and the rate is that of the whole gap, too low and
/// never too high.
///
/// # Why per cadence
/// Two cadences that both read the network would sometimes do so a millisecond apart, and one
/// packet in a millisecond reads as a thousand per second.
///
/// ```
/// use infiniservice::metrics::enrich::Rates;
/// use infiniservice::model::{Interface, Network, SystemMetrics};
/// use infiniservice::pipeline::{Output, Transform};
/// use std::{sync::Arc, time::{Duration, SystemTime}};
/// # let now = tokio::time::Instant::now();
/// let reading = |seconds, received_bytes| {
///     let eth0 = Interface { name: "eth0".into(), received_bytes, ..Interface::default() };
///     let taken = now + Duration::from_secs(seconds);
///     let mut reading = SystemMetrics::empty(SystemTime::now(), taken, Duration::from_secs(1), 0);
///     reading.network = Some(Arc::new(Network { interfaces: vec![eth0] }));
///     reading
/// };
/// let (mut rates, mut out) = (Rates::default(), Output::default());
/// rates.apply(now, &reading(0, 1_000), &mut out);
/// rates.apply(now, &reading(2, 5_000), &mut out);
/// let given: Vec<_> = out.drain().map(|r| r.network.unwrap().interfaces[0].rates.clone()).collect();
/// assert_eq!(given[0], None);
/// assert_eq!(given[1].as_ref().unwrap().received_bytes_per_sec, 2_000.0);
/// ```
#[derive(Debug, Default)]
pub struct Rates {
    network: Last<Arc<Network>>,
    own: Last<OwnGroups>,
}

/// What each cadence read last.
#[derive(Debug)]
struct Last<T> {
    before: Vec<Before<T>>,
    /// What was read last before this took over, for a cadence that is new since then.
    taken_over: Option<Before<T>>,
}

/// What one cadence read last.
#[derive(Debug, Clone)]
struct Before<T> {
    every: Duration,
    taken: Instant,
    value: T,
}

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self { before: Vec::new(), taken_over: None }
    }
}

impl<T: Clone> Last<T> {
    /// What this cadence read last, which `value` of `reading` replaces, and how long ago.
    fn replace(&mut self, reading: &SystemMetrics, value: &T) -> Option<(T, Duration)> {
        let at = self.before.iter().position(|before| before.every == reading.every);
        let last = at.map(|at| self.before.remove(at)).or_else(|| self.taken_over.take());
        if self.before.len() == MAX_CADENCES {
            self.before.remove(0);
        }
        let (every, taken) = (reading.every, reading.taken);
        self.before.push(Before { every, taken, value: value.clone() });
        last.map(|last| (last.value, taken.saturating_duration_since(last.taken)))
    }

    fn restore(&mut self, before: Self) {
        self.taken_over = before.before.iter().max_by_key(|before| before.taken).cloned();
        self.before = before.before;
    }
}

impl Transform for Rates {
    type In = SystemMetrics;
    type Out = SystemMetrics;

    fn apply(&mut self, _now: Instant, input: &SystemMetrics, out: &mut Output<SystemMetrics>) {
        let mut reading = input.clone();
        if let Some(network) = &input.network
            && let Some((before, interval)) = self.network.replace(input, network)
        {
            reading.network = Some(Arc::new(with_rates(network, &before, interval)));
        }
        if !input.own.is_empty()
            && let Some((before, interval)) = self.own.replace(input, &input.own)
        {
            for own in input.own.iter() {
                let Some(before) = before.find(own.group()) else { continue };
                reading.own.replace(own.with_rates(own_rates(before, own, interval)));
            }
        }
        out.push(reading);
    }
}

impl Restore for Rates {
    /// A cadence of another period goes on from what was read last, so that its first reading has rates too.
    fn restore(&mut self, before: Self) {
        self.network.restore(before.network);
        self.own.restore(before.own);
    }
}

fn with_rates(network: &Network, before: &Network, interval: Duration) -> Network {
    let mut network = network.clone();
    for (at, interface) in network.interfaces.iter_mut().enumerate() {
        let same_name = |other: &&Interface| other.name == interface.name;
        // Nearly always at the same place as before.
        let earlier = before.interfaces.get(at).filter(same_name);
        let earlier = earlier.or_else(|| before.interfaces.iter().find(same_name));
        interface.rates = earlier.and_then(|earlier| rates(earlier, interface, interval));
    }
    network
}

/// What the counters of a group moved a second; those that are no number, went back or had no time have no rate.
fn own_rates(before: &AnyGroup, after: &AnyGroup, interval: Duration) -> Vec<(&'static str, f64)> {
    let counters = after.fields().iter().filter(|field| field.kind == Kind::Counter);
    let counters: Vec<_> = counters.map(|field| field.name).collect();
    if counters.is_empty() || interval.is_zero() {
        return Vec::new();
    }
    let (before, after) = (before.value(), after.value());
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_f64);
    let rate = |name| {
        let moved = number(&after, name)? - number(&before, name)?;
        (moved >= 0.0).then(|| (name, moved / interval.as_secs_f64()))
    };
    counters.into_iter().filter_map(rate).collect()
}

/// Traffic per second between two readings of one interface; `None` when it would be a guess.
fn rates(before: &Interface, after: &Interface, interval: Duration) -> Option<InterfaceRates> {
    if interval.is_zero() {
        return None;
    }
    let most = bound(MAX_PER_SECOND, interval, Duration::ZERO);
    let per_second = |before: u64, after: u64| {
        let moved = Difference::between(Some(before), after, most).moved()?;
        Some(moved as f64 / interval.as_secs_f64())
    };
    Some(InterfaceRates {
        received_bytes_per_sec: per_second(before.received_bytes, after.received_bytes)?,
        sent_bytes_per_sec: per_second(before.sent_bytes, after.sent_bytes)?,
        received_packets_per_sec: per_second(before.received_packets, after.received_packets)?,
        sent_packets_per_sec: per_second(before.sent_packets, after.sent_packets)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    /// A stream of readings `every` 1 s unless said, each interface `(name, bytes, packets)`.
    struct Stream(Rates, Instant);

    impl Stream {
        fn new() -> Self {
            Self(Rates::default(), Instant::now())
        }

        fn read(&mut self, every: u64, at_ms: u64, seen: &[(&str, u64, u64)]) -> Vec<Option<f64>> {
            let interfaces = seen.iter().map(|&(name, bytes, packets)| Interface {
                name: name.into(),
                received_bytes: bytes,
                sent_packets: packets,
                ..Interface::default()
            });
            let taken = self.1 + Duration::from_millis(at_ms);
            let every = Duration::from_secs(every);
            let mut reading = SystemMetrics::empty(SystemTime::UNIX_EPOCH, taken, every, 0);
            reading.network = Some(Arc::new(Network { interfaces: interfaces.collect() }));
            let mut out = Output::default();
            self.0.apply(taken, &reading, &mut out);
            let network = out.drain().next().unwrap().network.unwrap();
            let rates = |i: &Interface| i.rates.as_ref().map(|r| r.received_bytes_per_sec);
            network.interfaces.iter().map(rates).collect()
        }
    }

    #[test]
    fn an_interface_that_moved_in_the_list_is_still_itself() {
        let mut stream = Stream::new();
        stream.read(1, 0, &[("a", 0, 0), ("b", 100, 0)]);
        let rates = stream.read(1, 500, &[("b", 200, 0), ("a", 50, 0)]);
        assert_eq!(rates, [Some(200.0), Some(100.0)]);
    }

    #[test]
    fn a_counter_that_went_back_gives_no_rate_once() {
        let mut stream = Stream::new();
        stream.read(1, 0, &[("a", 4_294_967_000, 10)]);
        assert_eq!(stream.read(1, 1_000, &[("a", 200, 11)]), [None]);
        assert_eq!(stream.read(1, 2_000, &[("a", 300, 11)]), [Some(100.0)]);
        // One counter going back is enough: all of them started anew.
        assert_eq!(stream.read(1, 3_000, &[("a", 900, 2)]), [None]);
    }

    #[test]
    fn an_interface_that_was_away_begins_anew() {
        let mut stream = Stream::new();
        stream.read(1, 0, &[("a", 10, 0), ("b", 10, 0)]);
        assert_eq!(stream.read(1, 1_000, &[("b", 20, 0)]), [Some(10.0)]);
        assert_eq!(stream.read(1, 2_000, &[("a", 99, 0), ("b", 30, 0)]), [None, Some(10.0)]);
    }

    #[test]
    fn no_time_or_time_going_back_gives_no_rate() {
        let mut stream = Stream::new();
        stream.read(1, 1_000, &[("a", 10, 0)]);
        assert_eq!(stream.read(1, 1_000, &[("a", 20, 0)]), [None]);
        assert_eq!(stream.read(1, 500, &[("a", 30, 0)]), [None]);
    }

    #[test]
    fn neither_a_clock_that_was_set_nor_a_gap_of_a_day_makes_a_rate_wrong() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let mut read = |wall: u64, seconds: u64, bytes: u64| {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(wall);
            let taken = start + Duration::from_secs(seconds);
            let mut reading = SystemMetrics::empty(at, taken, Duration::from_secs(1), 0);
            let interface =
                Interface { name: "a".into(), received_bytes: bytes, ..Interface::default() };
            reading.network = Some(Arc::new(Network { interfaces: vec![interface] }));
            let mut out = Output::default();
            rates.apply(taken, &reading, &mut out);
            let network = out.drain().next().unwrap().network.unwrap();
            network.interfaces[0].rates.as_ref().map(|rates| rates.received_bytes_per_sec)
        };
        assert_eq!(read(2_000_000_000, 0, 0), None);
        assert_eq!(read(1_000_000_000, 1, 500), Some(500.0), "set back by thirty years");
        assert_eq!(read(1_000_003_600, 2, 1_000), Some(500.0), "set forward, or a suspend");
        assert_eq!(read(1_000_090_000, 86_402, 1_000 + 864_000), Some(10.0), "a day's gap");
    }

    #[test]
    fn a_jump_that_no_interface_can_make_is_not_believed() {
        let mut stream = Stream::new();
        stream.read(1, 0, &[("a", 0, 0)]);
        assert_eq!(stream.read(1, 1_000, &[("a", u64::MAX / 2, 0)]), [None]);
        assert_eq!(stream.read(1, 2_000, &[("a", u64::MAX / 2, u64::MAX)]), [None], "packets");
    }

    #[test]
    fn cadences_do_not_disturb_each_other() {
        let mut stream = Stream::new();
        stream.read(1, 0, &[("a", 0, 0)]);
        assert_eq!(stream.read(30, 1, &[("a", 1_000, 0)]), [None]);
        assert_eq!(stream.read(1, 1_000, &[("a", 2_000, 0)]), [Some(2_000.0)]);
        assert_eq!(stream.read(30, 30_001, &[("a", 31_000, 0)]), [Some(1_000.0)]);
    }

    #[test]
    fn a_reading_without_network_passes_and_changes_nothing() {
        let mut stream = Stream::new();
        stream.read(1, 0, &[("a", 0, 0)]);
        let taken = stream.1;
        let reading =
            SystemMetrics::empty(SystemTime::UNIX_EPOCH, taken, Duration::from_secs(1), 7);
        let mut out = Output::default();
        stream.0.apply(taken, &reading, &mut out);
        assert_eq!(out.drain().map(|r| r.sequence).collect::<Vec<_>>(), [7]);
        assert_eq!(stream.read(1, 1_000, &[("a", 5, 0)]), [Some(5.0)]);
    }

    #[test]
    fn whoever_takes_over_has_rates_at_once_also_at_another_pace() {
        let mut stream = Stream::new();
        stream.read(1, 0, &[("a", 0, 0)]);
        let mut next = Rates::default();
        next.restore(std::mem::take(&mut stream.0));
        stream.0 = next;
        assert_eq!(stream.read(2, 2_000, &[("a", 500, 0)]), [Some(250.0)]);
        assert_eq!(stream.read(5, 2_001, &[("a", 500, 0)]), [None], "it is taken over once");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut stream = Stream::new();
        for every in 1..100 {
            stream.read(every, 0, &[("a", 0, 0)]);
        }
        assert_eq!(stream.0.network.before.len(), MAX_CADENCES);
    }
}
