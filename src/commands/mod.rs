//! The command flow: frame → verify → decode → enforce → execute → reply.
//!
//! This module does not know the device, and answers every request exactly once.

pub mod audit;
pub mod catalogue;
pub mod enforce;
pub mod execute;
pub mod glob;
pub mod outcome;
pub mod policy;
mod record;
pub mod redact;
pub mod request;
pub mod words;
