//! What the sender of a command gets: the guest's answer, or why there is none.

use std::time::SystemTime;

use bytes::Bytes;
use serde_json::json;

use super::error::CommandError;
use crate::relay::fleet::LineKind;
use crate::relay::outputs::Wrap;

/// A reply, ready to be sent.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Why there is no answer.
    pub error: Option<CommandError>,
    /// A JSON object, which says the same.
    pub payload: Bytes,
}

impl Reply {
    /// The line that the guest `vm` has answered with, in the object that its lines have.
    pub(crate) fn answer(wrap: &Wrap, vm: &str, line: &[u8]) -> Self {
        let payload = wrap.object(vm, SystemTime::now(), LineKind::Response, line);
        Self { error: None, payload: payload.into() }
    }

    /// Why the guest `vm` at `site` does not answer.
    pub(crate) fn error(site: &str, vm: &str, why: CommandError) -> Self {
        let error = json!({ "code": why.code(), "message": why.to_string() });
        let payload = json!({ "site": site, "vm": vm, "error": error }).to_string().into();
        Self { error: Some(why), payload }
    }

    /// The word for what became of the command.
    pub(crate) fn outcome(&self) -> &'static str {
        self.error.as_ref().map_or("answered", CommandError::code)
    }
}
