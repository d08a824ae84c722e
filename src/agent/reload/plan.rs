//! The flows that the files ask for, checked before anything starts. Blocks on files: call it from `spawn_blocking`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::agent::command_state::CommandState;
use crate::agent::durable_port::Opening;
use crate::agent::error::AgentError;
use crate::agent::port_registry::Ports;
use crate::commands::request_log::NONCES_KEPT;
use crate::commands::secret::{self, Secret};
use crate::config::{
    self, AgentSettings, Commands, Delivery, Loaded, MemoryLimit, RecordsFile, Target,
};
use crate::files::StateFolder;
use crate::pipeline::{Restart, StatsRegistry};
use crate::port;
use crate::wire::Format;

/// Where the files are, and the command-line options that override them.
#[derive(Debug, Clone)]
pub(in crate::agent) struct Origin {
    /// The files and folders, as given on the command line.
    pub paths: Vec<PathBuf>,
    /// Replaces every port that a file names.
    pub port: Option<port::Target>,
    /// The state folder.
    pub state: StateFolder,
    /// The state folder given at the start, which a file cannot override.
    pub chosen: Option<PathBuf>,
}

/// A flow to run. A flow that is equal to the running one is left alone.
#[derive(Clone, PartialEq)]
pub(in crate::agent) enum Wanted {
    /// A pipeline of readings.
    Metrics { pipeline: config::Pipeline, restart: Restart },
    /// A pipeline of records.
    Records { pipeline: config::Pipeline<RecordsFile>, restart: Restart },
    /// The command flow. It holds the secret itself, which may change while the file does not.
    Commands { commands: Commands, secret: Option<Secret>, restart: Restart },
    /// Discards the input of a port that no command flow reads.
    UnreadPort(UnreadPort),
}

/// A port that no command flow reads.
#[derive(Clone, PartialEq)]
pub(in crate::agent) struct UnreadPort {
    /// The port.
    pub target: port::Target,
    /// The agent's events are sent to its host. True of at most one port.
    pub sends_events: bool,
    /// The command flow that read the port until its file was removed, and its secret.
    pub before: Option<(Commands, Secret)>,
}

/// Identifies a flow across reloads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::agent) enum Key {
    Pipeline(String),
    Commands,
    UnreadPort(String),
}

impl Wanted {
    pub(in crate::agent) fn key(&self) -> Key {
        match self {
            Self::Metrics { pipeline, .. } => Key::Pipeline(pipeline.name.clone()),
            Self::Records { pipeline, .. } => Key::Pipeline(pipeline.name.clone()),
            Self::Commands { .. } => Key::Commands,
            Self::UnreadPort(unread_port) => Key::UnreadPort(unread_port.target.to_string()),
        }
    }
}

impl Key {
    /// The name in reports; `None` for a flow that no file declares.
    pub(in crate::agent) fn shown(&self) -> Option<&str> {
        match self {
            Self::Pipeline(name) => Some(name),
            Self::Commands => Some("commands"),
            Self::UnreadPort(_) => None,
        }
    }
}

/// The result of reading the files: all flows to run, and what they need.
pub(in crate::agent) struct Plan {
    /// The settings of the files.
    pub agent: AgentSettings,
    /// The flows to run.
    pub wanted: Vec<Wanted>,
    /// The state of the new command flow, if there is one.
    pub command_state: Option<CommandState>,
    /// The memory limit of the process, such as its control group's.
    pub limit: Option<MemoryLimit>,
    /// Ports to open.
    pub openings: Vec<Opening>,
    /// Changes that need a restart of the agent.
    pub at_restart: Vec<String>,
    /// Files of a folder that are skipped because they generate synthetic readings.
    pub skipped: Vec<String>,
}

/// Formats the output for a person when the pipeline writes to ports only.
fn make_readable(pipeline: &mut config::Pipeline) {
    let file = &mut pipeline.file;
    if file.write.iter().all(|write| matches!(write.target, Target::Port(_))) {
        file.serialize.format = Format::Pretty;
        file.write.iter_mut().for_each(|write| write.format = None);
    }
}

