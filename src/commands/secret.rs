//! The shared secret: where it is loaded from, and how it is kept from leaking.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::process::{DumpableBehavior, getuid, set_dumpable_behavior};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::files::{Untrusted, foreign, open_guarded, readable};
use crate::wire::envelope;

/// The longest secret that is accepted, in bytes; the host's has 64.
pub(crate) const SECRET_BYTES_MAX: usize = 4096;

/// The shortest secret that keys of guests are [derived](Secret::derive) of, in bytes.
pub(crate) const MASTER_BYTES_MIN: usize = 32;

/// The environment variable in which the installer passes the secret.
pub(crate) const SECRET_VARIABLE: &str = "INFINISERVICE_SHARED_SECRET";

/// The key of the host's envelopes. Overwritten when dropped; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// Where the secret comes from: `env:NAME`, `file:PATH` or `credential:NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A variable of the environment.
    Env(String),
    /// A file that only its owner can read, who is the agent's user or root.
    File(PathBuf),
    /// A credential that systemd hands over (`LoadCredential=`, systemd.exec(5)).
    Credential(String),
}

impl Secret {
    /// The secret without a final line break; `None` if it is empty.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        let mut bytes = Zeroizing::new(bytes);
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        (!bytes.is_empty()).then_some(Self(bytes))
    }

    /// Loads the secret. `None` if the variable is not set, or if the value is empty: the agent is then locked.
    ///
    /// # Errors
    /// It names the source and never contains the value.
    pub fn load(source: &SecretSource) -> Result<Option<Self>, SecretError> {
        match source {
            SecretSource::Env(name) => match std::env::var_os(name).map(OsString::into_vec) {
                Some(bytes) if bytes.len() > SECRET_BYTES_MAX => {
                    Err(SecretError::VariableTooLong(name.clone()))
                }
                bytes => Ok(bytes.and_then(Self::new)),
            },
            SecretSource::File(path) => read(path, FILE_FORBIDDEN),
            SecretSource::Credential(name) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| SecretError::NoCredential(name.clone()))?;
                // For a user other than root systemd grants by ACL, whose mask shows as group bits.
                read(&Path::new(&folder).join(name), 0o027)
            }
        }
    }

    /// The key of the guest `name` where this is the master of many: the key of one guest tells nothing of the others.
    ///
    /// It is HMAC-SHA256 of `infiniservice guest`, a line break and the name under this secret, as 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// This is shorter than `MASTER_BYTES_MIN`: a guest that tries all short ones by its own key would find it.
    pub fn derive(&self, name: &str) -> Result<Self, SecretError> {
        match self.0.len() < MASTER_BYTES_MIN {
            true => Err(SecretError::MasterTooShort),
            false => Ok(Self(Zeroizing::new(envelope::derive(&self.0, name).into_bytes()))),
        }
    }

    /// The key, for signing and checking only.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Why there is no secret, as the end of a sentence. It never contains the secret, nor the text that named its source.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The text names no source.
    #[error("a secret is given as env:NAME, file:/ABSOLUTE/PATH or credential:NAME, not by itself")]
    Source,
    /// A variable whose value can be guessed.
    #[error("the variable {0} is no secret: every program may know it")]
    WellKnown(String),
    /// The value of the variable is too long.
    #[error("the variable {0} is longer than {SECRET_BYTES_MAX} bytes")]
    VariableTooLong(String),
    /// Keys of guests are not derived of it.
    #[error(
        "the master has less than {MASTER_BYTES_MIN} bytes, so a guest could find it by its own key; \
         make one with `openssl rand -hex 32`"
    )]
    MasterTooShort,
    /// systemd gave no credentials.
    #[error(
        "there is no credential {0:?}: systemd gave no CREDENTIALS_DIRECTORY \
         (is LoadCredential= in the unit?)"
    )]
    NoCredential(String),
    /// The file cannot be read.
    #[error("cannot take the secret from {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// Others can read or change the file, or put another in its place.
    #[error("cannot take the secret from {}: {untrusted}", path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Where, and how to mend that.
        untrusted: Untrusted,
    },
    /// The file cannot be one that holds a secret.
    #[error("cannot take the secret from {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Core dumps, which would hold the secret, cannot be switched off.
    #[error("cannot switch core dumps off: {0}")]
    CoreDumps(std::io::Error),
}

