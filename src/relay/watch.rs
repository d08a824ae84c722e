//! Looks for sockets, and keeps a task for each guest that has one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::guest::{Shared, follow};
use super::transport::{Connector, Transport};
use crate::config::{SocketPattern, Vsock, find_sockets};
use crate::tasks::spawn_blocking;

/// A guest that is read.
struct Followed {
    transport: Transport,
    stop: CancellationToken,
}

/// Reads the guests whose sockets are there until `stop`; returns when none is read any more.
pub(super) async fn guests(shared: &Arc<Shared>, stop: &CancellationToken) {
    let settings = &shared.fleet.settings;
    let mut followed = BTreeMap::<String, Followed>::new();
    let mut tasks = JoinSet::new();
    let mut ticks = interval(settings.scan.get());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_cut = false;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            // Those that have ended, whose guest is gone.
            Some(_) = tasks.join_next() => continue,
            _ = ticks.tick() => {}
        }
        let (patterns, vsock) = (settings.sockets.clone(), settings.vsock.clone());
        let Ok(found) = spawn_blocking(move || find(&patterns, vsock.as_ref())).await else {
            continue;
        };
        if found.is_cut && !was_cut {
            tracing::warn!(
                "the folders of the sockets have more names than are looked at; name them more closely"
            );
        }
        was_cut = found.is_cut;
        let FoundTransports { transports, twice, unprintable, .. } = found;
        // A socket that is gone, or in another place: the connection to it ends.
        followed.retain(|vm, followed| {
            let stays = transports.get(vm) == Some(&followed.transport);
            if !stays {
                followed.stop.cancel();
                shared.fleet.forget(vm);
            }
            stays
        });
        let mut too_many = 0;
        for (vm, transport) in transports {
            if followed.contains_key(&vm) {
                continue;
            }
            if followed.len() >= settings.max.items() {
                too_many += 1;
                continue;
            }
            let (guest, stop) = (shared.fleet.guest(&vm), stop.child_token());
            let newest = match &transport {
                Transport::Cid(cid) => shared.by_cid.at(*cid),
                _ => None,
            };
            let connector = Connector::new(transport.clone(), newest);
            tasks.spawn(follow(Arc::clone(shared), guest, connector, stop.clone()));
            followed.insert(vm, Followed { transport, stop });
        }
        let refused = &shared.fleet.refused;
        let counts = [
            (&refused.too_many, too_many),
            (&refused.twice, twice),
            (&refused.unprintable, unprintable),
        ];
        for (counter, count) in counts {
            if count > 0 && counter.load(Relaxed) == 0 {
                tracing::warn!(too_many, twice, unprintable, "sockets of guests are not read");
            }
            counter.store(count as u64, Relaxed);
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// What a search has found.
struct FoundTransports {
    /// By the names of the guests.
    transports: BTreeMap<String, Transport>,
    twice: usize,
    unprintable: usize,
    is_cut: bool,
}

/// Looks for the sockets of both kinds; it blocks.
fn find(sockets: &[SocketPattern], vsock: Option<&Vsock>) -> FoundTransports {
    let found = find_sockets(sockets);
    let transports =
        found.sockets.into_iter().map(|(vm, path)| (vm, Transport::Socket(path))).collect();
    let (twice, unprintable, is_cut) = (found.twice, found.unprintable, found.is_cut);
    let mut all = FoundTransports { transports, twice, unprintable, is_cut };
    if let Some(Vsock { sockets, cids, port, connect }) = vsock {
        let transport = if *connect { Transport::ToGuest } else { Transport::FromGuest };
        let found = find_sockets(sockets);
        for (vm, path) in found.sockets {
            match all.transports.entry(vm) {
                Entry::Vacant(place) => drop(place.insert(transport(path, port.get()))),
                Entry::Occupied(_) => all.twice += 1,
            }
        }
        for (vm, cid) in cids {
            match all.transports.entry(vm.clone()) {
                Entry::Vacant(place) => drop(place.insert(Transport::Cid(*cid))),
                Entry::Occupied(_) => all.twice += 1,
            }
        }
        all.twice += found.twice;
        all.unprintable += found.unprintable;
        all.is_cut |= found.is_cut;
    }
    all
}
