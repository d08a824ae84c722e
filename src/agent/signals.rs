//! Signals: SIGINT and SIGTERM stop the daemon, SIGHUP reloads its files.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::reload::ReloadRequest;

/// The signals that the agent handles.
pub struct Signals {
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
pub fn unblock() -> std::io::Result<()> {
    Ok(nix::sys::signal::SigSet::empty().thread_set_mask()?)
}

/// Installs handlers for the signals, which replace their default actions.
pub fn register() -> std::io::Result<Signals> {
    Ok(Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        hang_up: signal(SignalKind::hangup())?,
        _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        _ignored: ignored(inherited_ignored()).map(signal).collect::<std::io::Result<_>>()?,
    })
}

/// The signals that were ignored at the start, the first in the lowest bit (`SigIgn` of `proc_pid_status(5)`). None
/// where there is no `/proc`.
fn inherited_ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

/// The ignored signals of `set` that can be handled and have a default to go back to. SIGPIPE is ignored by Rust
/// itself, which sets it back for a program that it starts; those from 32 on the C library keeps for itself, or are
/// unused.
fn ignored(set: u64) -> impl Iterator<Item = SignalKind> {
    use rustix::process::Signal;
    const CANNOT: [Signal; 6] =
        [Signal::PIPE, Signal::KILL, Signal::STOP, Signal::ILL, Signal::FPE, Signal::SEGV];
    let can = |number: &i32| CANNOT.iter().all(|signal| signal.as_raw() != *number);
    (1..32).filter(move |number| set >> (number - 1) & 1 == 1).filter(can).map(SignalKind::from_raw)
}

/// Calls `stop` at the first SIGINT or SIGTERM; at the second one the program ends at once, with
/// 128 and the signal's number, as a shell reports it. Requests a reload at SIGHUP.
pub async fn listen(
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
                let _ = reload.try_send(ReloadRequest::by("SIGHUP"));
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