/// Whether `name` is a variable that the system, a shell or systemd sets, whose value can be guessed.
pub(crate) fn is_no_secret(name: &str) -> bool {
    const KNOWN: [&str; 40] = [
        "COLORTERM",
        "DBUS_SESSION_BUS_ADDRESS",
        "DISPLAY",
        "EDITOR",
        "GLIBC_TUNABLES",
        "GROUP",
        "HOME",
        "HOST",
        "HOSTNAME",
        "HOSTTYPE",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "LANG",
        "LANGUAGE",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LOGNAME",
        "LS_COLORS",
        "MACHTYPE",
        "MAIL",
        "MAINPID",
        "MANAGERPID",
        "NOTIFY_SOCKET",
        "OLDPWD",
        "OSTYPE",
        "PAGER",
        "PATH",
        "PPID",
        "PS1",
        "PWD",
        "RUST_LOG",
        "SHELL",
        "SHLVL",
        "SYSTEMD_EXEC_PID",
        "TERM",
        "TMPDIR",
        "TZ",
        "UID",
        "USER",
        "_",
    ];
    // What systemd.exec(5) sets names folders; what this program reads is no secret but for the one variable.
    let is_ours =
        name.starts_with("INFINISERVICE_DEVICE") || name.starts_with("INFINISERVICE_STATE");
    let begins =
        ["LC_", "XDG_", "SUDO_", "SSH_", "WATCHDOG_"].iter().any(|begin| name.starts_with(begin));
    KNOWN.contains(&name) || is_ours || begins || name.ends_with("_DIRECTORY")
}

impl SecretSource {
    /// Checks the file of the secret as [`Secret::load`] does, and does not read it. A variable and a credential are there
    /// only when the agent runs.
    ///
    /// # Errors
    /// Why the file would not be taken.
    pub fn judge(&self) -> Result<(), SecretError> {
        match self {
            Self::File(path) => checked(path, FILE_FORBIDDEN).map(|_| ()),
            Self::Env(_) | Self::Credential(_) => Ok(()),
        }
    }
}

impl FromStr for SecretSource {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        match text.split_once(':') {
            Some(("env", name)) if is_no_secret(name) => {
                Err(SecretError::WellKnown(name.to_owned()))
            }
            Some(("env", name)) if !name.is_empty() && !name.contains(['=', '\0']) => {
                Ok(Self::Env(name.to_owned()))
            }
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(path.into())),
            Some(("credential", name)) if is_file_name(name) => {
                Ok(Self::Credential(name.to_owned()))
            }
            // The text may be the secret itself, so it is not repeated.
            _ => Err(SecretError::Source),
        }
    }
}

/// Never shows the key.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Makes this process leave no core dump and closes its memory and environment to other users
/// (`PR_SET_DUMPABLE`, prctl(2)). Programs it starts are not affected: `execve` resets it. Call it before the
/// secret is loaded.
///
/// # What it costs
/// `/proc/self` then belongs to root, so an agent that is not root cannot read its own `io` any more.
///
/// # Errors
/// The kernel refuses.
pub fn harden() -> Result<(), SecretError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| SecretError::CoreDumps(error.into()))
}

fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// What the mode of a secret's file may not have.
const FILE_FORBIDDEN: u32 = 0o077;

/// Reads a secret from a file that [`checked`] takes.
fn read(path: &Path, forbidden_mode: u32) -> Result<Option<Secret>, SecretError> {
    let file = checked(path, forbidden_mode)?;
    let bytes =
        take(file).map_err(|error| SecretError::Unreadable { path: path.to_owned(), error })?;
    // It may have grown.
    if bytes.len() > SECRET_BYTES_MAX { Err(too_long(path)) } else { Ok(Secret::new(bytes)) }
}

/// Opens a file that no other user can read or change, nor its folders. It is checked after it is opened, so that it cannot
/// be replaced in between.
fn checked(path: &Path, forbidden_mode: u32) -> Result<File, SecretError> {
    let path = || path.to_owned();
    let unreadable = |error| match Untrusted::of(&error) {
        Some(untrusted) => SecretError::Untrusted { path: path(), untrusted: untrusted.clone() },
        None => SecretError::Unreadable { path: path(), error },
    };
    let untrusted = |untrusted| SecretError::Untrusted { path: path(), untrusted };
    let link = path().symlink_metadata().map_err(unreadable)?;
    if !is_ours(link.uid()) {
        return Err(untrusted(foreign(link.uid(), &path())));
    }
    let file = open_guarded(&path()).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err(SecretError::File { path: path(), why: "it is no regular file".to_owned() });
    }
    if !is_ours(found.uid()) {
        return Err(untrusted(foreign(found.uid(), &path())));
    }
    if found.mode() & forbidden_mode != 0 {
        return Err(untrusted(readable(found.mode(), &path())));
    }
    if found.len() > SECRET_BYTES_MAX as u64 {
        return Err(too_long(&path()));
    }
    Ok(file)
}

fn too_long(path: &Path) -> SecretError {
    let why = format!("it is longer than {SECRET_BYTES_MAX} bytes");
    SecretError::File { path: path.to_owned(), why }
}

