//! What the files want to run, with everything looked at that can be wrong with it. Starts nothing, and
//! blocks on files: not for an async worker.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::agent::durable_port::Opening;
use crate::agent::port_registry::Ports;
use crate::agent::reload::command_state::CommandState;
use crate::commands::verify::secret::{self, Secret};
use crate::config::{self, AgentSettings, Commands, Delivery, Loaded, MemoryLimit, Target};
use crate::files::StateFolder;
use crate::pipeline::{Restart, StatsRegistry};
use crate::port;
use crate::wire::Format;

/// Where the files are, and what they cannot change.
#[derive(Debug, Clone)]
pub(in crate::agent) struct Origin {
    /// The files and folders, as they were named.
    pub paths: Vec<PathBuf>,
    /// Takes the place of every port that a file names.
    pub port: Option<port::Target>,
    /// The state folder.
    pub state: StateFolder,
    /// Where that is, if it was said at the start: then no file can name another.
    pub chosen: Option<PathBuf>,
}

/// A flow that is to run. Two that are equal need no change.
#[derive(Clone, PartialEq)]
pub(in crate::agent) enum Wanted {
    /// A pipeline.
    Metrics { pipeline: config::Pipeline, restart: Restart },
    /// The command flow. With the secret itself, which may change where the file does not.
    Commands { commands: Commands, secret: Option<Secret>, restart: Restart },
    /// Takes what comes in at a port that no command flow reads.
    Unheard(Unheard),
}

/// A port that no command flow reads.
#[derive(Clone, PartialEq)]
pub(in crate::agent) struct Unheard {
    /// Which.
    pub target: port::Target,
    /// Whether its host is told the news: at most one port's is.
    pub tells: bool,
    /// The command flow that was there until its file was removed, and what its host signs with.
    pub before: Option<(Commands, Secret)>,
}

/// What a flow is known by over reloads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::agent) enum Key {
    Metrics(String),
    Commands,
    Unheard(String),
}

impl Wanted {
    pub(in crate::agent) fn key(&self) -> Key {
        match self {
            Self::Metrics { pipeline, .. } => Key::Metrics(pipeline.name.clone()),
            Self::Commands { .. } => Key::Commands,
            Self::Unheard(unheard) => Key::Unheard(unheard.target.to_string()),
        }
    }
}

impl Key {
    /// What a person calls it; nothing where a person need not know of it.
    pub(in crate::agent) fn shown(&self) -> Option<&str> {
        match self {
            Self::Metrics(name) => Some(name),
            Self::Commands => Some("commands"),
            Self::Unheard(_) => None,
        }
    }
}

/// Everything that is to run.
pub(in crate::agent) struct Plan {
    /// The settings of the files.
    pub agent: AgentSettings,
    /// The flows.
    pub wanted: Vec<Wanted>,
    /// For the command flow, where there is one.
    pub carried: Option<CommandState>,
    /// What the agent runs under.
    pub limit: Option<MemoryLimit>,
    /// Ports that are not open yet.
    pub openings: Vec<Opening>,
    /// What takes a restart of the agent.
    pub late: Vec<String>,
    /// Files of a folder that are not run, because they make readings up.
    pub skipped: Vec<String>,
}

/// Has a pipeline that writes to ports only write what a person can read. What else it writes to keeps its format.
fn make_readable(pipeline: &mut config::Pipeline) {
    let mut targets = pipeline.file.write.iter().map(|write| &write.target);
    if targets.all(|target| matches!(target, Target::Port(_))) {
        pipeline.file.serialize.format = Format::Pretty;
    }
}

impl Origin {
    /// Reads the files.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place.
    pub(in crate::agent) fn load(&self) -> Result<Loaded, Vec<String>> {
        let loaded = config::load(&self.paths, &|name| std::env::var(name).ok());
        let mut loaded: Loaded =
            loaded.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        if let Some(folder) = &self.chosen {
            loaded.agent.state.folder.clone_from(folder);
        }
        Ok(loaded)
    }

    /// Whether `--port stdio` is a terminal, where somebody reads what the port gets.
    fn is_for_a_person(&self) -> bool {
        self.port == Some(port::Target::Stdio) && io::stdout().is_terminal()
    }

