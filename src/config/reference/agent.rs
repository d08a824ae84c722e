//! The keys of `agent.toml`.

use super::{Page, Section};
use crate::values::key;
use crate::values::words::{COUNT, NONE, SWITCH, TIME};

/// The settings of the agent.
pub const AGENT: Page = Page {
    heading: "The agent: `agent.toml`",
    about: "Settings of the whole agent, all of them optional. `[shutdown]`, `[restart]`, `[memory]` and `[reload]` apply when \
            the file is reloaded; the others when the agent starts.",
    sections: || SECTIONS.to_vec(),
};

const SECTIONS: &[Section] = &[
    Section {
        header: "(top of the file)",
        about: "",
        within: "{}",
        keys: &[key(
            "host",
            "`\"infinibay\"` or `\"own\"`",
            "\"infinibay\"",
            "\"own\"",
            "what the hosts at the ports are: today's Infinibay host, or one that takes agent events, and keep-alives at any time: see [delivery](delivery.md#how-acknowledgement-works)",
        )],
    },
    Section {
        header: "`[runtime]`",
        about: "",
        within: "[runtime]\n{}",
        keys: &[
            key(
                "kind",
                "`\"current_thread\"` or `\"multi_thread\"`",
                "\"current_thread\"",
                "\"multi_thread\"",
                "all tasks on one thread, which costs least, or on several",
            ),
            key(
                "worker_threads",
                "count, at most 256",
                "(one per processor)",
                "2",
                "how many threads, with `multi_thread` only",
            ),
            key(
                "thread_name",
                "text",
                "\"infiniservice\"",
                "\"agent\"",
                "name of the threads, as `ps -T` shows it",
            ),
        ],
    },
    Section {
        header: "`[identity]`",
        about: "",
        within: "[identity]\n{}",
        keys: &[key(
            "vm_id",
            "text",
            NONE,
            "\"${INFINIBAY_VM_ID:-}\"",
            "the machine's name at its manager; an empty one is none",
        )],
    },
    Section {
        header: "`[shutdown]`",
        about: "",
        within: "[shutdown]\n{}",
        keys: &[key(
            "deadline",
            TIME,
            "\"5s\"",
            "\"2s\"",
            "how long the agent may take to write what it still holds",
        )],
    },
    Section {
        header: "`[log]`",
        about: "",
        within: "[log]\n{}",
        keys: &[key(
            "level",
            "`off`, `error`, `warn`, `info`, `debug` or `trace`; or a list with one per module",
            "\"info\"",
            "\"info,infiniservice::port=debug\"",
            "what is logged; `RUST_LOG` takes precedence",
        )],
    },
    Section {
        header: "`[restart]`",
        about: "How a stage that failed is run again.",
        within: "[restart]\n{}",
        keys: &[
            key("budget", COUNT, "8", "20", "how often it may fail …"),
            key(
                "within",
                TIME,
                "\"1m\"",
                "\"10m\"",
                "… in this time, before the agent gives up (exit 70)",
            ),
            key(
                "base",
                TIME,
                "\"100ms\"",
                "\"1s\"",
                "the first pause; each next one is twice as long",
            ),
            key("max", TIME, "\"30s\"", "\"1m\"", "the longest pause"),
        ],
    },
    Section {
        header: "`[memory]`",
        about: "",
        within: "[memory]\n{}",
        keys: &[key(
            "ceiling",
            "size, 4 MiB to 4 GiB",
            "\"16MiB\"",
            "\"8MiB\"",
            "the memory budget of everything that is queued: above half of it the oldest metrics are dropped, and when it is used up new commands are refused; a smaller limit of the control group lowers it",
        )],
    },
    Section {
        header: "`[state]`",
        about: "",
        within: "[state]\n{}",
        keys: &[key(
            "folder",
            "absolute path",
            "\"/var/lib/infiniservice\"",
            "\"/srv/agent\"",
            "where spool, request log, audit and local control are: see [operations](operations.md#state-folder)",
        )],
    },
    Section {
        header: "`[spool]`",
        about: "",
        within: "[spool]\n{}",
        keys: &[key(
            "size",
            "size, 64 KiB to 64 MiB",
            "\"4MiB\"",
            "\"16MiB\"",
            "the most bytes of durable messages on disk; when it is full, events are evicted first, ends of scripts last",
        )],
    },
    Section {
        header: "`[reload]`",
        about: "",
        within: "[reload]\n{}",
        keys: &[key(
            "watch",
            SWITCH,
            "true",
            "false",
            "whether changed files are reloaded automatically; SIGHUP and `infiniservice reload` always work",
        )],
    },
];
