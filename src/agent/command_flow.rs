//! The parts of the command flow, made from a file: [`commands::serve`] connects them. Beside it, the flow of control
//! messages and events.

use std::sync::Arc;

use crate::agent::command_state::CommandState;
use crate::agent::error::AgentError;
use crate::agent::flow::{Built, FlowContext};
use crate::agent::port_registry::Connection;
use crate::commands::authorize::Authorize;
use crate::commands::decode::Decode;
use crate::commands::decode::ack_filter::AckFilter;
use crate::commands::execute::Execute;
use crate::commands::execute::executor::LocalExecutor;
use crate::commands::execute::machine::Machine;
use crate::commands::notify::agent_events::EventReceiver;
use crate::commands::notify::drain_acks::DrainAcks;
use crate::commands::notify::session_start::SessionStart;
use crate::commands::receive::inbound::Receive;
use crate::commands::receive::line_framer::Frame;
use crate::commands::reply::sink::ReplySink;
use crate::commands::reply::{self, Outbound, Reply};
use crate::commands::request_log::Recovery;
use crate::commands::secret::Secret;
use crate::commands::verify::Verify;
use crate::commands::{self, MESSAGES_WAITING, Stages};
use crate::config::{self, Commands};
use crate::pipeline::{Graph, MemoryBudget, Pipeline, Segment};
use crate::port::Target;

/// Builds the flow of `commands`, and the flow of events beside it, which opens sessions if there is a secret.
///
/// # Errors
/// The port name is invalid, or is not a port.
pub(super) fn command_flow(
    commands: &Commands,
    secret: Option<Secret>,
    command_state: &CommandState,
    events: EventReceiver,
    cx: &mut FlowContext<'_>,
) -> Result<Built, AgentError> {
    let authorize = policy_stage(commands);
    let target = cx.ports.resolve(&commands.file.receive().port)?;
    let mut session_start = SessionStart::new(events, cx.ports.at(&target).ack_tracker.clone());
    if secret.is_some() {
        // The first message of a session gives the host the clock that it signs with. Without signatures there is no session.
        let vm_id = cx.vm_id.map(str::to_owned);
        let is_drawing = cx.ports.is_drawing();
        let port = cx.ports.at(&target);
        session_start =
            session_start.requesting_scripts(vm_id, port.hosts.clone(), port.greeted.clone());
        if !is_drawing {
            // Best-effort messages wait for a connection.
            let is_best_effort = commands.file.reply.delivery == config::Delivery::Latest;
            command_state.log.best_effort(is_best_effort);
            session_start = session_start.recovering(Recovery {
                log: command_state.log.clone(),
                audit: Some(command_state.audit.clone()),
                waiting: command_state.log.follow(&port.acks),
                hosts: is_best_effort.then(|| port.hosts.clone()),
            });
        }
    }
    flow_of(commands, secret, command_state, authorize, session_start, cx)
}

/// The policy of `commands`, as a stage.
pub(super) fn policy_stage(commands: &Commands) -> Authorize {
    Authorize::new(commands.policy())
}

/// Builds the flow that replaces the flow of `commands` when its file is removed: it reads acknowledgements, sends events,
/// and denies every request.
///
/// # Errors
/// The port name is invalid, or is not a port.
pub(super) fn deny_all_flow(
    commands: &Commands,
    secret: Secret,
    command_state: &CommandState,
    events: EventReceiver,
    cx: &mut FlowContext<'_>,
) -> Result<Built, AgentError> {
    let authorize = Authorize::deny_all(&commands.origin);
    let target = cx.ports.resolve(&commands.file.receive().port)?;
    let session_start = SessionStart::new(events, cx.ports.at(&target).ack_tracker.clone());
    flow_of(commands, Some(secret), command_state, authorize, session_start, cx)
}

