//! The dry run: the programs that a request would start, without starting them. Reads the machine (does the shell exist,
//! does the account?), so it blocks; changes nothing.
//!
//! Command lines and scripts are resolved by the code that runs them. Only the action itself knows its
//! [programs](crate::commands::actions::Action::programs).

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::commands::actions::packages::Root;
use crate::commands::process::{self, Prepared, ProcessError, Program};
use crate::commands::request::{Request, RequestKind};

/// A program that would run, or a note why none would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DryRun {
    /// The program file and its arguments; empty if no program runs.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Its user; `None` is the agent's own.
    pub user: Option<String>,
    /// Its working directory.
    pub directory: PathBuf,
    /// A remark, as a sentence without a full stop; may be empty.
    pub note: String,
}

/// The programs that `request` would run, in order.
///
/// # Errors
/// The request would fail before any program starts: the end of a sentence that says why.
pub(crate) fn plan(request: &Request) -> Result<Vec<DryRun>, ProcessError> {
    match &request.kind {
        RequestKind::Raw(raw) => {
            Ok(vec![of_host(process::command_line(raw, request.deadline())?)?])
        }
        RequestKind::Script(script) => {
            Ok(vec![of_host(process::script(script, request.deadline())?)?])
        }
        RequestKind::Action(action) => {
            let plan = action.plan();
            match action.programs(&Root::machine()) {
                Some(programs) if !programs.is_empty() => {
                    let mut note = plan.besides.into_owned();
                    let each = |argv| resolve(of_words(argv, request), &std::mem::take(&mut note));
                    programs.into_iter().map(each).collect()
                }
                _ => Ok(vec![DryRun { note: plan.does.into_owned(), ..DryRun::default() }]),
            }
        }
    }
}

/// Resolves a program as the runner would: file, directory and environment.
fn resolve(program: Program, note: &str) -> Result<DryRun, ProcessError> {
    let file = process::find(&program.program)?;
    let directory = process::directory(program.directory.as_deref())?;
    let whose = process::variables(program.run_as.as_ref())?;
    let environment = process::environment(whose, &program.environment)?;
    let text_file = program.text.map(|_| "FILE".into());
    let words = std::iter::once(file.into_os_string()).chain(program.arguments).chain(text_file);
    let text = |word: std::ffi::OsString| word.to_string_lossy().into_owned();
    Ok(DryRun {
        argv: words.map(text).collect(),
        environment: environment
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
        user: program.run_as.map(|account| account.to_string()),
        directory,
        note: note.to_owned(),
    })
}

/// Resolves a command line or script of the host.
fn of_host(prepared: Prepared) -> Result<DryRun, ProcessError> {
    let Prepared { program, note } = prepared;
    let file = program.text.is_some();
    let file = file.then(|| "FILE is the text in memory, readable by its user alone".to_owned());
    let notes: Vec<String> = file.into_iter().chain(note).collect();
    resolve(program, &notes.join("; "))
}

fn of_words(argv: Vec<String>, request: &Request) -> Program {
    let mut words = argv.into_iter();
    Program::new(words.next().unwrap_or_default(), words, request.deadline())
}
