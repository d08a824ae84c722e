//! What the running agent says of itself, from two looks a second apart.

use crate::agent::status::{PortStatus, Status};

use super::verdict::{Cause, Verdict};

/// What keeps host and agent apart.
pub(super) fn running(before: &Status, now: &Status) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for port in &now.ports {
        let earlier = before.ports.iter().find(|earlier| earlier.port == port.port);
        verdicts.extend(host(earlier, port));
    }
    let dropped = |reason: &str| -> u64 {
        let all = now.stages.iter().flat_map(|stage| &stage.dropped);
        all.filter(|(known, _)| known == reason).map(|(_, count)| count).sum()
    };
    let lines =
        |count: u64| if count == 1 { "1 message".to_owned() } else { format!("{count} messages") };
    match dropped("forged") {
        0 => {}
        count => verdicts.push(Verdict::new(
            Cause::Secret,
            format!("{} of the host had a wrong signature", lines(count)),
            "the host has another secret for this machine: set the same one at both, and restart the agent",
        )),
    }
    match dropped("stale") {
        0 => {}
        count => verdicts.push(Verdict::new(
            Cause::ClockSkew,
            format!("{} of the host came from more than `[verify] window` ago or ahead", lines(count)),
            "compare `date -u` here and at the host; run an NTP client, or give the guest the kernel's ptp_kvm clock",
        )),
    }
    verdicts
}

fn host(before: Option<&PortStatus>, now: &PortStatus) -> Option<Verdict> {
    let name = &now.port;
    if !now.opened {
        return None; // the machine's checks say why
    }
    if !now.host_connected {
        let ever = match now.host_connects {
            0 => "no program at the host has opened it since the agent started".to_owned(),
            1 => "the host has left; it came once".to_owned(),
            count => format!("the host has left; it came {count} times"),
        };
        return Some(Verdict::new(
            Cause::HostAbsent,
            format!("port {name}: {ever}"),
            "at the host: is the program running that connects to the channel's socket? `infiniservice-host SOCKET watch` \
             tries it",
        ));
    }
    let before = before?;
    let stands_still = before.bytes_out == now.bytes_out;
    if stands_still && now.is_full {
        return Some(Verdict::new(
            Cause::HostNotReading,
            format!("port {name}: the host has it open and reads nothing: the device is full"),
            "at the host: restart the program that holds the channel's socket",
        ));
    }
    // A host that has never acknowledged still gets a window every second, so the port does not stand still.
    let waits = before.waits_for_host && now.waits_for_host;
    (waits && (stands_still || now.never_acknowledged)).then(|| {
        Verdict::new(
            Cause::WindowExhausted,
            format!(
                "port {name}: {} bytes are written and the host has acknowledged none of them",
                now.unacknowledged_bytes
            ),
            "at the host: the program must answer keep-alives (docs/delivery.md); without any answer the port goes on by \
             time, slowly",
        )
    })
}
