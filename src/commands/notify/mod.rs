//! Messages that the agent sends without a request: at the start of a session, when data was dropped, when the state of
//! a spool changes, and when the port drains at the end. They share the encoding and the sink of replies, so they stand
//! beside the command flow.

pub mod session_start;
pub mod control_messages;
pub mod agent_events;
pub mod drop_report;
pub(crate) mod spool_status;
pub mod drain_acks;
