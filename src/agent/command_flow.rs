//! The command flow of a file, put together: port → frame → verify → decode → hear → enforce → execute →
//! reply → deliver → port; and what is told unasked, with it or without. Starts nothing.

use crate::agent::assemble::{Built, Site};
use crate::agent::port_registry::Connection;
use crate::agent::reload::command_state::CommandState;
use crate::commands::authorize::Enforce;
use crate::commands::authorize::policy::Policy;
use crate::commands::decode::Decode;
use crate::commands::decode::ack_filter::AckFilter;
use crate::commands::execute::Execute;
use crate::commands::execute::executor::LocalExecutor;
use crate::commands::notify::agent_events::EventReceiver;
use crate::commands::notify::drain_acks::DrainAcks;
use crate::commands::notify::session_start::SessionStart;
use crate::commands::receive::inbound::Receive;
use crate::commands::receive::line_framer::Frame;
use crate::commands::reply::sink::ReplySink;
use crate::commands::reply::{self, Outbound, Reply};
use crate::commands::request_log::Recovery;
use crate::commands::verify::Verify;
use crate::commands::verify::secret::Secret;
use crate::config::{self, Commands};
use crate::pipeline::{Graph, MemoryBudget, Pipeline, Segment};
use crate::port::Target;

/// Messages that wait between two parts of the flow; when they are full the port is not read.
const MESSAGES_WAITING: usize = 16;

/// Builds the flow of `commands`, and beside it what the host is told unasked: the news, and where there is a
/// secret the greeting.
///
/// # Errors
/// The port cannot be.
pub(super) fn command_flow(
    commands: &Commands,
    secret: Option<Secret>,
    carried: &CommandState,
    heard: EventReceiver,
    site: &mut Site<'_>,
) -> Result<Built, String> {
    let gate = gate(commands);
    let target = site.ports.resolve(&commands.file.receive().port)?;
    let mut unasked = SessionStart::new(heard, site.ports.at(&target).answers.clone());
    if secret.is_some() {
        // Whoever speaks first teaches the host the clock that it signs with; where nothing is signed, nobody
        // is greeted.
        let vm_id = site.vm_id.map(str::to_owned);
        let is_picture = site.ports.is_picture();
        let port = site.ports.at(&target);
        unasked = unasked.greeting(vm_id, port.hosts.clone(), port.greeted.clone());
        if !is_picture {
            // What is for this host only waits until there is one.
            let is_best_effort = commands.file.reply.delivery == config::Delivery::Latest;
            carried.log.best_effort(is_best_effort);
            unasked = unasked.telling(Recovery {
                log: carried.log.clone(),
                audit: Some(carried.audit.clone()),
                waiting: port.acks.tell(carried.log.acknowledger()),
                hosts: is_best_effort.then(|| port.hosts.clone()),
            });
        }
    }
    flow_of(commands, secret, carried, gate, unasked, site)
}

/// What decides about the requests of `commands`.
pub(super) fn gate(commands: &Commands) -> Enforce {
    Enforce::new(Policy::new(commands))
}

/// Builds what takes the place of the flow of `commands` when its file is removed: the host is heard as before, told
/// the news, and refused what it asks for.
///
/// # Errors
/// The port cannot be.
pub(super) fn absent_flow(
    commands: &Commands,
    secret: Secret,
    carried: &CommandState,
    heard: EventReceiver,
    site: &mut Site<'_>,
) -> Result<Built, String> {
    let gate = Enforce::deny_all(&commands.origin);
    let target = site.ports.resolve(&commands.file.receive().port)?;
    let unasked = SessionStart::new(heard, site.ports.at(&target).answers.clone());
    flow_of(commands, Some(secret), carried, gate, unasked, site)
}

/// Builds what tells the news at the port `target`, where no command flow does.
pub(super) fn news_flow(target: &Target, heard: EventReceiver, site: &mut Site<'_>) -> Built {
    let port = site.ports.at(target);
    let source = SessionStart::new(heard, port.answers.clone());
    let news = Pipeline::from_sources("news", [source], MESSAGES_WAITING, site.health, site.stop);
    Built::of(vec![end(news, &config::Reply::default(), port, site.ledger)], target.clone())
}

fn flow_of(
    commands: &Commands,
    secret: Option<Secret>,
    carried: &CommandState,
    gate: Enforce,
    unasked: SessionStart,
    site: &mut Site<'_>,
) -> Result<Built, String> {
    let config::CommandsFile { verify, reply, .. } = &commands.file;
    let receive = commands.file.receive();
    let unlocked = secret.is_some();
    let target = site.ports.resolve(&receive.port)?;
    let is_picture = site.ports.is_picture();
    let port = site.ports.at(&target);
    let (shown, turn, answers) = (target.to_string(), port.intake.turn(), port.answers.clone());
    if unlocked {
        answers.listen();
    }

    let audit = carried.audit.clone();
    port.undelivered.tell(move |line| {
        let Some((id, action)) = reply::whose(line) else { return };
        tracing::info!(
            id,
            action,
            "an answer was dropped: the connection that asked for it has ended"
        );
        audit.undelivered(&id, &action, "the connection that asked for it has ended");
    });

    let dispatch = Execute {
        perform: Box::new(LocalExecutor {
            runner: carried.runner.clone(),
            latest: site.latest.clone(),
            in_force: carried.in_force.clone(),
            state: carried.state().to_owned(),
            command_line: commands.file.execute.command_line,
        }),
        audit: Some(carried.audit.clone()),
        latest: site.latest.clone(),
        log: carried.log.clone(),
        in_force: carried.in_force.clone(),
    };
    let max_line = receive.max_line.bytes();
    let max_line = site.limit.map_or(max_line, |limit| limit.line(max_line));
    let max_line = usize::try_from(max_line).unwrap_or(usize::MAX);
    let (health, stop) = (site.health, site.stop);
    let source = Receive::new(shown, turn.clone());
    let window = verify.window.get();
    let verify = || Verify::new(secret.clone()).within(window).remembering(&carried.log);
    let flow = Pipeline::from_sources("commands", [source], MESSAGES_WAITING, health, stop)
        .then(Frame::of(turn, max_line)) // Line      ┐
        .then(verify()) // Verified │ fused: one task
        .then(Decode::within(site.ledger)) // Asked     │
        .then(AckFilter::new(answers.clone())) // Asked     │
        .then(gate) // Enforced  ┘
        .handle_in(dispatch, &carried.room, MESSAGES_WAITING); // Told
    let flow = end(flow, reply, port, site.ledger);

    let name = if unlocked { "greeting" } else { "news" };
    let unasked = Pipeline::from_sources(name, [unasked], MESSAGES_WAITING, health, stop);
    let mut graphs = vec![flow, end(unasked, reply, port, site.ledger)];
    if unlocked && !is_picture {
        let farewell = DrainAcks::new(port.intake.turn(), stop.clone(), port.closing.clone());
        graphs.push(farewell.hear(max_line, verify(), answers, health));
    }
    Ok(Built::of(graphs, target))
}

/// What the host is told, as frames, into the port ahead of metrics.
fn end<S: Segment<Out = Outbound>>(
    told: Pipeline<S>,
    reply: &config::Reply,
    port: &Connection,
    ledger: &MemoryBudget,
) -> Graph {
    let must = match reply.delivery {
        config::Delivery::Durable => Some(port.must.clone()),
        config::Delivery::Latest => None,
    };
    let node = told.node("replies");
    let deliver = ReplySink::new(port.target.to_string(), port.replies.clone(), must, node);
    told.then(Reply::new(reply.command_type).charging(ledger)).write(deliver, MESSAGES_WAITING)
}
