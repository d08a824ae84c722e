//! Files in a folder of their own, with an environment that holds a secret.

use std::fs;
use std::path::Path;

use infiniservice::internals::config::{ConfigError, Loaded, load};
use tempfile::TempDir;

/// What no error may ever show, dressed up to be mistaken for a part of serde's messages.
pub const SECRET: &str = "hunter2`, expected `cpu\"\n[write]\nnull = true # \u{1f}hunter2\u{1f}";

pub fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some(SECRET.to_owned()),
        "SITE" => Some("lab-1".to_owned()),
        "PERIOD" => Some("30".to_owned()),
        _ => None,
    }
}

pub fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

pub fn all(path: &Path) -> Result<Loaded, Vec<ConfigError>> {
    load(&[path.to_path_buf()], &env)
}

/// The errors of a file with these bytes, as they are shown; the file is called `name`.
pub fn errors(name: &str, bytes: &[u8]) -> String {
    let folder = folder(&[]);
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let shown = match all(&path) {
        Ok(loaded) => format!("no error: {loaded:?}"),
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    };
    shown.replace(&format!("{}/", folder.path().display()), "")
}

/// A pipeline around one line.
pub fn around(line: &str) -> String {
    format!("[[collect]]\nevery = \"1s\"\nfrom = [\"cpu\"]\n\n{line}\n\n[write]\nnull = true\n")
}
