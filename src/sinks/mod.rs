//! Where frames end that do not go to the port: a file, a Unix socket, stdout, nowhere.
//!
//! Every sink writes a frame whole or says that it did not, and is offered the same frame again
//! then; a write may also be given up at any await and offered again. None of them gathers frames:
//! a frame held back here would count as written and could still be lost, and the stages before
//! have gathered already. So none has anything to flush.
//!
//! This module does not know what the bytes mean, only that a frame is made of whole lines, and does not know the
//! virtio port.

mod file;
mod null;
mod blocking;
mod stdout;
mod unix;

use std::io;

pub(crate) use file::{Access, Appender};
pub use file::{File, Rotation};
pub use null::Null;
pub use stdout::Stdout;
pub use unix::Unix;

/// Why a call failed, as the end of a sentence.
pub(crate) fn why(error: &io::Error) -> String {
    let text = error.to_string();
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}
