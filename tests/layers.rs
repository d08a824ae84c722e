//! Which module of `src` may use which. A folder uses those below it, never one above; and the modules of one folder, at any
//! depth, use each other in one direction.
//!
//! Both are read from the sources: `use` declarations and paths in the code, followed through re-exports. Comments, unit
//! tests and macros' bodies that name modules by a variable are not looked at. A folder and what is in it are one: a module
//! may use its parent, whose `mod.rs` lists it.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders from top to bottom.
const ORDER: [&str; 24] = [
    "internals",
    "cli",
    "bench",
    "relay",
    "host",
    "agent",
    "config",
    "commands",
    "records",
    "metrics",
    "spool",
    "record_file",
    "port",
    "sinks",
    "machine_events",
    "files",
    "wire",
    "values",
    "redact",
    "model",
    "pipeline",
    "sort",
    "tasks",
    "sync",
];

#[test]
fn a_folder_uses_only_folders_below_it() {
    let sources = Sources::read();
    let place = |folder: &str| ORDER.iter().position(|known| *known == folder);
    let folders: BTreeSet<&str> =
        sources.modules.keys().filter_map(|path| Some(&**path.first()?)).collect();
    assert_eq!(
        folders,
        ORDER.into(),
        "a folder of `src` that is not in the order, or the other way round"
    );
    let uses = sources.uses_between_siblings();
    let upward: Vec<_> = uses[""]
        .iter()
        .filter(|((one, other), _)| place(other) < place(one))
        .map(|((_, other), from)| format!("{from} uses {other}"))
        .collect();
    assert!(upward.is_empty(), "see docs/architecture.md: {upward:#?}");
}

