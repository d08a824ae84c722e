//! What the agent finds out about its own life, as news for the host. Decides nothing.

use std::path::Path;

use async_stream::stream;
use futures::{Stream, StreamExt};
use tokio::task::spawn_blocking;

use crate::machine_events::{self, MachineEvents};
use crate::spool::Machine;
use crate::wire::outbound::AgentEvent;

/// What happens to the machine, for ever.
pub fn life(mut life: MachineEvents) -> impl Stream<Item = AgentEvent> {
    stream! {
        {
            let mut happened = std::pin::pin!(life.events());
            while let Some(told) = happened.next().await {
                match told {
                    Ok(event) => yield event,
                    Err(error) => tracing::warn!(%error, "suspends and clock steps are not seen"),
                }
            }
        }
        std::future::pending().await
    }
}

/// Which machine this is now, in its `life`th life since the agent began.
pub async fn machine(life: u64) -> Machine {
    let identity =
        spawn_blocking(|| machine_events::identity(Path::new("/"))).await.unwrap_or_default();
    Machine { life, identity }
}
