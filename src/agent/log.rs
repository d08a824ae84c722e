//! The log: lines on stderr, as systemd and a terminal want them. Logging never waits for the reader.

mod lines;
pub(crate) mod level;
pub(crate) mod recent;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::ffi::OsString;
use std::fmt::{self, Write};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::runtime::Runtime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::model::Iso8601;
use crate::wire::Escaped;
use lines::Lines;

/// How long the end of the program waits for lines that are not written yet.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// There is one stderr, and one log.
static LINES: Lines = Lines::new();

/// Why the log cannot be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum LogError {
    /// It is no list of levels.
    #[error("cannot read the log level {0:?}; write one such as info")]
    Level(String),
    /// There is one in this process.
    #[error("cannot start the log: {0}")]
    Started(TryInitError),
}

/// Starts the log with `level`, a list of levels as `RUST_LOG` has them. Under the journal, which
/// stamps lines itself, there is no time in them; colours only on a terminal, and not where `NO_COLOR` is set
/// (no-color.org). Lines are queued until they are written by [`Log::write_on`].
///
/// A panic is logged the same way, and not written directly, which would wait for the reader.
///
/// # Errors
/// `level` is no list of levels, or a log was started before.
pub(crate) fn start(level: &str) -> Result<Log, LogError> {
    let filter = level::filter(level).map_err(|_| LogError::Level(level.to_owned()))?;
    let style = Style {
        has_colours: has_colours(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR")),
        has_time: std::env::var_os("JOURNAL_STREAM").is_none(),
    };
    let started = tracing_subscriber::registry().with(filter).with(style).try_init();
    started.map_err(LogError::Started)?;
    std::panic::set_hook(Box::new(move |panic| LINES.push(&style.panic(panic))));
    Ok(Log(style))
}

/// An empty `NO_COLOR` counts as none.
fn has_colours(is_terminal: bool, no_color: Option<OsString>) -> bool {
    is_terminal && no_color.is_none_or(|set| set.is_empty())
}

/// A log that was started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log(Style);

impl Log {
    /// Writes the lines on one thread of `runtime`'s blocking pool until the returned value is dropped. Logging never waits,
    /// even if the log is not read; dropped lines are reported later as a count.
    ///
    /// That thread also keeps the pool from being empty, where a job would panic if the system gave it no other
    /// (`tokio::task::spawn_blocking`).
    #[must_use = "it ends when it is dropped"]
    pub(crate) fn write_on(self, runtime: &Runtime) -> Writing {
        LINES.begin();
        runtime.spawn_blocking(move || {
            LINES.write_to(rustix::stdio::stderr(), |count| self.0.missing(count));
        });
        Writing(())
    }
}

/// Ends the writing when it is dropped, before the runtime, which waits for the thread (`end`).
#[derive(Debug)]
pub(crate) struct Writing(());

impl Drop for Writing {
    fn drop(&mut self) {
        end();
    }
}

/// Writes a line as it is, whatever the level.
pub(crate) fn say(line: &str) {
    LINES.push(&format!("{line}\n"));
}

/// Writes what is queued, for at most 100 ms. The thread ends when it can.
pub(crate) fn end() {
    LINES.end();
    LINES.flush(LAST_WORDS);
}

/// How a line looks: `TIME LEVEL message field=value`. Text from outside cannot begin a line of
/// its own, nor control a terminal.
#[derive(Debug, Clone, Copy)]
struct Style {
    has_colours: bool,
    has_time: bool,
}

impl Style {
    fn begin(self, level: Level) -> String {
        let mut line = String::with_capacity(128);
        if self.has_time {
            let now = Iso8601::new(SystemTime::now());
            line.push_str(now.as_str());
            line.push(' ');
        }
        let (name, colour) = match level {
            Level::ERROR => ("ERROR", 31),
            Level::WARN => (" WARN", 33),
            Level::INFO => (" INFO", 32),
            Level::DEBUG => ("DEBUG", 34),
            Level::TRACE => ("TRACE", 35),
        };
        let _ = match self.has_colours {
            true => write!(line, "\u{1b}[{colour}m{name}\u{1b}[0m"),
            false => write!(line, "{name}"),
        };
        line
    }

    /// The line that stands where `count` others are missing.
    fn missing(self, count: u64) -> String {
        let lines = if count == 1 { "line" } else { "lines" };
        self.begin(Level::WARN)
            + &format!(" {count} log {lines} dropped: they were not read in time\n")
    }

    fn panic(self, panic: &PanicHookInfo<'_>) -> String {
        let mut line = self.begin(Level::ERROR);
        let mut fields = Fields(&mut line);
        fields
            .message(&format_args!("panicked: {}", panic.payload_as_str().unwrap_or("no message")));
        if let Some(place) = panic.location() {
            fields.value("at", &format_args!("{place}"));
        }
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            fields.message(&format_args!("backtrace:\n{backtrace}"));
        }
        line + "\n"
    }
}

impl<S: Subscriber> Layer<S> for Style {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        let mut line = self.begin(level);
        let head = line.len();
        event.record(&mut Fields(&mut line));
        if level <= Level::WARN {
            recent::push(&line[head..]);
        }
        line.push('\n');
        LINES.push(&line);
    }
}

/// Writes the fields of an event behind its level.
struct Fields<'a>(&'a mut String);

impl Fields<'_> {
    /// A message may have several lines, such as a mistake in a file; all but the first are indented.
    fn message(&mut self, message: &dyn fmt::Debug) {
        let message = format!("{message:?}");
        for (number, line) in message.trim_end().split('\n').enumerate() {
            self.0.push_str(if number == 0 { " " } else { "\n    " });
            let _ = Escaped(self.0).write_str(line);
        }
    }

    fn value(&mut self, name: &str, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {name}=");
        let _ = write!(Escaped(self.0), "{value:?}");
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message(value),
            name => self.value(name, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line of an event.
    fn shown(event: impl FnOnce()) -> String {
        struct Shown(std::sync::Arc<std::sync::Mutex<String>>);
        impl<S: Subscriber> Layer<S> for Shown {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                event.record(&mut Fields(&mut self.0.lock().unwrap()));
            }
        }
        let line = std::sync::Arc::default();
        let subscriber = tracing_subscriber::registry().with(Shown(std::sync::Arc::clone(&line)));
        tracing::subscriber::with_default(subscriber, event);
        let line = line.lock().unwrap();
        line.clone()
    }

    #[test]
    fn colours_are_for_a_terminal_without_no_color() {
        let set = |value: &str| Some(value.into());
        assert!(has_colours(true, None) && has_colours(true, set("")));
        assert!(!has_colours(true, set("1")) && !has_colours(true, set("0")));
        assert!(!has_colours(false, None));
    }

    #[test]
    fn no_text_of_others_begins_a_line_turns_one_or_reaches_the_terminal() {
        let hostile = "a\n ERROR b\u{1b}[2J\u{202e}\u{2028}c";
        let spelled = r"a\n ERROR b\u{1b}[2J\u{202e}\u{2028}c";
        let error = std::io::Error::other(hostile);
        assert_eq!(
            shown(
                || tracing::warn!(text = hostile, plain = %hostile, %error, count = 3, "it {}", 1)
            ),
            format!(" it 1 text=\"{spelled}\" plain={spelled} error={spelled} count=3")
        );
        assert_eq!(
            shown(|| tracing::warn!("wrong: {hostile}")),
            r" wrong: a
     ERROR b\u{1b}[2J\u{202e}\u{2028}c"
        );
    }
}
