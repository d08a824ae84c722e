//! Makes whole readings out of cadences that each read a part. Does not wait, and does not
//! decide how often a line goes: the quickest cadence does.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{CollectError, Group, Interface, Network, SystemMetrics};
use crate::pipeline::{Output, Restore, Transform};

/// Troubles of slower cadences that ride on the next line; more are dropped.
const MAX_TROUBLES: usize = 32;

/// How often a needed group may fail before the first line goes without it.
const GIVE_UP_AFTER: u32 = 3;

/// Joins cadences from their last values, for a host that refuses a line that is not whole.
///
/// - A reading of a leading cadence (`every <= lead`) becomes one whole reading: its own time and
///   groups, and the last value of every group it did not read. Groups are shared, not copied.
/// - A reading of a slower cadence only renews the last values; it is booked as lost: `joined`.
/// - Until each needed group has been read once, leading readings are lost: `waiting`. A group that
///   failed three times (its troubles say so) is waited for no longer, or a machine with
///   one broken reader would stay silent for ever.
/// - `processes` and `ports` are given once each time they are read, never repeated.
/// - The addresses of an interface outlive a reading that came without any.
///
/// A last value has no age limit: a mount that hangs leaves the disk figures of the time before, and
/// a trouble beside them each time it is tried.
///
/// # Why processes and ports are not repeated
/// Today's host writes one database row for each item of these lists and keeps them all by time, so
/// a list of fifty repeated each second is fifty rows a second that say nothing new. The other
/// groups are columns of the one row that each line costs anyway, and may not be missing there.
///
/// # Why addresses are kept
/// The host overwrites the address it knows with nothing when a line has none. So when no interface
/// has an address, or the reading reports trouble with the network, each interface that lost
/// its addresses gets its last ones back. An interface that lost them while another
/// still has one did lose them.
///
/// ```
/// use infiniservice::metrics::enrich::Join;
/// # use infiniservice::model::{Cpu, Disk, Group, SystemMetrics};
/// # use infiniservice::pipeline::{Output, Transform};
/// # use std::{sync::Arc, time::{Duration, SystemTime}};
/// # let now = tokio::time::Instant::now();
/// # let reading = |seconds| SystemMetrics::empty(SystemTime::now(), now, Duration::from_secs(seconds), 0);
/// # let (mut quick, mut slow) = (reading(1), reading(30));
/// # quick.cpu = Some(Arc::new(Cpu::default()));
/// # slow.disk = Some(Arc::new(Disk::default()));
/// let mut join = Join::new(&[Group::Cpu, Group::Disk], Duration::from_secs(1));
/// let mut out = Output::default();
/// join.apply(now, &quick, &mut out); // only the processor is known
/// join.apply(now, &slow, &mut out);
/// assert_eq!(out.discarded(), [("waiting", 1), ("joined", 1)]);
/// join.apply(now, &quick, &mut out);
/// assert!(out.drain().next().unwrap().has(Group::Disk));
/// ```
#[derive(Debug)]
pub struct Join {
    needed: Vec<Group>,
    /// What the cadences read; everything where it is not said.
    read: Option<Vec<Group>>,
    lead: Duration,
    /// The last value of each group; lists only until they were given.
    last: Option<SystemMetrics>,
    /// The last network that had an address.
    addresses: Option<Arc<Network>>,
    /// Of slower cadences since the last line.
    troubles: Vec<CollectError>,
    /// How often each group failed before the first line.
    failures: Vec<(Group, u32)>,
    whole: bool,
}

impl Join {
    /// Cadences up to `lead` make the lines; the first waits for each of `needed`.
    pub fn new(needed: &[Group], lead: Duration) -> Self {
        Self {
            needed: needed.to_vec(),
            read: None,
            lead,
            last: None,
            addresses: None,
            troubles: Vec::new(),
            failures: needed.iter().map(|group| (*group, 0)).collect(),
            whole: false,
        }
    }

    /// The cadences read only these: when it takes over from one that joined more, the rest is forgotten.
    pub fn of(mut self, groups: Vec<Group>) -> Self {
        self.read = Some(groups);
        self
    }

    /// Takes over every group the reading has.
    fn renew(&mut self, reading: &SystemMetrics) {
        let last = self.last.get_or_insert_with(|| reading.clone());
        last.update(reading);
        if let Some(network) = &mut last.network
            && reading.network.is_some()
        {
            let troubled = reading.troubles.iter().any(|trouble| trouble.group == Group::Network);
            if let Some(known) = &self.addresses
                && (troubled || !network.has_address())
            {
                *network = Arc::new(with_addresses(network, known));
            }
            if network.has_address() {
                self.addresses = Some(network.clone());
            }
        }
    }

