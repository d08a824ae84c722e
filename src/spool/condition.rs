//! What keeps messages from being stored. A change is logged, a repetition is not.

use std::io;

use super::types::State;
use crate::sinks::io_reason;

/// What keeps messages from being stored.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// Why writes fail.
    failing: Option<String>,
    /// Why there is no file, where there should be one.
    unusable: Option<String>,
    /// Messages are evicted for want of room.
    is_full: bool,
}

impl Condition {
    /// There is no file, because of this.
    pub(super) fn set_unusable(&mut self, why: String) {
        self.unusable = Some(why);
    }

    /// A write has failed.
    pub(super) fn fail(&mut self, error: &io::Error) {
        let error = io_reason(error);
        if self.failing.is_none() {
            tracing::warn!(error, "spool cannot be written; durable messages are kept in memory");
        }
        self.failing = Some(error);
    }

    /// A write has succeeded again.
    pub(super) fn recover(&mut self) {
        if self.failing.take().is_some() {
            tracing::info!("messages for the host are written to disk again");
        }
    }

    /// The spool of `size` bytes has no room for a message.
    pub(super) fn set_full(&mut self, size: u64) {
        if !std::mem::replace(&mut self.is_full, true) {
            tracing::warn!(size, "the spool is full; the least important messages are evicted");
        }
    }

    /// Much of the spool is free.
    pub(super) fn set_free(&mut self) {
        if std::mem::take(&mut self.is_full) {
            tracing::info!("the spool of messages for the host has room again");
        }
    }

    /// Why writes fail.
    pub(super) fn failing(&self) -> Option<&String> {
        self.failing.as_ref()
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// Why messages are not stored on disk although they should be.
    pub(super) fn trouble(&self) -> Option<&String> {
        self.failing.as_ref().or(self.unusable.as_ref())
    }

    /// The state of a spool that has a file, or none.
    pub(super) fn state(&self, has_file: bool) -> State {
        match &self.failing {
            _ if !has_file => State::Memory,
            Some(error) => State::Failing(error.clone()),
            None if self.is_full => State::Full,
            None => State::Ok,
        }
    }
}
