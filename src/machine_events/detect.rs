//! What has happened to the machine between two looks at its clocks. Pure: reads no clock, no file.

use std::time::Duration;

use super::identity::{completed, is_same_machine};

/// A clock that was set, or a sleep, of at least this much is reported. What is smaller adds up until it is
/// this much, so that many small steps are not overlooked.
///
/// # Why so small
/// Slewing (`adjtime`, NTP) bends the wall clock and the monotonic one alike, so between those two there
/// is no noise at all, only steps; what is left is the time that reading them one after the
/// other takes, and that is measured ([`Clocks::slack_ns`]) and added. `ntpd` steps from 128 ms on.
pub(crate) const STEP: Duration = Duration::from_millis(100);

/// The battery-backed clock counts whole seconds, so two looks at it are wrong by up to one each way.
pub(crate) const STOP: Duration = Duration::from_secs(3);

/// A look that was due so long ago was held up by more than a busy machine.
pub(crate) const STALL: Duration = Duration::from_secs(10);

/// One look at the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Clocks {
    /// `CLOCK_MONOTONIC` in nanoseconds: stands still while the machine is suspended.
    pub monotonic_ns: i64,
    /// `CLOCK_BOOTTIME` in nanoseconds: goes on while it is suspended.
    pub boottime_ns: i64,
    /// `CLOCK_REALTIME` in nanoseconds since 1970.
    pub realtime_ns: i64,
    /// How far apart the three may have been read.
    pub slack_ns: i64,
    /// `CLOCK_MONOTONIC` by which this look was to happen; 0 where nothing was due.
    pub due_ns: i64,
    /// The battery-backed clock in seconds since 1970, where there is one.
    pub rtc_seconds: Option<i64>,
    /// What the hypervisor says of which life of the machine this is; equal or not, nothing else.
    pub generation: Generation,
    /// The machine, as [`identity`](super::identity()) spells it.
    pub identity: String,
}

/// Which life of the machine this is, as far as it can be known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Generation {
    /// How many new generations the kernel has reported since the agent started.
    pub reported: u64,
    /// A digest of the generation's id, where it can be read.
    pub id: Option<String>,
}

/// What has happened since the look before. At least one of it is not nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MachineEvent {
    /// The machine was suspended for so long: to memory, to disk.
    pub suspended: Duration,
    /// The whole machine stood still for so long, its clocks too, and the world went on: stopped, migrated,
    /// or saved and restored by its host. In whole seconds.
    pub stopped: Duration,
    /// Nothing ran for so long, though the monotonic clock went on.
    pub stalled: Duration,
    /// The wall clock was set forward by so much.
    pub set_forward: Duration,
    /// The wall clock was set back by so much.
    pub set_back: Duration,
    /// It is a new life of the machine: a snapshot of it was restored, or it was copied while it ran.
    pub restored: bool,
    /// It is another machine than before.
    pub cloned: bool,
}

impl MachineEvent {
    /// For how long nothing was read or sent: the longest of what stood still.
    pub(crate) fn gap(&self) -> Duration {
        self.suspended.max(self.stopped).max(self.stalled)
    }

    /// Whether this machine did not go on from where it was: what was queued before belongs to another one.
    pub(crate) fn is_restored_or_cloned(&self) -> bool {
        self.restored || self.cloned
    }
}

/// Compares each look with the ones before.
///
/// | what | seen by |
/// |---|---|
/// | suspended | BOOTTIME grew more than MONOTONIC |
/// | clock set | REALTIME moved against BOOTTIME |
/// | stopped | the battery-backed clock grew more than BOOTTIME, and not because it was set right |
/// | stalled | MONOTONIC is long past the time of the look |
/// | restored | the kernel reported a new generation, or its id is another one |
/// | cloned | the machine's identity is another one |
///
/// # Limits
/// A battery-backed clock that is set right after the machine's time was (`hwclock --systohc`) looks like a
/// stop. It is not taken for one where it agrees with the wall clock better than before; on a machine
/// that keeps it in local time that cannot be told, and a stop may be told that was none.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    before: Option<Previous>,
}

