//! `infiniservice-host relay`: reads all guests of this machine, until SIGINT or SIGTERM. What it does is in
//! [`crate::relay`].

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::{Failed, print, say};
use crate::agent;
use crate::cli::{EXIT_CONFIG, EXIT_OUTPUT, EXIT_SPENT, EXIT_SYSTEM, complain, interrupted};
use crate::commands::secret::harden;
use crate::config::{
    NO_RULES, NO_TOKEN, OPEN_HELP, RULES_HELP, RelayFile, TOKEN_HELP, Web, load_relay,
};
use crate::pipeline::{ExitStatus, Outcome};
use crate::relay;
use crate::relay::error::RelayError;

#[derive(Debug, Args)]
pub(super) struct Relay {
    /// The relay's file, which says which sockets it reads and where the lines go; see docs/relay.md
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Serve the web page of all guests at this address, whatever [web] of the file says; an address that other machines
    /// can reach needs token in [web]
    #[arg(long, value_name = "ADDRESS:PORT")]
    web: Option<SocketAddr>,

    /// Let the web page send those commands to guests that [commands] of the file allows; needs token in [web]
    #[arg(long)]
    allow_commands: bool,

    /// Check the file and exit
    #[arg(long)]
    check: bool,

    /// Print the key of a guest, which is derived from [guests] master, and exit; put it into the guest's agent.env
    #[arg(long, value_name = "VM", conflicts_with = "check")]
    key: Option<String>,
}

/// What is wrong with rules that nothing asks.
const UNUSED_RULES: &str = "[commands] has no effect: add commands = true to [nats] or [web], or start with --allow-commands";

/// Why `--allow-commands` has no effect.
#[derive(Debug, Error)]
enum NoCommands {
    #[error("--allow-commands: there is no web page; add --web ADDRESS:PORT, or [web] to the file")]
    Page,
    #[error("--allow-commands: {NO_RULES}; {RULES_HELP}")]
    Rules,
    #[error("--allow-commands: {NO_TOKEN}; {TOKEN_HELP}")]
    Token,
}

/// Lets the web page of `file` take commands.
///
/// # Errors
/// There is no page, no rule or no token.
fn take_commands(file: &mut RelayFile) -> Result<(), NoCommands> {
    let has_rules = file.commands.is_some();
    match &mut file.web {
        None => Err(NoCommands::Page),
        Some(_) if !has_rules => Err(NoCommands::Rules),
        Some(web) if web.token.is_none() => Err(NoCommands::Token),
        Some(web) => {
            web.commands = true;
            Ok(())
        }
    }
}

impl Relay {
    pub(super) fn run(&self) -> Result<u8, Failed> {
        let failed = |code, what| Failed { code, what };
        let loaded = load_relay(&self.config, &|name| std::env::var(name).ok());
        let (mut file, warnings) = match loaded {
            Ok(loaded) => loaded,
            Err(errors) => {
                errors.iter().for_each(|error| complain(&error.to_string()));
                return Ok(EXIT_CONFIG);
            }
        };
        if let Some(address) = self.web {
            let web = file.web.get_or_insert_with(|| Web::at(address));
            web.address = address;
            if web.is_open() {
                let what = format!("other machines could read the page at {address}: {OPEN_HELP}");
                return Err(failed(EXIT_CONFIG, what));
            }
        }
        if self.allow_commands {
            take_commands(&mut file).map_err(|what| failed(EXIT_CONFIG, what.to_string()))?;
        }
        if self.check {
            if file.is_without_commands() {
                complain(UNUSED_RULES);
            }
            warnings.iter().for_each(|warning| complain(&warning.to_string()));
            say(&format!("{} is right", self.config.display()));
            return Ok(0);
        }
        if file.guests.signs() || file.web.as_ref().is_some_and(|web| web.token.is_some()) {
            harden().map_err(|error| failed(EXIT_SYSTEM, error.to_string()))?;
        }
        if let Some(vm) = &self.key {
            let key =
                file.guests.key(vm).map_err(|error| failed(EXIT_CONFIG, error.to_string()))?;
            let none =
                || failed(EXIT_CONFIG, "there is no secret and no master in [guests]".to_owned());
            let key = String::from_utf8_lossy(key.ok_or_else(none)?.expose()).into_owned();
            return match print(&format!("{key}\n")) {
                Ok(()) => Ok(0),
                Err(error) => Err(failed(EXIT_OUTPUT, format!("cannot print the key: {error}"))),
            };
        }
        // A descriptor for each guest; what is not allowed is reported by each connection that fails.
        let most = getrlimit(Resource::Nofile).maximum;
        let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime
            .map_err(|error| failed(EXIT_SYSTEM, format!("cannot start the runtime: {error}")))?;
        let level = std::env::var("RUST_LOG").ok().filter(|level| !level.trim().is_empty());
        let log = agent::start_log(&level.unwrap_or_else(|| "info,async_nats=error".to_owned()));
        let log = log.map_err(|what| failed(EXIT_CONFIG, what.to_string()))?.write_on(&runtime);
        for warning in &warnings {
            tracing::warn!("{}", warning.line());
        }
        if file.is_without_commands() {
            tracing::warn!("{UNUSED_RULES}");
        }
        let stop = CancellationToken::new();
        let ended = runtime.block_on(async {
            let relay = relay::run(file, stop.clone());
            let mut relay = std::pin::pin!(relay);
            tokio::select! {
                biased;
                () = interrupted() => {}
                ended = &mut relay => return ended,
            }
            tracing::info!("stopping");
            stop.cancel();
            tokio::select! {
                biased;
                () = interrupted() => Err(RelayError::StoppedAtOnce),
                ended = relay => ended,
            }
        });
        drop(log);
        runtime.shutdown_background();
        match ended {
            Err(error) => Err(failed(EXIT_SYSTEM, error.to_string())),
            Ok(Outcome { end: ExitStatus::Spent, .. }) => Ok(EXIT_SPENT),
            Ok(_) => Ok(0),
        }
    }
}
