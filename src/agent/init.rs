//! The agent as process 1, of a container or an initramfs: a small parent that starts the agent proper, takes away
//! every process that ends without another parent, and passes signals on.
//!
//! # Why a process of its own
//! Process 1 is the parent of all orphans (`waitpid(2)`), and has to wait for all of them. The
//! agent waits for each of its programs by its id; one `wait` for all in the same process would take their
//! exit codes away.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

use super::same_program::same_program;
use crate::agent::resources::{LimitError, suffice};

/// The signals that are passed to the agent.
const FORWARDED: [Signal; 6] =
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// Starts this program once more with the same arguments, and returns what it came to: 128 and the signal's number
/// where one has ended it.
///
/// # Errors
/// It cannot be started.
pub(crate) fn main() -> Result<ExitCode, LimitError> {
    suffice(1)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(LimitError::Runtime)?;
    runtime.block_on(run()).map_err(LimitError::Child)
}

async fn run() -> std::io::Result<ExitCode> {
    let mut ended = signal(SignalKind::child())?;
    let mut heard = Vec::new();
    for wanted in FORWARDED {
        heard.push((wanted, signal(SignalKind::from_raw(wanted.as_raw()))?));
    }
    let agent = Pid::from_child(&same_program()?.spawn()?);
    loop {
        let next = std::future::poll_fn(|cx| {
            for (signal, heard) in &mut heard {
                if heard.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(Some(*signal));
                }
            }
            ended.poll_recv(cx).map(|_| None)
        });
        match next.await {
            // If the agent has ended already, the next wait reports it.
            Some(signal) => drop(kill_process(agent, signal)),
            None => {
                if let Some(code) = reap(agent) {
                    return Ok(ExitCode::from(code));
                }
            }
        }
    }
}

/// Takes away all that have ended; the exit code of `agent` if it is one of them.
fn reap(agent: Pid) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == agent {
            let status = ExitStatus::from_raw(status.as_raw());
            let number = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1);
            code = Some(u8::try_from(number).unwrap_or(1));
        }
    }
    code
}
