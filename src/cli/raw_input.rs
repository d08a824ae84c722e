//! The terminal at standard input with keys one by one and without an echo, for as long as something is shown.

use std::io;

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// Ctrl-D, which ends what reads a terminal.
pub(super) const END_OF_INPUT: u8 = 4;

/// Keys come at once and are not echoed until this is dropped; then the terminal is as it was.
pub(super) struct RawInput {
    before: Termios,
}

impl RawInput {
    /// Changes the terminal. Keys that send a signal (Ctrl-C) still do, but for the one that stops the program (Ctrl-Z): stopped,
    /// it would leave the terminal so. With `LocalModes::ISIG` in `also_without` none does, and each comes as a byte.
    ///
    /// # Errors
    /// Standard input is no terminal, or cannot be changed.
    pub(super) fn take(also_without: LocalModes) -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ECHO | LocalModes::ICANON | also_without;
        raw.special_codes[SpecialCodeIndex::VSUSP] = 0;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawInput {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before); // it may be gone
    }
}
