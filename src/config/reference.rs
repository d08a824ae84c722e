//! The reference of every key: type, default, example and meaning. `docs/pipelines.md` and the examples in error messages
//! come from here; a test compares it with the types.

use std::fmt::Write as _;

use crate::records::transform::{MANUAL, Manual};
use crate::values::key;
pub use crate::values::{Key, Section};

/// One kind of file.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// The file.
    pub heading: &'static str,
    /// Its purpose.
    pub about: &'static str,
    /// Its sections, in the order of the flow.
    pub sections: &'static [Section],
}

/// It has to be given.
pub(super) const NEEDED: &str = "(needed)";
const NONE: &str = "(none)";
const COUNT: &str = "count";
const TIME: &str = "time";
const SIZE: &str = "size";
const SWITCH: &str = "`true` or `false`";
const GROUPS: &str = crate::metrics::collect::registry::LIST;
const COMMAND_LINE: &str = "`\"redacted\"`, `\"full\"` or `\"name\"`";
const RANK: &str = "`\"cpu\"` or `\"memory\"`";
const PATTERN: &str = "pattern";
const DELIVERY: &str = "`\"latest\"` or `\"durable\"`";

/// Any file of metrics.
pub const PIPELINE: Page = Page {
    heading: "A pipeline: any other `*.toml`",
    about: "Metrics: collect → enrich → batch → serialize → write. The file's name without `.toml` is the name of the \
            pipeline.",
    sections: &[
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
                key(
                    "from",
                    GROUPS,
                    NEEDED,
                    "[\"cpu\", \"memory\"]",
                    "what: see [metrics](metrics.md)",
                ),
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
        Section {
            header: "`[[enrich]]`",
            about: "One enricher a section, in the order of the file.",
            within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[[enrich]]\n{}\n[write]\nstdout = true",
            keys: &[
                key("identity", "table, see below", NONE, "{}", "adds which machine this is"),
                key("tags", "table of texts", NONE, "{ site = \"lab-1\" }", "adds fixed words"),
                key("rates", "empty table", NONE, "{}", "adds traffic per second to interfaces"),
                key(
                    "top",
                    "table, see below",
                    NONE,
                    "{ processes = 20, by = \"cpu\" }",
                    "keeps the most important processes",
                ),
                key(
                    "select",
                    "table, see below",
                    NONE,
                    "{ keep = [\"cpu\", \"memory\"] }",
                    "keeps or drops whole groups",
                ),
                key(
                    "changes",
                    "table, see below",
                    NONE,
                    "{ full_every = 10 }",
                    "lets only what has changed through",
                ),
                key(
                    "where",
                    "table, see below",
                    NONE,
                    "{ user = [\"postgres\"], memory_above = \"100MiB\" }",
                    "keeps the processes for which all of it holds",
                ),
                key(
                    "threshold",
                    "table, see below",
                    NONE,
                    "{ of = \"memory\", above = 90, for = \"2m\", until = 80 }",
                    "reports a value that stays above a bound, to the log and as an `agent_event`",
                ),
            ],
        },
        Section {
            header: "`identity = { … }` in `[[enrich]]`",
            about: "",
            within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[[enrich]]\nidentity.{}\n[write]\nstdout = true",
            keys: &[key(
                "vm_id",
                "text",
                "(that of `agent.toml`)",
                "\"web-1\"",
                "the machine's name at its manager",
            )],
        },
        Section {
            header: "`top = { … }` in `[[enrich]]`",
            about: "",
            within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[[enrich]]\ntop.{}\n[write]\nstdout = true",
            keys: &[
                key("processes", COUNT, "20", "5", "how many processes stay"),
                key("by", RANK, "\"cpu\"", "\"memory\"", "what makes a process important"),
            ],
        },
        Section {
            header: "`select = { … }` in `[[enrich]]`",
            about: "One of the two.",
            within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[[enrich]]\nselect.{}\n[write]\nstdout = true",
            keys: &[
                key(
                    "keep",
                    "list of groups",
                    NONE,
                    "[\"cpu\", \"memory\"]",
                    "these groups stay, all others go",
                ),
                key("drop", "list of groups", NONE, "[\"ports\"]", "these groups go"),
            ],
        },
        Section {
            header: "`changes = { … }` in `[[enrich]]`",
            about: "",
            within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[[enrich]]\nchanges.{}\n[write]\nstdout = true",
            keys: &[key(
                "full_every",
                COUNT,
                "10",
                "60",
                "every how many readings a full copy goes, whatever has changed",
            )],
        },
        Section {
            header: "`where = { … }` in `[[enrich]]`",
            about: "One of them at least; a process stays if all that are given hold. It sees what `processes` in `from` has \
                    kept, so give that a larger `keep`.",
            within: "[[collect]]\nevery = \"30s\"\nfrom = [\"processes\"]\n[[enrich]]\nwhere.{}\n[write]\nstdout = true",
            keys: &[
                key(
                    "name",
                    "list of patterns",
                    NONE,
                    "[\"postgres\", \"nginx*\"]",
                    "its name, or the file name of its executable; `*` stands for any text",
                ),
                key(
                    "user",
                    "list of texts",
                    NONE,
                    "[\"www-data\", \"1000\"]",
                    "its owner, by name or id; names are looked up in `/etc/passwd` when the file is read",
                ),
                key("cpu_above", "number", NONE, "5", "percent of one core"),
                key("memory_above", SIZE, NONE, "\"100MiB\"", "resident memory"),
            ],
        },
        Section {
            header: "`threshold = { … }` in `[[enrich]]`",
            about: "The event goes to a host that takes `agent_event`, once when the value has stayed above the bound for the \
                    time, and once when it is back.",
            within: "[[collect]]\nevery = \"30s\"\nfrom = [\"memory\"]\n[[enrich]]\nthreshold.of = \"memory\"\nthreshold.above = 90\nthreshold.{}\n[write]\nstdout = true",
            keys: &[
                key(
                    "of",
                    "`\"cpu\"`, `\"iowait\"`, `\"steal\"`, `\"temperature\"`, `\"memory\"`, `\"swap\"`, `\"disk\"`, `\"inodes\"`, `\"load\"`, \
                     `\"cpu-pressure\"`, `\"memory-pressure\"` or `\"io-pressure\"`",
                    NEEDED,
                    "\"disk\"",
                    "what is watched: percent, but for `temperature` (°C) and `load` (one minute); of `disk` and `inodes` the \
                     fullest file system; of pressure the share of the last 60 s in which some task waited",
                ),
                key("above", "number", NEEDED, "90", "the bound"),
                key("for", TIME, "(at once)", "\"2m\"", "how long it must stay above"),
                key("until", "number", "(`above`)", "80", "it is back at this or below"),
            ],
        },
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
                key(
                    "keep",
                    COUNT,
                    "3",
                    "10",
                    "how many full files are kept beside the one that grows",
                ),
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
    ],
};

