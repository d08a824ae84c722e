//! The documents against what they describe.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page that a stranger reads.
fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let md = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let top = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    docs.chain(top).filter(md).collect()
}

/// The anchor that GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(kept)
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_within_the_documents_leads_somewhere() {
    let mut dead = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, wanted) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            let is_there = file.exists() && (wanted.is_empty() || anchors(&file).contains(wanted));
            if !is_there {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn every_path_that_the_documents_name_is_there() {
    let folders =
        [".ci/", "benches/", "docs/", "examples/", "packaging/", "pipelines/", "src/", "tests/"];
    let mut missing = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for line in text.lines() {
            for word in line.split('`').skip(1).step_by(2) {
                let is_path = folders.iter().any(|folder| word.starts_with(folder));
                let is_made = word == "packaging/order.txt";
                if is_path
                    && !is_made
                    && !word.contains(['*', ' ', '…'])
                    && !root().join(word).exists()
                {
                    missing.push(format!("{}: {word}", page.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The names of types in a block of Rust, without comments and texts.
fn types(code: &str) -> BTreeSet<&str> {
    let code = code.lines().filter_map(|line| line.split("//").next());
    let code = code.flat_map(|line| line.split('"').step_by(2));
    let words = code.flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'));
    let is_type =
        |word: &&str| word.starts_with(char::is_uppercase) && word.contains(char::is_lowercase);
    words.filter(is_type).collect()
}

#[test]
fn every_type_that_the_guide_to_adding_something_names_is_in_the_source() {
    fn sources(folder: &Path, into: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(&path, into),
                false => *into += &std::fs::read_to_string(&path).unwrap_or_default(),
            }
        }
    }
    let mut source = String::new();
    sources(&root().join("src"), &mut source);
    let known = types(&source);
    let guide = std::fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let blocks = guide.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next());
    let named: BTreeSet<&str> = blocks.flat_map(types).collect();
    assert!(named.len() > 20, "{named:?}");
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "CONTRIBUTING.md names {unknown:?}");
}

/// Names that the project had of its own for things that the field has words for (`docs/architecture.md`), and names of
/// parts that are gone.
const OLD_WORDS: [&str; 9] = [
    "afloat",
    "daemon::",
    "delivery/",
    "doubts",
    "life/",
    "machine_news",
    "places::",
    "known to be read",
    "ThisMachine",
];

fn files_below(folder: &Path, extension: &str, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, extension, into);
        } else if path.extension().is_some_and(|known| known == extension) {
            into.push(path);
        }
    }
}

#[test]
fn the_old_vocabulary_is_gone() {
    let mut files = vec![root().join("README.md")];
    files_below(&root().join("docs"), "md", &mut files);
    files_below(&root().join("src"), "rs", &mut files);
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let old = OLD_WORDS.iter().filter(|old| line.contains(**old));
            found.extend(old.map(|old| format!("{}:{}: {old}", file.display(), number + 1)));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
