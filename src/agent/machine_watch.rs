//! Suspends, clock steps, restores and clones of this machine, as events for the host.

use std::path::Path;

use async_stream::stream;
use futures::{Stream, StreamExt};

use crate::machine_events::{self, MachineEvents};
use crate::spool::Machine;
use crate::tasks::spawn_blocking;
use crate::wire::outbound::AgentEvent;

/// The events of the machine. The stream never ends; without the means to see them it stays silent after a warning.
pub(super) fn events(mut machine: MachineEvents) -> impl Stream<Item = AgentEvent> {
    stream! {
        {
            let mut events = std::pin::pin!(machine.events());
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => yield event,
                    Err(error) => tracing::warn!(%error, "suspends and clock steps cannot be detected"),
                }
            }
        }
        std::future::pending().await
    }
}

/// The machine's identity now, with `life`, the count of restores and clones since the agent began.
pub(super) async fn machine(life: u64) -> Machine {
    let identity =
        spawn_blocking(|| machine_events::identity(Path::new("/"))).await.unwrap_or_default();
    Machine { life, identity }
}
