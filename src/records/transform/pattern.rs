//! Regular expressions of stages. Bytes, not characters: classes such as `\w` are ASCII.
//!
//! # Why these engines
//! What begins with `^` and has only one way to go on at each byte is a table with the groups in it (one-pass). Whether
//! something matches anywhere is asked of a table that is made as it is needed, of bounded size. All else takes the slow
//! way, which takes everything in linear time.

use regex_automata::dfa::onepass;
use regex_automata::hybrid::dfa as lazy;
use regex_automata::nfa::thompson::{self, NFA, pikevm};
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use crate::values::Problem;

/// The most bytes that a compiled expression, and each table made of it, may take.
const TABLE_BYTES_MAX: usize = 1 << 20;

/// A compiled regular expression.
pub(super) struct Pattern {
    engine: Engine,
    slow: (pikevm::PikeVM, pikevm::Cache),
    groups: Captures,
}

enum Engine {
    OnePass(Box<(onepass::DFA, onepass::Cache)>),
    Lazy(Box<(lazy::DFA, lazy::Cache)>),
    Slow,
}

impl Pattern {
    /// Compiles `expression`.
    ///
    /// # Errors
    /// It is wrong, or too large.
    pub fn new(expression: &str) -> Result<Self, Problem> {
        let wrong = |error: &dyn std::fmt::Display| {
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            let what = format!("has a regular expression that cannot be used: {why}");
            Problem::new(
                what,
                "write one as the regex crate takes it, such as \"^(?<ip>[0-9.]+) \"",
            )
        };
        let syntax = syntax::Config::new().unicode(false).utf8(false).nest_limit(64);
        let config = thompson::Config::new().utf8(false).nfa_size_limit(Some(TABLE_BYTES_MAX));
        let nfa = thompson::Compiler::new().configure(config).syntax(syntax).build(expression);
        let nfa = nfa.map_err(|error| {
            wrong(
                std::error::Error::source(&error)
                    .map_or(&error as &dyn std::fmt::Display, |source| {
                        source as &dyn std::fmt::Display
                    }),
            )
        })?;
        let slow = pikevm::PikeVM::new_from_nfa(nfa.clone()).map_err(|error| wrong(&error))?;
        let (cache, groups) = (slow.create_cache(), slow.create_captures());
        Ok(Self { engine: Engine::new(&nfa), slow: (slow, cache), groups })
    }

    /// The names of its groups, and their numbers.
    pub fn names(&self) -> Vec<(usize, String)> {
        let info = self.slow.0.get_nfa().group_info();
        let names = info.all_names().map(|(_, number, name)| (number, name));
        names.filter_map(|(number, name)| Some((number, name?.to_owned()))).collect()
    }

    /// Whether it matches anywhere in `text`.
    pub fn matches(&mut self, text: &[u8]) -> bool {
        let input = Input::new(text).earliest(true);
        let quick = match &mut self.engine {
            Engine::OnePass(engine) => {
                let input = input.clone().anchored(Anchored::Yes);
                engine.0.try_search_slots(&mut engine.1, &input, &mut []).ok().map(|m| m.is_some())
            }
            Engine::Lazy(engine) => {
                engine.0.try_search_fwd(&mut engine.1, &input).ok().map(|found| found.is_some())
            }
            Engine::Slow => None,
        };
        quick.unwrap_or_else(|| self.slow.0.is_match(&mut self.slow.1, input))
    }

    /// The groups of the first match in `text`.
    pub fn groups(&mut self, text: &[u8]) -> Option<&Captures> {
        let input = Input::new(text);
        match &mut self.engine {
            Engine::OnePass(engine) => {
                let input = input.anchored(Anchored::Yes);
                engine.0.captures(&mut engine.1, input, &mut self.groups);
            }
            _ => self.slow.0.captures(&mut self.slow.1, input, &mut self.groups),
        }
        self.groups.is_match().then_some(&self.groups)
    }
}

impl Engine {
    fn new(nfa: &NFA) -> Self {
        if nfa.is_always_start_anchored() {
            let config = onepass::Config::new().size_limit(Some(TABLE_BYTES_MAX));
            let built = onepass::Builder::new().configure(config).build_from_nfa(nfa.clone());
            if let Ok(engine) = built {
                let cache = engine.create_cache();
                return Self::OnePass(Box::new((engine, cache)));
            }
        }
        let config = lazy::Config::new().cache_capacity(TABLE_BYTES_MAX);
        match lazy::Builder::new().configure(config).build_from_nfa(nfa.clone()) {
            Ok(engine) => {
                let cache = engine.create_cache();
                Self::Lazy(Box::new((engine, cache)))
            }
            Err(_) => Self::Slow,
        }
    }
}
