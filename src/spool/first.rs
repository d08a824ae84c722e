//! The first record of a spool, which has a fixed place.

use serde::{Deserialize, Serialize};

use super::record::{self, RecordKind};
use crate::record_file::HEAD;

/// The longest first record: its texts are bounded, and no byte of them takes more than six.
pub(super) const FIRST_MAX: usize = 8 * 1024;

/// The owner of the file, recorded first and at each start of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The number of the agent's run, increasing.
    pub run: u64,
    /// The identity of the machine.
    pub identity: String,
    /// The boot id of the machine when the run began.
    pub boot_id: String,
}

/// The first record of a file, as far as it is valid, and its length.
pub(super) enum First {
    Whole(Session, u64, usize),
    /// It is corrupt; the session is there if its own checksum is right.
    Damaged(Option<Session>, usize),
}

impl First {
    /// The record at the start of `bytes`. If its head is corrupt, the body is parsed as JSON, which shows its own
    /// end.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let read = record::read(head);
        if read.is_some_and(|head| head.kind != RecordKind::Session) {
            return None;
        }
        let length = match read {
            Some(head) => head.length as usize,
            None => {
                let mut sessions =
                    serde_json::Deserializer::from_slice(rest).into_iter::<Session>();
                sessions.next()?.ok()?;
                sessions.byte_offset()
            }
        };
        let body = rest.get(..length)?;
        let is_whole = record::has_sum(head, body);
        let session = serde_json::from_slice(body).ok().filter(|_| is_whole);
        let length = HEAD + length;
        Some(match (read, session) {
            (Some(head), Some(session)) => Self::Whole(session, head.number, length),
            (_, session) => Self::Damaged(session, length),
        })
    }
}
