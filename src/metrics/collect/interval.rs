//! The source of readings: collectors that are read together, again and again.
//!
//! It knows when to read and what to do with a collector that hangs or panics. It does not know how
//! anything is read.

use std::time::{Duration, SystemTime};

use futures::Stream;
use futures::stream::StreamExt;
use tokio::time::{Instant, sleep_until};

use super::Collector;
use super::job::{CollectJob, read_round};
use crate::metrics::latest::Latest;
use crate::model::SystemMetrics;
use crate::pipeline::{Source, StageError, StateStore};

/// How long one reading may take; what is not back by then is left out of it.
pub const LIMIT: Duration = Duration::from_secs(5);

/// The longest wait before the first reading: rates need an interval behind them.
const FIRST: Duration = Duration::from_secs(1);

/// While no address is known: how often to look, and for how long.
const EAGER_EVERY: Duration = Duration::from_secs(5);
const EAGER_FOR: Duration = Duration::from_secs(120);

/// The least time behind a reading, where one of its collectors has only just begun: more than a tick of
/// the kernel's clock, which is 10 ms at the most.
const INTERVAL_MIN: Duration = Duration::from_millis(20);

/// Reads its collectors one after the other in one job of the blocking pool, every so often.
///
/// A collector that hangs costs its group in this reading and in those that follow until it comes
/// back; one that panics costs its group once. Both are reported as [`CollectError`](crate::model::CollectError). Missed ticks merge.
/// Behind one that takes longer than 100 ms another job goes on with the rest. A collector that is out is not sent out
/// again, so a hung one cannot pile up threads.
pub struct IntervalSource {
    every: Duration,
    limit: Duration,
    slots: Vec<CollectJob>,
    /// The number of the next reading.
    sequence: u64,
    /// When the last reading was taken.
    last: Option<Instant>,
    eager: Option<(Latest, Option<Instant>)>,
    store: Option<StateStore>,
    begun: bool,
    /// How many readings are still to come; `None`: no end.
    left: Option<u32>,
}

/// What is left of a collector's cadence, for the one that reads the same group next.
struct PreviousCadence {
    slot: CollectJob,
    sequence: u64,
    last: Option<Instant>,
    /// Since when it was eager, where it was so to the end.
    eager_since: Option<Instant>,
}

/// The name of the highest number that a pipeline has given a reading.
const NUMBER: &str = "collect";

impl IntervalSource {
    /// Reads `collectors` every `every`; the first reading comes after at most a second.
    pub fn new(every: Duration, collectors: Vec<Box<dyn Collector>>) -> Self {
        let slots = collectors.into_iter().map(CollectJob::new).collect();
        let (sequence, last, eager, store, begun) = Default::default();
        Self { every, limit: LIMIT, slots, sequence, last, eager, store, begun, left: None }
    }

    /// Goes on where the cadences before it ended, and leaves the same behind. `asked` has for each
    /// collector how it was asked for.
    ///
    /// - A collector that was asked for as now goes on with all it knows, also when it is out reading.
    /// - The next reading comes one period of this cadence after the last one of the same groups.
    /// - Its readings are numbered on from those of the same groups; where it reads what was not read before, from
    ///   the highest number of the pipeline. So no number comes twice.
    pub fn kept_on(mut self, store: &StateStore, asked: Vec<String>) -> Self {
        for (slot, asked) in self.slots.iter_mut().zip(asked) {
            slot.asked = asked;
        }
        self.store = Some(store.clone());
        self
    }

    /// Waits for a reading at most `limit` instead of [`LIMIT`].
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Ends after `readings`.
    pub fn ending_after(mut self, readings: u32) -> Self {
        self.left = Some(readings);
        self
    }

    /// Reads every five seconds, for at most two minutes, until `latest` knows an address: today's
    /// host wants to learn it soon after a boot.
    pub fn eager_until_address(mut self, latest: Latest) -> Self {
        self.eager = Some((latest, None));
        self
    }

    /// Takes one reading now.
    pub async fn read(&mut self) -> SystemMetrics {
        let reading = self.read_those(|_| true).await;
        self.sequence += 1;
        self.last = Some(reading.taken);
        reading
    }

