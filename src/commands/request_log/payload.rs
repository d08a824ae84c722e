//! What a request asks for, as a digest: whether a repeated id asks for the same again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

use crate::commands::decode::request::RequestKind;

/// Another one in each run of the agent, so what is hashed with it tells nothing to who reads it later.
static OF_THIS_RUN: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The digest of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payload {
    /// For the file. Of variables and inputs it has the names and lengths: a short password could be found from a
    /// digest of it.
    pub digest: u64,
    /// Of the values of variables and inputs, for this run only.
    pub values: u64,
}

impl Payload {
    pub fn of(kind: &RequestKind) -> Self {
        let (mut hash, mut values) = (Sha256::new(), OF_THIS_RUN.build_hasher());
        let mut text = |text: &str| {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        };
        let variables = match kind {
            // Secrets show as nothing.
            RequestKind::Action(action) => {
                text(&format!("action {action:?}"));
                None
            }
            RequestKind::Raw(raw) => {
                text(&format!("raw {:?} {:?} {:?}", raw.shell, raw.working_dir, raw.run_as));
                text(&raw.command);
                Some(&raw.environment)
            }
            RequestKind::Script(script) => {
                text(&format!("script {:?} {:?}", script.shell, script.run_as));
                text(&script.content);
                Some(&script.inputs)
            }
        };
        for (name, value) in variables.into_iter().flatten() {
            text(name);
            text(&value.len().to_string());
            values.write(value.as_bytes());
            values.write_usize(value.len());
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize()[..8]);
        Self { digest: u64::from_le_bytes(first), values: values.finish() }
    }
}
