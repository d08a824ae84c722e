//! `docs/pipelines.md`, made of the tables of its keys. A test writes and compares it; the programs have no use for it.

use std::fmt::Write as _;

use super::{Key, PAGES, Page, RECORDS, Section};
use crate::records::transform::{MANUAL, Manual};

/// The text of `docs/pipelines.md`.
pub(super) fn markdown() -> String {
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

`infiniservice graph FILE` draws what is built of it, `infiniservice run FILE` runs it, `infiniservice bench FILE` measures it.

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
