//! What must be read by the host of a port: its spool, its keeper, and the words of the port's own. Starts
//! nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, watch};

use crate::agent::identity;
use crate::commands::notify::control_messages::ControlMessages;
use crate::commands::reply;
use crate::config::AgentSettings;
use crate::files::StateFolder;
use crate::machine_events;
use crate::pipeline::{StageStats, Task};
use crate::port::{Port, Target};
use crate::spool::{
    self, ASIDE, Acks, DurableMessage, File, Machine, Settings, Spool, SpoolStatus, SpoolTask,
};

/// Items between whoever says what must be read and the keeper; it writes all that are there at once.
const MUST_WAITING: usize = 64;

/// A port that is to be opened.
pub struct Opening {
    /// Which.
    pub target: Target,
    /// Whether it opens its sessions and asks its host, in the words of today's.
    pub speaks: bool,
    /// Whether the spool is a file.
    pub on_disk: bool,
    /// What is kept for its host.
    pub spool: Spool<File>,
    /// Which boot of the machine this is.
    pub boot_id: String,
}

/// A port with a keeper before it.
pub struct DurablePort {
    /// Where to say what must be read.
    pub must: mpsc::Sender<DurableMessage>,
    /// The machine has become another one: what waits was said by that one.
    pub became: watch::Sender<Option<Machine>>,
    /// What waits.
    pub backlog: SpoolStatus,
    /// Which requests' answers the host has read.
    pub acks: Acks,
    /// The keeper.
    pub task: Box<dyn Task>,
}

impl Opening {
    /// A port whose spool is in `folder`. Blocks: it reads the spool. What was found goes to the log.
    pub fn on_disk(
        target: Target,
        speaks: bool,
        folder: &StateFolder,
        agent: &AgentSettings,
    ) -> Self {
        let boot_id = boot_id();
        let settings = Settings {
            size: agent.spool.size.bytes(),
            identity: machine_events::identity(Path::new("/")),
            boot_id: boot_id.clone(),
            word: Some(reply::lost),
        };
        let (spool, opened) = spool::open(folder, &settings, spool::millis(SystemTime::now()));
        if opened.cloned {
            let dropped = opened.dropped;
            tracing::warn!(
                dropped,
                "the spool is another machine's, of which this one is a copy: dropped"
            );
        }
        for wrong in &opened.wrong {
            let (offset, bytes, waiting) = (wrong.offset, wrong.bytes, opened.waiting);
            tracing::warn!(offset, bytes, waiting, what = wrong.what, "the spool was damaged");
        }
        if opened.aside {
            tracing::warn!(
                "nothing of the spool can be used; it is kept as {ASIDE}, beside a new one"
            );
        }
        if opened.waiting > 0 {
            let waiting = opened.waiting;
            tracing::info!(waiting, "messages of an earlier run wait for the host");
        }
        Self { target, speaks, on_disk: true, spool, boot_id }
    }

    /// A port with nothing on disk.
    pub fn in_memory(target: Target) -> Self {
        let boot_id = boot_id();
        // Nothing of it outlives this run, so whose it is does not matter.
        let settings = Settings {
            size: spool::SIZE,
            identity: String::new(),
            boot_id: boot_id.clone(),
            word: Some(reply::lost),
        };
        let (spool, _) = Spool::in_memory(&settings, spool::millis(SystemTime::now()));
        Self { target, speaks: true, on_disk: false, spool, boot_id }
    }
}

/// Puts a keeper before `port`, which opens its sessions from now on, if `voice` is there.
pub fn keep(
    port: &mut Port,
    spool: Spool<File>,
    voice: Option<ControlMessages>,
    node: Arc<StageStats>,
) -> DurablePort {
    if let Some(voice) = voice {
        port.voice(voice);
    }
    let (must, inbox) = mpsc::channel(MUST_WAITING);
    let (lane, read) = port.must();
    let (keeper, backlog, became) = SpoolTask::new(spool, inbox, lane, read, node);
    let acks = keeper.acks();
    DurablePort { must, became, backlog, acks, task: Box::new(keeper.voiding(port.void())) }
}

fn boot_id() -> String {
    identity::of_this_machine(None).boot_id.unwrap_or_default()
}