    /// Whether the first line may go.
    fn is_whole(&mut self, reading: &SystemMetrics) -> bool {
        if !self.whole {
            for (group, failures) in &mut self.failures {
                let failed = reading.troubles.iter().any(|trouble| trouble.group == *group);
                *failures += u32::from(failed);
            }
            let last = self.last.as_ref();
            let known = |group: &Group| last.is_some_and(|last| last.has(*group));
            let gave_up = |group: &Group| {
                let failed = |(one, times): &(Group, u32)| one == group && *times >= GIVE_UP_AFTER;
                self.failures.iter().any(failed)
            };
            self.whole = self.needed.iter().all(|group| known(group) || gave_up(group));
        }
        self.whole
    }
}

impl Transform for Join {
    type In = SystemMetrics;
    type Out = SystemMetrics;

    fn detail(&self) -> String {
        let needed: Vec<_> = self.needed.iter().map(|group| group.name()).collect();
        match needed.as_slice() {
            [] => "whole lines, of the last values".to_owned(),
            needed => format!("whole lines, once {} are known", needed.join(", ")),
        }
    }

    fn apply(&mut self, _now: Instant, input: &SystemMetrics, out: &mut Output<SystemMetrics>) {
        self.renew(input);
        let whole = self.is_whole(input);
        let leads = input.every <= self.lead;
        if !leads || !whole {
            let room = MAX_TROUBLES.saturating_sub(self.troubles.len());
            self.troubles.extend(input.troubles.iter().take(room).cloned());
            out.discard_items(if leads { "waiting" } else { "joined" }, 1);
            return;
        }
        let Some(last) = &mut self.last else { return };
        let mut troubles = std::mem::take(&mut self.troubles);
        troubles.extend_from_slice(&input.troubles);
        out.push(SystemMetrics {
            at: input.at,
            taken: input.taken,
            every: input.every,
            sequence: input.sequence,
            identity: input.identity.clone(),
            tags: input.tags.clone(),
            troubles,
            ..last.clone()
        });
        last.processes = None;
        last.ports = None;
    }
}

impl Restore for Join {
    fn restore(&mut self, before: Self) {
        self.last = before.last;
        if let (Some(last), Some(read)) = (&mut self.last, &self.read) {
            last.keep(read);
        }
        (self.addresses, self.troubles) = (before.addresses, before.troubles);
        if self.needed == before.needed {
            (self.whole, self.failures) = (before.whole, before.failures);
        }
    }
}

