//! The command flow: receive → verify → decode → authorize → execute → reply.
//!
//! This module does not know the device, and answers every request exactly once.

pub mod receive;
pub mod verify;
pub mod decode;
pub mod authorize;
pub mod execute;
pub mod reply;

pub mod actions;
pub mod notify;
pub mod process;
pub mod request_log;
