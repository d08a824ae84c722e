//! The rules of a policy, and the lines of the file they stand on. `config` reads them.

use std::ops::Range;

use crate::commands::actions::plan::Argument;
use crate::values::Glob;

/// What a command flow allows. Deny wins over allow, and what no rule allows is denied.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    /// What may be requested.
    pub allow: Vec<Rule>,
    /// What of that may not.
    pub deny: Vec<Rule>,
    /// Whether command lines for a shell may be requested at all; a rule has to allow them too.
    pub raw_shell: Switch,
    /// Whether pending scripts may run at all; a rule has to allow them too.
    pub scripts: Switch,
    /// Whether either may leave processes running.
    pub detach: Switch,
}

/// One rule: an action, and what its arguments have to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which actions. Matches at least one that is known.
    pub action: Glob,
    /// Which arguments; each of them is one of those actions'.
    pub arguments: Vec<(Argument, Glob)>,
    /// Where it stands.
    pub at: Line,
}

/// A line of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    /// The line as it was written: with the names of variables, never their values.
    pub text: String,
    /// The bytes of the file that it takes.
    pub span: Range<usize>,
}

/// `raw_shell = true`, and where it stands; off where it does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Switch {
    /// Whether it is on.
    pub on: bool,
    /// Where the file sets it.
    pub at: Option<Line>,
}