/// `network`, where each interface without addresses has those it had in `known`.
fn with_addresses(network: &Network, known: &Network) -> Network {
    let mut network = network.clone();
    for interface in network.interfaces.iter_mut().filter(|i| i.addresses.is_empty()) {
        let same = |other: &&Interface| other.name == interface.name;
        if let Some(known) = known.interfaces.iter().find(same) {
            interface.addresses.clone_from(&known.addresses);
        }
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cpu, Disk};
    use std::net::IpAddr;
    use std::time::SystemTime;

    const LEAD: u64 = 1;

    fn reading(every: u64, sequence: u64) -> SystemMetrics {
        let every = Duration::from_secs(every);
        SystemMetrics::empty(SystemTime::UNIX_EPOCH, Instant::now(), every, sequence)
    }

    fn quick(sequence: u64) -> SystemMetrics {
        SystemMetrics { cpu: Some(Arc::new(Cpu::default())), ..reading(LEAD, sequence) }
    }

    #[test]
    fn whoever_takes_over_gives_whole_lines_at_once_of_what_is_still_read() {
        let disk = || SystemMetrics { disk: Some(Arc::new(Disk::default())), ..reading(30, 0) };
        let load = SystemMetrics { load: Some(Arc::default()), ..disk() };
        let join = || Join::new(&[Group::Cpu, Group::Disk], Duration::from_secs(LEAD));
        let (mut before, mut out) = (join(), Output::default());
        before.apply(Instant::now(), &load, &mut out);
        before.apply(Instant::now(), &quick(0), &mut out);
        assert_eq!(out.drain().count(), 1);
        let mut next = join().of(vec![Group::Cpu, Group::Disk]);
        Restore::restore(&mut next, before);
        next.apply(Instant::now(), &quick(1), &mut out);
        let line = out.drain().next().unwrap();
        assert!(line.has(Group::Disk) && !line.has(Group::Load));
    }

    fn network(interfaces: &[(&str, &[&str])]) -> SystemMetrics {
        let interfaces = interfaces.iter().map(|(name, addresses)| Interface {
            name: (*name).into(),
            is_up: true,
            addresses: addresses.iter().map(|a| a.parse::<IpAddr>().unwrap()).collect(),
            ..Interface::default()
        });
        let network = Network { interfaces: interfaces.collect() };
        SystemMetrics { network: Some(Arc::new(network)), ..quick(0) }
    }

    fn trouble(group: Group) -> Vec<CollectError> {
        vec![CollectError { group, what: "it hangs".into() }]
    }

    fn join(needed: &[Group]) -> Join {
        Join::new(needed, Duration::from_secs(LEAD))
    }

    /// What one reading becomes, and what is booked as lost.
    fn apply(join: &mut Join, reading: &SystemMetrics) -> Result<SystemMetrics, &'static str> {
        let mut out = Output::default();
        join.apply(Instant::now(), reading, &mut out);
        let lost = out.discarded().first().map(|(why, _)| *why);
        let given = out.drain().next();
        given.ok_or_else(|| lost.unwrap())
    }

    fn addresses(join: &mut Join, reading: &SystemMetrics) -> Vec<usize> {
        let network = apply(join, reading).unwrap().network.unwrap();
        network.interfaces.iter().map(|interface| interface.addresses.len()).collect()
    }

    #[test]
    fn a_line_is_the_leaders_with_the_last_value_of_the_others() {
        let mut join = join(&[Group::Cpu, Group::Disk]);
        assert_eq!(apply(&mut join, &quick(0)).unwrap_err(), "waiting");
        let disk = Arc::new(Disk::default());
        let slow = SystemMetrics { disk: Some(disk.clone()), ..reading(30, 5) };
        assert_eq!(apply(&mut join, &slow).unwrap_err(), "joined");
        for sequence in 1..3 {
            let line = apply(&mut join, &quick(sequence)).unwrap();
            assert_eq!((line.sequence, line.every), (sequence, Duration::from_secs(LEAD)));
            assert!(Arc::ptr_eq(line.disk.as_ref().unwrap(), &disk));
        }
    }

    #[test]
    fn lists_ride_once_each_time_they_are_read() {
        let mut join = join(&[Group::Cpu]);
        let slow = SystemMetrics {
            processes: Some(Arc::default()),
            ports: Some(Arc::default()),
            ..reading(30, 0)
        };
        let lists = |line: SystemMetrics| (line.processes.is_some(), line.ports.is_some());
        assert_eq!(lists(apply(&mut join, &quick(0)).unwrap()), (false, false));
        apply(&mut join, &slow).unwrap_err();
        assert_eq!(lists(apply(&mut join, &quick(1)).unwrap()), (true, true));
        assert_eq!(lists(apply(&mut join, &quick(2)).unwrap()), (false, false));
        let leading = SystemMetrics { processes: Some(Arc::default()), ..quick(3) };
        assert_eq!(lists(apply(&mut join, &leading).unwrap()), (true, false));
        assert_eq!(lists(apply(&mut join, &quick(4)).unwrap()), (false, false));
    }

    #[test]
    fn a_group_that_keeps_failing_does_not_silence_the_machine() {
        let mut join = join(&[Group::Cpu, Group::Disk]);
        let ill = SystemMetrics { troubles: trouble(Group::Disk), ..reading(30, 0) };
        for _ in 0..2 {
            apply(&mut join, &ill).unwrap_err();
            assert_eq!(apply(&mut join, &quick(0)).unwrap_err(), "waiting");
        }
        for _ in 0..2 {
            apply(&mut join, &ill).unwrap_err();
        }
        let line = apply(&mut join, &quick(1)).unwrap();
        assert!(!line.has(Group::Disk));
        assert_eq!(line.troubles.len(), 4);
    }

    #[test]
    fn the_troubles_of_slower_cadences_are_told_once_and_are_bounded() {
        let mut join = join(&[Group::Cpu]);
        let ill = SystemMetrics { troubles: trouble(Group::Disk), ..reading(30, 0) };
        for _ in 0..100 {
            apply(&mut join, &ill).unwrap_err();
        }
        assert_eq!(apply(&mut join, &quick(0)).unwrap().troubles.len(), MAX_TROUBLES);
        assert_eq!(apply(&mut join, &quick(1)).unwrap().troubles.len(), 0);
    }

    #[test]
    fn addresses_outlive_a_reading_that_has_none() {
        let mut join = join(&[Group::Network]);
        let well: &[(&str, &[&str])] =
            &[("lo", &["127.0.0.1"]), ("eth0", &["10.0.0.5", "fe80::1"])];
        assert_eq!(addresses(&mut join, &network(well)), [1, 2]);
        // Loopback alone is no address; and it lasts for more than one reading.
        let ill: &[(&str, &[&str])] = &[("lo", &["127.0.0.1"]), ("eth0", &[])];
        assert_eq!(addresses(&mut join, &network(ill)), [1, 2]);
        assert_eq!(addresses(&mut join, &network(&[("eth0", &[])])), [2]);
        assert_eq!(addresses(&mut join, &network(&[("eth0", &["10.0.0.9"])])), [1]);
    }

    #[test]
    fn an_interface_that_lost_its_address_beside_a_good_one_did_lose_it() {
        let mut join = join(&[Group::Network]);
        addresses(&mut join, &network(&[("eth0", &["10.0.0.5"]), ("eth1", &["10.1.0.5"])]));
        let one = network(&[("eth0", &["10.0.0.5"]), ("eth1", &[])]);
        assert_eq!(addresses(&mut join, &one), [1, 0]);
        // Unless the reading says that something went wrong.
        addresses(&mut join, &network(&[("eth0", &["10.0.0.5"]), ("eth1", &["10.1.0.5"])]));
        let ill = SystemMetrics { troubles: trouble(Group::Network), ..one };
        assert_eq!(addresses(&mut join, &ill), [1, 1]);
    }
}
