//! What must be read by the host of a port: its spool, its keeper, and the words of the port's own. Starts
//! nothing.

use std::path::Path;
use std::time::SystemTime;

use tokio::sync::{mpsc, watch};

use super::identity;
use crate::commands::voice::AgentVoice;
use crate::config::AgentSettings;
use crate::delivery::{self, Backlog, Keeper, Must, Settings, Spool};
use crate::pipeline::{Health, Task};
use crate::port::Port;

/// Items between whoever says what must be read and the keeper; it writes all that are there at once.
const MUST_WAITING: usize = 64;

/// What a port needs so that something is kept for its host.
pub struct Keeping {
    /// Where to say what must be read.
    pub must: mpsc::Sender<Must>,
    /// What waits.
    pub backlog: Backlog,
    /// The machine has become another one: what waits was said by that one.
    pub became: watch::Sender<Option<String>>,
    /// The keeper.
    pub task: Box<dyn Task>,
}

/// Opens the spool in `folder`, or none on disk, and puts a keeper before `port`, which opens its sessions from
/// now on. Blocks: it reads the spool. What was found goes to the log.
pub fn keep(
    port: &mut Port,
    folder: Option<&Path>,
    agent: &AgentSettings,
    health: &Health,
) -> Keeping {
    let boot_id = identity::of_this_machine(None).boot_id;
    let settings = Settings {
        size: agent.spool.size.bytes(),
        identity: String::new(),
        boot_id: boot_id.clone().unwrap_or_default(),
    };
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let (spool, opened) = match folder {
        Some(folder) => delivery::open(folder, &settings, now_ms),
        None => Spool::in_memory(&settings, now_ms),
    };
    if opened.cloned {
        let dropped = opened.dropped;
        tracing::warn!(
            dropped,
            "the spool is another machine's, of which this one is a copy: dropped"
        );
    }
    for wrong in &opened.wrong {
        let (offset, bytes) = (wrong.offset, wrong.bytes);
        tracing::warn!(
            offset,
            bytes,
            what = wrong.what,
            "the spool was damaged; the rest of it is kept"
        );
    }
    if opened.waiting > 0 {
        tracing::info!(
            waiting = opened.waiting,
            "what an earlier run had to tell waits for the host"
        );
    }
    port.voice(AgentVoice::new(spool.epochs(), boot_id));
    let (must, inbox) = mpsc::channel(MUST_WAITING);
    let (lane, read) = port.must();
    let (keeper, backlog, became) =
        Keeper::new(spool, inbox, lane, read, health.node("keeper".to_owned()));
    Keeping { must, backlog, became, task: Box::new(keeper) }
}
