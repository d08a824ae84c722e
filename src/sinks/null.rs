//! Throws frames away. Counts nothing: its node's books do, and whoever measures stands before it.

use crate::model::Frame;
use crate::pipeline::{Sink, StageError};

/// Takes every frame at once and keeps none.
#[derive(Debug, Default)]
pub struct Null;

impl Sink for Null {
    type In = Frame;

    async fn write(&mut self, _frame: &Frame) -> Result<(), StageError> {
        Ok(())
    }
}
