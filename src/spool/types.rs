//! How a spool is opened, what was found then, and how it does: plain data.

use std::time::SystemTime;

use super::scan::Corruption;

/// The smallest size of a spool.
pub const SIZE_MIN: u64 = 64 << 10;
/// The largest size of a spool.
pub const SIZE_MAX: u64 = 64 << 20;
/// The size of a spool where nothing is said.
pub const SIZE: u64 = 4 << 20;

/// The most bytes of frames that are in memory because they cannot be on disk.
pub const MEMORY_MAX: u64 = 4 << 20;

/// The most bytes of written frames that stay in memory until they are taken, so that they are not read again.
pub const CACHE_MAX: u64 = 256 << 10;

/// A short line that stands for an answer which is given up, made at that time: that it is lost, and whose it was.
/// `None` where there is none that is so short.
pub type Tombstone = fn(line: &[u8], at: SystemTime) -> Option<Vec<u8>>;

/// The longest such line: an answer that is less than twice as long is given up without one, since that would make
/// too little room.
pub const TOMBSTONE_MAX: usize = 512;

/// What was given up or lost, by reason.
pub type Losses = Vec<(&'static str, u64)>;

/// How a spool is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The most bytes of the file, from [`SIZE_MIN`] to [`SIZE_MAX`].
    pub size: u64,
    /// The machine: a file of another is a copy that came with a clone of the disk.
    pub identity: String,
    /// The boot of the machine.
    pub boot_id: String,
    /// What stays of a long answer that is shed, if anything.
    pub word: Option<Tombstone>,
}

/// What was found when a spool was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// Items that wait from earlier runs.
    pub waiting: u64,
    /// Items that were dropped because the file is another machine's.
    pub dropped: u64,
    /// Whether the file is another machine's.
    pub cloned: bool,
    /// What was damaged.
    pub wrong: Vec<Corruption>,
    /// Whether the file was of no use at all, and has another name now.
    pub aside: bool,
    /// Why nothing is kept on disk now, if so.
    pub trouble: Option<String>,
}

/// How well the spool does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// What waits is on disk.
    #[default]
    Ok,
    /// It is full, and sheds.
    Full,
    /// The disk takes nothing (no space, an error): new items are in memory only.
    Failing(String),
    /// There is no file, or none that could be read: all items are in memory only.
    Memory,
}