/// Reads into a buffer of full capacity, because a growing buffer leaves copies in memory.
fn take(file: File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(SECRET_BYTES_MAX + 64);
    file.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == getuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn file(folder: &Path, name: &str, text: &[u8], mode: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn load(path: &Path) -> Result<Option<Secret>, SecretError> {
        Secret::load(&SecretSource::File(path.to_owned()))
    }

    #[test]
    fn a_private_file_gives_the_secret_without_its_line_break() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, text) in [(0o600, "k3y\n"), (0o400, "k3y"), (0o600, "k3y\r\n")] {
            let path =
                file(folder.path(), &format!("{mode:o}{}", text.len()), text.as_bytes(), mode);
            assert_eq!(load(&path).unwrap().unwrap().expose(), b"k3y");
            let link = folder.path().join(format!("link{mode:o}{}", text.len()));
            symlink(&path, &link).unwrap();
            assert!(load(&link).unwrap().is_some(), "a link of our own is as good");
        }
        let empty = file(folder.path(), "empty", b"\n", 0o600);
        assert!(load(&empty).unwrap().is_none());
    }

    #[test]
    fn what_others_could_read_or_change_is_refused_without_repeating_it() {
        let folder = tempfile::tempdir().unwrap();
        let canary = b"canary-4711";
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o777] {
            let path = file(folder.path(), &format!("{mode:o}"), canary, mode);
            let error = load(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600") && !error.contains("4711"), "{error}");
        }
        let long = file(folder.path(), "long", &[b'x'; SECRET_BYTES_MAX + 1], 0o600);
        assert!(load(&long).unwrap_err().to_string().contains("longer"));
        assert!(load(folder.path()).unwrap_err().to_string().contains("no regular file"));
        assert!(
            load(&folder.path().join("none")).unwrap_err().to_string().contains("No such file")
        );
        let pipe = folder.path().join("pipe");
        let private = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, private, 0)
            .unwrap();
        assert!(
            load(&pipe).unwrap_err().to_string().contains("no regular file"),
            "and it did not hang"
        );
    }

    #[test]
    fn a_folder_on_the_way_that_others_can_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "key", b"x", 0o600);
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let error = load(&path).unwrap_err().to_string();
        let mend = format!("mend it with `chmod go-w {}`", folder.path().display());
        assert!(error.ends_with(&mend), "{error}");
        assert!(SecretSource::File(path.clone()).judge().is_err());
        fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(load(&path).unwrap().is_some());
        assert!(SecretSource::File(path).judge().is_ok());
    }

    #[test]
    fn a_variable_that_everybody_knows_is_no_secret() {
        for name in [
            "PATH",
            "HOME",
            "LC_ALL",
            "STATE_DIRECTORY",
            "INFINISERVICE_STATE_DIR",
            "SSH_CONNECTION",
        ] {
            let error = format!("env:{name}").parse::<SecretSource>().unwrap_err().to_string();
            assert!(error.contains("is no secret"), "{error}");
        }
        for name in [SECRET_VARIABLE, "MY_KEY", "PATHS", "HOME_KEY"] {
            assert!(format!("env:{name}").parse::<SecretSource>().is_ok(), "{name}");
        }
    }

    #[test]
    fn a_file_or_link_of_another_user_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "theirs", b"x", 0o600);
        let link = folder.path().join("link");
        symlink(file(folder.path(), "ours", b"x", 0o600), &link).unwrap();
        if getuid().is_root() {
            std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
            std::os::unix::fs::lchown(&link, Some(12_345), None).unwrap();
            for theirs in [path, link] {
                assert!(load(&theirs).unwrap_err().to_string().contains("user 12345"));
            }
        } else {
            assert!(!is_ours(12_345) || getuid().as_raw() == 12_345);
        }
    }

    #[test]
    fn a_source_is_one_of_three_and_the_secret_itself_is_not_repeated() {
        let source = |text: &str| text.parse::<SecretSource>();
        assert_eq!(source("env:A").unwrap(), SecretSource::Env("A".to_owned()));
        assert_eq!(source("credential:key").unwrap(), SecretSource::Credential("key".to_owned()));
        for wrong in ["", "env:", "file:relative", "credential:../x", "credential:..", "canary4711"]
        {
            assert!(!source(wrong).unwrap_err().to_string().contains("4711"), "{wrong}");
        }
    }

    #[test]
    fn a_variable_that_is_not_set_locks() {
        let source = SecretSource::Env("INFINISERVICE_NO_SUCH_VARIABLE".to_owned());
        assert!(Secret::load(&source).unwrap().is_none());
        let path = SecretSource::Env("PATH".to_owned());
        assert!(Secret::load(&path).unwrap().is_some());
    }

    #[test]
    fn keys_of_guests_are_derived_of_a_long_master_only() {
        let secret = |bytes: usize| Secret::new(vec![b'k'; bytes]).unwrap();
        let error = secret(MASTER_BYTES_MIN - 1).derive("web").unwrap_err().to_string();
        assert!(error.contains("less than 32 bytes") && !error.contains("kkk"), "{error}");
        let key = secret(MASTER_BYTES_MIN).derive("web").unwrap();
        assert_eq!(key.expose(), envelope::derive(&[b'k'; MASTER_BYTES_MIN], "web").as_bytes());
    }

    #[test]
    fn nothing_shows_it() {
        let secret = Secret::new(b"canary".to_vec()).unwrap();
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "… Some(…)");
    }
}
