//! Looks for sockets, and keeps a task for each guest that has one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::guest::{Shared, follow};
use crate::config::{Found, find_sockets};

/// A guest that is read.
struct Followed {
    path: PathBuf,
    stop: CancellationToken,
}

/// Reads the guests whose sockets are there until `stop`; returns when none is read any more.
pub async fn guests(shared: &Arc<Shared>, stop: &CancellationToken) {
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
        let patterns = settings.sockets.clone();
        let Ok(found) = spawn_blocking(move || find_sockets(&patterns)).await else { continue };
        if found.is_cut && !was_cut {
            tracing::warn!(
                "the folders of the sockets have more names than are looked at; name them more closely"
            );
        }
        was_cut = found.is_cut;
        let Found { sockets, twice, unprintable, .. } = found;
        // A socket that is gone, or in another place: the connection to it ends.
        followed.retain(|vm, followed| {
            let stays = sockets.get(vm) == Some(&followed.path);
            if !stays {
                followed.stop.cancel();
                shared.fleet.forget(vm);
            }
            stays
        });
        let mut too_many = 0;
        for (vm, path) in sockets {
            if followed.contains_key(&vm) {
                continue;
            }
            if followed.len() >= settings.max.items() {
                too_many += 1;
                continue;
            }
            let (guest, stop) = (shared.fleet.guest(&vm), stop.child_token());
            tasks.spawn(follow(Arc::clone(shared), guest, path.clone(), stop.clone()));
            followed.insert(vm, Followed { path, stop });
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
