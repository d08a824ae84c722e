//! Durable messages and their kinds.

use crate::model::Frame;
use crate::pipeline::EventCount;
use crate::port::Audience;

/// A frame that is stored until the host acknowledges it.
#[derive(Debug, Clone)]
pub struct DurableMessage {
    /// The frame.
    pub frame: Frame,
    /// Its kind.
    pub kind: MessageKind,
    /// The number of the request that it answers, from the request log; 0 where none.
    pub request: u32,
}

impl EventCount for DurableMessage {
    fn weight(&self) -> u64 {
        self.frame.weight()
    }
}

/// The kind of a message, in eviction order: a full spool evicts the first kind first, and of each kind the oldest
/// first.
///
/// # Why in this order
/// Metrics are followed by newer ones. An event informs people, and its loss is reported as well. A refused command
/// did nothing and can be requested again. A response is awaited: the host gives up after the command's time-out
/// (30 s by default), may request it again then, and can do little with a late answer; but it cannot know that the
/// command ran, so a short `Tombstone` may replace a long response. A script runs once, cannot
/// be requested again, and shows as running until its completion comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageKind {
    /// Readings.
    Metrics,
    /// An agent event.
    Event,
    /// The answer to a command that was not run.
    Refusal,
    /// The response to a command.
    Response,
    /// The completion of a script.
    Completion,
}

impl MessageKind {
    /// All kinds, in eviction order.
    pub const ALL: [Self; 5] =
        [Self::Metrics, Self::Event, Self::Refusal, Self::Response, Self::Completion];

    /// Whether it answers a request; the frame's oldest time is that of the request then.
    pub const fn is_reply(self) -> bool {
        matches!(self, Self::Refusal | Self::Response | Self::Completion)
    }

    /// Which hosts may receive it. Every host waits for the completion of a script until it comes.
    pub const fn audience(self) -> Audience {
        match self {
            Self::Metrics | Self::Completion => Audience::Any,
            Self::Event => Audience::UnderstandsEvents,
            Self::Refusal | Self::Response => Audience::Requester,
        }
    }

    /// Its name.
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
