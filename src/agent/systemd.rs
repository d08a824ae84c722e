//! Notifies systemd (`sd_notify(3)`): ready, reloading, stopping, alive. Does nothing without `NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::pipeline::LogLimit;

/// How long a message is tried while systemd does not read.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time between two tries.
const AGAIN: Duration = Duration::from_millis(100);

/// Reports that the daemon runs.
pub(super) async fn ready() {
    tell("READY=1\n").await;
}

/// Says that the daemon reads its files again, and until it is [`ready`] the next time is busy with that (`Type=notify-reload`).
pub(super) async fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let micros = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000;
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n")).await;
}

/// Reports that the daemon stops.
pub(super) async fn stopping() {
    tell("STOPPING=1\n").await;
}

/// Reports repeatedly that the daemon is alive, twice as often as `WATCHDOG_USEC` asks; for ever
/// silent where no watchdog is set.
///
/// It runs beside the flows on the same runtime, so a runtime that is stuck is not alive.
pub(super) async fn watchdog() {
    let Some(limit) = watchdog_limit() else {
        return std::future::pending().await;
    };
    let mut beat = interval((limit / 2).max(Duration::from_millis(1)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = LogLimit::default();
    loop {
        beat.tick().await;
        if let Err(error) = send("WATCHDOG=1\n")
            && failing.happened(Instant::now()).is_some()
        {
            tracing::warn!(%error, "the watchdog of systemd could not be notified");
        }
    }
}

/// `sd_watchdog_enabled(3)`: the time after which systemd misses a sign of life, if it waits for this process's.
fn watchdog_limit() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let is_other = std::env::var_os("WATCHDOG_PID").is_some()
        && number("WATCHDOG_PID") != Some(std::process::id().into());
    number("WATCHDOG_USEC").filter(|micros| *micros > 0 && !is_other).map(Duration::from_micros)
}

/// Sends `state`; while the socket is full, again for [`PATIENCE`].
async fn tell(state: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        match send(state) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < until => {
                sleep(AGAIN).await;
            }
            Err(error) => return tracing::warn!(%error, "systemd could not be notified"),
            Ok(()) => return,
        }
    }
}

/// Sends `state` to the socket of `NOTIFY_SOCKET`, and does not wait: the socket is full if systemd does not read.
fn send(state: &str) -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}
