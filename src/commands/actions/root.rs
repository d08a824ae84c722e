//! The tree of files that an action works in.

use std::path::{Path, PathBuf};

/// The machine itself, or a tree that holds the files of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    root: PathBuf,
}

impl Root {
    /// The machine itself.
    pub fn machine() -> Self {
        Self { root: "/".into() }
    }

    /// The tree at `root`, an absolute path. Tools are still the machine's own; they are called with options to work there.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `path`, told without a leading slash, in this place.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Its root, where it is not the machine itself.
    pub fn elsewhere(&self) -> Option<&Path> {
        (self.root != Path::new("/")).then_some(&*self.root)
    }
}
