//! What a package manager would change, told without changing it: by its own simulation. Decides nothing.

use super::super::Context;
use super::PackageError;
use super::transaction::{Step, finished, run};
use crate::commands::process::Exit;

/// One package that would be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// How.
    pub kind: ChangeKind,
    /// Its name, with its architecture where the manager reports it so.
    pub name: String,
}

/// What would be done with a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It would be installed.
    Install,
    /// It is there, and would be another version.
    Update,
    /// It would be removed.
    Remove,
}

impl Planned {
    pub(super) fn new(kind: ChangeKind, name: &str) -> Self {
        Self { kind, name: name.to_owned() }
    }
}

/// Runs the steps of a simulation, and reads what the last of them prints with `parse`. `name` is that of the package.
///
/// # Errors
/// The manager cannot tell.
pub(super) async fn simulate(
    cx: &Context,
    steps: &[Step],
    parse: fn(&str) -> Vec<Planned>,
    name: &str,
) -> Result<Vec<Planned>, PackageError> {
    let Some((last, before)) = steps.split_last() else { return Ok(Vec::new()) };
    if !before.is_empty() {
        let ready = run(cx, before, name).await;
        if let Some(why) = ready.error.filter(|_| !ready.success) {
            return Err(PackageError::Failed(why));
        }
    }
    let output = finished(cx, last).await?;
    let done = match output.exit {
        // What dnf says where it was told to say no.
        Exit::Code(1) => output.stderr.text.contains("Operation aborted"),
        Exit::Code(code) => code == 0 || last.fine.contains(&code),
        _ => false,
    };
    if !done {
        return Err(last.failure(&output, name));
    }
    if output.stdout.truncated {
        return Err(PackageError::TooManyChanges);
    }
    Ok(parse(&output.stdout.text))
}
