//! Keys of a person at the terminal while something is shown: not echoed, taken one by one, and the terminal is as
//! it was afterwards, however this ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, tcgetpgrp};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::cli::raw_input::{END_OF_INPUT, RawInput};

/// The keys of the terminal at standard input, restored when this is dropped.
pub(super) struct Keys {
    terminal: AsyncFd<OwnedFd>,
    _raw_input: RawInput,
}

impl Keys {
    /// Takes the keys of the terminal. `None` where there is none, or where it is another program's now: one in the
    /// background would be stopped. Within a runtime.
    pub(super) fn take() -> Option<Self> {
        let stdin = io::stdin();
        if tcgetpgrp(&stdin).ok()? != getpgrp() {
            return None;
        }
        // Another descriptor of the same terminal: tokio's must be its own, and no flag of it is changed.
        let terminal = stdin.as_fd().try_clone_to_owned().ok()?;
        #[expect(
            deprecated,
            reason = "the successor is an unsafe fn; an OwnedFd keeps its promise"
        )]
        let terminal = AsyncFd::with_interest(terminal, Interest::READABLE).ok()?;
        Some(Self { terminal, _raw_input: RawInput::take(LocalModes::empty()).ok()? })
    }

    /// Waits for `q`. Without a terminal it waits for ever: a signal ends the program.
    pub(super) async fn quit(&self) {
        loop {
            let Ok(mut ready) = self.terminal.readable().await else { break };
            let mut keys = [0; 64];
            // Readable, so this does not block.
            let read = ready.try_io(|terminal| Ok(rustix::io::read(terminal, &mut keys)?));
            match read {
                Ok(Ok(0)) => break,
                Ok(Ok(count)) => {
                    if keys[..count].iter().any(|key| matches!(key, b'q' | b'Q' | &END_OF_INPUT)) {
                        return;
                    }
                    // The next read might wait.
                    ready.clear_ready();
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(_)) => break,
                Err(_would_block) => {}
            }
        }
        std::future::pending().await
    }
}