/// The command flow.
pub const COMMANDS: Page = Page {
    heading: "The command flow: a file with `[receive]`, such as `commands.toml`",
    about: "What the host may ask. At most one file has it; without it nothing is done for a host. What the file does \
            not allow is denied. [Security](security.md) says what that is worth.",
    sections: &[
        Section {
            header: "(top of the file)",
            about: "",
            within: "{}\n[receive]",
            keys: &[key(
                "about",
                "text",
                NONE,
                "\"What the host may ask.\"",
                "what the flow is for, for people",
            )],
        },
        Section {
            header: "`[receive]`",
            about: "Always there: it is what makes a file a command flow.",
            within: "[receive]\n{}",
            keys: &[
                key(
                    "port",
                    "as `[write] port`",
                    "\"org.infinibay.agent\"",
                    "\"org.infinibay.agent\"",
                    "where requests come from and answers go to",
                ),
                key(
                    "max_line",
                    "size, at most 64 MiB",
                    "\"8MiB\"",
                    "\"1MiB\"",
                    "the longest line of the host that is read",
                ),
            ],
        },
        Section {
            header: "`[verify]`",
            about: "Who may ask.",
            within: "[receive]\n[verify]\n{}",
            keys: &[
                key(
                    "secret",
                    "`env:NAME`, `file:/PATH` or `credential:NAME`",
                    NONE,
                    "\"file:/etc/infiniservice/secret\"",
                    "where the shared secret is found; without one the flow is locked: see [security](security.md#the-secret)",
                ),
                key(
                    "window",
                    "time, at most 5 min",
                    "\"5m\"",
                    "\"1m\"",
                    "how far the time of a message may be from the machine's, either way",
                ),
            ],
        },
        Section {
            header: "`[enforce]`",
            about: "What may be asked: deny wins over allow, and what nothing allows is denied. A rule is a pattern of \
                    an action's name, or a table of one and patterns of its arguments; `*` stands for any text.",
            within: "[receive]\n[enforce]\nallow = [\"*\"]\n{}",
            keys: &[
                key(
                    "allow",
                    "list of rules",
                    "[]",
                    "[\"Check*\", { action = \"ServiceControl\", service = \"nginx\" }]",
                    "what may be asked",
                ),
                key(
                    "deny",
                    "list of rules",
                    "[]",
                    "[{ action = \"PackageRemove\", package = \"systemd*\" }]",
                    "what of that may not",
                ),
                key(
                    "raw_shell",
                    SWITCH,
                    "false",
                    "true",
                    "whether command lines may be asked at all (as an action, `UnsafeCommand`); a rule has to allow them too",
                ),
                key(
                    "scripts",
                    SWITCH,
                    "false",
                    "true",
                    "whether scripts of the host may run at all (`Script`); a rule has to allow them too",
                ),
                key(
                    "detach",
                    SWITCH,
                    "false",
                    "true",
                    "whether either may leave processes running, where `INFINISERVICE_DETACH=1` is among its variables",
                ),
            ],
        },
        Section {
            header: "a rule of `[enforce]`",
            about: "A pattern for each argument that has to match; [actions](actions.md) says which an action has.",
            within: "[receive]\n[[enforce.allow]]\naction = \"*\"\n{}",
            keys: &[
                key(
                    "action",
                    PATTERN,
                    NEEDED,
                    "\"PackageInstall\"",
                    "which actions; it matches at least one that is known",
                ),
                key(
                    "package",
                    PATTERN,
                    NONE,
                    "\"systemd*\"",
                    "a package, without its architecture",
                ),
                key("service", PATTERN, NONE, "\"nginx\"", "a unit, with and without `.service`"),
                key(
                    "operation",
                    PATTERN,
                    NONE,
                    "\"restart\"",
                    "`start`, `stop`, `restart`, `enable`, `disable` or `status`",
                ),
                key("query", PATTERN, NONE, "\"*\"", "what packages are searched for"),
                key("pid", PATTERN, NONE, "\"1\"", "a process id"),
                key("target", PATTERN, NONE, "\"temp_files\"", "what to clean up"),
                key("name", PATTERN, NONE, "\"disk_space\"", "a check, or a script"),
                key(
                    "user",
                    PATTERN,
                    NONE,
                    "\"ann\"",
                    "as whom; `root` where the host names nobody",
                ),
                key(
                    "path",
                    PATTERN,
                    NONE,
                    "\"/srv/*\"",
                    "where a command line starts; `/` where the host names no folder",
                ),
                key("shell", PATTERN, NONE, "\"bash\"", "`sh`, `bash`, `cmd` or `powershell`"),
            ],
        },
        Section {
            header: "`[execute]`",
            about: "How much of it at once, and for how long.",
            within: "[receive]\n[execute]\n{}",
            keys: &[
                key("parallel", "count, at most 64", "5", "2", "how many run at once"),
                key(
                    "waiting",
                    COUNT,
                    "64",
                    "16",
                    "how many may wait behind those; the next one is refused",
                ),
                key(
                    "timeout",
                    TIME,
                    "\"30m\"",
                    "\"5m\"",
                    "the longest that one may take, however long the host asked for",
                ),
                key(
                    "output",
                    "size, at most 256 KiB",
                    "\"256KiB\"",
                    "\"64KiB\"",
                    "what is kept of each stream of a program, head and tail",
                ),
                key(
                    "command_line",
                    COMMAND_LINE,
                    "\"redacted\"",
                    "\"name\"",
                    "how much of command lines of processes `ProcessList` and `ProcessTop` show",
                ),
            ],
        },
        Section {
            header: "`[reply]`",
            about: "",
            within: "[receive]\n[reply]\n{}",
            keys: &[
                key(
                    "command_type",
                    "`\"action\"` or `\"safe\"`",
                    "\"action\"",
                    "\"safe\"",
                    "what an answer says it answers: the action's name, or `safe` and `unsafe` as the first guests did",
                ),
                key(
                    "delivery",
                    DELIVERY,
                    "\"durable\"",
                    "\"latest\"",
                    "answers, ends of scripts and events: on disk until a host has acknowledged them, or only for the host that asked",
                ),
            ],
        },
        Section {
            header: "`[audit]`",
            about: "What is written down of it.",
            within: "[receive]\n[audit]\n{}",
            keys: &[
                key(
                    "path",
                    "absolute path",
                    "(`audit.jsonl` in the state folder)",
                    "\"/var/log/infiniservice/audit.jsonl\"",
                    "the file; made with mode 0600",
                ),
                key(
                    "max_size",
                    SIZE,
                    "\"4MiB\"",
                    "\"1MiB\"",
                    "a new file is begun before the old one would grow past this",
                ),
                key(
                    "keep",
                    COUNT,
                    "3",
                    "10",
                    "how many full files are kept beside the one that grows",
                ),
                key(
                    "required",
                    SWITCH,
                    "true",
                    "false",
                    "whether a request is refused when it cannot be written down",
                ),
            ],
        },
    ],
};

