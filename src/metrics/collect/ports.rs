//! Ports in use and their processes. Opens none.

use std::collections::HashMap;

use tokio::time::Instant;

use super::socket_owners::SocketOwners;
use super::sockets::{CLOSE, ESTABLISHED, LISTEN, Socket, Sockets, Transport};
use super::{Collector, CollectorContext, NoOptions, Registered, tell};
use crate::model::{Group, Port, SystemMetrics};

/// The most ports in a reading. The host takes no more of one reading; what is cut are
/// the highest ports of the least important kind.
const PORTS_MAX: usize = 1000;

/// Local ports in use, each once per protocol, state and owner: listening ones first, then those with
/// connections, then the rest, each by number.
///
/// A UDP socket without a peer has the state `unconnected` and counts as listening. Connections are
/// TCP sockets that are established and UDP sockets with a peer. Whose a socket is can be
/// seen only with the rights to look into that process; without them the owner is left out.
#[derive(Debug, Default)]
pub struct PortsCollector {
    sockets: Sockets,
    found: Vec<Socket>,
    owners: SocketOwners,
}

impl PortsCollector {
    /// A collector that has not read yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Registered for PortsCollector {
    const GROUP: Group = Group::Ports;
    type Options = NoOptions;

    fn build(_: &NoOptions, _: &CollectorContext<'_>) -> Self {
        Self::new()
    }
}

impl Collector for PortsCollector {
    fn group(&self) -> Group {
        Group::Ports
    }

    fn read(&mut self, _now: Instant, into: &mut SystemMetrics) {
        self.found.clear();
        let mut any = false;
        for (transport, name) in [(Transport::Tcp, "TCP"), (Transport::Udp, "UDP")] {
            match self.sockets.list(transport, &mut self.found) {
                Ok(()) => any = true,
                Err(error) => {
                    tell(into, Group::Ports, format!("cannot list the {name} sockets: {error}"));
                }
            }
        }
        if let Err(error) = self.owners.update(self.found.iter().map(|socket| socket.inode)) {
            tell(into, Group::Ports, format!("cannot look for the owners of sockets: {error}"));
        }
        if any {
            into.ports = Some(ports(&self.found, &self.owners).into());
        }
    }
}

/// The rows in their order: first what they are sorted by, then what else distinguishes them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    kind: Kind,
    port: u16,
    transport: Transport,
    state: u8,
    pid: Option<u32>,
    /// Any one socket of the row, by which the owner is found: not part of the identity.
    inode: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Listening,
    Connected,
    Other,
}

fn ports(sockets: &[Socket], owners: &SocketOwners) -> Vec<Port> {
    let mut connections: HashMap<(Transport, u16), u32> = HashMap::new();
    let mut rows = Vec::with_capacity(sockets.len());
    for socket in sockets {
        let kind = kind(socket);
        if kind == Kind::Connected {
            *connections.entry((socket.transport, socket.port)).or_default() += 1;
        }
        let &Socket { transport, state, port, inode } = socket;
        let pid = owners.of(inode).map(|(pid, _)| pid);
        rows.push(Row { kind, port, transport, state, pid, inode });
    }
    rows.sort_unstable();
    rows.dedup_by(|next, row| {
        (row.port, row.transport, row.state, row.pid)
            == (next.port, next.transport, next.state, next.pid)
    });
    rows.truncate(PORTS_MAX);
    let port = |row: Row| {
        let owner = owners.of(row.inode).map(|(_, owner)| owner);
        Port {
            port: row.port,
            protocol: match row.transport {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
            },
            state: match (row.transport, row.state) {
                (Transport::Udp, CLOSE) => "unconnected",
                (_, state) => Port::tcp_state(state),
            },
            pid: row.pid,
            process_name: owner.and_then(|owner| owner.name.clone()),
            executable: owner.and_then(|owner| owner.executable.clone()),
            is_listening: row.kind == Kind::Listening,
            connection_count: connections.get(&(row.transport, row.port)).copied().unwrap_or(0),
        }
    };
    rows.into_iter().map(port).collect()
}

fn kind(socket: &Socket) -> Kind {
    match (socket.transport, socket.state) {
        (Transport::Tcp, LISTEN) | (Transport::Udp, CLOSE) => Kind::Listening,
        (_, ESTABLISHED) => Kind::Connected,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(transport: Transport, state: u8, port: u16) -> Socket {
        Socket { transport, state, port, inode: 0 }
    }

    #[test]
    fn every_state_can_be_read_back() {
        for state in 0..=u8::MAX {
            for transport in [Transport::Tcp, Transport::Udp] {
                let shown = ports(&[socket(transport, state, 1)], &SocketOwners::default());
                assert!(shown.iter().all(|port| Port::STATES.contains(&port.state)), "{shown:?}");
                assert!(shown.iter().all(|port| Port::PROTOCOLS.contains(&port.protocol)));
            }
        }
    }

    #[test]
    fn a_port_is_told_once_per_protocol_and_state_with_its_connections_counted() {
        use Transport::{Tcp, Udp};
        let mut sockets =
            vec![socket(Tcp, 6, 80), socket(Tcp, LISTEN, 443), socket(Udp, CLOSE, 53)];
        sockets.extend([socket(Tcp, ESTABLISHED, 80); 3]);
        sockets.extend([socket(Tcp, LISTEN, 80); 2]); // both families
        sockets.push(socket(Udp, ESTABLISHED, 80));
        let ports = ports(&sockets, &SocketOwners::default());
        let shown: Vec<_> = ports
            .iter()
            .map(|p| (p.port, p.protocol, p.state, p.is_listening, p.connection_count))
            .collect();
        assert_eq!(
            shown,
            [
                (53, "udp", "unconnected", true, 0),
                (80, "tcp", "listen", true, 3),
                (443, "tcp", "listen", true, 0),
                (80, "tcp", "established", false, 3),
                (80, "udp", "established", false, 1),
                (80, "tcp", "time_wait", false, 3),
            ]
        );
    }

    #[test]
    fn a_flood_of_sockets_is_cut_at_its_end_and_listeners_stay() {
        let mut sockets: Vec<_> =
            (1..=u16::MAX).map(|port| socket(Transport::Tcp, 6, port)).collect();
        sockets.push(socket(Transport::Tcp, LISTEN, u16::MAX));
        sockets.push(socket(Transport::Tcp, 99, 7));
        let ports = ports(&sockets, &SocketOwners::default());
        assert_eq!(ports.len(), PORTS_MAX);
        assert_eq!((ports[0].port, ports[0].is_listening), (u16::MAX, true));
    }
}
