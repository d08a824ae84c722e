//! The relay: reads the sockets of all guests of a machine, and hands their lines to files, sockets, standard output, NATS,
//! receivers of OTLP and Prometheus; a web page shows the guests.
//!
//! ```text
//!            a task for each guest                                          a task for each output
//!  watch ─▶ [ connect ─▶ rate ▸ frame ▸ parse ▸ count ] ─▶ fair queue ─▶ [ turns ▸ wrap ] ─▶ file, socket, stdout
//!  folders        ▲                     │                  a share for                          │
//!                 │                     ├─▶ newest reading ─▶ /metrics   each guest             │
//!                 │                     └─▶ last readings, events ─▶ web page                   │
//!                 └── keep-alives, acknowledgements ◀── every output has the lines before ◀─────┘
//! ```
//!
//! A guest is not trusted. Whatever it does ends in its own task: an endless line, a flood, garbage, silence, a peer that does
//! not read. It costs a bounded number of bytes, and the others nothing. A line is taken out of no guest's stream unchecked,
//! and is put into an object that says whose it is.
//!
//! Commands come the other way, over NATS or from the web page: see `src/relay/commands.rs`.
//!
//! Readings are dropped, and counted, where an output does not take them. Everything else waits in the guest: it is not
//! acknowledged before every output has it, and the guest's socket is not read when its share is full.
//!
//! Every bound stands in the table of `docs/architecture.md`.

pub(crate) mod error;
pub(crate) mod fleet;
mod history;
mod vsock;
mod watch;
mod transport;
mod in_flight;
mod guest;
mod session;
mod fair_queue;
mod message_id;
mod outputs;
mod nats;
mod connection;
mod otlp;
mod commands;
mod subject;
mod metrics;
mod web;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Destination, RelayFile, Target};
use crate::pipeline::{BoxSource, Context, Outcome, Restart, StatsRegistry, run_until};
use crate::sinks::{Options, PrometheusOptions};
use commands::page::page_commands;
use error::RelayError;
use fair_queue::FairQueue;
use fleet::Fleet;
use guest::Shared;
use in_flight::InFlight;
use vsock::{ConnectionsByCid, Listener};
use web::Web;

/// How long a repeated line is recognised if OTLP is the only output that needs ids of lines; the default of NATS is the same.
const OTLP_IDS: Duration = Duration::from_secs(120);
/// How long the outputs have for what is left at the end.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs the relay until `stop`, or until an output has ended for good.
///
/// # Errors
/// A place where metrics or the web page are to be served, or guests are waited for, cannot be listened at; or there are no random
/// bytes.
pub(crate) async fn run(file: RelayFile, stop: CancellationToken) -> Result<Outcome, RelayError> {
    let site = file.site.clone().unwrap_or_else(name_of_this_machine);
    let fleet = Arc::new(Fleet::new(&site, file.guests));
    let (stats, outputs_stop) = (StatsRegistry::default(), CancellationToken::new());
    let (mut queues, mut tasks, mut servers) = (Vec::new(), Vec::new(), Vec::new());
    for (number, write) in file.write.iter().enumerate() {
        if let Target::Sink(Destination::Prometheus(PrometheusOptions(at))) = &write.target {
            let served = metrics::serve(&fleet, at).await;
            servers.push(served.map_err(|error| RelayError::Metrics { at: at.clone(), error })?);
        } else if let Some(sink) = write.target.sink().map(Options::build) {
            let queue = queue(&fleet);
            let context = Context::new(format!("output {}", number + 1), &stats, &outputs_stop);
            tasks.extend(outputs::write(&context, &queue, &site, sink).into_tasks());
            queues.push(queue);
        }
    }
    let mut command_sources = Vec::new();
    if let Some(nats) = file.nats.as_ref().filter(|nats| nats.commands) {
        let source = commands::from_nats(nats.clone(), &fleet.site);
        command_sources.push(source.map_err(RelayError::Commands)?);
    }
    let serves_web = file.web.is_some();
    let web = match file.web {
        Some(web) => {
            let commands = file.commands.as_ref().filter(|_| web.commands).map(|rules| {
                let (commands, source) = page_commands(rules);
                command_sources.push(BoxSource::new(source));
                commands
            });
            Some(Web::start(&fleet, web, commands).await?)
        }
        None => None,
    };
    let message_ids = file.nats.as_ref().map(|nats| nats.duplicates.get());
    let message_ids = message_ids.or(file.otlp.as_ref().map(|_| OTLP_IDS));
    if let Some(settings) = file.nats {
        let queue = queue(&fleet);
        let context = Context::new("nats", &stats, &outputs_stop);
        tasks.extend(nats::publish(&context, settings, &fleet.site, &queue).into_tasks());
        queues.push(queue);
    }
    if let Some(settings) = file.otlp {
        let queue = queue(&fleet);
        let context = Context::new("otlp", &stats, &outputs_stop);
        tasks.extend(otlp::send(&context, settings, &fleet, &queue).into_tasks());
        queues.push(queue);
    }
    let serves_metrics = !servers.is_empty();
    let (by_cid, listener) = listen(fleet.settings.vsock.as_ref())?;
    let shared = Arc::new(Shared {
        fleet,
        by_cid,
        outputs: queues.clone(),
        serves_metrics,
        serves_web,
        message_ids,
        takes_commands: !command_sources.is_empty(),
        commands: InFlight::default(),
    });
    if let Some(rules) = file.commands.filter(|_| shared.takes_commands) {
        let context = Context::new("commands", &stats, &stop);
        let flow = commands::flow(&context, command_sources, &rules, &shared, &stop);
        tasks.extend(flow.into_tasks());
    }

    let deadline = async {
        stop.cancelled().await;
        sleep(DRAIN).await;
    };
    let has_outputs = !tasks.is_empty();
    let restart = Restart::default();
    let outputs = run_until(tasks, &restart, &outputs_stop, deadline);
    let guests = async {
        watch::guests(&shared, &stop).await;
        // Nothing more comes: the outputs write what is left, and end.
        queues.iter().for_each(|queue| queue.close());
    };
    let arrives = async {
        if let Some(listener) = listener {
            shared.by_cid.accept(&listener, &stop).await;
        }
    };
    let outputs = async {
        let outcome = outputs.await;
        if has_outputs {
            stop.cancel(); // one has ended for good
        }
        outcome
    };
    let (outcome, (), ()) = tokio::join!(outputs, guests, arrives);
    drop((servers, web));
    Ok(outcome)
}

/// A queue in front of an output.
fn queue(fleet: &Fleet) -> Arc<FairQueue> {
    let share = usize::try_from(fleet.settings.queue.bytes()).unwrap_or(usize::MAX);
    Arc::new(FairQueue::new(share))
}

/// Listens for the guests that connect to the vsock of this host, where there are such.
fn listen(
    vsock: Option<&config::Vsock>,
) -> Result<(ConnectionsByCid, Option<Listener>), RelayError> {
    let Some(vsock) = vsock.filter(|vsock| !vsock.cids.is_empty()) else {
        return Ok((ConnectionsByCid::default(), None));
    };
    let port = vsock.port.get();
    let listener = Listener::bind(port).map_err(|error| RelayError::Vsock { port, error })?;
    Ok((ConnectionsByCid::of(vsock.cids.values().copied()), Some(listener)))
}

fn name_of_this_machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
