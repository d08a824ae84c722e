//! `init`: writes the files that the agent has built in, to be changed. Never writes over a file.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_CONFIG, complain, say, unless};
use crate::config::schema::{KINDS, Kind};
use crate::config::{BUILT_IN, DEFAULT_FOLDER};
use crate::sinks::io_reason;

/// The files that the agent does not run are left out.
const LEFT_OUT: &str = "bench.toml";

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The folder for the files; created if it does not exist
    #[arg(value_name = "DIR", default_value = DEFAULT_FOLDER)]
    folder: PathBuf,
}

impl Init {
    pub(super) fn main(self) -> ExitCode {
        let folder = &self.folder;
        let schemas = folder.join("schema");
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o755).create(&schemas) {
            complain(&format!(
                "infiniservice: cannot make {}: {}",
                folder.display(),
                io_reason(&error)
            ));
            return ExitCode::from(EXIT_CONFIG);
        }
        let (mut lines, mut failed) = (String::new(), false);
        for (path, text) in files(folder) {
            match write(&path, &text) {
                Ok(()) => lines += &format!("written: {}\n", path.display()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    lines += &format!("left as it is: {}\n", path.display());
                }
                Err(error) => {
                    failed = true;
                    complain(&format!(
                        "infiniservice: cannot write {}: {}",
                        path.display(),
                        io_reason(&error)
                    ));
                }
            }
        }
        let said = say(&lines);
        if failed { unless(said, EXIT_CONFIG) } else { said }
    }
}

/// The files, as they are in `folder`, and what an editor checks them by.
pub(super) fn files(folder: &Path) -> impl Iterator<Item = (PathBuf, String)> {
    let files = BUILT_IN.into_iter().filter(|(name, _)| *name != LEFT_OUT);
    let files = files.map(|(name, text)| (folder.join(name), text.to_owned()));
    let schema = |(name, schema): Kind| {
        let path = folder.join("schema").join(format!("{name}.json"));
        (path, super::schema::text(schema()))
    };
    files.chain(KINDS.map(schema))
}

/// Writes a new file, which only its owner may change: the agent refuses others.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn what_it_writes_can_be_run_and_what_was_changed_stays() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a/b");
        std::fs::create_dir_all(&folder).unwrap();
        let changed = folder.join("metrics.toml");
        let text = "[[collect]]\nevery = \"1s\"\nfrom = [\"cpu\"]\n[serialize]\nformat = \"pretty\"\n[write]\nstdout = true\n";
        std::fs::write(&changed, text).unwrap();
        for _ in 0..2 {
            assert_eq!(Init { folder: folder.clone() }.main(), ExitCode::SUCCESS);
        }
        assert_eq!(std::fs::read_to_string(&changed).unwrap(), text);
        let loaded = load(std::slice::from_ref(&folder), &|_| None).unwrap();
        assert_eq!(loaded.pipelines.len(), 1);
        assert!(loaded.commands.is_some() && loaded.agent_origin.is_some());

        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(Init { folder: file.join("x") }.main(), ExitCode::from(EXIT_CONFIG));
    }
}
