//! What stands in for the machine in tests: a virtio-serial port with both its ends, and a disk that fails.
#![allow(dead_code, unused_imports)] // each user takes what it needs
#![allow(clippy::unwrap_used)] // what cannot go on has failed

pub mod faulty_disk;
pub mod port;
