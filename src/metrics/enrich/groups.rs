//! One group of a reading by its name: clear it, copy it, compare it. Does not decide anything.

use std::sync::Arc;

use crate::model::{Group, SystemMetrics};

/// Takes `group` out of the reading.
pub(in crate::metrics) fn clear(reading: &mut SystemMetrics, group: Group) {
    match group {
        Group::Cpu => reading.cpu = None,
        Group::Memory => reading.memory = None,
        Group::Load => reading.load = None,
        Group::Disk => reading.disk = None,
        Group::Network => reading.network = None,
        Group::Processes => reading.processes = None,
        Group::Ports => reading.ports = None,
        Group::Host => reading.host = None,
        Group::Pressure => reading.pressure = None,
        Group::Agent => reading.agent = None,
    }
}

/// Puts the group as `from` has it, or has it not, into the other reading. Shares, does not copy.
pub(super) fn share(from: &SystemMetrics, into: &mut SystemMetrics, group: Group) {
    match group {
        Group::Cpu => into.cpu.clone_from(&from.cpu),
        Group::Memory => into.memory.clone_from(&from.memory),
        Group::Load => into.load.clone_from(&from.load),
        Group::Disk => into.disk.clone_from(&from.disk),
        Group::Network => into.network.clone_from(&from.network),
        Group::Processes => into.processes.clone_from(&from.processes),
        Group::Ports => into.ports.clone_from(&from.ports),
        Group::Host => into.host.clone_from(&from.host),
        Group::Pressure => into.pressure.clone_from(&from.pressure),
        Group::Agent => into.agent.clone_from(&from.agent),
    }
}

/// Whether both readings hold the same value of the group, or both hold none.
pub(super) fn same(one: &SystemMetrics, other: &SystemMetrics, group: Group) -> bool {
    match group {
        Group::Cpu => equal(&one.cpu, &other.cpu),
        Group::Memory => equal(&one.memory, &other.memory),
        Group::Load => equal(&one.load, &other.load),
        Group::Disk => equal(&one.disk, &other.disk),
        Group::Network => equal(&one.network, &other.network),
        Group::Processes => equal(&one.processes, &other.processes),
        Group::Ports => equal(&one.ports, &other.ports),
        Group::Host => equal(&one.host, &other.host),
        Group::Pressure => equal(&one.pressure, &other.pressure),
        Group::Agent => equal(&one.agent, &other.agent),
    }
}

fn equal<T: PartialEq>(one: &Option<Arc<T>>, other: &Option<Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Agent, Cpu, Disk, Host, Load, Memory, Network, Pressure};
    use std::time::{Duration, SystemTime};

    fn full() -> SystemMetrics {
        let now = tokio::time::Instant::now();
        let mut reading = SystemMetrics::empty(SystemTime::UNIX_EPOCH, now, Duration::ZERO, 0);
        reading.cpu = Some(Arc::new(Cpu::default()));
        reading.memory = Some(Arc::new(Memory::default()));
        reading.load = Some(Arc::new(Load::default()));
        reading.disk = Some(Arc::new(Disk::default()));
        reading.network = Some(Arc::new(Network::default()));
        reading.processes = Some(Arc::default());
        reading.ports = Some(Arc::default());
        reading.host = Some(Arc::new(Host {
            hostname: "a".into(),
            os: "b".into(),
            os_id: None,
            kernel: "c".into(),
            architecture: "d".into(),
            machine_id: None,
            boot_id: None,
            boot_time: None,
            cores: 1,
        }));
        reading.pressure = Some(Arc::new(Pressure::default()));
        reading.agent = Some(Arc::new(Agent::default()));
        reading
    }

    #[test]
    fn each_group_is_cleared_shared_and_compared_alone() {
        for group in Group::ALL {
            let mut reading = full();
            clear(&mut reading, group);
            for other in Group::ALL {
                assert_eq!(reading.has(other), other != group, "{group:?} {other:?}");
                assert_eq!(same(&reading, &full(), other), other != group, "{group:?} {other:?}");
            }
            share(&full(), &mut reading, group);
            assert!(Group::ALL.into_iter().all(|group| reading.has(group)));
        }
    }
}
