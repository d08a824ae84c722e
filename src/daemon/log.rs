//! The log: lines on stderr, as systemd and a terminal want them. Decides nothing about what is said.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the log with `level`, a list of levels as `RUST_LOG` has them. Under the journal, which
/// stamps lines itself, there is no time in them; colours only on a terminal.
pub fn start(level: &str) -> Result<(), String> {
    let targets: Targets = level
        .parse()
        .map_err(|_| format!("cannot read the log level {level:?}; write one such as info"))?;
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false);
    let registry = tracing_subscriber::registry().with(targets);
    let started = if std::env::var_os("JOURNAL_STREAM").is_some() {
        registry.with(lines.without_time()).try_init()
    } else {
        registry.with(lines).try_init()
    };
    started.map_err(|error| format!("cannot start the log: {error}"))
}
