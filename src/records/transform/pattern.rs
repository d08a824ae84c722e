//! Regular expressions of stages. Bytes, not characters: classes such as `\w` are ASCII.
//!
//! # Why these engines
//! Whether something matches is asked of a table that is made as it is needed, of bounded size. Groups are found piece by
//! piece where the expression begins with `^` and is a sequence ([`Sequence`]); by a table with the groups in it (one-pass)
//! where it begins so and has only one way to go on at each byte; else by going back (bounded backtracking: linear, since no
//! place is tried twice) in texts that are not long. All else takes the slow way, which takes everything in linear time.

use regex_automata::Input;
use regex_automata::dfa::onepass;
use regex_automata::hybrid::dfa as lazy;
use regex_automata::nfa::thompson::{self, NFA, backtrack, pikevm};
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;
use regex_syntax::hir::Hir;

use super::sequence::Sequence;
use crate::values::Problem;

/// The most bytes that a compiled expression, and each table made of it, may take.
const TABLE_BYTES_MAX: usize = 1 << 20;

/// Bytes of the list of places that were tried, in which a text of some hundred bytes fits with most expressions.
const TRIED_BYTES: usize = 16 * 1024;

/// The slow way.
type Slow = (pikevm::PikeVM, pikevm::Cache);

/// An expression of which is asked whether it matches.
pub(super) struct Pattern {
    lazy: Option<Box<(lazy::DFA, lazy::Cache)>>,
    slow: Slow,
}

/// An expression of which the groups are asked for.
pub(super) struct Groups {
    engine: Engine,
    slow: Slow,
    groups: Captures,
}

enum Engine {
    Sequence(Sequence),
    OnePass(Box<(onepass::DFA, onepass::Cache)>),
    Backtrack(Box<(backtrack::BoundedBacktracker, backtrack::Cache)>),
    Slow,
}

impl Pattern {
    /// Compiles `expression`.
    ///
    /// # Errors
    /// It is wrong, or too large.
    pub(super) fn new(expression: &str) -> Result<Self, Problem> {
        let (_, nfa, slow) = compile(expression)?;
        let config = lazy::Config::new().cache_capacity(TABLE_BYTES_MAX);
        let lazy = lazy::Builder::new().configure(config).build_from_nfa(nfa).ok();
        let with_cache = |engine: lazy::DFA| {
            let cache = engine.create_cache();
            Box::new((engine, cache))
        };
        Ok(Self { lazy: lazy.map(with_cache), slow })
    }

    /// Whether it matches anywhere in `text`.
    pub(super) fn matches(&mut self, text: &[u8]) -> bool {
        let input = Input::new(text).earliest(true);
        let lazy = self.lazy.as_mut().and_then(|lazy| {
            let (engine, cache) = &mut **lazy;
            engine.try_search_fwd(cache, &input).ok() // it gives up where its table is made anew too often
        });
        match lazy {
            Some(found) => found.is_some(),
            None => self.slow.0.is_match(&mut self.slow.1, input),
        }
    }
}

impl Groups {
    /// Compiles `expression`.
    ///
    /// # Errors
    /// It is wrong, or too large.
    pub(super) fn new(expression: &str) -> Result<Self, Problem> {
        let (expression, nfa, slow) = compile(expression)?;
        let groups = slow.0.create_captures();
        Ok(Self { engine: Engine::new(&expression, &nfa), slow, groups })
    }

    /// The names of its groups, and their numbers.
    pub(super) fn names(&self) -> Vec<(usize, String)> {
        let info = self.slow.0.get_nfa().group_info();
        let names = info.all_names().map(|(_, number, name)| (number, name));
        names.filter_map(|(number, name)| Some((number, name?.to_owned()))).collect()
    }

    /// The groups of the first match in `text`.
    pub(super) fn find(&mut self, text: &[u8]) -> Option<&Captures> {
        let groups = &mut self.groups;
        let is_done = match &mut self.engine {
            Engine::Sequence(sequence) => sequence.find(text, groups).is_ok(),
            Engine::OnePass(engine) => {
                let input = Input::new(text).anchored(regex_automata::Anchored::Yes);
                engine.0.captures(&mut engine.1, input, groups);
                true
            }
            // It takes no text that is too long for its list.
            Engine::Backtrack(engine) => engine.0.try_captures(&mut engine.1, text, groups).is_ok(),
            Engine::Slow => false,
        };
        if !is_done {
            self.slow.0.captures(&mut self.slow.1, text, groups);
        }
        groups.is_match().then_some(&*groups)
    }
}

impl Engine {
    fn new(expression: &Hir, nfa: &NFA) -> Self {
        if let Some(sequence) = Sequence::new(expression) {
            return Self::Sequence(sequence);
        }
        if nfa.is_always_start_anchored() {
            let config = onepass::Config::new().size_limit(Some(TABLE_BYTES_MAX));
            let built = onepass::Builder::new().configure(config).build_from_nfa(nfa.clone());
            if let Ok(engine) = built {
                let cache = engine.create_cache();
                return Self::OnePass(Box::new((engine, cache)));
            }
        }
        let config = backtrack::Config::new().visited_capacity(TRIED_BYTES);
        match backtrack::Builder::new().configure(config).build_from_nfa(nfa.clone()) {
            Ok(engine) => {
                let cache = engine.create_cache();
                Self::Backtrack(Box::new((engine, cache)))
            }
            Err(_) => Self::Slow,
        }
    }
}

/// The expression as a tree and as states, and the slow way.
fn compile(expression: &str) -> Result<(Hir, NFA, Slow), Problem> {
    let wrong = |error: &dyn std::fmt::Display| {
        let error = error.to_string();
        let why = error.lines().last().unwrap_or_default();
        let why = why.strip_prefix("error: ").unwrap_or(why);
        let what = format!("has a regular expression that cannot be used: {why}");
        Problem::new(what, "write one as the regex crate takes it, such as \"^(?<ip>[0-9.]+) \"")
    };
    let bytes = syntax::Config::new().unicode(false).utf8(false).nest_limit(64);
    let config = thompson::Config::new().utf8(false).nfa_size_limit(Some(TABLE_BYTES_MAX));
    let tree = syntax::parse_with(expression, &bytes).map_err(|error| wrong(&error))?;
    let nfa = thompson::Compiler::new().configure(config).build_from_hir(&tree);
    let nfa = nfa.map_err(|error| wrong(&error))?;
    let slow = pikevm::PikeVM::new_from_nfa(nfa.clone()).map_err(|error| wrong(&error))?;
    let cache = slow.create_cache();
    Ok((tree, nfa, (slow, cache)))
}
