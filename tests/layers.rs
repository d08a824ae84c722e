//! Which folder of `src` may use which: a folder uses those below it, never one above.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The folders from top to bottom.
const ORDER: [&str; 21] = [
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
    "sync",
];

fn place(folder: &str) -> Option<usize> {
    ORDER.iter().position(|known| *known == folder)
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.is_dir() => sources(&path, into),
            Some(extension) if extension == "rs" => into.push(path),
            _ => {}
        }
    }
}

/// The folders that the code of a file names as `crate::FOLDER`, without its comments and unit tests.
fn used(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let names = lines.flat_map(|line| line.split("crate::").skip(1));
    let end = |c: char| !(c.is_alphanumeric() || c == '_');
    names.filter_map(|name| name.split(end).next()).map(str::to_owned).collect()
}

#[test]
fn a_folder_uses_only_folders_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let (mut folders, mut upward) = (BTreeSet::new(), Vec::new());
    for file in files {
        let inside = file.strip_prefix(&src).unwrap();
        let folder = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(folder, "lib" | "main" | "bin") || file.ends_with("tests.rs") {
            continue;
        }
        folders.insert(folder.to_owned());
        let own = place(folder).unwrap_or_else(|| panic!("where does src/{folder} stand?"));
        for other in used(&fs::read_to_string(&file).unwrap()) {
            if place(&other).is_some_and(|other| other < own) {
                upward.push(format!("{} uses {other}", inside.display()));
            }
        }
    }
    let known: BTreeSet<String> = ORDER.map(str::to_owned).into();
    assert_eq!(
        folders, known,
        "a folder of `src` that is not in the order, or the other way round"
    );
    assert!(upward.is_empty(), "see docs/architecture.md: {upward:#?}");
}
