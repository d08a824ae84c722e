//! Values of a file, below the grammar that they belong to: texts, times, sizes and counts with their units and bounds, tables
//! that are strict, and the reference of a key. A stage whose options are a part of a file parses them with these.

mod glob;
mod hex;
pub(crate) mod value;
pub(crate) mod units;
pub(crate) mod table;
pub(crate) mod variant;
mod reference;
pub(crate) mod address;
mod switch;

pub(crate) use glob::Glob;
pub(crate) use hex::hex;
pub use reference::Section;
pub(crate) use reference::{Key, Manual, key, words};
pub(crate) use switch::Enabled;
pub use units::{Count, Period, Size};
pub(crate) use value::Problem;
