//! A port with a spool: durable messages go to the spool task, which sends them to the port until they are acknowledged.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, watch};

use crate::commands::notify::control_messages::ControlMessages;
use crate::commands::reply;
use crate::config::AgentSettings;
use crate::files::StateFolder;
use crate::machine_events;
use crate::pipeline::{StageStats, Task};
use crate::port::{Port, Target};
use crate::record_file::File;
use crate::spool::{
    self, Acks, DurableMessage, Machine, NAMES, Settings, Spool, SpoolStatus, SpoolTask,
};

/// Durable messages that wait for the spool task, which writes all of them at once.
const DURABLE_WAITING: usize = 64;

/// A port to open.
pub struct Opening {
    /// Its address.
    pub target: Target,
    /// It opens sessions and sends control messages in the Infinibay protocol.
    pub opens_sessions: bool,
    /// The spool is a file.
    pub on_disk: bool,
    /// The durable messages for its host.
    pub spool: Spool<File>,
    /// The boot id of the machine.
    pub boot_id: String,
}

/// A port and its spool task.
pub(super) struct DurablePort {
    /// Takes durable messages.
    pub durable: mpsc::Sender<DurableMessage>,
    /// Tells the spool task that the machine was restored or cloned: it drops the messages of the old one.
    pub machine_changed: watch::Sender<Option<Machine>>,
    /// The status of the spool.
    pub status: SpoolStatus,
    /// The requests whose replies are acknowledged.
    pub acks: Acks,
    /// The spool task.
    pub task: Box<dyn Task>,
}

impl Opening {
    /// A port with a spool in `folder`. Reads the spool, so it blocks; logs corruption and leftover messages.
    pub fn on_disk(
        target: Target,
        opens_sessions: bool,
        folder: &StateFolder,
        agent: &AgentSettings,
    ) -> Self {
        let boot_id = boot_id();
        let settings = Settings {
            size: agent.spool.size.bytes(),
            identity: machine_events::identity(Path::new("/")),
            boot_id: boot_id.clone(),
            tombstone: Some(reply::lost),
        };
        let (spool, opened) = spool::open(folder, &settings, spool::millis(SystemTime::now()));
        if opened.cloned {
            let dropped = opened.dropped;
            tracing::warn!(
                dropped,
                "the spool belongs to another machine, of which this one is a copy: it is dropped"
            );
        }
        for wrong in &opened.corruptions {
            let (offset, bytes, waiting) = (wrong.offset, wrong.bytes, opened.waiting);
            tracing::warn!(offset, bytes, waiting, what = wrong.what, "the spool was damaged");
        }
        if opened.aside {
            tracing::warn!(
                "nothing of the spool can be used; it is kept as {}, beside a new one",
                NAMES.aside
            );
        }
        if opened.waiting > 0 {
            let waiting = opened.waiting;
            tracing::info!(waiting, "messages of an earlier run wait for the host");
        }
        Self { target, opens_sessions, on_disk: true, spool, boot_id }
    }

    /// A port with a spool in memory only.
    pub fn in_memory(target: Target) -> Self {
        let boot_id = boot_id();
        // The spool ends with this run, so it needs no identity.
        let settings = Settings {
            size: spool::SIZE,
            identity: String::new(),
            boot_id: boot_id.clone(),
            tombstone: Some(reply::lost),
        };
        let (spool, _) = Spool::in_memory(&settings, spool::millis(SystemTime::now()));
        Self { target, opens_sessions: true, on_disk: false, spool, boot_id }
    }
}

/// Connects `spool` to `port`. With `control` the port opens sessions.
pub(super) fn attach_spool(
    port: &mut Port,
    spool: Spool<File>,
    control: Option<ControlMessages>,
    node: Arc<StageStats>,
) -> DurablePort {
    if let Some(control) = control {
        port.control_lines(control);
    }
    let (durable, inbox) = mpsc::channel(DURABLE_WAITING);
    let (lane, read) = port.durable();
    let (spool_task, status, machine_changed) = SpoolTask::new(spool, inbox, lane, read, node);
    let acks = spool_task.acks();
    DurablePort {
        durable,
        machine_changed,
        status,
        acks,
        task: Box::new(spool_task.with_discarded(port.discarded())),
    }
}

fn boot_id() -> String {
    crate::files::identity::of_this_machine(None).boot_id.unwrap_or_default()
}
