//! Signals: SIGINT and SIGTERM stop the daemon, SIGHUP reloads its files.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::reload::{HANG_UP, ReloadRequest};
use crate::commands::process::exec_helper::ignored_signals;

/// The signals that the agent handles.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    /// Handled so that a write beyond the limit on files is an error of that write, and not the end of the agent.
    _file_size: Signal,
    /// Those that the parent has ignored, as `nohup` does with SIGHUP. The agent ignores them by handling them: a program
    /// that it starts then begins with the default action, and not with an ignored signal (`execve(2)`).
    _ignored: Vec<Signal>,
}

/// Blocks none, in this thread and those it starts: the parent may have blocked SIGTERM, and a
/// blocked signal stays blocked in what it starts (`signal(7)`). To be called before there is another thread.
///
/// # Errors
/// None that `sigprocmask(2)` knows of.
pub(crate) fn unblock() -> std::io::Result<()> {
    Ok(nix::sys::signal::SigSet::empty().thread_set_mask()?)
}

/// Installs handlers for the signals, which replace their default actions.
pub(super) fn register() -> std::io::Result<Signals> {
    Ok(Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        hang_up: signal(SignalKind::hangup())?,
        _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        _ignored: ignored_signals().map(signal).collect::<std::io::Result<_>>()?,
    })
}

/// Calls `stop` at the first SIGINT or SIGTERM; at the second one the program ends at once, with
/// 128 and the signal's number, as a shell reports it. Requests a reload at SIGHUP.
pub(super) async fn listen(
    mut signals: Signals,
    stop: CancellationToken,
    reload: mpsc::Sender<ReloadRequest>,
) {
    let Signals { interrupt, terminate, hang_up, .. } = &mut signals;
    loop {
        let (name, number) = tokio::select! {
            _ = interrupt.recv() => ("SIGINT", 2),
            _ = terminate.recv() => ("SIGTERM", 15),
            _ = hang_up.recv() => {
                // When the queue is full, a request in it reads the current files.
                let _ = reload.try_send(ReloadRequest::by(HANG_UP));
                continue;
            }
        };
        if stop.is_cancelled() {
            tracing::warn!(signal = name, "stopping at once; what is held is lost");
            crate::agent::log::end();
            std::process::exit(128 + number);
        }
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        stop.cancel();
    }
}
