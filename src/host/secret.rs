//! The secret that host and guest share: where it comes from. Never from the command line, and never
//! printed.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::str::FromStr;

/// The variable that holds the secret, in guest and host alike.
pub const SECRET_VARIABLE: &str = "INFINISERVICE_SHARED_SECRET";

/// A shared secret: the bytes of its text, used as they are. Today's host hands out 64 hexadecimal
/// characters, which are not decoded.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes a text without the white space around it.
    ///
    /// # Errors
    /// When nothing is left.
    pub fn new(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => Err("the secret is empty".to_owned()),
            text => Ok(Self(text.as_bytes().to_vec())),
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where the secret is: `env:NAME` or `file:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file that only its owner may read.
    File(PathBuf),
}

impl Default for SecretSource {
    fn default() -> Self {
        Self::Env(SECRET_VARIABLE.to_owned())
    }
}

impl SecretSource {
    /// Fetches it; `None` where the variable is not set.
    ///
    /// # Errors
    /// A file that cannot be read or that others may read, or an empty secret. Says what to do and
    /// does not repeat the secret.
    pub fn fetch(&self) -> Result<Option<Secret>, String> {
        match self {
            Self::Env(name) => match std::env::var(name) {
                Ok(text) => Secret::new(&text).map(Some).map_err(|_| {
                    format!("the variable {name} is empty; it must hold the secret of the guest")
                }),
                Err(std::env::VarError::NotPresent) => Ok(None),
                Err(_) => Err(format!("the variable {name} is not text")),
            },
            Self::File(path) => {
                let shown = path.display();
                let cannot = |error| format!("cannot read the secret from {shown}: {error}");
                let mode = std::fs::metadata(path).map_err(cannot)?.permissions().mode();
                if mode & 0o077 != 0 {
                    return Err(format!(
                        "others may read the secret in {shown} (mode {:03o}); run: chmod 600 {shown}",
                        mode & 0o777
                    ));
                }
                let text = std::fs::read_to_string(path).map_err(cannot)?;
                let empty = |_| format!("the file {shown} is empty; it must hold the secret");
                Secret::new(&text).map(Some).map_err(empty)
            }
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl FromStr for SecretSource {
    type Err = String;

    /// Does not repeat the text: it may be the secret itself.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err("say where the secret is, as env:NAME or file:PATH; \
                      never the secret itself, others can read a command line"
                .to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
        let wrong = "hunter2hunter2".parse::<SecretSource>().unwrap_err();
        assert!(wrong.contains("env:NAME or file:PATH") && !wrong.contains("hunter2"), "{wrong}");
        assert_eq!("env:X".parse(), Ok(SecretSource::Env("X".into())));
        assert_eq!("file:/run/s".parse(), Ok(SecretSource::File("/run/s".into())));
        assert!("file:".parse::<SecretSource>().is_err());
    }

    #[test]
    fn a_secret_file_is_for_its_owner_alone_and_its_newline_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "abc123\n").unwrap();
        let source = SecretSource::File(path.clone());
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o640);
        let wrong = source.fetch().unwrap_err();
        assert!(wrong.contains("mode 640") && wrong.contains("chmod 600"), "{wrong}");
        mode(0o600);
        let secret = source.fetch().unwrap().unwrap();
        assert_eq!(secret.key(), b"abc123");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        std::fs::write(&path, "\n").unwrap();
        assert!(source.fetch().unwrap_err().contains("is empty"));
    }
}
