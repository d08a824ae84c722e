//! Whether the machine has a way out, from what the kernel knows. Sends no packet to anybody.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;

use super::super::{Context, blocking, sample};
use super::{Check, Status};
use crate::metrics::collect::{Collector, NetworkCollector, NetworkOptions};
use crate::model::Network;

const NAME: &str = "network_connectivity";
/// Flags of a route: include/uapi/linux/route.h.
const RTF_UP: u32 = 0x1;
const RTF_REJECT: u32 = 0x200;
/// A neighbour that has answered: include/uapi/linux/if_arp.h.
const ATF_COM: u32 = 0x2;

/// `network_connectivity`: failed without an interface that is up and has an address; a warning without
/// a default route, or with a gateway that was asked for and does not answer.
pub(super) async fn check(cx: &Context) -> Check {
    let collectors: Vec<Box<dyn Collector>> =
        vec![Box::new(NetworkCollector::new(NetworkOptions::default()))];
    let reading = match sample::over(cx.deadline, Duration::ZERO, collectors).await {
        Ok(reading) => reading,
        Err(error) => return Check::broken(NAME, error),
    };
    let Some(network) = reading.network else {
        return Check::broken(NAME, "the interfaces could not be read");
    };
    let read = |path: &'static str| std::fs::read_to_string(path).unwrap_or_default();
    let kernel = blocking(cx.deadline, "reading /proc/net", move || Kernel {
        routes: default_routes(&read("/proc/net/route")),
        routes_v6: default_routes_v6(&read("/proc/net/ipv6_route")),
        neighbours: neighbours(&read("/proc/net/arp")),
    });
    match kernel.await {
        Ok(kernel) => judged(&network, &kernel),
        Err(error) => Check::broken(NAME, error),
    }
}

/// What the kernel knows of the way out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Kernel {
    routes: Vec<Route>,
    /// Interfaces of IPv6 default routes.
    routes_v6: Vec<String>,
    neighbours: Vec<Neighbour>,
}

/// A default route.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    interface: String,
    /// `None` where the other end is on the link.
    gateway: Option<Ipv4Addr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Neighbour {
    address: Ipv4Addr,
    answered: bool,
}

fn judged(network: &Network, kernel: &Kernel) -> Check {
    let up: Vec<&str> = network
        .interfaces
        .iter()
        .filter(|interface| interface.is_up)
        .filter(|interface| interface.addresses.iter().any(|address| !address.is_loopback()))
        .map(|interface| interface.name.as_str())
        .collect();
    let gateways: Vec<_> = kernel.routes.iter().filter_map(|route| route.gateway).collect();
    let known = |gateway: &Ipv4Addr| {
        kernel.neighbours.iter().find(|neighbour| neighbour.address == *gateway)
    };
    let silent: Vec<String> = gateways
        .iter()
        .filter(|gateway| known(gateway).is_some_and(|neighbour| !neighbour.answered))
        .map(Ipv4Addr::to_string)
        .collect();
    let details = json!({
        "interfaces_up": up,
        "default_routes": kernel.routes.iter().map(|route| json!({
            "interface": route.interface,
            "gateway": route.gateway.map_or_else(String::new, |gateway| gateway.to_string()),
            "gateway_seen": route.gateway.as_ref().and_then(known).is_some_and(|known| known.answered),
        })).collect::<Vec<_>>(),
        "default_routes_ipv6": kernel.routes_v6,
    });
    let (status, message) = if up.is_empty() {
        (Status::Failed, "no interface that is up has an address".to_owned())
    } else if kernel.routes.is_empty() && kernel.routes_v6.is_empty() {
        (Status::Warning, format!("{} is up, but there is no default route", up.join(", ")))
    } else if !silent.is_empty() && silent.len() == gateways.len() && kernel.routes_v6.is_empty() {
        (Status::Warning, format!("the gateway {} does not answer on its link", silent.join(", ")))
    } else {
        (Status::Passed, format!("{} is up and there is a default route", up.join(", ")))
    };
    Check::new(NAME, status, message, details)
}