    /// Reads what `which` says. Dropping it loses nothing but what was read.
    async fn read_those(&mut self, which: impl Fn(&CollectJob) -> bool) -> SystemMetrics {
        let now = Instant::now();
        let mut reading = SystemMetrics::empty(SystemTime::now(), now, self.every, self.sequence);
        let mut slots: Vec<_> = self.slots.iter_mut().filter(|slot| which(slot)).collect();
        for part in read_round(&mut slots, &reading, self.limit).await {
            match part {
                Ok(part) => reading.absorb(part),
                Err(trouble) => reading.troubles.push(trouble),
            }
        }
        reading
    }

    /// Goes on where others ended, and says when the first reading is due.
    async fn begin(&mut self) -> Instant {
        if !std::mem::replace(&mut self.begun, true) {
            self.resume();
        }
        let has_begun = self.slots.iter().any(|slot| !slot.primed);
        if has_begun {
            // Not a reading yet: rates and shares begin here.
            self.read_those(|slot| !slot.primed).await;
        }
        let now = Instant::now();
        let earliest = if has_begun { now + INTERVAL_MIN.min(self.every) } else { now };
        match self.last {
            None => now + self.every.min(FIRST),
            Some(last) => (last + self.pace(now)).max(earliest),
        }
    }

    fn resume(&mut self) {
        let Some(store) = &self.store else { return };
        let mut sequence = None;
        for slot in &mut self.slots {
            let Some(previous) = store.take::<PreviousCadence>(&past_of(slot)) else { continue };
            sequence = sequence.max(Some(previous.sequence));
            self.last = self.last.max(previous.last);
            let since = previous.eager_since;
            self.eager = self.eager.take().and_then(|(latest, _)| Some((latest, Some(since?))));
            if previous.slot.asked == slot.asked {
                *slot = previous.slot;
            }
        }
        let highest = store.take(NUMBER).unwrap_or(0);
        store.put(NUMBER, highest); // for the other cadences of the pipeline
        self.sequence = sequence.unwrap_or(highest);
    }

    /// How long until the next reading.
    fn pace(&mut self, now: Instant) -> Duration {
        let Some((latest, since)) = &mut self.eager else { return self.every };
        let until = *since.get_or_insert(now) + EAGER_FOR;
        if now >= until || latest.knows_address() {
            self.eager = None;
            return self.every;
        }
        self.every.min(EAGER_EVERY)
    }
}

impl Source for IntervalSource {
    type Out = SystemMetrics;

    fn name(&self) -> String {
        "collect".to_owned()
    }

    fn detail(&self) -> String {
        let groups: Vec<_> = self.slots.iter().map(|slot| slot.group.name()).collect();
        format!("every {}: {}", humantime::format_duration(self.every), groups.join(", "))
    }

    fn open(&mut self) -> impl Stream<Item = Result<SystemMetrics, StageError>> + Send + '_ {
        async_stream::stream! {
            let mut next = self.begin().await;
            while self.left != Some(0) {
                sleep_until(next).await;
                self.left = self.left.map(|left| left - 1);
                let reading = self.read().await;
                let taken = reading.taken;
                yield Ok(reading);
                let now = Instant::now();
                next = following(next, self.pace(now), taken, now);
            }
        }
    }
}

impl Drop for IntervalSource {
    /// One that never began leaves what is there for the next.
    fn drop(&mut self) {
        let (Some(store), true) = (&self.store, self.begun) else { return };
        let eager_since = self.eager.as_ref().and_then(|(_, since)| *since);
        let (sequence, last) = (self.sequence, self.last);
        for slot in self.slots.drain(..) {
            store.put(past_of(&slot), PreviousCadence { slot, sequence, last, eager_since });
        }
        let others = store.take(NUMBER).unwrap_or(0);
        store.put(NUMBER, sequence.max(others));
    }
}

fn past_of(slot: &CollectJob) -> String {
    format!("{NUMBER}/{}", slot.group.name())
}

/// Readings of `collectors` every `every`, for as long as they are taken: the stream for a user of
/// this as a library. The pipelines consume the same one, as a [`Source`].
pub fn readings(
    every: Duration,
    collectors: Vec<Box<dyn Collector>>,
) -> impl Stream<Item = SystemMetrics> + Send {
    async_stream::stream! {
        let mut cadence = IntervalSource::new(every, collectors);
        let mut readings = std::pin::pin!(cadence.open());
        while let Some(Ok(reading)) = readings.next().await {
            yield reading;
        }
    }
}

