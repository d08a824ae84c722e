//! The whole reading as one JSON line, under the model's own names. Leaves nothing out.

use std::io::{self, Write};

use serde::Serialize;

use super::format::Spec;
use super::{Ascii, MAX_LINE, Refused};
use crate::model::SystemMetrics;

/// Everything, under the model's own names.
pub(super) const FORMAT: Spec = Spec::of_everything("json-lines", encode);

/// Writes one line, with its newline. Pure ASCII, at most [`MAX_LINE`]; a number that is not finite
/// is `null`.
///
/// # Errors
/// `oversize`, found while writing, so that a monstrous reading costs no more memory than a long
/// line. Nothing is written then.
fn encode(reading: &SystemMetrics, out: &mut Vec<u8>) -> Result<(), Refused> {
    let start = out.len();
    let capped = Capped { limit: start + MAX_LINE - 1, out };
    let mut serializer = serde_json::Serializer::with_formatter(capped, Ascii);
    match reading.serialize(&mut serializer) {
        Ok(()) => {
            out.push(b'\n');
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(if error.is_io() { Refused::Oversize } else { Refused::Unencodable })
        }
    }
}

/// A buffer that refuses to grow over its limit.
pub(super) struct Capped<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) limit: usize,
}

impl Write for Capped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.out.len() + bytes.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