#[derive(Debug)]
struct Previous {
    /// BOOTTIME less MONOTONIC, as last reported.
    slept_ns: i64,
    /// REALTIME less BOOTTIME, as last reported.
    booted_ns: i64,
    rtc: Option<Rtc>,
    generation: Generation,
    identity: String,
}

/// The battery-backed clock at one look.
#[derive(Debug, Clone, Copy)]
struct Rtc {
    /// Ahead of BOOTTIME.
    ahead: i64,
    /// Away from the wall clock.
    off: i64,
}

impl Detector {
    /// Takes a look; the first one is only remembered.
    pub(crate) fn observe(&mut self, clocks: Clocks) -> Option<MachineEvent> {
        let slept_ns = clocks.boottime_ns.saturating_sub(clocks.monotonic_ns);
        let booted_ns = clocks.realtime_ns.saturating_sub(clocks.boottime_ns);
        let rtc = clocks.rtc_seconds.map(|seconds| Rtc {
            ahead: seconds.saturating_sub(clocks.boottime_ns / SECOND),
            off: seconds.saturating_sub(clocks.realtime_ns / SECOND).saturating_abs(),
        });
        let Clocks { generation, identity, .. } = clocks;
        let Some(before) = &mut self.before else {
            self.before = Some(Previous { slept_ns, booted_ns, rtc, generation, identity });
            return None;
        };
        let step = (STEP.as_nanos() as i64).saturating_add(clocks.slack_ns.max(0));
        let mut event = MachineEvent::default();
        let slept = slept_ns.saturating_sub(before.slept_ns);
        if slept >= step {
            event.suspended = nanos(slept);
            before.slept_ns = slept_ns;
        }
        let stepped = booted_ns.saturating_sub(before.booted_ns);
        if stepped.saturating_abs() >= step {
            match stepped > 0 {
                true => event.set_forward = nanos(stepped),
                false => event.set_back = nanos(stepped),
            }
            before.booted_ns = booted_ns;
        }
        if let Some(rtc) = rtc {
            event.stopped = before.rtc.map_or(Duration::ZERO, |before| stopped(before, rtc));
            before.rtc = Some(rtc);
        }
        let late = clocks.monotonic_ns.saturating_sub(clocks.due_ns);
        if clocks.due_ns > 0 && late >= STALL.as_nanos() as i64 {
            event.stalled = nanos(late);
        }
        event.restored = before.generation.is_followed_by(&generation);
        before.generation.update(generation);
        event.cloned = !is_same_machine(&before.identity, &identity);
        before.identity = completed(&before.identity, &identity);
        (event != MachineEvent::default()).then_some(event)
    }
}

impl Generation {
    /// An id that could not be read this time says nothing.
    fn is_followed_by(&self, next: &Self) -> bool {
        let other = self.id.as_ref().zip(next.id.as_ref()).is_some_and(|(now, next)| now != next);
        next.reported > self.reported || other
    }

    fn update(&mut self, next: Self) {
        self.reported = next.reported;
        self.id = next.id.or(self.id.take());
    }
}

const SECOND: i64 = 1_000_000_000;

/// How long the battery-backed clock went on alone.
fn stopped(before: Rtc, now: Rtc) -> Duration {
    let grew = now.ahead.saturating_sub(before.ahead);
    let was_set_right = now.off < before.off.saturating_sub(1);
    match u64::try_from(grew) {
        Ok(grew) if grew >= STOP.as_secs() && !was_set_right => Duration::from_secs(grew),
        _ => Duration::ZERO,
    }
}

