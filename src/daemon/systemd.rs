//! What systemd wants to hear (`sd_notify(3)`): ready, reloading, stopping, alive. Does nothing where nobody asks.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

/// Says that the daemon runs.
pub async fn ready() {
    tell(|| sd_notify::notify(&[NotifyState::Ready])).await;
}

/// Says that the daemon reads its files again, and until it is [`ready`] the next time is busy with that (`Type=notify-reload`).
pub async fn reloading() {
    tell(|| sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])).await;
}

/// Says that the daemon is on its way out.
pub async fn stopping() {
    tell(|| sd_notify::notify(&[NotifyState::Stopping])).await;
}

/// Says again and again that the daemon is alive, twice as often as `WATCHDOG_USEC` asks; for ever
/// silent where no watchdog is set.
///
/// It runs beside the flows on the same runtime, so a runtime that is stuck is not alive.
pub async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut beat = interval((limit / 2).max(Duration::from_millis(1)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        tell(|| sd_notify::notify(&[NotifyState::Watchdog])).await;
    }
}

/// The socket is written on the blocking pool: a full one would hold up the worker.
async fn tell(notify: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
    if let Ok(Err(error)) = spawn_blocking(notify).await {
        tracing::warn!(%error, "systemd could not be told");
    }
}