#[test]
fn modules_of_a_folder_use_each_other_in_one_direction() {
    let mut found = String::new();
    for (folder, uses) in Sources::read().uses_between_siblings() {
        for circle in circles(&uses) {
            found += &format!("\nsrc/{folder}: {circle:?}\n");
            for ((one, other), from) in &uses {
                if circle.contains(one) && circle.contains(other) {
                    found += &format!("    {one} uses {other}, in {from}\n");
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "modules use each other in a circle: move what both need below them{found}"
    );
}

/// A path of names, from the root of the crate.
type Names = Vec<String>;

/// Which module of a folder uses which, and a place where it does.
type Uses = BTreeMap<(String, String), String>;

/// The modules of the crate that are not tests.
struct Sources {
    modules: BTreeMap<Names, Module>,
}

/// What a file names.
#[derive(Default)]
struct Module {
    /// The paths, from the root of the crate.
    paths: BTreeSet<Names>,
    /// What it re-exports, by name.
    reexports: BTreeMap<String, Names>,
    /// Its modules that are tests.
    tests: BTreeSet<String>,
}

impl Sources {
    fn read() -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        find(&src, &mut files);
        let texts: BTreeMap<Names, String> = files
            .into_iter()
            .filter_map(|file| {
                let inside = file.strip_prefix(&src).unwrap().with_extension("");
                let mut path: Names =
                    inside.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
                path.pop_if(|name| name == "mod" || name == "lib");
                let is_program = path.first().is_some_and(|name| name == "main" || name == "bin");
                (!is_program).then(|| (path, fs::read_to_string(file).unwrap()))
            })
            .collect();
        let is_module = |path: &[String]| texts.contains_key(path);
        let mut modules: BTreeMap<_, _> = texts
            .iter()
            .map(|(path, text)| (path.clone(), Module::read(path, text, &is_module)))
            .collect();
        let tests: Vec<Names> = modules
            .iter()
            .flat_map(|(path, module)| {
                module
                    .tests
                    .iter()
                    .map(|test| [path.as_slice(), std::slice::from_ref(test)].concat())
            })
            .collect();
        modules.retain(|path, _| !tests.iter().any(|test| path.starts_with(test)));
        Self { modules }
    }

    /// Where a path leads, through re-exports.
    fn target(&self, path: &[String]) -> Names {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let reexport = (0..path.len()).find_map(|at| {
                let is_module = self.modules.contains_key(&path[..=at]);
                let name = self
                    .modules
                    .get(&path[..at])
                    .filter(|_| !is_module)?
                    .reexports
                    .get(&path[at])?;
                Some([name, &path[at + 1..]].concat())
            });
            match reexport {
                Some(next) => path = next,
                None => break,
            }
        }
        path
    }

    /// By folder, `""` for `src` itself: which of its modules uses which.
    fn uses_between_siblings(&self) -> BTreeMap<String, Uses> {
        let mut all: BTreeMap<String, Uses> = BTreeMap::new();
        for (path, module) in &self.modules {
            for used in &module.paths {
                let target = self.target(used);
                let common =
                    path.iter().zip(&target).take_while(|(one, other)| one == other).count();
                let (Some(one), Some(other)) = (path.get(common), target.get(common)) else {
                    continue;
                };
                if self.modules.contains_key(&target[..=common]) {
                    let uses = all.entry(target[..common].join("/")).or_default();
                    let place = format!("{}.rs: {}", path.join("/"), target.join("::"));
                    uses.entry((one.clone(), other.clone())).or_insert(place);
                }
            }
        }
        all
    }
}

impl Module {
    fn read(path: &[String], text: &str, is_module: &dyn Fn(&[String]) -> bool) -> Self {
        let mut module = Self::default();
        let tokens = module.without_tests(&tokens(text));
        let absolute = |names: &[String]| {
            let (first, rest) = names.split_first()?;
            let child = [path, std::slice::from_ref(first)].concat();
            match first.as_str() {
                "crate" => Some(rest.to_vec()),
                "self" => Some([path, rest].concat()),
                "super" => {
                    let up = names.iter().take_while(|name| *name == "super").count();
                    Some([path.get(..path.len().checked_sub(up)?)?, &names[up..]].concat())
                }
                _ if is_module(&child) => Some([&child, rest].concat()),
                _ => None,
            }
        };
        // First what is imported, by name; then what the code names through it.
        let (mut imported, mut at, mut code) = (BTreeMap::new(), 0, Vec::new());
        while at < tokens.len() {
            if tokens[at] != "use" {
                code.push(tokens[at].clone());
                at += 1;
                continue;
            }
            let end = at
                + tokens[at..].iter().position(|token| token == ";").unwrap_or(tokens.len() - at);
            // `pub use`, or `pub(crate) use`
            let is_public = matches!(code.last().map(String::as_str), Some("pub" | ")"));
            let mut names = Vec::new();
            tree(&tokens[at + 1..end], &mut 0, &[], &mut names);
            for (name, names) in names {
                let Some(target) = absolute(&names) else { continue };
                if is_public {
                    module.reexports.insert(name.clone(), target.clone());
                }
                module.paths.insert(target.clone());
                imported.insert(name, target);
            }
            at = end;
        }
        let mut at = 0;
        while at < code.len() {
            let mut names = vec![code[at].clone()];
            while code.get(at + 1).is_some_and(|token| token == "::")
                && code.get(at + 2).is_some_and(|token| is_name(token))
            {
                names.push(code[at + 2].clone());
                at += 2;
            }
            at += 1;
            if names.len() > 1 && is_name(&names[0]) {
                let through = imported.get(&names[0]).map(|target| [target, &names[1..]].concat());
                module.paths.extend(through.or_else(|| absolute(&names)));
            }
        }
        module
    }

    /// Removes what `#[cfg(test)]` or `#[cfg(doc)]` stands before.
    fn without_tests(&mut self, tokens: &[String]) -> Vec<String> {
        let (mut kept, mut at) = (Vec::new(), 0);
        while at < tokens.len() {
            let attribute = |word: &str| {
                tokens[at..].starts_with(&["#", "[", "cfg", "(", word, ")", "]"].map(str::to_owned))
            };
            if !attribute("test") && !attribute("doc") {
                kept.push(tokens[at].clone());
                at += 1;
                continue;
            }
            at += 7;
            let (begin, mut depth) = (at, 0);
            loop {
                match tokens.get(at).map(String::as_str) {
                    None => break,
                    Some("{" | "(" | "[") => depth += 1,
                    Some("}" | ")" | "]") => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 && matches!(tokens[at - 1].as_str(), ";" | "}") {
                    break;
                }
            }
            let item = &tokens[begin..at];
            if let [module, name, end] = item
                && module == "mod"
                && end == ";"
            {
                self.tests.insert(name.clone());
            }
        }
        kept
    }
}

/// The names that a tree of `use` brings in, each with its path.
fn tree(tokens: &[String], at: &mut usize, prefix: &[String], into: &mut Vec<(String, Names)>) {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(*at) {
        match token.as_str() {
            "{" => {
                *at += 1;
                while tokens.get(*at).is_some_and(|token| token != "}") {
                    tree(tokens, at, &path, into);
                    *at += usize::from(tokens.get(*at).is_some_and(|token| token == ","));
                }
                *at += 1;
                return;
            }
            "," | "}" => break,
            "::" => *at += 1,
            "as" => {
                into.push((tokens[*at + 1].clone(), path));
                *at += 2;
                return;
            }
            name => {
                path.push(name.to_owned());
                *at += 1;
            }
        }
    }
    if path.len() > 1 {
        path.pop_if(|name| name == "self");
    }
    into.extend(path.last().cloned().map(|name| (name, path)));
}

/// The modules that use each other in circles: each module with all that it reaches and that reach it.
fn circles(uses: &Uses) -> BTreeSet<Vec<String>> {
    let reached = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(one) = next.pop() {
            let others = uses.keys().filter(|(from, _)| *from == one).map(|(_, to)| to.clone());
            next.extend(others.filter(|other| seen.insert(other.clone())));
        }
        seen
    };
    let reach: BTreeMap<&String, BTreeSet<String>> =
        uses.keys().map(|(from, _)| (from, reached(from))).collect();
    let on_circle = reach.iter().filter(|(one, others)| others.contains(**one));
    on_circle
        .map(|(one, others)| {
            others
                .iter()
                .filter(|other| reach.get(other).is_some_and(|back| back.contains(*one)))
                .cloned()
                .collect()
        })
        .collect()
}

fn find(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.is_dir() => find(&path, into),
            Some(extension) if extension == "rs" => into.push(path),
            _ => {}
        }
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The words and signs of a source, without comments and literals.
fn tokens(text: &str) -> Vec<String> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(bytes) = literal(rest) {
            bytes
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            tokens.push(rest[..end].to_owned());
            end
        } else {
            let end = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            if !first.is_whitespace() {
                tokens.push(rest[..end].to_owned());
            }
            end
        };
        rest = &rest[skip..];
    }
    tokens
}

/// The length of a text or character that `rest` begins with.
fn literal(rest: &str) -> Option<usize> {
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'));
    if let Some(raw) = raw.filter(|raw| raw.trim_start_matches('#').starts_with('"')) {
        let hashes = &raw[..raw.find('"')?];
        let begin = rest.len() - raw.len() + hashes.len() + 1;
        return Some(begin + rest[begin..].find(&format!("\"{hashes}"))? + 1 + hashes.len());
    }
    let mut chars = rest.char_indices();
    let (_, quote) = chars.next().filter(|(_, c)| matches!(c, '"' | '\''))?;
    if quote == '\'' {
        // A lifetime is no literal.
        let after: Vec<char> = rest.chars().skip(1).take(2).collect();
        if !matches!(after[..], ['\\', _] | [_, '\'']) {
            return None;
        }
    }
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => _ = chars.next(),
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}
