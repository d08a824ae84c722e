//! Discards frames. The stage's own counters count them.

use crate::model::Frame;
use crate::pipeline::{Sink, StageError};

/// Accepts every frame at once and keeps none.
#[derive(Debug, Default)]
pub struct Null;

impl Sink for Null {
    type In = Frame;

    async fn write(&mut self, _frame: &Frame) -> Result<(), StageError> {
        Ok(())
    }
}
