//! The last warnings and errors of the log, for `infiniservice status`.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::model::Iso8601;
use crate::sync::IgnorePoison;

/// How many are kept.
const KEPT: usize = 5;
/// The longest text; the rest is cut off.
const TEXT_BYTES: usize = 256;

/// There is one log.
static RECENT: Mutex<VecDeque<RecentLine>> = Mutex::new(VecDeque::new());

/// A warning or an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecentLine {
    /// When it was logged, by the wall clock.
    pub at: String,
    /// The message and its fields; at most 256 bytes.
    pub text: String,
}

pub(super) fn push(text: &str) {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" "); // a message may have several lines
    text.truncate(text.floor_char_boundary(TEXT_BYTES));
    let at = Iso8601::new(SystemTime::now()).as_str().to_owned();
    let mut recent = RECENT.lock().ignore_poison();
    if recent.len() == KEPT {
        recent.pop_front();
    }
    recent.push_back(RecentLine { at, text });
}

/// The last ones, oldest first; at most five.
pub(crate) fn recent() -> Vec<RecentLine> {
    RECENT.lock().ignore_poison().iter().cloned().collect()
}
