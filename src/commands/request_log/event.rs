//! The records of the request log's file.
//!
//! The head of a record is the spool's ([`crate::spool`]), with kinds of its own; its number is the request's.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::now_ms;
use crate::commands::outcome::Outcome;
use crate::commands::reply::Outbound;
use crate::commands::request::SCRIPT;
use crate::record_file::{self, Head};

/// The machine and boot that the file belongs to, and the time before which it is incomplete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    /// The machine.
    pub machine: String,
    /// Its boot.
    pub boot: String,
    /// Envelopes of before this time, in Unix milliseconds, are refused.
    pub floor: i64,
}

/// A permitted request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Accepted {
    pub id: String,
    /// The action name in its reply.
    pub action: String,
    /// When the host stops waiting, in Unix milliseconds. `None` for a script, whose time begins when it starts, and in
    /// records of older agents, as the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The digest of what it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<u64>,
    /// That of the values that the file has no digest of. `None` where an earlier agent accepted it.
    #[serde(skip)]
    pub values: Option<u64>,
}

impl Accepted {
    pub(super) fn is_script(&self) -> bool {
        self.action == SCRIPT
    }

    /// The reply to it with this outcome.
    pub(super) fn reply(&self, outcome: Outcome) -> Outbound {
        let (id, action) = (self.id.clone(), self.action.clone());
        match self.is_script() {
            true => Outbound::ScriptCompletion { execution_id: id, outcome },
            false => Outbound::Response { id, action, outcome },
        }
    }

    /// Whether `other` asks for something else, as far as both are known.
    pub(super) fn differs(&self, other: &Self) -> bool {
        let differ = |own: Option<u64>, other: Option<u64>| {
            own.zip(other).is_some_and(|(own, other)| own != other)
        };
        differ(self.digest, other.digest) || differ(self.values, other.values)
    }
}

/// The result of a request without its output, which only its reply has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub success: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// It has a result: where that is not kept, it must not be taken for an empty one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_data: bool,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// An agent has begun, or the file was written anew.
    Session(Session),
    /// An envelope was taken, of this time and with a nonce of this digest.
    Envelope(i64, u128),
    Accepted(u32, Accepted),
    Progress(u32, Progress),
    /// The agent has ended in order, and all is on the disk.
    Closed,
}

/// The progress of an accepted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Started,
    Finished(Ended),
    /// It did not start: the host may send it again.
    Withdrawn,
    /// The host has acknowledged its reply.
    Acknowledged,
}

/// The longest body: an id of 128 bytes and a name, each of which may take six bytes for one.
pub(super) const BODY_MAX: usize = 4 << 10;
/// The first and the last code.
pub(super) const CODES: std::ops::RangeInclusive<u8> = 64..=71;

impl Event {
    /// Adds it to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        fn json(body: &impl Serialize) -> Vec<u8> {
            serde_json::to_vec(body).unwrap_or_default() // texts and numbers have a spelling
        }
        let (code, number, body) = match self {
            Self::Session(session) => (64, 0, json(session)),
            Self::Envelope(_, nonce) => (65, 0, nonce.to_le_bytes().to_vec()),
            Self::Accepted(number, accepted) => (66, *number, json(accepted)),
            Self::Progress(number, Progress::Started) => (67, *number, Vec::new()),
            Self::Progress(number, Progress::Finished(ended)) => (68, *number, json(ended)),
            Self::Progress(number, Progress::Withdrawn) => (69, *number, Vec::new()),
            Self::Progress(number, Progress::Acknowledged) => (70, *number, Vec::new()),
            Self::Closed => (71, 0, Vec::new()),
        };
        // Of the other records no time is read: it is for people.
        let at_ms = match self {
            Self::Envelope(ts, _) => ts.cast_unsigned(),
            _ => now_ms(),
        };
        record_file::write(&Head::new(code, number.into(), at_ms), &body, out);
    }

    /// Decodes a record; `None` if it is invalid.
    pub(super) fn read(head: &Head, body: &[u8]) -> Option<Self> {
        fn json<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
            serde_json::from_slice(body).ok()
        }
        let number = u32::try_from(head.number).ok()?;
        Some(match head.kind {
            64 => Self::Session(json(body)?),
            65 => {
                Self::Envelope(head.at_ms.cast_signed(), u128::from_le_bytes(body.try_into().ok()?))
            }
            66 => Self::Accepted(number, json(body)?),
            67 => Self::Progress(number, Progress::Started),
            68 => Self::Progress(number, Progress::Finished(json(body)?)),
            69 => Self::Progress(number, Progress::Withdrawn),
            70 => Self::Progress(number, Progress::Acknowledged),
            71 => Self::Closed,
            _ => return None,
        })
    }
}