/// The settings of the agent.
pub const AGENT: Page = Page {
    heading: "The agent: `agent.toml`",
    about: "What belongs to the whole agent. All of it is optional. `[shutdown]`, `[restart]`, `[memory]` and `[reload]` hold \
            as soon as they are read; the others are read at a start.",
    sections: &[
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
                    "all tasks on one thread, the cheapest, or spread over several",
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
                "how long what is held may take to be written",
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
                "what is logged; `RUST_LOG` goes before it",
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
                "the memory budget of everything that is queued: above half of it the oldest metrics go, at it new commands are refused; a smaller limit of the control group lowers it",
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
                "whether changed files are read again by themselves; SIGHUP and `infiniservice reload` do so in any case",
            )],
        },
    ],
};

/// Any file of records.
pub const RECORDS: Page = Page {
    heading: "A records pipeline: a `*.toml` with `[[read]]`",
    about: "Lines that others write: read → transform → batch → serialize → write. Each line is a record, a JSON object. What no \
            stage changes stays as it was written. `[write]` is as for metrics; `format` of `[serialize]` is `json-lines`, `logfmt`, \
            `raw` (the text of `message` alone) or `influx` (points of `records`).",
    sections: &[
        Section {
            header: "`[[read]]`",
            about: "A source; several sections go into one channel. Over-long lines are skipped and counted as `too_long`.",
            within: "[[read]]\nlines = { stdin = true }\n{}\n[write]\nnull = true",
            keys: &[
                key(
                    "lines",
                    "table of one source and its options, see below",
                    NONE,
                    "{ file = \"/var/log/app/*.ndjson\" }",
                    "where lines come from; this, `exec` or `journal`",
                ),
                key(
                    "exec",
                    "table, see below",
                    NONE,
                    "{ command = [\"vmstat\", \"1\"] }",
                    "a program whose output is read",
                ),
                key(
                    "journal",
                    "table, see below",
                    NONE,
                    "{ units = [\"nginx.service\"] }",
                    "the journal of systemd, through `journalctl`; the cursor is kept",
                ),
                key(
                    "parse_as",
                    "`\"json\"` or `\"text\"`",
                    "\"json\"",
                    "\"text\"",
                    "what a line is: a JSON object, or any text, which becomes the field `message`",
                ),
                key("max_line", SIZE, "\"1MiB\"", "\"64KiB\"", "the longest line that is read"),
                key(
                    "invalid",
                    "`\"drop\"` or `\"keep\"`",
                    "\"drop\"",
                    "\"keep\"",
                    "what becomes of a line that is no JSON object (counted as `invalid_json`, `invalid_utf8` or `too_deep`): dropped, or kept as the field `message`",
                ),
            ],
        },
        Section {
            header: "`lines = { … }`",
            about: "A source. `stdin` is read to its end. `file` is followed over rotation by rename, truncation, copytruncate and removal; its position is kept in \
                    the state folder, so that a restart goes on where all lines have arrived at their outputs. Of files of one log (`app.log`, `app.log.1`) the oldest is read first.",
            within: "[[read]]\n[read.lines]\nfile = \"/var/log/app/*.ndjson\"\n{}\n[write]\nnull = true",
            keys: &[
                key("stdin", "`true`", NONE, "true", "standard input"),
                key(
                    "fifo",
                    "path",
                    NONE,
                    "\"/run/app.fifo\"",
                    "a FIFO, which is made with mode 0600 if it is missing",
                ),
                key(
                    "unix",
                    "path",
                    NONE,
                    "\"/run/app.sock\"",
                    "a Unix socket of the agent, mode 0660, with at most 64 writers at a time",
                ),
                key(
                    "datagram",
                    "path",
                    NONE,
                    "\"/run/app.dgram\"",
                    "a datagram socket of the agent, mode 0660; a datagram is a line, or several",
                ),
                key(
                    "file",
                    "path with `*`, `?`, `[a-z]`",
                    NONE,
                    "\"/var/log/app/*.ndjson\"",
                    "files, also those that come later; at most 1,024",
                ),
                key(
                    "from",
                    "`\"start\"` or `\"end\"`",
                    "\"start\"",
                    "\"end\"",
                    "where files begin that are there when they are followed for the first time",
                ),
                key(
                    "until_end",
                    "`true` or `false`",
                    "false",
                    "true",
                    "end at the end of the files that are there, the last line with or without a newline",
                ),
                key(
                    "keep_position",
                    "`true` or `false`",
                    "true",
                    "false",
                    "whether the position is kept over restarts; `false` begins anew each time",
                ),
            ],
        },
        Section {
            header: "`exec = { … }`",
            about: "A program. It has no input, no shell, and of the environment `PATH`, `TZ` and `LANG` only. When it ends it is started again, 1 s to a minute later; \
                    its process group is killed when the flow ends.",
            within: "[[read]]\n[read.exec]\ncommand = [\"vmstat\", \"1\"]\n{}\n[write]\nnull = true",
            keys: &[
                key(
                    "command",
                    "list of texts",
                    NEEDED,
                    "[\"vmstat\", \"1\"]",
                    "the program and its arguments",
                ),
                key(
                    "every",
                    TIME,
                    NONE,
                    "\"30s\"",
                    "run it once in this time instead of keeping it running",
                ),
            ],
        },
        Section {
            header: "`journal = { … }`",
            about: "The journal, from the start of this boot on, or from where the last run came to.",
            within: "[[read]]\n[read.journal]\nunits = [\"nginx.service\"]\n{}\n[write]\nnull = true",
            keys: &[
                key("units", "list of units", "[]", "[\"nginx.service\"]", "only entries of these"),
                key(
                    "since",
                    "text",
                    NONE,
                    "\"-1h\"",
                    "where it begins the first time, as `journalctl --since` takes it",
                ),
            ],
        },
        Section {
            header: "`[batch]` of records",
            about: "A batch leaves at whichever comes first.",
            within: "[[read]]\nlines = { stdin = true }\n[batch]\n{}\n[write]\nnull = true",
            keys: &[
                key("max_items", COUNT, "4096", "512", "records"),
                key(
                    "max_bytes",
                    SIZE,
                    "\"256KiB\"",
                    "\"64KiB\"",
                    "bytes; a record above it goes alone",
                ),
                key("max_delay", TIME, "\"1s\"", "\"200ms\"", "how long the oldest record is held"),
            ],
        },
    ],
};

