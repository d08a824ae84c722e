//! What the agent says to the host on its own account: at the start of a session, when something was lost, when the spool
//! fills, when a flow ends.

pub mod agent_events;
pub mod control_messages;
pub mod drain_acks;
pub mod drop_report;
pub mod session_start;
pub mod spool_status;