/// Builds the flow of events for the port `target`, which no command flow reads.
pub(super) fn events_flow(
    target: &Target,
    events: EventReceiver,
    cx: &mut FlowContext<'_>,
) -> Built {
    let context = cx.context("events");
    let port = cx.ports.at(target);
    let source = SessionStart::new(events, port.ack_tracker.clone());
    let news = Pipeline::from_sources(&context, [source], MESSAGES_WAITING);
    Built::of(vec![end(news, &config::Reply::default(), port, cx.memory_budget)], target.clone())
}

fn flow_of(
    commands: &Commands,
    secret: Option<Secret>,
    command_state: &CommandState,
    authorize: Authorize,
    session_start: SessionStart,
    cx: &mut FlowContext<'_>,
) -> Result<Built, AgentError> {
    let config::CommandsFile { verify, reply, .. } = &commands.file;
    let receive = commands.file.receive();
    let unlocked = secret.is_some();
    let context = cx.context("commands");
    let greeting = cx.context(if unlocked { "session" } else { "events" });
    let target = cx.ports.resolve(&receive.port)?;
    let is_drawing = cx.ports.is_drawing();
    let port = cx.ports.at(&target);
    let (lease, ack_tracker) = (port.inbound.lease(), port.ack_tracker.clone());
    if unlocked {
        ack_tracker.listen();
    }

    let audit = command_state.audit.clone();
    port.undelivered.on_dropped(move |line| {
        let Some((id, action)) = reply::id_and_action(line) else { return };
        tracing::info!(
            id,
            action,
            "an answer was dropped: the connection that asked for it has ended"
        );
        audit.undelivered(&id, &action, "the connection that asked for it has ended");
    });

    let execute = Execute {
        executor: Box::new(LocalExecutor {
            machine: Machine {
                runner: command_state.runner.clone(),
                latest: cx.latest.clone(),
                state: command_state.state().to_owned(),
                command_line: commands.file.execute.command_line,
                agent: Some(Arc::new(cx.status.clone())),
            },
            current_policy: command_state.current_policy.clone(),
            units: command_state.units.clone(),
        }),
        audit: Some(command_state.audit.clone()),
        latest: cx.latest.clone(),
        log: command_state.log.clone(),
        current_policy: command_state.current_policy.clone(),
        running: cx.status.running.clone(),
    };
    let max_line = receive.max_line.bytes();
    let max_line = cx.limit.map_or(max_line, |limit| limit.line(max_line));
    let max_line = usize::try_from(max_line).unwrap_or(usize::MAX);
    let (health, stop) = (cx.health, cx.stop);
    let window = verify.window.get();
    let verify = || Verify::new(secret.clone()).within(window).remembering(&command_state.log);
    let stages = Stages {
        receive: Receive::new(target.to_string(), lease.clone()),
        frame: Frame::of(lease, max_line),
        verify: verify(),
        decode: Decode::within(cx.memory_budget),
        ack_filter: AckFilter::new(ack_tracker.clone()),
        authorize,
        execute,
    };
    let flow = commands::serve(&context, stages, &command_state.limit);
    let flow = end(flow, reply, port, cx.memory_budget);

    let session_start = Pipeline::from_sources(&greeting, [session_start], MESSAGES_WAITING);
    let mut graphs = vec![flow, end(session_start, reply, port, cx.memory_budget)];
    if unlocked && !is_drawing {
        let drain_acks = DrainAcks::new(port.inbound.lease(), stop.clone(), port.closing.clone());
        graphs.push(drain_acks.into_graph(max_line, verify(), ack_tracker, health));
    }
    Ok(Built::of(graphs, target))
}

/// Serializes `replies` and writes them to the port, ahead of metrics.
fn end<S: Segment<Out = Outbound>>(
    replies: Pipeline<S>,
    reply: &config::Reply,
    port: &Connection,
    memory_budget: &MemoryBudget,
) -> Graph {
    let durable = match reply.delivery {
        config::Delivery::Durable => Some(port.durable.clone()),
        config::Delivery::Latest => None,
    };
    let node = replies.node("replies");
    let sink = ReplySink::new(port.target.to_string(), port.replies.clone(), durable, node);
    let encode = Reply::new(reply.command_type).charged_to(memory_budget);
    commands::reply(replies, encode, sink)
}
