//! Requests that go on when the agent ends: a file for each that runs in a unit of its own, with its end.
//!
//! The agent makes the file and locks it; the unit's process inherits the lock with the descriptor, writes the end of
//! the request to it, and ends. So a file that is locked belongs to a request that runs, and one that is not locked has
//! its end, or nothing where its process was killed. All calls block.

use std::fs::{File, TryLockError};
use std::io::{self, Read};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use crate::commands::actions::ActionOutcome;
use crate::files::StateFolder;
use crate::values::hex;

/// The folder of these files, below the state folder.
const FOLDER: &str = "runs";
/// The longest end that is read; the longest answer, and what JSON makes of control characters, is far below it.
pub(crate) const END_BYTES_MAX: u64 = 64 << 20;

/// The folder of the ends. Clones share it.
#[derive(Debug, Clone)]
pub struct Continued(StateFolder);

/// What is known of a request that an earlier agent began.
#[derive(Debug)]
pub enum EarlierRun {
    /// It still runs.
    Runs,
    /// It has ended so.
    Ended(Box<ActionOutcome>),
    /// Nothing: it ran elsewhere, or its process was killed.
    Nothing,
}

impl Continued {
    /// That of a state folder.
    pub fn of(state: &StateFolder) -> Self {
        Self(state.within(FOLDER))
    }

    /// The name of the file of a request: 16 hex digits of the digest of its id.
    pub fn key(id: &str) -> String {
        hex(&Sha256::digest(id.as_bytes())[..8])
    }

    /// Makes the file, empty and locked.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock): the request runs. Or the file cannot be made.
    pub fn create(&self, key: &str) -> io::Result<File> {
        let file = self.0.open_file(key, OFlags::RDWR | OFlags::CREATE)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        Ok(file)
    }

    /// Looks at the file of a request.
    pub fn look(&self, key: &str) -> EarlierRun {
        let Ok(file) = self.0.open_file(key, OFlags::RDONLY) else { return EarlierRun::Nothing };
        if matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            return EarlierRun::Runs;
        }
        let mut text = Vec::new();
        let read = file.take(END_BYTES_MAX).read_to_end(&mut text);
        match read.map(|_| serde_json::from_slice(&text)) {
            Ok(Ok(done)) => EarlierRun::Ended(Box::new(done)),
            _ => EarlierRun::Nothing,
        }
    }

    /// Removes the file of a request.
    pub fn remove(&self, key: &str) {
        let _ = self.0.remove(key); // it is looked at again by the next agent
    }

    /// The files that are there. Those that `is_wanted` does not know are removed, unless they are locked.
    pub(super) fn keys(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.0.path()) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let (wanted, others): (Vec<_>, Vec<_>) = names.partition(|name| is_wanted(name));
        for name in others {
            if !matches!(self.look(&name), EarlierRun::Runs) {
                self.remove(&name);
            }
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::commands::outcome::Outcome;

    #[test]
    fn a_request_runs_as_long_as_its_file_is_locked_and_then_has_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let continued = Continued::of(&StateFolder::at(folder.path()));
        let key = Continued::key("../../etc/passwd");
        assert_eq!((key.len(), key.contains('/')), (16, false));
        assert!(matches!(continued.look(&key), EarlierRun::Nothing));
        let mut file = continued.create(&key).unwrap();
        assert!(matches!(continued.look(&key), EarlierRun::Runs));
        assert_eq!(continued.create(&key).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(continued.keys(|_| false), Vec::<String>::new());
        assert!(matches!(continued.look(&key), EarlierRun::Runs), "what runs is not removed");
        let done =
            ActionOutcome::from(Outcome { exit_code: Some(0), ..Outcome::text("a\u{0}\u{FFFD}b") });
        file.write_all(&serde_json::to_vec(&done).unwrap()).unwrap();
        drop(file);
        let EarlierRun::Ended(found) = continued.look(&key) else { panic!("it has ended") };
        assert_eq!(*found, done);
        assert_eq!(continued.keys(|name| name == key), std::slice::from_ref(&key));
        assert!(continued.keys(|_| false).is_empty());
        assert!(
            matches!(continued.look(&key), EarlierRun::Nothing),
            "no sender waits for its answer"
        );
        // A process that was killed while it wrote has told nothing.
        continued.create(&key).unwrap().write_all(b"{\"outcome\":").unwrap();
        assert!(matches!(continued.look(&key), EarlierRun::Nothing));
    }
}
