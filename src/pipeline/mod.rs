//! The engine: stages, the channels between them, and the tasks that run them.
//!
//! This module does not know any metric, command, file format or device.

mod stage;

pub use stage::{Emit, Fault, Sink, Source, Transform, Weigh};