/// `/proc/net/route`: interface, destination, gateway and flags first, mask eighth; addresses in
/// hexadecimal, in the order they have in memory.
fn default_routes(text: &str) -> Vec<Route> {
    let routes = text.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let hexadecimal = |index: usize| u32::from_str_radix(words.get(index)?, 16).ok();
        let flags = hexadecimal(3)?;
        let is_default = hexadecimal(1)? == 0 && hexadecimal(7)? == 0;
        (is_default && flags & RTF_UP != 0 && flags & RTF_REJECT == 0).then_some(())?;
        let gateway = Ipv4Addr::from(hexadecimal(2)?.to_ne_bytes());
        let gateway = (!gateway.is_unspecified()).then_some(gateway);
        Some(Route { interface: (*words.first()?).to_owned(), gateway })
    });
    routes.collect()
}

/// `/proc/net/ipv6_route`: destination, its length, source, its length, next hop, metric, references,
/// use, flags, interface.
fn default_routes_v6(text: &str) -> Vec<String> {
    let interfaces = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [destination, length, .., flags, interface] = words.as_slice() else { return None };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let all = destination.bytes().all(|byte| byte == b'0') && *length == "00";
        (all && flags & RTF_UP != 0 && flags & RTF_REJECT == 0 && *interface != "lo")
            .then(|| (*interface).to_owned())
    });
    let mut interfaces: Vec<String> = interfaces.collect();
    interfaces.dedup();
    interfaces
}

/// `/proc/net/arp`: address, type, flags, hardware address, mask, device.
fn neighbours(text: &str) -> Vec<Neighbour> {
    let neighbours = text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        let flags = u32::from_str_radix(words.nth(1)?.trim_start_matches("0x"), 16).ok()?;
        Some(Neighbour { address, answered: flags & ATF_COM != 0 })
    });
    neighbours.collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::test_context;
    use super::*;
    use crate::model::Interface;
    use proptest::prelude::*;

    const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        eth1\t00000000\t0200A8C0\t0203\t0\t0\t0\t00000000\t0\t0\t0\n";

    fn network(is_up: bool) -> Network {
        let addresses = vec![[10, 0, 0, 5].into()];
        Network {
            interfaces: vec![Interface {
                name: "eth0".into(),
                is_up,
                addresses,
                ..Interface::default()
            }],
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_route_is_found_and_one_that_rejects_is_none() {
        let gateway = Some(Ipv4Addr::new(192, 168, 0, 1));
        assert_eq!(default_routes(ROUTES), [Route { interface: "eth0".into(), gateway }]);
        let v6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0\n\
            00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";
        assert_eq!(default_routes_v6(v6), ["eth0"]);
    }

    #[test]
    fn a_machine_without_a_way_out_says_what_is_missing() {
        let gateway = Some(Ipv4Addr::new(10, 0, 0, 1));
        let routes = vec![Route { interface: "eth0".into(), gateway }];
        let arp = "IP address  HW type  Flags  HW address  Mask  Device\n10.0.0.1  0x1  0x0  00:00:00:00:00:00  *  eth0\n";
        let silent =
            Kernel { routes: routes.clone(), neighbours: neighbours(arp), ..Kernel::default() };
        assert_eq!(judged(&network(false), &silent).status, Status::Failed);
        assert_eq!(judged(&network(true), &Kernel::default()).status, Status::Warning);
        let check = judged(&network(true), &silent);
        assert!(check.status == Status::Warning && check.message.contains("10.0.0.1"));
        let answered = neighbours(&arp.replace("0x0", "0x2"));
        let well = Kernel { routes: routes.clone(), neighbours: answered, ..Kernel::default() };
        assert_eq!(
            judged(&network(true), &well).details["default_routes"][0]["gateway_seen"],
            true
        );
        // A neighbour that was not needed lately is forgotten, which says nothing.
        let quiet = Kernel { routes, ..Kernel::default() };
        assert_eq!(judged(&network(true), &quiet).status, Status::Passed);
    }

    #[tokio::test]
    async fn the_way_out_of_this_machine_is_that_of_ip_route() {
        let check = check(&test_context()).await;
        let Ok(output) =
            std::process::Command::new("ip").args(["-4", "route", "show", "default"]).output()
        else {
            eprintln!("skipped: there is no ip");
            return;
        };
        let text = String::from_utf8(output.stdout).unwrap();
        let via = text.split_whitespace().skip_while(|word| *word != "via").nth(1);
        let reported = check.details["default_routes"][0]["gateway"]
            .as_str()
            .filter(|gateway| !gateway.is_empty());
        assert_eq!(reported, via);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text: String, lines in "([0-9a-fx.: ]{0,60}\n){0,4}") {
            for text in [&text, &lines] {
                let _ = (default_routes(text), default_routes_v6(text), neighbours(text));
            }
        }
    }
}
