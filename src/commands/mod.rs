//! The command flow: frame → verify → decode → enforce → execute → reply.
//!
//! This module does not know the device, and answers every request exactly once.

pub mod frame;
pub mod verify;
pub mod decode;
pub mod execute;
pub mod reply;

pub mod outcome;
pub mod request;
pub mod secret;
pub mod words;
