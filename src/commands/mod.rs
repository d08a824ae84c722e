//! The command flow: frame → verify → decode → hear → enforce → execute → reply → deliver.
//!
//! This module does not know the device, and answers every request exactly once.

pub mod receive;
pub mod frame;
pub mod verify;
pub mod decode;
pub mod hear;
pub mod effects;
pub mod enforce;
pub mod foresee;
pub mod dispatch;
pub mod reply;
pub mod deliver;
pub mod farewell;

pub mod actions;
pub mod process;

pub mod catalogue;
pub mod glob;
pub mod greet;
pub mod losses;
pub mod manual;
pub mod news;
pub mod outcome;
pub mod perform;
pub mod plan;
pub mod policy;
pub mod request;
pub mod request_log;
pub mod secret;
pub mod spools;
pub mod voice;
pub mod words;
