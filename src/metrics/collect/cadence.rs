//! The source of readings: collectors that are read together, again and again.
//!
//! It knows when to read and what to do with a collector that hangs or panics. It does not know how
//! anything is read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime};

use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, Stream};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Collector;
use crate::metrics::latest::Latest;
use crate::model::{Group, SystemMetrics, Trouble};
use crate::pipeline::{Fault, Source, panic_text};

/// How long one reading may take; what is not back by then is left out of it.
pub const LIMIT: Duration = Duration::from_secs(5);

/// The longest wait before the first reading: rates need an interval behind them.
const FIRST: Duration = Duration::from_secs(1);

/// While no address is known: how often to look, and for how long.
const EAGER_EVERY: Duration = Duration::from_secs(5);
const EAGER_FOR: Duration = Duration::from_secs(120);

/// Reads its collectors side by side on the blocking pool, every so often.
///
/// A collector that hangs costs its group in this reading and in those that follow until it comes
/// back; one that panics costs its group once. Both are told as [`Trouble`]. Missed ticks merge.
/// At most one job per collector is ever out, so a hung one cannot pile up threads.
pub struct Cadence {
    every: Duration,
    limit: Duration,
    slots: Vec<Slot>,
    sequence: u64,
    primed: bool,
    eager: Option<(Latest, Option<Instant>)>,
}

/// A collector's place. It is empty while the collector is out on the blocking pool.
struct Slot {
    group: Group,
    home: Option<Box<dyn Collector>>,
    out: Option<JoinHandle<(Box<dyn Collector>, SystemMetrics)>>,
    /// It missed a deadline and has not come back since.
    late: bool,
}

impl Cadence {
    /// Reads `collectors` every `every`; the first reading comes after at most a second.
    pub fn new(every: Duration, collectors: Vec<Box<dyn Collector>>) -> Self {
        let slots = collectors
            .into_iter()
            .map(|home| Slot { group: home.group(), home: Some(home), out: None, late: false })
            .collect();
        Self { every, limit: LIMIT, slots, sequence: 0, primed: false, eager: None }
    }

    /// Waits for a reading at most `limit` instead of [`LIMIT`].
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
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
        let now = Instant::now();
        let mut reading = SystemMetrics::empty(SystemTime::now(), now, self.every, self.sequence);
        self.sequence += 1;
        for slot in &mut self.slots {
            slot.send_out(now, &reading);
        }
        let limit = self.limit;
        let mut back: FuturesUnordered<_> =
            self.slots.iter_mut().map(|slot| slot.wait(now, limit)).collect();
        let mut parts = Vec::with_capacity(back.len());
        while let Some(part) = back.next().await {
            parts.push(part);
        }
        drop(back);
        for part in parts {
            match part {
                Ok(part) => reading.absorb(part),
                Err(trouble) => reading.troubles.push(trouble),
            }
        }
        reading
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

impl Source for Cadence {
    type Out = SystemMetrics;

    fn name(&self) -> String {
        "collect".to_owned()
    }

    fn detail(&self) -> String {
        let groups: Vec<_> = self.slots.iter().map(|slot| slot.group.name()).collect();
        format!("every {}: {}", humantime::format_duration(self.every), groups.join(", "))
    }

    fn open(&mut self) -> impl Stream<Item = Result<SystemMetrics, Fault>> + Send + '_ {
        async_stream::stream! {
            if !self.primed {
                // Not a reading yet: what is told as a rate or a share begins here.
                self.read().await;
                self.sequence = 0;
                self.primed = true;
            }
            let mut next = Instant::now() + self.every.min(FIRST);
            loop {
                sleep_until(next).await;
                let reading = self.read().await;
                let taken = reading.taken;
                yield Ok(reading);
                let now = Instant::now();
                next = following(next, self.pace(now), taken, now);
            }
        }
    }
}

/// Readings of `collectors` every `every`, for as long as they are taken: the stream for whoever uses
/// this as a library. The pipelines consume the same one, as a [`Source`].
pub fn readings(
    every: Duration,
    collectors: Vec<Box<dyn Collector>>,
) -> impl Stream<Item = SystemMetrics> + Send {
    async_stream::stream! {
        let mut cadence = Cadence::new(every, collectors);
        let mut readings = std::pin::pin!(cadence.open());
        while let Some(Ok(reading)) = readings.next().await {
            yield reading;
        }
    }
}

impl Slot {
    /// Sends the collector to the blocking pool, if it is at home.
    fn send_out(&mut self, now: Instant, like: &SystemMetrics) {
        let group = self.group;
        if let Some(out) = &mut self.out
            && let Some(back) = out.now_or_never()
        {
            // It came back after its deadline: what it read is too old, it itself is welcome.
            self.home = back.ok().map(|(collector, _)| collector);
            self.out = None;
            self.late = false;
        }
        let Some(mut collector) = self.home.take() else { return };
        let mut part = SystemMetrics::empty(like.at, like.taken, like.every, like.sequence);
        self.out = Some(spawn_blocking(move || {
            let read = AssertUnwindSafe(|| collector.read(now, &mut part));
            if let Err(panic) = catch_unwind(read) {
                let what = format!("it panicked while reading: {}", panic_text(&*panic));
                part.troubles.push(Trouble { group, what });
            }
            (collector, part)
        }));
    }

    /// Waits for the collector, but not for one that has been late before.
    async fn wait(&mut self, sent: Instant, limit: Duration) -> Result<SystemMetrics, Trouble> {
        let group = self.group;
        let trouble = |what: String| Trouble { group, what };
        let Some(out) = &mut self.out else {
            return Err(trouble("its collector is lost; restart the agent".to_owned()));
        };
        if self.late {
            return Err(trouble("it has not come back yet".to_owned()));
        }
        let Ok(back) = timeout_at(sent + limit, out).await else {
            self.late = true;
            return Err(trouble(format!("it did not come back within {limit:?}")));
        };
        self.out = None;
        let (collector, part) = back.map_err(|error| trouble(error.to_string()))?;
        self.home = Some(collector);
        Ok(part)
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
        let mut cadence = Cadence::new(second, Vec::new());
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
        use crate::pipeline::{Emit, Transform};
        let interface = Interface { is_up: true, addresses, ..Interface::default() };
        let now = Instant::now();
        let mut reading = SystemMetrics::empty(SystemTime::now(), now, EAGER_EVERY, 0);
        reading.network = Some(std::sync::Arc::new(Network { interfaces: vec![interface] }));
        let mut out = Emit::default();
        Remember::new(latest.clone(), std::sync::Arc::default()).apply(now, &reading, &mut out);
    }

    #[test]
    fn while_no_address_is_known_it_reads_every_five_seconds_for_two_minutes_at_most() {
        let (half_minute, start) = (Duration::from_secs(30), Instant::now());
        let later = |seconds| start + Duration::from_secs(seconds);
        let latest = Latest::default();
        let cadence = || Cadence::new(half_minute, Vec::new()).eager_until_address(latest.clone());

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

        let mut quick = Cadence::new(FIRST, Vec::new()).eager_until_address(Latest::default());
        assert_eq!(quick.pace(later(0)), FIRST, "quicker than that stays as it is");
    }
}
