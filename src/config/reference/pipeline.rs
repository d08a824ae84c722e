//! The keys of a file of metrics.

use std::iter;

use super::{COMMAND_LINE, DELIVERY, Page, Section};
use crate::metrics::collect::registry::LIST as GROUPS;
use crate::metrics::enrich;
use crate::values::key;
use crate::values::words::{COUNT, NEEDED, NONE, RANK, SIZE, TIME};

/// Any file of metrics.
pub const PIPELINE: Page = Page {
    heading: "A pipeline: any other `*.toml`",
    about: "Metrics: collect → enrich → batch → serialize → write. The file's name without `.toml` is the name of the \
            pipeline.",
    sections,
};

fn sections() -> Vec<Section> {
    [COLLECT, &enrichers(), WRITE].concat()
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
            key("by", RANK, "\"cpu\"", "\"memory\"", "what makes a process important"),
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

const WRITE: &[Section] = &[
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
    Section {
        header: "`[write]` or `[[write]]`",
        about: "One target a section. Several sections share the flow, and none slows another.",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[write]\nport = \"org.infinibay.agent\"\n{}",
        keys: &[
            key(
                "port",
                "name, device path, `unix:PATH`, `vsock:CID:PORT` or `stdio`",
                NONE,
                "\"org.infinibay.agent\"",
                "a virtio-serial port by its name, a device, a Unix socket or a vsock port to connect to (2 is the host), or standard input and output",
            ),
            key(
                "file",
                "table, see below",
                NONE,
                "{ path = \"/var/log/metrics.jsonl\" }",
                "a file that is turned over by size",
            ),
            key(
                "unix",
                "path, at most 107 bytes",
                NONE,
                "\"/run/metrics.sock\"",
                "a Unix socket to connect to",
            ),
            key(
                "tcp",
                "table, see below",
                NONE,
                "{ address = \"metrics.example:5170\" }",
                "a TCP server; what is sent is not encrypted",
            ),
            key(
                "syslog",
                "table, see below",
                NONE,
                "{ server = \"udp:logs.example:514\" }",
                "a syslog server, or the log socket of this machine: each line is a message (RFC 5424)",
            ),
            key(
                "prometheus",
                "table, see below",
                NONE,
                "{ address = \"127.0.0.1:9464\" }",
                "served to Prometheus at `/metrics`: the newest values of `cpu`, `load`, `memory`, `disk`, `network`, `pressure` and `agent`",
            ),
            key("stdout", "`true`", NONE, "true", "standard output"),
            key("null", "`true`", NONE, "true", "nowhere; counted all the same"),
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
                "what becomes of a frame that nobody reads: overwritten by newer ones, or kept on disk until a host has acknowledged it (ports only): see [delivery](delivery.md)",
            ),
        ],
    },
    Section {
        header: "`file = { … }` in `[write]`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[write]\nfile.path = \"/x\"\nfile.{}",
        keys: &[
            key(
                "path",
                "path",
                NEEDED,
                "\"/var/log/metrics.jsonl\"",
                "the file; made with mode 0640",
            ),
            key(
                "max_size",
                SIZE,
                "\"16MiB\"",
                "\"1MiB\"",
                "a new file is begun before the old one would grow past this",
            ),
            key("keep", COUNT, "3", "10", "how many full files are kept beside the one that grows"),
        ],
    },
    Section {
        header: "`tcp = { … }` in `[write]`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[write]\ntcp.address = \"x:1\"\ntcp.{}",
        keys: &[
            key(
                "address",
                "name or IP address, with a port",
                NEEDED,
                "\"metrics.example:5170\"",
                "the server; a name is looked up at each connection",
            ),
            key(
                "framing",
                "`\"newline\"` or `\"octets\"`",
                "\"newline\"",
                "\"octets\"",
                "how lines are delimited: by newlines, or by the length before each (RFC 6587)",
            ),
        ],
    },
    Section {
        header: "`prometheus = { … }` in `[write]`",
        about: "One of the two. Names are those of OpenTelemetry's semantic conventions; HTTP/1.0, eight connections at once.",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[write]\nprometheus.{}",
        keys: &[
            key(
                "address",
                "loopback IP address, with a port",
                NONE,
                "\"127.0.0.1:9464\"",
                "an address that only programs of this machine reach",
            ),
            key(
                "unix",
                "path, at most 107 bytes",
                NONE,
                "\"/run/infiniservice/metrics.sock\"",
                "a Unix socket, made with mode 0660",
            ),
        ],
    },
    Section {
        header: "`syslog = { … }` in `[write]`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[write.syslog]\n{}",
        keys: &[
            key(
                "server",
                "`unix:PATH`, `tcp:ADDRESS` or `udp:ADDRESS`",
                "\"unix:/dev/log\"",
                "\"udp:logs.example:514\"",
                "where messages go; a datagram (unix, udp) carries at most 65,507 bytes, and a longer line is dropped with a warning",
            ),
            key(
                "facility",
                "`\"user\"`, `\"daemon\"`, `\"local0\"`, `\"local1\"`, `\"local2\"`, `\"local3\"`, `\"local4\"`, `\"local5\"`, `\"local6\"` or `\"local7\"`",
                "\"daemon\"",
                "\"local3\"",
                "what kind of program speaks",
            ),
            key(
                "severity",
                "`\"emergency\"`, `\"alert\"`, `\"critical\"`, `\"error\"`, `\"warning\"`, `\"notice\"`, `\"info\"` or `\"debug\"`",
                "\"info\"",
                "\"notice\"",
                "how grave each message is",
            ),
            key(
                "app_name",
                "text, at most 48 characters",
                "\"infiniservice\"",
                "\"web\"",
                "the name of what speaks",
            ),
        ],
    },
];
