//! The keys of a file of records.

use super::{Page, Section};
use crate::values::key;
use crate::values::words::{COUNT, NEEDED, NONE, SIZE, TIME};

/// Any file of records.
pub const RECORDS: Page = Page {
    heading: "A records pipeline: a `*.toml` with `[[read]]`",
    about: "Lines that others write: read → transform → batch → serialize → write. Each line is a record, a JSON object. What no \
            stage changes stays as it was written. `[write]` is as for metrics, with the formats of records.",
    sections: || SECTIONS.to_vec(),
};

const SECTIONS: &[Section] = &[
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
                "`\"drop\"`, `\"keep\"` or a table with `file`, which is as in `[write]`",
                "\"drop\"",
                "{ file = { path = \"/var/log/app.invalid\" } }",
                "what happens to a line that is no JSON object: dropped, counted as `invalid_json`, `invalid_utf8` or `too_deep`; kept as the field `message`; or dropped, counted, and written to this file as it is. The newest 16 batches wait for the file, and none holds up the records",
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
                "where reading begins in files that exist at the first start",
            ),
            key(
                "until_end",
                "`true` or `false`",
                "false",
                "true",
                "stop at the end of the existing files; the last line needs no newline",
            ),
            key(
                "keep_position",
                "`true` or `false`",
                "true",
                "false",
                "whether the position is kept over restarts; `false` starts over each time",
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
        about: "The journal, from the start of this boot, or from where the last run ended.",
        within: "[[read]]\n[read.journal]\nunits = [\"nginx.service\"]\n{}\n[write]\nnull = true",
        keys: &[
            key("units", "list of units", "[]", "[\"nginx.service\"]", "only entries of these"),
            key(
                "since",
                "text",
                NONE,
                "\"-1h\"",
                "where to begin the first time, as for `journalctl --since`",
            ),
        ],
    },
    Section {
        header: "`[batch]` of records",
        about: "A batch leaves when the first of these is reached.",
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
    Section {
        header: "`[serialize]` of records",
        about: "",
        within: "[[read]]\nlines = { stdin = true }\n[serialize]\n{}\n[write]\nnull = true",
        keys: &[key(
            "format",
            "`\"json-lines\"`, `\"logfmt\"`, `\"raw\"` or `\"influx\"`",
            "\"json-lines\"",
            "\"logfmt\"",
            "what a record looks like: JSON as it is, `name=value` pairs, the text of `message` alone, or a point of `records`. A `[[write]]` may have a `format` of its own",
        )],
    },
];
