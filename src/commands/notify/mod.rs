//! Messages that the agent sends without a request: at the start of a session, when data was dropped, when the state of
//! a spool changes, and when the port drains at the end. They share the encoding and the sink of replies, so they stand
//! beside the command flow.

pub(crate) mod session_start;
pub(crate) mod control_messages;
pub(crate) mod agent_events;
pub(crate) mod drop_report;
pub(crate) mod spool_status;
pub(crate) mod drain_acks;