impl Origin {
    /// Reads the files.
    ///
    /// # Errors
    /// All errors of the files.
    pub(in crate::agent) fn load(&self) -> Result<Loaded, AgentError> {
        let loaded = config::load(&self.paths, &|name| std::env::var(name).ok());
        let mut loaded = loaded.map_err(AgentError::Files)?;
        if let Some(folder) = &self.chosen {
            loaded.agent.state.folder.clone_from(folder);
        }
        Ok(loaded)
    }

    /// Whether `--port stdio` is a terminal.
    fn is_for_a_person(&self) -> bool {
        self.port == Some(port::Target::Stdio) && io::stdout().is_terminal()
    }

    /// Plans the flows of `loaded`. `settings` are those of the start, `command_state` is that of the running command flow,
    /// and `open` lists the open ports, with whether each has its spool on disk.
    ///
    /// # Errors
    /// The files cannot be run, or not here.
    pub(in crate::agent) fn plan(
        &self,
        loaded: Loaded,
        settings: &AgentSettings,
        (command_state, open): (Option<&CommandState>, &[(port::Target, bool)]),
        stop: &CancellationToken,
    ) -> Result<Plan, AgentError> {
        can_run(&loaded)?;
        let conflicts = config::conflicts(&loaded, self.state.path(), self.port.as_ref());
        if !conflicts.is_empty() {
            return Err(AgentError::Conflicts(conflicts));
        }
        let Loaded { mut pipelines, records, skipped, commands, agent, .. } = loaded;
        if self.is_for_a_person() {
            pipelines.iter_mut().for_each(make_readable);
        }
        let restart = restart(&agent);
        let ports = Ports::new(self.port.clone(), &StatsRegistry::default(), stop);
        let mut named = BTreeMap::new();
        let mut uses = PortUses::default();
        let mut wanted = Vec::new();
        for pipeline in pipelines {
            for write in &pipeline.file.write {
                if let Target::Port(name) = &write.target {
                    let target = ports.resolve(name)?;
                    let format = pipeline.file.format_of(write);
                    let durable = write.delivery == Delivery::Durable;
                    uses.add(&target, format == Format::Infinibay, durable);
                    named.insert(target.to_string(), target);
                }
            }
            wanted.push(Wanted::Metrics { pipeline, restart: restart.clone() });
        }
        for pipeline in records {
            for write in &pipeline.file.write {
                if let Target::Port(name) = &write.target {
                    let target = ports.resolve(name)?;
                    uses.add(&target, false, write.delivery == Delivery::Durable);
                    named.insert(target.to_string(), target);
                }
            }
            wanted.push(Wanted::Records { pipeline, restart: restart.clone() });
        }
        let (mut next, mut asks) = (None, None);
        if let Some(commands) = commands {
            let secret = commands.file.secret()?;
            if secret.is_some()
                && let Err(error) = secret::harden()
            {
                tracing::warn!(%error, "a core dump of the agent would hold the shared secret");
            }
            let target = ports.resolve(&commands.file.receive().port)?;
            named.remove(&target.to_string());
            let unlocked = secret.is_some();
            let durable = unlocked && commands.file.reply.delivery == Delivery::Durable;
            uses.add(&target, true, durable);
            asks = Some(target.to_string());
            next = Some(match command_state {
                Some(before) => before.under(&commands.file, unlocked)?,
                None => CommandState::begin(&commands.file, &self.state, unlocked, stop)?,
            });
            if let Some(next) = &mut next {
                next.last = secret.clone().map(|secret| (commands.clone(), secret));
            }
            wanted.push(Wanted::Commands { commands, secret, restart });
        } else if let (Some(port), true) = (&self.port, named.is_empty()) {
            return Err(AgentError::NothingForPort(port.clone()));
        }
        let has_commands = asks.is_some();
        let last = command_state
            .and_then(|command_state| command_state.last.clone())
            .filter(|_| !has_commands);
        wanted.extend(unread_port(&ports, named, &uses, last, has_commands)?);
        // The user has not asked for built-in pipelines, so skipping one is not reported.
        let origins = skipped.iter().map(|made| made.origin.clone());
        let skipped = origins.filter(|origin| !origin.starts_with("built-in:")).collect();
        let (openings, at_restart) = uses.openings(asks.as_deref(), open, (&self.state, settings));
        let limit = MemoryLimit::find();
        if let Some(next) = &next {
            let nonces = limit.as_ref().map_or(NONCES_KEPT, |limit| limit.nonces(NONCES_KEPT));
            next.log.keep_nonces(nonces);
        }
        Ok(Plan { agent, wanted, command_state: next, limit, openings, at_restart, skipped })
    }
}