/// The tick after `last`: one `pace` on, or the next one that is still to come when some were missed.
///
/// One that is nearer than half a pace to the reading `taken` last is missed too. A machine that stood
/// still while its clock went on would else be read twice within any short time, and what happens
/// between two readings a millisecond apart makes a rate of anything.
fn following(last: Instant, pace: Duration, taken: Instant, now: Instant) -> Instant {
    let missed = now.saturating_duration_since(last).as_nanos() / pace.as_nanos().max(1);
    let next = last + pace * u32::try_from(missed + 1).unwrap_or(u32::MAX);
    if next < taken + pace / 2 { next + pace } else { next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_ticks_merge_and_the_phase_is_kept() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let next = |taken, now| following(start, second, start + taken, start + now) - start;
        assert_eq!(next(Duration::ZERO, second / 2), second);
        // A slow reading that was taken in time.
        assert_eq!(next(Duration::ZERO, second * 7 / 2), second * 4);
        // A late one: the tick that is still to come is too near, or it is not.
        assert_eq!(next(second * 39 / 10, second * 39 / 10), second * 5);
        assert_eq!(next(second * 7 / 2, second * 7 / 2), second * 4);
    }

    /// What a host's stop looks like where the clock goes on: an hour is over at once.
    #[tokio::test(start_paused = true)]
    async fn after_an_hour_in_which_nothing_ran_one_reading_comes_and_the_pace_is_as_before() {
        let second = Duration::from_secs(1);
        let mut cadence = IntervalSource::new(second, Vec::new());
        let start = Instant::now();
        let mut readings = std::pin::pin!(cadence.open());
        let mut taken = Vec::new();
        for reading in 0..6 {
            let stop = async {
                if reading == 2 {
                    tokio::time::advance(Duration::from_millis(3_600_900)).await;
                }
            };
            let (reading, ()) = tokio::join!(readings.next(), stop);
            taken.push((reading.unwrap().unwrap().taken - start).as_millis() as u64);
        }
        // Neither 3,600 at once nor two a tenth of a second apart.
        assert_eq!(taken, [1_000, 2_000, 3_602_900, 3_604_000, 3_605_000, 3_606_000]);
    }

    /// What a flow does with a reading that has one interface with `addresses`.
    fn remember(latest: &Latest, addresses: Vec<std::net::IpAddr>) {
        use crate::metrics::latest::Remember;
        use crate::model::{Interface, Network};
        use crate::pipeline::{Output, Transform};
        let interface = Interface { is_up: true, addresses, ..Interface::default() };
        let now = Instant::now();
        let mut reading = SystemMetrics::empty(SystemTime::now(), now, EAGER_EVERY, 0);
        reading.network = Some(std::sync::Arc::new(Network { interfaces: vec![interface] }));
        let mut out = Output::default();
        Remember::new(latest.clone(), std::sync::Arc::default()).apply(now, &reading, &mut out);
    }

    #[test]
    fn while_no_address_is_known_it_reads_every_five_seconds_for_two_minutes_at_most() {
        let (half_minute, start) = (Duration::from_secs(30), Instant::now());
        let later = |seconds| start + Duration::from_secs(seconds);
        let latest = Latest::default();
        let cadence =
            || IntervalSource::new(half_minute, Vec::new()).eager_until_address(latest.clone());

        let mut never = cadence();
        for seconds in [0, 60, 119] {
            assert_eq!(never.pace(later(seconds)), EAGER_EVERY, "after {seconds} s");
        }
        assert_eq!(never.pace(later(120)), half_minute);

        let mut soon = cadence();
        assert_eq!(soon.pace(later(0)), EAGER_EVERY);
        remember(&latest, vec!["127.0.0.1".parse().unwrap()]);
        assert_eq!(soon.pace(later(5)), EAGER_EVERY, "loopback tells the host nothing");
        remember(&latest, vec!["10.0.0.5".parse().unwrap()]);
        assert_eq!(soon.pace(later(10)), half_minute);
        remember(&latest, Vec::new());
        assert_eq!(soon.pace(later(15)), half_minute, "it was known once");

        let mut quick =
            IntervalSource::new(FIRST, Vec::new()).eager_until_address(Latest::default());
        assert_eq!(quick.pace(later(0)), FIRST, "quicker than that stays as it is");
    }
}
