//! The metrics flow: collect → enrich → batch → serialize → write.

pub mod batch;
pub mod collect;
pub mod enrich;
pub mod latest;
pub mod serialize;

use crate::model::{Batch, Frame, SystemMetrics};
use crate::pipeline::Weigh;

impl Weigh for SystemMetrics {}

impl Weigh for Batch {
    fn weight(&self) -> u64 {
        self.0.len() as u64
    }
}

impl Weigh for Frame {
    fn weight(&self) -> u64 {
        u64::from(self.readings)
    }
}
