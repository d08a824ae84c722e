//! Looks through the sources for what must not be there, where no lint can: it reads text only.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file of the product, with its text up to its own tests.
fn product() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 40, "the sources are where this test looks");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    files.into_iter().map(read).collect()
}

fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
    let lines = text[..tests].lines().enumerate().map(|(number, line)| (number + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn no_unbounded_channel_no_blocking_sleep_and_no_subprocess_for_a_metric() {
    let forbidden = [
        ("", "unbounded"),
        ("", "thread::sleep"),
        ("", "tokio::io::stdin"),
        ("", "std::env::set_var"),
        ("", "todo!("),
        ("metrics", "process::Command"),
        ("port", "process::Command"),
    ];
    for (path, text) in product() {
        for (number, line) in code(&text) {
            for (folder, word) in forbidden {
                let here =
                    folder.is_empty() || path.components().any(|part| part.as_os_str() == folder);
                assert!(!(here && line.contains(word)), "{}:{number}: {word}", path.display());
            }
        }
    }
}

#[test]
fn every_file_opens_with_what_it_is() {
    for (path, text) in product() {
        assert!(text.starts_with("//! "), "{} does not say what it is", path.display());
    }
}

#[test]
fn every_shipped_pipeline_is_built_into_the_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut shipped: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    shipped.sort();
    let mut built_in: Vec<&str> =
        infiniservice::internals::config::BUILT_IN.iter().map(|(name, _)| *name).collect();
    built_in.sort_unstable();
    assert_eq!(shipped, built_in);
}
