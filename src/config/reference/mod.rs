//! The reference of every key: type, default, example and meaning. `docs/pipelines.md` and the examples in error messages
//! come from here; a test compares it with the types.

mod agent;
mod commands;
mod pipeline;
mod records;

use std::fmt::Write as _;

use crate::records::transform::{MANUAL, Manual};
pub use crate::values::{Key, Section};
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
pub const PAGES: [Page; 4] = [PIPELINE, RECORDS, COMMANDS, AGENT];

/// A correct line for a key of this name, of the first section that has it.
pub(super) fn example(name: &str) -> Option<String> {
    let mut keys = PAGES.iter().flat_map(Page::sections).flat_map(|section| section.keys);
    keys.find(|key| key.name == name).map(|key| format!("{name} = {}", key.example))
}

const HEAD: &str = r#"# Pipelines: the configuration reference

Every key of every file. This page is made from the agent's own tables; a test compares it with them, and them with the types that
read the files.

Files are TOML, in `/etc/infiniservice/pipelines/*.toml`; without that folder the built-in ones run ([`pipelines/`](../pipelines), and
`built-in:NAME` wherever a file is named). `infiniservice validate FILE…` finds every mistake before the agent does:

```
$ infiniservice validate lab.toml
lab.toml:8:1: unknown key "max_itms"
  |
8 | max_itms = 8
  | ^^^^^^^^
help: did you mean "max_items"? known here are "max_items", "max_bytes" and "max_delay"
```

## How a pipeline reads

The shape of the file is the flow: collect → enrich → batch → serialize → write.

```toml
about = "Basics every second, disks and processes twice a minute."

[[collect]]
every = "1s"
from  = ["cpu", "memory", "load"]

[[collect]]
every = "30s"
from  = ["disk", { network = { exclude = ["docker0"] } }, { processes = { keep = 50, by = "cpu" } }]

[[enrich]]
tags = { site = "${SITE:-lab-1}" }

[batch]
max_items = 64
max_delay = "1s"

[serialize]
format = "json-lines"

[write]
port = "org.infinibay.agent"
keep = 64                # newest frames kept while the host is away
```

`infiniservice graph FILE` draws what is built of it, `infiniservice run --pipelines FILE` runs it, `infiniservice bench FILE` measures it.

## Values

| word | written as |
|---|---|
| time | a text with its unit, `"500ms"`, `"30s"`, `"1m 30s"`, from 10 ms to 1 day unless said |
| size | a text with its unit, `"64KiB"`, `"16MiB"`, from 1 B to 1 TiB |
| count | a whole number, 1 to 65,536 unless said |
| text | one line in quotes, not empty |
| pattern | a text in which `*` stands for any text; upper and lower case are different |

`${NAME}` and `${NAME:-default}` are filled in from the environment, in texts only and after the file was parsed, so what a variable holds
can never become TOML; `$${` is a literal `${`. A file has at most 1 MiB.
"#;

/// The text of `docs/pipelines.md`.
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    for page @ Page { heading, about, .. } in &PAGES {
        // Writing to a text cannot fail.
        let _ = write!(text, "\n## {heading}\n\n{about}\n");
        for Section { header, about, keys, .. } in page.sections() {
            let _ = write!(text, "\n### {header}\n\n");
            if !about.is_empty() {
                let _ = write!(text, "{about}\n\n");
            }
            text.push_str("| key | takes | default | example | does |\n|---|---|---|---|---|\n");
            for Key { name, takes, default, example, does } in keys {
                let default =
                    match default.strip_prefix('(').and_then(|text| text.strip_suffix(')')) {
                        Some("none") => "–".to_owned(),
                        Some(words) => words.to_owned(),
                        None => format!("`{default}`"),
                    };
                let _ = writeln!(
                    text,
                    "| `{name}` | {takes} | {default} | `{name} = {example}` | {does} |"
                );
            }
        }
        if *heading == RECORDS.heading {
            text.push_str(STAGES);
            for Manual { name, takes, does, example, .. } in MANUAL {
                let _ = writeln!(text, "\n**`{name}`** ({takes}) {does}.");
                let _ = writeln!(text, "\n```toml\n{}\n```", example.file);
                let lines = |text: &str| {
                    text.lines().map(|line| format!("    {line}\n")).collect::<String>()
                };
                let _ = write!(
                    text,
                    "\n{}becomes\n\n{}",
                    lines(example.input) + "\n",
                    lines(example.output)
                );
            }
            text.push_str(FILTER);
        }
    }
    text
}

const STAGES: &str = "
### `[[transform]]`

One stage a section, in the order of the file. All of them are one pass over each record. Regular expressions are those of the Rust crate `regex`,
over bytes: classes such as `\\w` are ASCII.
";

const FILTER: &str = "
A condition of `filter` names a `field` and what must hold for it: `equals`, `not_equals`, `in` (a list), `less`, `less_or_equal`, `greater`,
`greater_or_equal`, `exists` (`true` or `false`), `prefix`, `regex` (matches anywhere in the text); several must all hold. Or it is one of `any = […]`, `all = […]` and `not = { … }`. A field that is not
there equals nothing and has no order; numbers are compared by value, whole ones exactly, texts byte for byte; values of two kinds are not equal.
";

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;

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
            let mut told: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
            told.sort_unstable();
            if shown.starts_with("(top") {
                for name in known {
                    let header = format!("[{name}]");
                    let is_section = page.sections().iter().any(|one| one.header.contains(&header));
                    assert!(is_section || told.contains(&name), "{name} is not in the reference");
                }
            } else {
                assert_eq!(told, known, "keys of {shown}: add them to src/config/reference");
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
