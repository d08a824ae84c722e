//! The command flow: frame → verify → decode → enforce → execute → reply.
//!
//! This module does not know the device, and answers every request exactly once.

pub mod actions;
pub mod execute;
pub mod outcome;
pub mod request;
pub mod words;
