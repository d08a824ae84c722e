//! The command flow of a file, put together: port → frame → verify → decode → enforce → execute → reply →
//! port. Starts nothing but what must be known at the start: the secret, the state folder, the audit.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::ports::Ports;
use crate::commands::audit::Audit;
use crate::commands::decode::Decode;
use crate::commands::deliver::Deliver;
use crate::commands::dispatch::Dispatch;
use crate::commands::enforce::Enforce;
use crate::commands::execute::{Runner, Settings};
use crate::commands::frame::Frame;
use crate::commands::greet::Greet;
use crate::commands::hear::Hear;
use crate::commands::journal::Journal;
use crate::commands::perform::ThisMachine;
use crate::commands::policy::Policy;
use crate::commands::receive::Receive;
use crate::commands::reply::Reply;
use crate::commands::secret::{self, Secret};
use crate::commands::verify::Verify;
use crate::config::{self, AgentSettings, Commands};
use crate::metrics::latest::Latest;
use crate::pipeline::{Graph, Health, Pipeline, Places};
use crate::sinks::Rotation;

/// Messages that wait between two parts of the flow; when they are full the port is not read.
const MESSAGES_WAITING: usize = 16;

/// Builds the flow of `commands`, and beside it the greeting of each host where there is a secret.
///
/// # Errors
/// The port cannot be, or the secret that the file names cannot be read.
pub fn command_flow(
    commands: &Commands,
    agent: &AgentSettings,
    latest: &Latest,
    ports: &mut Ports,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Vec<Graph>, String> {
    let config::CommandsFile { verify, execute, reply, audit, .. } = &commands.file;
    let receive = commands.file.receive();
    let secret = verify.secret.as_ref().map(Secret::load).transpose()?.flatten();
    let unlocked = secret.is_some();
    if unlocked && let Err(error) = secret::harden() {
        tracing::warn!(%error, "a core dump of the agent would hold the shared secret");
    }
    let target = ports.resolve(&receive.port)?;
    let shown = target.to_string();
    let port = ports.at(target.clone());
    let (lane, replies, hosts) = (port.inbound(), port.replies(), port.hosts());
    let answers = port.answers();
    let must = match reply.delivery {
        config::Delivery::Must => Some(ports.keeping(&target, agent).must.clone()),
        config::Delivery::Newest => None,
    };

    let settings = Settings {
        output_bytes: usize::try_from(execute.output.bytes()).unwrap_or(usize::MAX),
        ..Settings::agent()
    };
    let state = &agent.state.folder;
    let dispatch = Dispatch {
        perform: Box::new(ThisMachine {
            runner: Runner::with(settings, stop.clone()),
            latest: latest.clone(),
            scripts: state.join("scripts"),
        }),
        audit: Some(audit_file(audit, agent)),
        latest: latest.clone(),
        journal: unlocked.then(|| journal(agent)).flatten(),
        answered: Mutex::default(),
    };
    let command_type = reply.command_type;
    let max_line = usize::try_from(receive.max_line.bytes()).unwrap_or(usize::MAX);
    let places = Places { parallel: execute.parallel.items(), waiting: execute.waiting.items() };
    let node = health.node("commands/replies".to_owned());
    let deliver = || Deliver::new(shown.clone(), replies.clone(), must.clone(), Arc::clone(&node));
    let source = Receive::new(shown.clone(), lane);
    let flow = Pipeline::from_sources("commands", [source], MESSAGES_WAITING, health, stop)
        .then(Frame::with_max(max_line)) // Line      ┐
        .then(Verify::new(secret).within(verify.window.get())) // Verified │ fused: one task
        .then(Decode) // Asked     │
        .then(Hear::new(answers)) // Asked     │
        .then(Enforce::new(Policy::new(commands))) // Enforced  ┘
        .handle(dispatch, places, MESSAGES_WAITING) // Told
        .then(Reply::new(command_type)) // Spoken
        .write(deliver(), MESSAGES_WAITING);

    if !unlocked {
        // Whoever speaks first teaches the host the clock that it signs with; here nothing is signed.
        return Ok(vec![flow]);
    }
    let greet = Greet::new(agent.identity.vm_id.clone(), hosts);
    let greeting = Pipeline::from_sources("greeting", [greet], MESSAGES_WAITING, health, stop)
        .then(Reply::new(command_type))
        .write(deliver(), MESSAGES_WAITING);
    Ok(vec![flow, greeting])
}

fn audit_file(audit: &config::Audit, agent: &AgentSettings) -> Audit {
    let path = audit.path.clone().unwrap_or_else(|| agent.state.folder.join("audit.jsonl"));
    let rotation = Rotation { max_bytes: audit.max_size.bytes(), keep: audit.keep.get() };
    Audit::new(path, rotation, audit.required)
}

/// Which scripts have run; without it none runs, and the host is told why.
fn journal(agent: &AgentSettings) -> Option<Arc<Mutex<Journal>>> {
    let path = agent.state.folder.join("scripts.jsonl");
    match Journal::open(&path) {
        Ok(journal) => Some(Arc::new(Mutex::new(journal))),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "no script will run: it could run twice");
            None
        }
    }
}
