//! The keys of a file of metrics.

use std::iter;
use std::sync::LazyLock;

use super::{DELIVERY, Page, Section};
use crate::config::write::PORT;
use crate::metrics::collect::{self, LIST as GROUPS};
use crate::metrics::enrich;
use crate::sinks;
use crate::values::words::{COUNT, NEEDED, NONE, TIME};
use crate::values::{Key, key};
use crate::wire::Format;

/// Any file of metrics.
pub const PIPELINE: Page = Page {
    heading: "A pipeline: any other `*.toml`",
    about: "Metrics: collect → enrich → batch → serialize → write. The file's name without `.toml` is the name of the \
            pipeline.",
    sections,
};

fn sections() -> Vec<Section> {
    [COLLECT, &collectors(), &[GENERATE], &enrichers(), &[BATCH, serialize()], &outputs()].concat()
}

fn collectors() -> Vec<Section> {
    collect::MANUAL.iter().copied().flatten().collect()
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

fn serialize() -> Section {
    static TAKES: LazyLock<String> = LazyLock::new(|| {
        let mut names: Vec<_> =
            Format::ALL.iter().map(|format| format!("`\"{}\"`", format.name())).collect();
        let last = names.pop().unwrap_or_default();
        format!("{} or {last}", names.join(", "))
    });
    static KEYS: LazyLock<[Key; 1]> = LazyLock::new(|| {
        [key(
            "format",
            &TAKES,
            "\"infinibay\"",
            "\"json-lines\"",
            "what a reading looks like: see [metrics](metrics.md#what-the-other-formats-carry). `infinibay` needs `cpu`, `memory`, `disk` and `network`",
        )]
    });
    Section {
        header: "`[serialize]`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[serialize]\n{}\n[write]\nstdout = true",
        keys: &*KEYS,
    }
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
];

const GENERATE: Section = Section {
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
};

const BATCH: Section = Section {
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
};

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
