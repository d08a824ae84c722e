//! `status`: what the running agent does, on one screen. The agent is asked; nothing is changed.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use clap::Args;

use super::running::{RunningAgent, another_question, ask_or_report, unanswered};
use super::{say, wrapped};
use crate::agent::control::{Answer, Request};
use crate::agent::log::recent::RecentLine;
use crate::agent::status::{StageStatus, Status};
use crate::wire::shown;

/// The limit for each of the two answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between the two answers that rates are computed from.
const INTERVAL: Duration = Duration::from_secs(1);
/// Columns of the name of a stage.
const NAME: usize = 36;

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// Show all stages, also those in which nothing moves, waits or was lost
    #[arg(long)]
    all: bool,

    /// Print one JSON object, with the counters since the start
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    agent: RunningAgent,
}

impl StatusArguments {
    pub(super) fn main(self) -> ExitCode {
        self.run().unwrap_or_else(|code| code)
    }

    fn run(&self) -> Result<ExitCode, ExitCode> {
        let socket = self.agent.socket()?;
        let first = status(&socket)?;
        if self.json {
            return Ok(match serde_json::to_string(&first) {
                Ok(text) => say(&(text + "\n")),
                Err(error) => unanswered(&format!("the answer cannot be written: {error}")),
            });
        }
        let began = Instant::now();
        std::thread::park_timeout(INTERVAL); // an early return does no harm: `elapsed` is measured
        let second = status(&socket)?;
        Ok(say(&shown(&screen(&first, &second, began.elapsed(), self.all))))
    }
}

pub(super) fn status(socket: &Path) -> Result<Status, ExitCode> {
    match ask_or_report(socket, &Request::Status, PATIENCE, "")? {
        Answer::Status(status) => Ok(*status),
        _ => Err(another_question()),
    }
}

/// The screen: `now`, with the rates since `before`, which was `elapsed` ago.
fn screen(before: &Status, now: &Status, elapsed: Duration, all: bool) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "infiniservice {}, process {}, up {}",
        now.version,
        now.pid,
        humantime::format_duration(Duration::from_secs(now.uptime_seconds)),
    );
    let _ = writeln!(
        text,
        "{} resident, {:.2} % of a processor\nqueued {} of {}, at most {}",
        size(now.rss_bytes),
        (now.cpu_seconds - before.cpu_seconds).max(0.0) / seconds * 100.0,
        size(now.queued.bytes),
        size(now.queued.ceiling_bytes),
        size(now.queued.max_bytes),
    );
    if !now.ports.is_empty() {
        text.push('\n');
    }
    for port in &now.ports {
        let host = match (port.opened, port.host_connected) {
            (false, _) => "not open".to_owned(),
            (true, true) => format!("host connected ({} so far)", port.host_connects),
            (true, false) => "no host".to_owned(),
        };
        let (bytes_in, bytes_out) = (size(port.bytes_in), size(port.bytes_out));
        let line = format!("port {}: {host}, {bytes_in} in, {bytes_out} out", port.port);
        wrapped(&mut text, 0, &line);
        if port.unacknowledged_bytes > 0 {
            let _ = writeln!(text, "  not acknowledged: {}", size(port.unacknowledged_bytes));
        }
    }
    for spool in &now.spools {
        let trouble = spool.trouble().map_or_else(String::new, |why| format!(", {why}"));
        let _ = writeln!(
            text,
            "waits for the host of {}: {} message{}, {}{trouble}",
            spool.port,
            spool.items,
            if spool.items == 1 { "" } else { "s" },
            size(spool.bytes)
        );
    }
    for command in &now.commands {
        let time = humantime::format_duration(Duration::from_secs(command.seconds));
        let (action, id) = (&command.action, &command.id);
        wrapped(&mut text, 0, &format!("command {action} has run for {time}, id {id}"));
    }
    text.push_str(&stages(before, now, seconds, all));
    if !now.warnings.is_empty() {
        text.push_str("\nlast warnings and errors\n");
    }
    for RecentLine { at, text: what } in &now.warnings {
        // The time of the day, to the second.
        wrapped(&mut text, 2, &format!("{} {what}", at.get(11..19).unwrap_or(at)));
    }
    text
}

