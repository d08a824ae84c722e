//! Why a command is not answered by its guest.

use std::time::Duration;

use thiserror::Error;

use super::COMMAND_BYTES_MAX;
use crate::relay::in_flight::NotTaken;

/// What the sender of a command gets instead of the guest's answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum CommandError {
    /// It is too long.
    #[error("the command is too long: a relay takes {COMMAND_BYTES_MAX} bytes; send less")]
    TooLong,
    /// It is no command, or one that no guest would understand.
    #[error("{0}")]
    NotUnderstood(String),
    /// The relay's rules do not allow it.
    #[error("{0}")]
    Denied(String),
    /// There is no room for it beside those in flight.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    /// No relay of the site has this guest.
    #[error("no relay of this site has a guest of this name")]
    UnknownGuest,
    /// The guest is not connected, or has said nothing yet.
    #[error("the guest is not connected; ask again when it is up")]
    NotConnected,
    /// The relay has no key for the guest.
    #[error("the relay has no key for this guest, so nothing can be signed; see its log")]
    NoKey,
    /// The guest did not answer in time.
    #[error(
        "no answer within {timeout:?}; the guest may have run it: ask again with the same id to know"
    )]
    Late {
        /// The time of the command.
        timeout: Duration,
    },
    /// The answer is larger than a message of NATS may be.
    #[error(
        "the answer has {bytes} bytes, more than NATS takes; the command did run (raise max_payload, or ask for less)"
    )]
    AnswerTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The relay stops.
    #[error("the relay stops; the guest may have run it: ask again with the same id to know")]
    Stopping,
}

impl CommandError {
    /// The word that stands for it in replies, in the log and in metrics.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::NotUnderstood(_) => "not_understood",
            Self::Denied(_) => "denied",
            Self::NotTaken(NotTaken::TooMany) => "too_many",
            Self::NotTaken(NotTaken::OtherPayload) => "other_payload",
            Self::UnknownGuest => "unknown_guest",
            Self::NotConnected => "not_connected",
            Self::NoKey => "no_key",
            Self::Late { .. } => "late",
            Self::AnswerTooLarge { .. } => "answer_too_large",
            Self::Stopping => "stopping",
        }
    }

    /// The number for `Nats-Service-Error-Code`, as HTTP has it (RFC 9110, 6585).
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::NotUnderstood(_) => 400,
            Self::Denied(_) => 403,
            Self::UnknownGuest => 404,
            Self::NotTaken(NotTaken::OtherPayload) => 409,
            Self::TooLong => 413,
            Self::NotTaken(NotTaken::TooMany) => 429,
            Self::NoKey | Self::AnswerTooLarge { .. } => 500,
            Self::NotConnected | Self::Stopping => 503,
            Self::Late { .. } => 504,
        }
    }
}
