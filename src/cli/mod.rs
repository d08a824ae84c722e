//! The commands of the program, one file each. They print; the rest of the crate does not.

pub mod validate;
