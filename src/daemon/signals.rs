//! The signals that end the daemon, and the one that has it read its files again. Does not end anything
//! itself but on the second one.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::reload::Asked;

/// The signals, heard from now on.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    /// Heard so that a write beyond the limit on files is an error of that write, and not the end of the agent.
    _file_size: Signal,
}

/// Hears the signals, none of which does from now on what it does to other programs.
pub fn hear() -> std::io::Result<Signals> {
    Ok(Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        hang_up: signal(SignalKind::hangup())?,
        _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
    })
}

/// Calls `stop` at the first SIGINT or SIGTERM; at the second one the program ends at once, with
/// 128 and the signal's number, as a shell would tell it. Asks for a reload at SIGHUP.
pub async fn listen(mut signals: Signals, stop: CancellationToken, reload: mpsc::Sender<Asked>) {
    let Signals { interrupt, terminate, hang_up, .. } = &mut signals;
    loop {
        let (name, number) = tokio::select! {
            _ = interrupt.recv() => ("SIGINT", 2),
            _ = terminate.recv() => ("SIGTERM", 15),
            _ = hang_up.recv() => {
                // Where so many wait already, one of them reads what is there now.
                let _ = reload.try_send(Asked::by("SIGHUP"));
                continue;
            }
        };
        if stop.is_cancelled() {
            tracing::warn!(signal = name, "stopping at once; what is held is lost");
            std::process::exit(128 + number);
        }
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        stop.cancel();
    }
}
