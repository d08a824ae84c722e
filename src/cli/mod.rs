//! The subcommands, one file each. What they do is in the other modules.

pub mod validate;
