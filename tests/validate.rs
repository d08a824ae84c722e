//! Every error a file can have, exactly as it is shown; and that nothing else gets through.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "validate/rig.rs"]
mod rig;
#[path = "validate/errors.rs"]
mod errors;
#[path = "validate/together.rs"]
mod together;
#[path = "validate/shipped.rs"]
mod shipped;
#[path = "validate/grammar.rs"]
mod grammar;
#[path = "validate/slips.rs"]
mod slips;
#[path = "validate/warnings.rs"]
mod warnings;
