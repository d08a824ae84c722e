//! What a request asks for, as digests: whether a repeated id asks for the same again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

use crate::commands::request::RequestKind;

/// Another one in each run of the agent, so what is hashed with it tells nothing to who reads it later.
static OF_THIS_RUN: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The digest for the file, and that of the values of variables and inputs, for this run only.
///
/// That for the file has the names and lengths of variables and inputs: a short password could be found from a digest
/// of it.
pub(super) fn digests(kind: &RequestKind) -> (u64, u64) {
    let (head, body, variables) = match kind {
        // Secrets show as nothing.
        RequestKind::Action(action) => (format!("action {action:?}"), None, None),
        RequestKind::Raw(raw) => (
            format!("raw {:?} {:?} {:?}", raw.shell, raw.working_dir, raw.run_as),
            Some(&raw.command),
            Some(&raw.environment),
        ),
        RequestKind::Script(script) => (
            format!("script {:?} {:?}", script.shell, script.run_as),
            Some(&script.content),
            Some(&script.inputs),
        ),
    };
    let (mut hash, mut values) = (Sha256::new(), OF_THIS_RUN.build_hasher());
    let mut text = |text: &str| {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    };
    text(&head);
    body.into_iter().for_each(|body| text(body));
    for (name, value) in variables.into_iter().flatten() {
        text(name);
        text(&value.len().to_string());
        values.write(value.as_bytes());
        values.write_usize(value.len());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    (u64::from_le_bytes(first), values.finish())
}