/// A row for each stage, without those in which nothing happens unless `all` are wanted; their number.
fn stages(before: &Status, now: &Status, seconds: f64, all: bool) -> String {
    let (mut rows, mut quiet) = (String::new(), 0);
    for (index, stage) in now.stages.iter().enumerate() {
        let earlier = counterpart(&before.stages, &now.stages, index);
        if !all && stage.is_quiet(earlier) {
            quiet += 1;
            continue;
        }
        let rate = |count: fn(&StageStatus) -> u64| {
            let gained = count(stage).saturating_sub(earlier.map_or(0, count));
            format!("{:.1}", gained as f64 / seconds)
        };
        let mut troubles: Vec<String> =
            stage.dropped.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        if stage.failed > 0 {
            troubles.push(format!("{} failed", stage.failed));
        }
        let line = format!(
            "{:NAME$} {:>9} {:>9} {:>6}  {}",
            short(&stage.stage),
            rate(|stage| stage.received),
            rate(|stage| stage.sent),
            stage.buffered,
            troubles.join(", ")
        );
        rows.push_str(line.trim_end());
        rows.push('\n');
    }
    let heading = format!(
        "\n{:NAME$} {:>9} {:>9} {:>6}  dropped, failed\n",
        "stage", "in/s", "out/s", "held"
    );
    let heading = if rows.is_empty() { "" } else { &heading };
    let rest = match quiet {
        0 => String::new(),
        _ => format!(
            "\nstages in which nothing moves, waits or was lost: {quiet} (--all shows them)\n"
        ),
    };
    format!("{heading}{rows}{rest}")
}

/// The stage of `before` that is number `index` of `now`: several may have one name.
pub(super) fn counterpart<'a>(
    before: &'a [StageStatus],
    now: &[StageStatus],
    index: usize,
) -> Option<&'a StageStatus> {
    let name = now.get(index).map(|stage| stage.stage.as_str());
    let is_same = |stage: &&StageStatus| Some(stage.stage.as_str()) == name;
    let nth = now.iter().take(index).filter(is_same).count();
    before.iter().filter(is_same).nth(nth)
}

pub(super) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// A name that fits its column.
fn short(name: &str) -> String {
    let length = name.chars().count();
    if length <= NAME {
        return name.to_owned();
    }
    format!("…{}", name.chars().skip(length + 1 - NAME).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::execute::running::RunningCommand;

    #[test]
    fn the_screen_tells_rates_losses_and_the_host_in_eighty_columns() {
        let stage = |received, sent, dropped: &[(&str, u64)]| StageStatus {
            stage: "metrics/a-stage-whose-name-is-longer-than-its-column".into(),
            received,
            sent,
            buffered: 3,
            dropped: dropped.iter().map(|(reason, count)| ((*reason).into(), *count)).collect(),
            failed: 2,
        };
        let quiet = StageStatus {
            stage: "m/quiet".into(),
            received: 10,
            sent: 10,
            ..StageStatus::default()
        };
        let before = Status {
            stages: vec![stage(10, 10, &[]), quiet.clone()],
            commands: vec![RunningCommand {
                id: "7".into(),
                action: "UserList".into(),
                seconds: 61,
            }],
            ..Status::example()
        };
        let mut now = before.clone();
        now.cpu_seconds = 1.01;
        now.stages = vec![
            stage(14, 12, &[("overwritten", 2)]),
            StageStatus { stage: "m/idle".into(), ..StageStatus::default() },
            quiet,
        ];
        now.warnings = vec![RecentLine {
            at: "2026-11-29T08:30:12.345Z".into(),
            text: "the port is not there yet; it is opened as soon as it appears port=org.infinibay.agent".into(),
        }];
        let text = screen(&before, &now, Duration::from_secs(2), false);
        let expected = "\
infiniservice 0.1.0, process 812, up 1h 2m
5.0 MiB resident, 0.50 % of a processor
queued 0 B of 16.0 MiB, at most 34.0 KiB

port org.infinibay.agent: host connected (2 so far), 10 B in, 2.0 KiB out
  not acknowledged: 512 B
command UserList has run for 1m 1s, id 7

stage                                     in/s     out/s   held  dropped, failed
…hose-name-is-longer-than-its-column       2.0       1.0      3  2 overwritten, 2 failed

stages in which nothing moves, waits or was lost: 2 (--all shows them)

last warnings and errors
  08:30:12 the port is not there yet; it is opened as soon as it appears
  port=org.infinibay.agent
";
        assert_eq!(text, expected);
    }
}
