//! The reference of every key: type, default, example and meaning. `docs/pipelines.md` and the examples in error messages
//! come from here; a test compares it with the types.

mod agent;
mod commands;
mod pipeline;
mod records;
#[cfg(test)]
mod markdown;

pub(crate) use crate::values::Key;
pub use crate::values::Section;
pub use agent::AGENT;
pub use commands::COMMANDS;
pub use pipeline::PIPELINE;
pub use records::RECORDS;

/// One kind of file.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// The file.
    pub heading: &'static str,
    /// Its purpose.
    pub about: &'static str,
    /// Makes its sections.
    sections: fn() -> Vec<Section>,
}

impl Page {
    /// Its sections, in the order of the flow.
    pub fn sections(&self) -> Vec<Section> {
        (self.sections)()
    }
}

const DELIVERY: &str = "`\"latest\"` or `\"durable\"`";

/// All kinds of files.
pub(crate) const PAGES: [Page; 4] = [PIPELINE, RECORDS, COMMANDS, AGENT];

/// A correct line for a key of this name, of the first section that has it.
pub(super) fn example(name: &str) -> Option<String> {
    let mut keys = PAGES.iter().flat_map(Page::sections).flat_map(|section| section.keys);
    keys.find(|key| key.name == name).map(|key| format!("{name} = {}", key.example))
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;

    use super::markdown::markdown;
    use super::*;
    use crate::config::explain::offered;
    use crate::config::{AgentSettings, CommandsFile, PipelineFile, RecordsFile};

    /// Whether a line of a file sets the key.
    fn sets(line: &str, name: &str) -> bool {
        let key = line.split(" = ").next().unwrap_or_default();
        key == name || key.ends_with(&format!(".{name}"))
    }

    /// A file with this line in the section, without what stands there of the same key.
    fn file(section: &Section, name: &str, line: &str) -> String {
        let others: Vec<&str> = section.within.lines().filter(|line| !sets(line, name)).collect();
        others.join("\n").replace("{}", line)
    }

    /// The same file without the key.
    fn without(section: &Section, name: &str) -> String {
        let options = |line: &str| {
            let Some(table) = line.strip_suffix(".{}") else { return line.replace("{}", "") };
            // Options stand on lines of their own, or there are none.
            let has_others = section.within.matches(&format!("{table}.")).count() > 1;
            if has_others { String::new() } else { format!("{table} = {{}}") }
        };
        section
            .within
            .lines()
            .filter(|line| !sets(line, name))
            .map(options)
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn refused<T: DeserializeOwned + Debug>(section: &Section, name: &str, line: &str) -> String {
        toml::from_str::<T>(&file(section, name, line)).unwrap_err().message().to_owned()
    }

    /// Holds a page against the type that reads it.
    fn holds<T: DeserializeOwned + Debug + PartialEq>(page: &Page) {
        for section in &page.sections() {
            let shown = section.header;
            // What the type offers instead of a key that it does not know.
            let said = refused::<T>(section, "zzz", "zzz = {}");
            let mut known: Vec<&str> = offered(&said);
            known.sort_unstable();
            let mut documented: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
            documented.sort_unstable();
            if shown.starts_with("(top") {
                for name in known {
                    let header = format!("[{name}]");
                    let is_section = page.sections().iter().any(|one| one.header.contains(&header));
                    assert!(
                        is_section || documented.contains(&name),
                        "{name} is not in the reference"
                    );
                }
            } else {
                assert_eq!(documented, known, "keys of {shown}: add them to src/config/reference");
            }
            for Key { name, takes, default, example, .. } in section.keys {
                let line = format!("{name} = {example}");
                // Of [write] one target only.
                let mut targets = crate::sinks::KEYS.iter().map(|key| key.name).chain(["port"]);
                let targets =
                    targets.any(|target| target == *name) && shown.starts_with("`[write]`");
                // And one source.
                let sources = ["stdin", "fifo", "unix", "datagram"].contains(name)
                    && shown.starts_with("`lines");
                let other = match (targets, sources) {
                    (true, _) => "port",
                    (_, true) => "file",
                    _ => name,
                };
                if let Err(error) = toml::from_str::<T>(&file(section, other, &line)) {
                    panic!("{shown} {line}: {error}");
                }
                if !default.starts_with('(') {
                    let with = file(section, name, &format!("{name} = {default}"));
                    let without = without(section, name);
                    let [with, without] = [with, without].map(|file| toml::from_str::<T>(&file));
                    if let (Ok(with), Ok(without)) = (with, without) {
                        // A rule and a switch know where they stand.
                        let is_placed = shown == "`[enforce]`";
                        assert!(with == without || is_placed, "{shown} {name} = {default}");
                    } else {
                        panic!("{shown} {name} = {default}");
                    }
                }
                // What takes one of several words tells all of them.
                let wrong = match *name {
                    "from" => "from = [\"zzz\"]".to_owned(),
                    name => format!("{name} = \"zzz\""),
                };
                if takes.starts_with("`\"") || takes.contains("`cpu`") {
                    let said = refused::<T>(section, name, &wrong);
                    for word in offered(&said) {
                        let is_told =
                            ["\"", "`"].iter().any(|q| takes.contains(&format!("{q}{word}{q}")));
                        assert!(is_told, "{shown} {name}: {word}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_key_is_documented_with_its_default_and_a_valid_example() {
        holds::<PipelineFile>(&PIPELINE);
        holds::<RecordsFile>(&RECORDS);
        holds::<CommandsFile>(&COMMANDS);
        holds::<AgentSettings>(&AGENT);
    }

    /// `UPDATE_DOCS=1 cargo test reference` writes the file anew.
    #[test]
    fn the_document_equals_the_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pipelines.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let text = std::fs::read_to_string(path).unwrap();
        assert!(
            text == markdown(),
            "docs/pipelines.md is out of date: UPDATE_DOCS=1 cargo test reference"
        );
    }
}
