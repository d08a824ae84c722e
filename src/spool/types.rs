//! Settings, results of opening, and states of a spool: plain data.

use std::time::SystemTime;

use super::scan::Corruption;

/// The smallest size of a spool.
pub const SIZE_MIN: u64 = 64 << 10;
/// The largest size of a spool.
pub(crate) const SIZE_MAX: u64 = 64 << 20;
/// The default size of a spool.
pub const SIZE: u64 = 4 << 20;

/// The most bytes of frames that are in memory because they cannot be written.
pub const MEMORY_MAX: u64 = 4 << 20;

/// The most bytes of written frames that stay cached until they are handed over.
pub(crate) const CACHE_MAX: u64 = 256 << 10;

/// Makes a tombstone: a short line in place of a reply made `at`, which says that the reply is lost and names its
/// request. `None` if there is none that is short enough.
pub(crate) type Tombstone = fn(line: &[u8], at: SystemTime) -> Option<Vec<u8>>;

/// The longest tombstone. A reply of less than twice this length leaves none, since that would free too little.
pub const TOMBSTONE_MAX: usize = 512;

/// Lost readings, by reason.
pub(crate) type Losses = Vec<(&'static str, u64)>;

/// How a spool is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The most bytes of the file, from [`SIZE_MIN`] to `SIZE_MAX`.
    pub size: u64,
    /// The identity of the machine: the file of another one came with a clone of the disk.
    pub identity: String,
    /// The boot id of the machine.
    pub boot_id: String,
    /// Makes tombstones of long evicted replies, if set.
    pub tombstone: Option<Tombstone>,
}

/// The result of opening a spool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// Waiting items from earlier runs.
    pub waiting: u64,
    /// Items that were dropped because the file is another machine's.
    pub dropped: u64,
    /// Whether the file is another machine's.
    pub cloned: bool,
    /// The corruptions found.
    pub corruptions: Vec<Corruption>,
    /// Whether the file could not be used at all and was renamed.
    pub aside: bool,
    /// Why the spool works in memory only, if so.
    pub trouble: Option<String>,
}

/// The health of a spool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// Messages are on disk.
    #[default]
    Ok,
    /// It is full and evicts.
    Full,
    /// Writes fail (no space, an error): new messages are in memory only.
    Failing(String),
    /// There is no file, or an unreadable one: all messages are in memory only.
    Memory,
}
