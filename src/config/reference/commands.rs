//! The keys of the file of the command flow.

use super::{DELIVERY, Page, Section};
use crate::values::key;
use crate::values::words::{COMMAND_LINE, COUNT, NEEDED, NONE, PATTERN, SIZE, SWITCH, TIME};

/// The command flow.
pub const COMMANDS: Page = Page {
    heading: "The command flow: a file with `[receive]`, such as `commands.toml`",
    about: "What the host may ask for. At most one file may have it; without one, the agent carries out nothing for a \
            host. What the file does not allow is denied. [Security](security.md) says what that protects from.",
    sections: || SECTIONS.to_vec(),
};

const SECTIONS: &[Section] = &[
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
        about: "Whose messages are accepted.",
        within: "[receive]\n[verify]\n{}",
        keys: &[
            key(
                "secret",
                "`env:NAME`, `file:/PATH` or `credential:NAME`",
                NONE,
                "\"file:/etc/infiniservice/secret\"",
                "where the shared secret is; without one every message is refused: see [security](security.md#the-secret)",
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
        about: "What may be asked for: deny wins over allow, and what no rule allows is denied. A rule is a pattern of \
                an action's name, or a table of one and patterns of its arguments; `*` stands for any text.",
        within: "[receive]\n[enforce]\nallow = [\"*\"]\n{}",
        keys: &[
            key(
                "allow",
                "list of rules",
                "[]",
                "[\"Check*\", { action = \"ServiceControl\", service = \"nginx\" }]",
                "what may be asked for",
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
                "whether command lines may run at all (as an action: `UnsafeCommand`); a rule must allow them, too",
            ),
            key(
                "scripts",
                SWITCH,
                "false",
                "true",
                "whether scripts of the host may run at all (as an action: `Script`); a rule must allow them, too",
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
            key("package", PATTERN, NONE, "\"systemd*\"", "a package, without its architecture"),
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
                "the user it runs as; `root` if the host names none",
            ),
            key(
                "path",
                PATTERN,
                NONE,
                "\"/srv/*\"",
                "the folder a command line starts in; `/` if the host names none",
            ),
            key("shell", PATTERN, NONE, "\"bash\"", "`sh`, `bash`, `cmd` or `powershell`"),
        ],
    },
    Section {
        header: "`[execute]`",
        about: "How much runs at once, and for how long.",
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
        about: "The record of every request.",
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
                "the file is rotated before it would grow past this",
            ),
            key("keep", COUNT, "3", "10", "how many rotated files are kept"),
            key(
                "required",
                SWITCH,
                "true",
                "false",
                "whether a request is refused when it cannot be recorded",
            ),
        ],
    },
];
