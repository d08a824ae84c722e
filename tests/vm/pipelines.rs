//! The pipeline files the guest runs beside the shipped ones: one by one in `/pipelines`, and with the
//! commands in `/commands`, in `/load` under load, and in `/records` with logs; all of them in every machine.

/// The command flow as it is shipped.
const COMMANDS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/commands.toml"));

/// Files are read again when they are asked for only, so that a case knows how often that is.
const STATE: &str = "host = \"own\"\n[state]\nfolder = \"/state\"\n[reload]\nwatch = false\n";

/// Logs of applications, each line of which has to arrive.
const LOGS: &str = r#"[[read]]
lines = { file = "/logs/*.log" }
[batch]
max_delay = "100ms"
[write]
port = "org.infinibay.agent"
delivery = "durable"
"#;

/// Every file, by its path.
pub fn files() -> [(&'static str, String); 14] {
    let short = r#""cpu", "memory", "load", "disk", "network""#;
    let long = format!("{short}, {{ processes = {{ keep = 1000, by = \"memory\" }} }}");
    let at_once = "max_items = 1";
    [
        ("pipelines/fast.toml", text("Five readings a second.", "200ms", short, at_once, 8)),
        ("pipelines/brisk.toml", text("Fifty readings a second.", "20ms", short, at_once, 8)),
        (
            "pipelines/long.toml",
            text("Lines longer than a write can be.", "200ms", &long, at_once, 8),
        ),
        ("pipelines/stall.toml", text("Long lines, fewer of them.", "500ms", &long, at_once, 8)),
        (
            "pipelines/hoard.toml",
            text(
                "Readings are held for a minute, or until the agent ends.",
                "200ms",
                short,
                "max_items = 1000\nmax_delay = \"60s\"",
                8,
            ),
        ),
        ("commands/metrics.toml", text("Five readings a second.", "200ms", short, at_once, 8)),
        ("commands/commands.toml", COMMANDS.to_owned()),
        ("commands/agent.toml", STATE.to_owned()),
        ("load/metrics.toml", text("All there is, all the time.", "20ms", &long, at_once, 64)),
        ("load/commands.toml", COMMANDS.to_owned()),
        ("load/agent.toml", STATE.to_owned()),
        ("records/logs.toml", LOGS.to_owned()),
        ("records/commands.toml", COMMANDS.to_owned()),
        ("records/agent.toml", STATE.to_owned()),
    ]
}

fn text(about: &str, every: &str, from: &str, batch: &str, keep: u32) -> String {
    format!(
        r#"about = "{about}"

[[collect]]
every = "{every}"
from = [{from}]

[batch]
{batch}

[serialize]
format = "infinibay"

[write]
port = "org.infinibay.agent"
keep = {keep}
"#
    )
}
