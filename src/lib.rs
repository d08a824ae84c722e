//! InfiniService: a guest daemon made of streams.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod metrics;
pub mod model;
pub mod pipeline;
pub mod port;
pub mod wire;
