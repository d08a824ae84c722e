//! The keys of a file of metrics.

use std::iter;
use std::sync::LazyLock;

use super::{COMMAND_LINE, DELIVERY, Page, Section};
use crate::config::write::PORT;
use crate::metrics::collect::registry::LIST as GROUPS;
use crate::metrics::enrich;
use crate::sinks;
use crate::values::words::{COUNT, NEEDED, NONE, RANK, TIME};
use crate::values::{Key, key};

/// Any file of metrics.
pub const PIPELINE: Page = Page {
    heading: "A pipeline: any other `*.toml`",
    about: "Metrics: collect → enrich → batch → serialize → write. The file's name without `.toml` is the name of the \
            pipeline.",
    sections,
};

fn sections() -> Vec<Section> {
    [COLLECT, &enrichers(), STAGES, &outputs()].concat()
}

fn enrichers() -> Vec<Section> {
    let all = Section {
        header: "`[[enrich]]`",
        about: "One enricher a section, in the order of the file.",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[[enrich]]\n{}\n[write]\nstdout = true",
        keys: enrich::KEYS,
    };
    iter::once(all).chain(enrich::MANUAL.iter().filter_map(|manual| manual.options)).collect()
}

fn outputs() -> Vec<Section> {
    static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| [&[PORT], sinks::KEYS, OF_ALL].concat());
    let all = Section {
        header: "`[write]` or `[[write]]`",
        about: "One target a section. Several sections share the flow, and none slows another.",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[write]\nport = \"org.infinibay.agent\"\n{}",
        keys: &KEYS,
    };
    iter::once(all).chain(sinks::MANUAL.iter().filter_map(|manual| manual.options)).collect()
}

const COLLECT: &[Section] = &[
    Section {
        header: "(top of the file)",
        about: "",
        within: "{}\n[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[write]\nstdout = true",
        keys: &[key(
            "about",
            "text",
            NONE,
            "\"Basics every second.\"",
            "what the pipeline is for, for people",
        )],
    },
    Section {
        header: "`[[collect]]`",
        about: "A cadence, and the groups that are read at it; several sections are several cadences. A group \
                stands in one cadence only. Each name of `from` is a text, or a table of the name and its options.",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n{}\n[write]\nstdout = true",
        keys: &[
            key("every", TIME, NEEDED, "\"30s\"", "how often"),
            key("from", GROUPS, NEEDED, "[\"cpu\", \"memory\"]", "what: see [metrics](metrics.md)"),
        ],
    },
    Section {
        header: "`disk = { … }` in `from`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\n[[collect.from]]\ndisk.{}\n[write]\nstdout = true",
        keys: &[key(
            "exclude",
            "list of patterns",
            "[]",
            "[\"/mnt\", \"/media/*\"]",
            "mount points that are left out; only a `*` at the end is special",
        )],
    },
    Section {
        header: "`network = { … }` in `from`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\n[[collect.from]]\nnetwork.{}\n[write]\nstdout = true",
        keys: &[key(
            "exclude",
            "list of patterns",
            "[]",
            "[\"lo\", \"veth*\"]",
            "interfaces that are left out; only a `*` at the end is special",
        )],
    },
    Section {
        header: "`processes = { … }` in `from`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\n[[collect.from]]\nprocesses.{}\n[write]\nstdout = true",
        keys: &[
            key("keep", COUNT, "20", "50", "how many processes are kept"),
            key("by", RANK, "\"cpu\"", "\"memory\"", "what makes a process more important"),
            key(
                "command_line",
                COMMAND_LINE,
                "\"redacted\"",
                "\"name\"",
                "how much of command lines is shown: without what looks like a secret, all, or none",
            ),
        ],
    },
    Section {
        header: "`[generate]`",
        about: "Made-up readings in place of `[[collect]]`, for `infiniservice bench`; `run` skips such a file.",
        within: "[generate]\nfrom = [\"cpu\"]\n{}\n[write]\nnull = true",
        keys: &[
            key("from", GROUPS, NEEDED, "[\"cpu\", \"memory\"]", "the groups in each reading"),
            key("processes", COUNT, "20", "50", "how many processes are in each reading"),
            key(
                "seed",
                "whole number",
                "1",
                "1",
                "where the made-up values start; the same seed gives the same readings",
            ),
        ],
    },
];

const STAGES: &[Section] = &[
    Section {
        header: "`[batch]`",
        about: "A batch leaves when the first of these is reached.",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[batch]\n{}\n[write]\nstdout = true",
        keys: &[
            key("max_items", COUNT, "64", "1", "readings in one batch"),
            key(
                "max_bytes",
                "size, at most 16 MiB",
                "\"256KiB\"",
                "\"64KiB\"",
                "estimated bytes in one batch",
            ),
            key("max_delay", TIME, "\"1s\"", "\"100ms\"", "age of its oldest reading"),
        ],
    },
    Section {
        header: "`[serialize]`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[serialize]\n{}\n[write]\nstdout = true",
        keys: &[key(
            "format",
            "`\"infinibay\"`, `\"json-lines\"`, `\"pretty\"`, `\"influx\"` or `\"prometheus\"`",
            "\"infinibay\"",
            "\"json-lines\"",
            "what a reading looks like: see [metrics](metrics.md#what-the-other-formats-carry). `infinibay` needs `cpu`, `memory`, `disk` and `network`",
        )],
    },
];

/// What is said of every target.
const OF_ALL: &[Key] = &[
    key(
        "format",
        "as in `[serialize]`",
        "(that of `[serialize]`)",
        "\"json-lines\"",
        "the format of this output",
    ),
    key(
        "keep",
        COUNT,
        "64",
        "256",
        "newest frames kept while the port is not read; frames that may wait for any other target, of records at most 8",
    ),
    key(
        "delivery",
        DELIVERY,
        "\"latest\"",
        "\"durable\"",
        "whether frames that no host reads are overwritten by newer ones, or kept on disk until a host has acknowledged them (ports only): see [delivery](delivery.md)",
    ),
];
