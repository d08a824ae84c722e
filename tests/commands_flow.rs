//! The command flow of the real program, held by a host: what is asked is answered once, whatever else
//! goes on, and nothing that was not asked for rightly is done.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

#[path = "commands_flow/rig.rs"]
mod rig;
#[path = "commands_flow/answers.rs"]
mod answers;
#[path = "commands_flow/cut.rs"]
mod cut;
#[path = "commands_flow/programs.rs"]
mod programs;
#[path = "commands_flow/refused.rs"]
mod refused;
#[path = "commands_flow/scripts.rs"]
mod scripts;
#[path = "commands_flow/secrets.rs"]
mod secrets;
