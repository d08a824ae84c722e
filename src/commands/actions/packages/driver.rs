//! The [`PackageManager`] of each [`Manager`].

use super::manager::PackageManager;
use super::{Manager, PackageError, Root, apk, apt, dnf, pacman, rpm, zypper};

impl Manager {
    /// How this agent works with it.
    pub(in super::super) fn driver(self) -> &'static dyn PackageManager {
        match self {
            Self::Apt => &apt::Apt,
            Self::Dnf => &dnf::Dnf,
            Self::Yum => &rpm::Yum,
            Self::Zypper => &zypper::Zypper,
            Self::Pacman => &pacman::Pacman,
            Self::Apk => &apk::Apk,
        }
    }
}

impl Root {
    /// How this agent works with its manager.
    ///
    /// # Errors
    /// See [`manager`](Self::manager).
    pub(in super::super) fn driver(&self) -> Result<&'static dyn PackageManager, PackageError> {
        self.manager().map(Manager::driver)
    }
}
