//! Commands for guests, over NATS or of the web page: receive → judge → claim → ask → reply.
//!
//! ```text
//!  infini.<site>.<vm>.command ─▶ receive ─┬▶ [ judge ▸ claim ▸ in flight ▸ reply ] ─▶ record
//!  POST /guests/<vm>/command ──▶ page ────┘                │        ▲
//!                                                          ▼        │
//!                                                    the guest's own connection
//! ```
//!
//! # Once
//! The guest runs a command once, and knows it by its id: what is asked again is answered from the guest's request log. So
//! a command in flight is said again on each new connection to the guest, and a client without an answer may ask again.
//!
//! All relays of a site get each command over NATS, since only they know who has the guest. Who says it to the guest, or refuses it, has
//! [claimed](claim) it first; the others are silent. That is not left to a queue group: QEMU serves one program at a socket,
//! and the group would choose one that only waits there. A command of the page comes to one relay, which alone can say it.
//!
//! # What it costs
//! Every bound stands in the table of `docs/architecture.md`.

mod ask;
mod claim;
mod command;
mod error;
mod inbox;
mod offer;
pub(crate) mod page;
mod receive;
mod record;
pub(crate) mod reply;

use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::guest::Shared;
use crate::config::{Nats, RelayCommands};
use crate::host::uuid;
use crate::pipeline::{BoxSource, ConcurrencyLimit, ConcurrencyLimits, Context, Graph, Pipeline};
use ask::Ask;
use command::Command;
pub(crate) use error::CommandError;
use receive::Receive;
use record::Record;

/// The longest command, in bytes.
pub(crate) const COMMAND_BYTES_MAX: usize = 256 << 10;
/// Commands that are judged, in flight or being answered; more are refused.
const AT_ONCE_MAX: usize = 1024;
/// Commands that wait between two stages.
const WAITING: usize = 16;

/// Those that come over NATS, for the guests of `site`.
///
/// # Errors
/// The kernel gives no random bytes for the name of this relay.
pub(crate) fn from_nats(settings: Nats, site: &Arc<str>) -> io::Result<BoxSource<Command>> {
    Ok(BoxSource::new(Receive::new(settings, Arc::clone(site), uuid()?)))
}

/// The flow of the commands of `sources` for the guests of `shared`, by `rules`, until `stop`.
pub(crate) fn flow(
    context: &Context,
    sources: Vec<BoxSource<Command>>,
    rules: &RelayCommands,
    shared: &Arc<Shared>,
    stop: &CancellationToken,
) -> Graph {
    let ask = Ask::new(rules, Arc::clone(shared), stop.clone());
    let record = Record::new(Arc::clone(&shared.fleet));
    let limit = ConcurrencyLimit::new(ConcurrencyLimits { parallel: AT_ONCE_MAX, waiting: 0 });
    Pipeline::from_sources(context, sources, WAITING) // Command
        .handle(ask, &limit, WAITING) // Done
        .write(record, WAITING)
}

/// The connections that the receiver makes, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Connections(watch::Receiver<Option<Connection>>);

impl Connections {
    /// The connection, once there is one that has not ended. Waits for ever after the end of the receiver.
    async fn newest(&self) -> Connection {
        let mut connections = self.0.clone();
        loop {
            let newest = connections.borrow_and_update().clone();
            match newest.filter(|connection| !connection.lost.is_cancelled()) {
                Some(connection) => return connection,
                None if connections.changed().await.is_ok() => {}
                None => std::future::pending().await,
            }
        }
    }
}
