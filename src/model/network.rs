//! Network interfaces and ports. Not the virtio port.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use super::keyword::{Keyword, one_of};

/// Network interfaces, real ones first, bridges and container links last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Each interface.
    pub interfaces: Vec<Interface>,
}

impl Network {
    /// Whether any interface that is up has an address other than loopback.
    pub fn has_address(&self) -> bool {
        self.interfaces
            .iter()
            .filter(|interface| interface.is_up)
            .any(|interface| interface.addresses.iter().any(|address| !address.is_loopback()))
    }
}

/// One interface. Counters are totals since boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Interface {
    /// Name, such as `eth0`.
    pub name: String,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Errors while receiving.
    pub receive_errors: u64,
    /// Errors while sending.
    pub send_errors: u64,
    /// Addresses without prefix length.
    pub addresses: Vec<IpAddr>,
    /// Whether it is up (administratively, and running).
    pub is_up: bool,
    /// Per second since the reading before: added by the `rates` enricher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<InterfaceRates>,
}

/// Traffic per second since the reading before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InterfaceRates {
    /// Bytes received per second.
    pub received_bytes_per_sec: f64,
    /// Bytes sent per second.
    pub sent_bytes_per_sec: f64,
    /// Packets received per second.
    pub received_packets_per_sec: f64,
    /// Packets sent per second.
    pub sent_packets_per_sec: f64,
}

/// One local port in use, over all its sockets with the same protocol, state and owner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Port {
    /// Local port number.
    pub port: u16,
    /// `tcp` or `udp`.
    #[serde(deserialize_with = "protocol")]
    pub protocol: Keyword,
    /// Kernel state name in lower case, such as `listen` or `established`.
    #[serde(deserialize_with = "state")]
    pub state: Keyword,
    /// Owner, where it could be found.
    pub pid: Option<u32>,
    /// Name of the owner.
    pub process_name: Option<String>,
    /// Executable of the owner.
    pub executable: Option<String>,
    /// Whether it waits for peers: a TCP listener, or an unconnected UDP socket.
    pub is_listening: bool,
    /// Connected sockets on this local port.
    pub connection_count: u32,
}

impl Port {
    /// The protocols.
    pub const PROTOCOLS: &[Keyword] = &["tcp", "udp"];
    /// The states: that of a UDP socket without a peer, and those of TCP by their number in the kernel
    /// (`include/net/tcp_states.h`), which UDP uses too.
    pub const STATES: &[Keyword] = &[
        "unconnected",
        "unknown",
        "established",
        "syn_sent",
        "syn_recv",
        "fin_wait1",
        "fin_wait2",
        "time_wait",
        "close",
        "close_wait",
        "last_ack",
        "listen",
        "closing",
    ];

    /// The state with this number in the kernel.
    pub(crate) fn tcp_state(number: u8) -> Keyword {
        match number {
            12 => "syn_recv", // a request that has not become a socket yet
            number => Self::STATES[1..].get(usize::from(number)).copied().unwrap_or("unknown"),
        }
    }
}

fn protocol<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Keyword, D::Error> {
    one_of(deserializer, Port::PROTOCOLS)
}

fn state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Keyword, D::Error> {
    one_of(deserializer, Port::STATES)
}