    /// What `loaded` wants. `settings` are those the agent was started with, `carried` what a command flow before
    /// has left, and `open` the ports that are open, and
    /// whether what they must bring is on disk.
    ///
    /// # Errors
    /// A sentence.
    pub(in crate::agent) fn plan(
        &self,
        loaded: Loaded,
        settings: &AgentSettings,
        (carried, open): (Option<&CommandState>, &[(port::Target, bool)]),
        stop: &CancellationToken,
    ) -> Result<Plan, String> {
        can_run(&loaded)?;
        let conflicts = config::conflicts(&loaded, self.state.path(), self.port.as_ref());
        if !conflicts.is_empty() {
            return Err(conflicts.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        }
        let Loaded { mut pipelines, skipped, commands, agent, .. } = loaded;
        if self.is_for_a_person() {
            pipelines.iter_mut().for_each(make_readable);
        }
        let restart = restart(&agent);
        let ports = Ports::new(self.port.clone(), &StatsRegistry::default(), stop);
        let mut named = BTreeMap::new();
        let mut lines = Lines::default();
        let mut wanted = Vec::new();
        for pipeline in pipelines {
            for write in &pipeline.file.write {
                if let Target::Port(name) = &write.target {
                    let target = ports.resolve(name)?;
                    let format = pipeline.file.serialize.format;
                    let must = write.delivery == Delivery::Durable;
                    lines.add(&target, format == Format::Infinibay, must);
                    named.insert(target.to_string(), target);
                }
            }
            wanted.push(Wanted::Metrics { pipeline, restart: restart.clone() });
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
            let must = unlocked && commands.file.reply.delivery == Delivery::Durable;
            lines.add(&target, true, must);
            asks = Some(target.to_string());
            next = Some(match carried {
                Some(before) => before.under(&commands.file, unlocked)?,
                None => CommandState::begin(&commands.file, &self.state, unlocked, stop)?,
            });
            if let Some(next) = &mut next {
                next.last = secret.clone().map(|secret| (commands.clone(), secret));
            }
            wanted.push(Wanted::Commands { commands, secret, restart });
        } else if let (Some(port), true) = (&self.port, named.is_empty()) {
            return Err(format!(
                "no pipeline writes to a port, so there is nothing to send to {port}"
            ));
        }
        let is_told = asks.is_some();
        let last = carried.and_then(|carried| carried.last.clone()).filter(|_| !is_told);
        wanted.extend(unheard(&ports, named, &lines, last, is_told)?);
        // Those that are built in nobody has asked for.
        let origins = skipped.iter().map(|made| made.origin.clone());
        let skipped = origins.filter(|origin| !origin.starts_with("built-in:")).collect();
        let (openings, late) = lines.openings(asks.as_deref(), open, (&self.state, settings));
        let limit = MemoryLimit::find();
        Ok(Plan { agent, wanted, carried: next, limit, openings, late, skipped })
    }
}

/// The ports in `named`, which no command flow reads; the `last` one may have read one of them. Unless the news are
/// told (`is_told`), they are told there, or else at the first port that speaks.
fn unheard(
    ports: &Ports,
    named: BTreeMap<String, port::Target>,
    lines: &Lines,
    last: Option<(Commands, Secret)>,
    is_told: bool,
) -> Result<Vec<Wanted>, String> {
    let at = last.as_ref().map(|(commands, _)| ports.target(&commands.file.receive().port));
    let at = at.transpose()?.map(|target| target.to_string());
    let at = at.filter(|at| named.contains_key(at));
    let speaks = |name: &&String| lines.0.get(*name).is_some_and(|line| line.speaks);
    let tells = at.clone().or_else(|| named.keys().find(speaks).cloned()).filter(|_| !is_told);
    let one = |(name, target): (String, port::Target)| {
        let before = last.clone().filter(|_| at.as_ref() == Some(&name));
        Wanted::Unheard(Unheard { target, tells: tells.as_ref() == Some(&name), before })
    };
    Ok(named.into_iter().map(one).collect())
}

/// What each port carries.
#[derive(Default)]
struct Lines(BTreeMap<String, Line>);

struct Line {
    target: port::Target,
    /// Whether today's host reads it.
    speaks: bool,
    /// Whether something must be read, over a restart too.
    must: bool,
}

impl Lines {
    fn add(&mut self, target: &port::Target, speaks: bool, must: bool) {
        let new = || Line { target: target.clone(), speaks: false, must: false };
        let line = self.0.entry(target.to_string()).or_insert_with(new);
        line.speaks |= speaks;
        line.must |= must;
    }

    /// The ports that are not `open`, and what cannot be kept on disk before the agent is started again. What is
    /// kept for the host of the command flow, or of the only port for which something is, is in the state folder
    /// itself; for any other in a folder of its own in there.
    fn openings(
        self,
        commands: Option<&str>,
        open: &[(port::Target, bool)],
        (folder, settings): (&StateFolder, &AgentSettings),
    ) -> (Vec<Opening>, Vec<String>) {
        let kept: Vec<&String> =
            self.0.iter().filter(|(_, line)| line.must).map(|(name, _)| name).collect();
        let first = commands.or(kept.first().map(|name| name.as_str())).map(str::to_owned);
        let (mut openings, mut late) = (Vec::new(), Vec::new());
        for (name, Line { target, speaks, must }) in self.0 {
            match open.iter().find(|(known, _)| *known == target) {
                Some((_, on_disk)) if must && !on_disk => late.push(format!("spool of {name}")),
                Some(_) => {}
                None if !must => openings.push(Opening { speaks, ..Opening::in_memory(target) }),
                None if first.as_deref() == Some(&name) => {
                    openings.push(Opening::on_disk(target, speaks, folder, settings));
                }
                None => {
                    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
                    let own = format!("spool-of-{}", name.chars().map(plain).collect::<String>());
                    openings.push(Opening::on_disk(target, speaks, &folder.within(&own), settings));
                }
            }
        }
        (openings, late)
    }
}

/// Whether there is something to run, and nothing that must not.
fn can_run(loaded: &Loaded) -> Result<(), String> {
    if let Some(made_up) = loaded.pipelines.iter().find(|made| made.file.generate.is_some()) {
        return Err(format!(
            "{} has made-up readings; measure it with `infiniservice bench`",
            made_up.origin
        ));
    }
    if loaded.pipelines.is_empty() && loaded.commands.is_none() {
        return Err("no pipeline was found, so there is nothing to run".to_owned());
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
