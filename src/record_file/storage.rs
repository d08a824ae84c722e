//! The storage interface of record files.

use std::io;

/// One file that is only appended to, or replaced as a whole by a new one that was written beside it.
///
/// An implementation is single-threaded and may block: the caller keeps it off the async workers unless
/// [`blocks`](Self::blocks) is `false`. The product has one, [`File`](super::File); the
/// tests have another, which simulates power cuts.
pub trait Storage: Send + 'static {
    /// The length of the file; 0 where there is none.
    fn length(&mut self) -> io::Result<u64>;

    /// Reads at `offset`; fewer bytes than asked for only at the end of the file.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes a first part of `bytes` at the end of the file and returns its length. A failed write has written
    /// nothing. Written bytes survive this process, but a power cut only after [`sync`](Self::sync).
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Truncates the file.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Returns when everything so far survives a power cut. After a failure, nothing written since the last success
    /// can be trusted, even if a later call succeeds: Linux forgets that the pages were dirty
    /// (<https://lwn.net/Articles/752063/>).
    fn sync(&mut self) -> io::Result<()>;

    /// Renames a file that cannot be used, so that a person can examine it. Only the last such file is kept.
    fn set_aside(&mut self) -> io::Result<()>;

    /// Creates an empty file beside the old one, and discards an earlier one.
    fn begin(&mut self) -> io::Result<()>;

    /// As [`append`](Self::append), to the file beside.
    fn append_beside(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Replaces the old file with the one beside it, synced. After a power cut one of the two is there, after
    /// success the new one. A failure before the exchange leaves the old one in place;
    /// [`exchanged`](Self::exchanged) shows which it is.
    fn commit(&mut self) -> io::Result<()>;

    /// Removes the file beside, so that it takes no space.
    fn abandon(&mut self);

    /// Whether the last [`commit`](Self::commit) has replaced the file, even if it failed later.
    fn exchanged(&self) -> bool;

    /// Whether a call may block on a disk.
    fn blocks(&self) -> bool {
        true
    }
}

/// Appends all of `bytes`, in as many calls as needed. A failure may leave a part.
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
