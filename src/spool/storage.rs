//! What the spool needs of a disk. Knows no record and no path.

use std::io;

/// One file that is only appended to, or replaced as a whole by one that was written beside it.
///
/// An implementation is single-threaded and may block; who calls it keeps it off the async workers
/// unless [`blocks`](Self::blocks) says that there is no need. Two exist: [`File`](super::File), and
/// [`FaultyDisk`](super::FaultyDisk), whose power can be cut.
pub trait Storage: Send + 'static {
    /// The length of the file; 0 where there is none.
    fn length(&mut self) -> io::Result<u64>;

    /// Reads at `offset`; fewer bytes than asked for only at the end of the file.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes a first part of `bytes` at the end of the file and tells how much. A write that fails
    /// has written nothing. What it has taken survives this process; a power cut only after
    /// [`sync`](Self::sync).
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts the file back.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Returns when everything until now survives a power cut. After a failure nothing written
    /// since the last success may be relied on, also when a later call succeeds: Linux forgets that
    /// the pages were dirty (<https://lwn.net/Articles/752063/>).
    fn sync(&mut self) -> io::Result<()>;

    /// Gives the file another name, so that there is none: it is one that cannot be used, and may be of use to a
    /// person. One is kept like that, the last.
    fn set_aside(&mut self) -> io::Result<()>;

    /// Makes an empty file beside the old one, and forgets one that was made before.
    fn begin(&mut self) -> io::Result<()>;

    /// As [`append`](Self::append), to the file beside.
    fn append_beside(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Puts the file beside in the old one's place, all of it synced: after a power cut there is the
    /// one or the other, and after success the new one. A failure before the exchange leaves the old
    /// one in place; [`exchanged`](Self::exchanged) tells which it is.
    fn commit(&mut self) -> io::Result<()>;

    /// Removes the file beside, so that it takes no space.
    fn abandon(&mut self);

    /// Whether the last [`commit`](Self::commit) has put the new file in place, even if it failed
    /// later.
    fn exchanged(&self) -> bool;

    /// Whether a call can take as long as a disk does.
    fn blocks(&self) -> bool {
        true
    }
}

/// Appends all of `bytes`, in as many calls as it takes. On failure a part may be there.
pub(crate) fn append_all(
    mut append: impl FnMut(&[u8]) -> io::Result<usize>,
    mut bytes: &[u8],
) -> io::Result<()> {
    while !bytes.is_empty() {
        match append(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written.min(bytes.len())..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
