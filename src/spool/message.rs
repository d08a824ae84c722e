//! What must arrive. Does not say how.

use crate::model::Frame;
use crate::pipeline::EventCount;
use crate::port::Audience;

/// A frame that is kept until the host is known to have read it.
#[derive(Debug, Clone)]
pub struct DurableMessage {
    /// The frame.
    pub frame: Frame,
    /// What it says.
    pub kind: Kind,
    /// The request that it answers, as the request log numbers them; 0 where none.
    pub request: u32,
}

impl EventCount for DurableMessage {
    fn weight(&self) -> u64 {
        self.frame.weight()
    }
}

/// What a frame says, in the order in which the spool sheds when it is full: the first are shed first,
/// of each kind the oldest first.
///
/// # Why in this order
/// Readings are followed by newer ones. An event is told to people, and that events were lost is told too.
/// Where a command was refused nothing has happened, and it can be asked for again.
/// A response is waited for: the host gives up after the command's time-out (30 s by default), may ask
/// again then, and can do little with a late answer; but it cannot know that the command ran, so a short answer may
/// stay in the place of a long one ([`Tombstone`](super::Tombstone)). A script runs once and cannot be asked for again, and
/// is shown as running until its completion comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Readings.
    Metrics,
    /// An agent event.
    Event,
    /// The answer to a command of which nothing was done.
    Refusal,
    /// The answer to a command.
    Response,
    /// The end of a script.
    Completion,
}

impl Kind {
    /// All of them, in the order in which they are shed.
    pub const ALL: [Self; 5] =
        [Self::Metrics, Self::Event, Self::Refusal, Self::Response, Self::Completion];

    /// Whether it is said to a host that asked; the frame's oldest is when it did.
    pub const fn is_asked(self) -> bool {
        matches!(self, Self::Refusal | Self::Response | Self::Completion)
    }

    /// Who has a use for it. The end of a script is waited for by every host until it comes.
    pub const fn audience(self) -> Audience {
        match self {
            Self::Metrics | Self::Completion => Audience::Any,
            Self::Event => Audience::Understands,
            Self::Refusal | Self::Response => Audience::Asker,
        }
    }

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Event => "event",
            Self::Refusal => "refusal",
            Self::Response => "response",
            Self::Completion => "completion",
        }
    }
}