/// The ports in `named` that no command flow reads. `last` is the command flow that was removed, and may have read one
/// of them. Without a command flow (`has_commands`) the events go to that port, or else to the first that opens sessions.
fn unread_port(
    ports: &Ports,
    named: BTreeMap<String, port::Target>,
    uses: &PortUses,
    last: Option<(Commands, Secret)>,
    has_commands: bool,
) -> Result<Vec<Wanted>, port::InvalidTarget> {
    let at = last.as_ref().map(|(commands, _)| ports.target(&commands.file.receive().port));
    let at = at.transpose()?.map(|target| target.to_string());
    let at = at.filter(|at| named.contains_key(at));
    let opens_sessions = |name: &&String| uses.0.get(*name).is_some_and(|line| line.opens_sessions);
    let sends_events =
        at.clone().or_else(|| named.keys().find(opens_sessions).cloned()).filter(|_| !has_commands);
    let one = |(name, target): (String, port::Target)| {
        let before = last.clone().filter(|_| at.as_ref() == Some(&name));
        Wanted::UnreadPort(UnreadPort {
            target,
            sends_events: sends_events.as_ref() == Some(&name),
            before,
        })
    };
    Ok(named.into_iter().map(one).collect())
}

/// The uses of each port.
#[derive(Default)]
struct PortUses(BTreeMap<String, PortUse>);

struct PortUse {
    target: port::Target,
    /// The Infinibay host reads it.
    opens_sessions: bool,
    /// It carries durable messages.
    durable: bool,
}

impl PortUses {
    fn add(&mut self, target: &port::Target, opens_sessions: bool, durable: bool) {
        let new = || PortUse { target: target.clone(), opens_sessions: false, durable: false };
        let line = self.0.entry(target.to_string()).or_insert_with(new);
        line.opens_sessions |= opens_sessions;
        line.durable |= durable;
    }

    /// The ports to open, and the spools that cannot be created before a restart. The spool of the command flow's port, or
    /// else of the first durable port, is in the state folder itself; any other is in a subfolder.
    fn openings(
        self,
        commands: Option<&str>,
        open: &[(port::Target, bool)],
        (folder, settings): (&StateFolder, &AgentSettings),
    ) -> (Vec<Opening>, Vec<String>) {
        let kept: Vec<&String> =
            self.0.iter().filter(|(_, line)| line.durable).map(|(name, _)| name).collect();
        let first = commands.or(kept.first().map(|name| name.as_str())).map(str::to_owned);
        let (mut openings, mut at_restart) = (Vec::new(), Vec::new());
        for (name, PortUse { target, opens_sessions, durable }) in self.0 {
            match open.iter().find(|(known, _)| *known == target) {
                Some((_, on_disk)) if durable && !on_disk => {
                    at_restart.push(format!("spool of {name}"))
                }
                Some(_) => {}
                None if !durable => {
                    openings.push(Opening { opens_sessions, ..Opening::in_memory(target) })
                }
                None if first.as_deref() == Some(&name) => {
                    openings.push(Opening::on_disk(target, opens_sessions, folder, settings));
                }
                None => {
                    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
                    let own = format!("spool-of-{}", name.chars().map(plain).collect::<String>());
                    openings.push(Opening::on_disk(
                        target,
                        opens_sessions,
                        &folder.within(&own),
                        settings,
                    ));
                }
            }
        }
        (openings, at_restart)
    }
}

/// Whether there is something to run, and nothing synthetic.
fn can_run(loaded: &Loaded) -> Result<(), AgentError> {
    if let Some(synthetic) = loaded.pipelines.iter().find(|made| made.file.generate.is_some()) {
        return Err(AgentError::Synthetic(synthetic.origin.clone()));
    }
    if loaded.pipelines.is_empty() && loaded.records.is_empty() && loaded.commands.is_none() {
        return Err(AgentError::NothingToRun);
    }
    Ok(())
}

fn restart(agent: &AgentSettings) -> Restart {
    let settings = &agent.restart;
    Restart {
        budget: settings.budget.items(),
        within: settings.within.get(),
        base: settings.base.get(),
        max: settings.max.get(),
    }
}