fn nanos(distance: i64) -> Duration {
    Duration::from_nanos(distance.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60 * SECOND;
    const BORN: i64 = 1_700_000_000 * SECOND;

    /// A machine that has been up for an hour, its battery-backed clock in UTC, and who looks at it.
    fn machine() -> (Clocks, Detector) {
        let hour = 60 * MINUTE;
        let clocks = Clocks {
            monotonic_ns: hour,
            boottime_ns: hour,
            realtime_ns: BORN + hour,
            rtc_seconds: Some((BORN + hour) / SECOND),
            identity: "1.a.b".to_owned(),
            ..Clocks::default()
        };
        let mut detector = Detector::default();
        assert_eq!(detector.observe(clocks.clone()), None, "the first look tells nothing");
        (clocks, detector)
    }

    impl Clocks {
        /// Time passes for the machine and for the world.
        fn runs(&mut self, time: i64) -> &mut Self {
            self.monotonic_ns += time;
            self.sleeps(time)
        }

        /// Time passes for the world, and for the clocks that go on while it sleeps.
        fn sleeps(&mut self, time: i64) -> &mut Self {
            self.boottime_ns += time;
            self.realtime_ns += time;
            self.stands_still(time)
        }

        /// Time passes for the world alone: the host has stopped the machine.
        fn stands_still(&mut self, time: i64) -> &mut Self {
            self.rtc_seconds = self.rtc_seconds.map(|seconds| seconds + time / SECOND);
            self
        }

        fn is_set(&mut self, by: i64) -> &mut Self {
            self.realtime_ns += by;
            self
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_quiet_machine_tells_nothing_however_its_clock_is_slewed() {
        let (mut clocks, mut detector) = machine();
        for look in 0..1_000 {
            // Slewing bends both clocks alike; reading them one after the other does not.
            clocks.runs(2 * MINUTE + 30_000).is_set(if look % 2 == 0 { 900_000 } else { -900_000 });
            clocks.due_ns = clocks.monotonic_ns - 4 * SECOND;
            assert_eq!(detector.observe(clocks.clone()), None, "look {look}");
        }
    }

    #[test]
    fn a_suspend_is_told_once_with_its_length_and_is_no_clock_step() {
        let (mut clocks, mut detector) = machine();
        clocks.runs(MINUTE).sleeps(90 * MINUTE).runs(SECOND);
        let event = detector.observe(clocks.clone()).unwrap();
        assert_eq!(event, MachineEvent { suspended: seconds(5_400), ..MachineEvent::default() });
        assert_eq!(event.gap(), seconds(5_400));
        assert_eq!(detector.observe(clocks.runs(MINUTE).clone()), None);
    }

    #[test]
    fn a_clock_that_is_set_is_told_either_way_and_is_no_gap() {
        let (mut clocks, mut detector) = machine();
        let forward = detector.observe(clocks.runs(MINUTE).is_set(3_600 * SECOND).clone()).unwrap();
        assert_eq!(
            forward,
            MachineEvent { set_forward: seconds(3_600), ..MachineEvent::default() }
        );
        let back = detector.observe(clocks.runs(MINUTE).is_set(-SECOND).clone()).unwrap();
        assert_eq!(back, MachineEvent { set_back: seconds(1), ..MachineEvent::default() });
        assert_eq!((forward.gap(), back.gap()), (Duration::ZERO, Duration::ZERO));
        assert_eq!(detector.observe(clocks.runs(MINUTE).clone()), None);
    }

    #[test]
    fn a_suspend_after_which_the_clock_is_set_is_both() {
        let (mut clocks, mut detector) = machine();
        clocks.runs(MINUTE).sleeps(MINUTE).is_set(-2 * SECOND);
        let event = detector.observe(clocks).unwrap();
        let both = MachineEvent {
            suspended: seconds(60),
            set_back: seconds(2),
            ..MachineEvent::default()
        };
        assert_eq!(event, both);
    }

    #[test]
    fn small_steps_add_up_until_they_are_worth_telling() {
        let (mut clocks, mut detector) = machine();
        let events: Vec<_> = (0..6)
            .filter_map(|_| detector.observe(clocks.runs(MINUTE).is_set(40_000_000).clone()))
            .collect();
        assert_eq!(events.len(), 2);
        assert!(
            events.iter().all(|event| event.set_forward == Duration::from_millis(120)),
            "{events:?}"
        );
    }

    #[test]
    fn a_look_that_was_interrupted_between_two_clocks_is_no_step() {
        let (mut clocks, mut detector) = machine();
        clocks.runs(MINUTE);
        let torn = Clocks {
            realtime_ns: clocks.realtime_ns + 400_000_000,
            slack_ns: 400_000_000,
            ..clocks.clone()
        };
        assert_eq!(detector.observe(torn), None);
        assert_eq!(detector.observe(clocks.runs(MINUTE).clone()), None);
    }

    #[test]
    fn a_stop_by_the_host_is_seen_by_the_one_clock_that_goes_on() {
        let (mut clocks, mut detector) = machine();
        let event =
            detector.observe(clocks.runs(MINUTE).stands_still(10 * MINUTE).clone()).unwrap();
        assert_eq!(event, MachineEvent { stopped: seconds(600), ..MachineEvent::default() });
        // The time is set right afterwards, and later the battery-backed clock agrees: no second stop.
        let set = detector.observe(clocks.runs(MINUTE).is_set(10 * MINUTE).clone()).unwrap();
        assert_eq!(set, MachineEvent { set_forward: seconds(600), ..MachineEvent::default() });
        // Both between two looks.
        clocks.runs(MINUTE).stands_still(MINUTE).is_set(MINUTE);
        let both = detector.observe(clocks.clone()).unwrap();
        assert_eq!((both.stopped, both.set_forward), (seconds(60), seconds(60)));
    }

    #[test]
    fn a_battery_backed_clock_that_is_set_right_or_counts_seconds_is_no_stop() {
        let (mut clocks, mut detector) = machine();
        // Two seconds is what rounding can make of nothing.
        assert_eq!(detector.observe(clocks.runs(MINUTE).stands_still(2 * SECOND).clone()), None);
        detector.observe(clocks.runs(MINUTE).is_set(3_600 * SECOND).clone()).unwrap();
        // hwclock --systohc
        clocks.runs(MINUTE);
        clocks.rtc_seconds = Some(clocks.realtime_ns / SECOND);
        assert_eq!(detector.observe(clocks.clone()), None);
        clocks.runs(MINUTE).rtc_seconds = None;
        assert_eq!(detector.observe(clocks.clone()), None, "it cannot be read for once");
    }

    #[test]
    fn a_look_long_overdue_tells_that_nothing_ran() {
        let (mut clocks, mut detector) = machine();
        clocks.due_ns = clocks.monotonic_ns + 2 * MINUTE;
        clocks.runs(5 * MINUTE);
        let event = detector.observe(clocks).unwrap();
        assert_eq!(event, MachineEvent { stalled: seconds(180), ..MachineEvent::default() });
    }

    #[test]
    fn a_restored_snapshot_is_of_the_same_machine() {
        let (mut clocks, mut detector) = machine();
        clocks.generation.reported = 1;
        let event = detector.observe(clocks.runs(MINUTE).clone()).unwrap();
        assert!(event.restored && event.is_restored_or_cloned() && !event.cloned);
        assert_eq!(detector.observe(clocks.runs(MINUTE).clone()), None);
        // The id: learnt late, lost for once, and then another one.
        for (id, other) in
            [(Some("a"), false), (None, false), (Some("a"), false), (Some("b"), true)]
        {
            clocks.generation.id = id.map(str::to_owned);
            let event = detector.observe(clocks.runs(MINUTE).clone());
            assert_eq!(event.is_some_and(|event| event.restored), other, "{id:?}");
        }
    }

    #[test]
    fn another_identity_is_a_clone_and_a_part_that_comes_or_goes_is_none() {
        let (mut clocks, mut detector) = machine();
        for (identity, cloned) in
            [("1.a.0", false), ("1.a.b", false), ("1.c.b", true), ("1.c.d", true)]
        {
            clocks.identity = identity.to_owned();
            let event = detector.observe(clocks.runs(MINUTE).clone());
            assert_eq!(event.is_some_and(|event| event.cloned), cloned, "{identity}");
        }
    }

    #[test]
    fn clocks_at_their_ends_are_looked_at_without_a_panic() {
        let mut detector = Detector::default();
        for (a, b) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (0, i64::MIN)] {
            let clocks = Clocks {
                monotonic_ns: a,
                boottime_ns: b,
                realtime_ns: a,
                slack_ns: i64::MAX,
                due_ns: b,
                rtc_seconds: Some(a),
                ..Clocks::default()
            };
            detector.observe(clocks);
        }
    }
}
