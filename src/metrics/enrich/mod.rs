//! What happens to a reading between the machine and the batch, one file per enricher.
//!
//! Every enricher takes a reading and gives a reading, so they can stand in any order and any
//! number. They share the groups they leave alone; a copy of a reading is a few reference counts.
//!
//! This module does not read the machine, does not wait, and does not know a wire format.

mod changes;
mod identity;
mod join;
mod process_filter;
mod rates;
mod select;
mod tags;
mod threshold;
mod top;

pub use changes::Changes;
pub use identity::Identity;
pub use join::Join;
pub use process_filter::ProcessFilter;
pub use rates::Rates;
pub use select::Select;
pub use tags::Tags;
pub use threshold::{Crossing, Measure, Notify, Threshold};
pub use top::Top;

use crate::model::SystemMetrics;
use crate::pipeline::Transform;

/// Any of them, chosen at run time.
pub type Enricher = Box<dyn Transform<In = SystemMetrics, Out = SystemMetrics>>;

/// Cadences whose state one enricher remembers. More than any sensible file has; beyond it the
/// one heard longest ago is forgotten.
const MAX_CADENCES: usize = 16;
