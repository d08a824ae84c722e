//! The signals that end the daemon. Does not end anything itself but on the second one.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Calls `stop` at the first SIGINT or SIGTERM; at the second one the program ends at once, with
/// 128 and the signal's number, as a shell would tell it.
pub async fn listen(stop: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        let (name, number) = tokio::select! {
            _ = interrupt.recv() => ("SIGINT", 2),
            _ = terminate.recv() => ("SIGTERM", 15),
        };
        if stop.is_cancelled() {
            tracing::warn!(signal = name, "stopping at once; what is held is lost");
            std::process::exit(128 + number);
        }
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        stop.cancel();
    }
}
