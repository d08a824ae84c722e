//! The command flow: receive → verify → decode → authorize → execute → reply.
//!
//! [`serve`] and [`reply()`] are the flow as an expression; each step is a module of its own. Every request gets
//! exactly one reply, also when it is denied, malformed or lost to a panic. The caller passes in the
//! parts: this module opens no device and reads no configuration file.
//!
//! The flow stands here, beside the steps, so that the order of verification, authorization and execution is read,
//! reviewed and changed in one place.

pub(crate) mod receive;
pub(crate) mod verify;
pub(crate) mod decode;
pub(crate) mod authorize;
pub(crate) mod execute;
pub(crate) mod reply;

pub(crate) mod request;
pub(crate) mod outcome;
pub(crate) mod actions;
pub(crate) mod argument;
pub(crate) mod process;
pub(crate) mod request_log;
pub(crate) mod audit;
pub(crate) mod notify;
pub(crate) mod secret;
pub(crate) mod systemd;

use crate::pipeline::{ConcurrencyLimit, Context, Graph, Identity, Pipeline, Segment};

/// Messages that wait between two stages. When they are full, the port is not read.
pub(crate) const MESSAGES_WAITING: usize = 16;

/// The stages from the port to the reply, in order.
pub(crate) struct Stages {
    /// Reads the port.
    pub receive: receive::inbound::Receive,
    /// Cuts chunks into lines.
    pub frame: receive::line_framer::Frame,
    /// Checks signatures and rejects replays.
    pub verify: verify::Verify,
    /// Turns lines into typed messages.
    pub decode: decode::Decode,
    /// Takes out acknowledgements.
    pub ack_filter: decode::ack_filter::AckFilter,
    /// Decides by the policy.
    pub authorize: authorize::Authorize,
    /// Runs what is permitted.
    pub execute: execute::Execute,
}

/// The flow from the port to the replies: `limit` says how many requests run at once and how many may wait.
pub(crate) fn serve(
    context: &Context,
    stages: Stages,
    limit: &ConcurrencyLimit,
) -> Pipeline<Identity<reply::Outbound>> {
    Pipeline::from_sources(context, [stages.receive], MESSAGES_WAITING) // Inbound
        .then(stages.frame) // Line                                                       ┐
        .then(stages.verify) // Verified                                                  │
        .then(stages.decode) // HostMessage                                               │ fused: one task
        .then(stages.ack_filter) // HostMessage                                           │
        .then(stages.authorize) // AuthorizedMessage                                      ┘
        .handle(stages.execute, limit, MESSAGES_WAITING) // Outbound
}

/// The end of the flow: outbound messages become frames and go to the port.
pub(crate) fn reply<S: Segment<Out = reply::Outbound>>(
    messages: Pipeline<S>,
    encode: reply::Reply,
    sink: reply::sink::ReplySink,
) -> Graph {
    messages.then(encode).write(sink, MESSAGES_WAITING)
}