/// All kinds of files.
pub const PAGES: [Page; 4] = [PIPELINE, RECORDS, COMMANDS, AGENT];

/// A correct line for a key of this name, of the first section that has it.
pub(super) fn example(name: &str) -> Option<String> {
    let keys = PAGES.iter().flat_map(|page| page.sections).flat_map(|section| section.keys);
    keys.into_iter().find(|key| key.name == name).map(|key| format!("{name} = {}", key.example))
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
    for Page { heading, about, sections } in &PAGES {
        // Writing to a text cannot fail.
        let _ = write!(text, "\n## {heading}\n\n{about}\n");
        for Section { header, about, keys, .. } in *sections {
            let _ = write!(text, "\n### {header}\n\n");
            if !about.is_empty() {
                let _ = write!(text, "{about}\n\n");
            }
            text.push_str("| key | takes | default | example | does |\n|---|---|---|---|---|\n");
            for Key { name, takes, default, example, does } in *keys {
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

    use super::super::explain::offered;
    use super::super::records::RecordsFile;
    use super::super::{AgentSettings, CommandsFile, PipelineFile};
    use super::*;

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
        for section in page.sections {
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
                    let is_section = page.sections.iter().any(|one| one.header.contains(&header));
                    assert!(is_section || told.contains(&name), "{name} is not in reference.rs");
                }
            } else {
                assert_eq!(told, known, "keys of {shown}: add them to src/config/reference.rs");
            }
            for Key { name, takes, default, example, .. } in section.keys {
                let line = format!("{name} = {example}");
                // Of [write] one target only.
                let targets =
                    ["port", "file", "unix", "tcp", "syslog", "prometheus", "stdout", "null"]
                        .contains(name)
                        && shown.starts_with("`[write]`");
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
