//! What `top` shows, as lines that fit the terminal: the agent, its ports and commands, and each pipeline as boxes.

use std::time::Duration;

use crate::agent::status::{PORT_STAGE, PortStatus, SPOOL_STAGE, StageStatus, Status};
use crate::cli::paint::{Colour, Paint};
use crate::cli::status::{counterpart, size};
use crate::wire::shown;

/// Columns of a box, its borders included, and of the arrow behind it.
const BOX: usize = 14;
const ARROW: usize = 2;
/// Lines of a box.
const BOX_LINES: usize = 4;
/// Commands that are named; of more there is the number.
const COMMANDS_MAX: usize = 3;

/// How it is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub paint: Paint,
    /// Whether the terminal has the characters of boxes.
    pub is_utf8: bool,
    pub columns: usize,
    pub rows: usize,
    /// Stages in which nothing has ever moved, too.
    pub all: bool,
    /// Lines of the pipelines that are above the screen.
    pub scroll: usize,
    pub paused: bool,
}

/// Two samples of the agent and the time between them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Samples<'a> {
    pub before: &'a Status,
    pub now: &'a Status,
    pub elapsed: Duration,
}

/// The lines of the screen, at most `rows`, none wider than `columns`; and how far it can be scrolled.
pub(super) fn screen(
    samples: Samples<'_>,
    trouble: Option<&str>,
    view: View,
) -> (Vec<String>, usize) {
    let mut lines = head(samples, view);
    lines.extend(trouble.map(|why| Cells::plain(&shown(why)).in_colour(Colour::Red)));
    let mut foot = Vec::new();
    if let Some(last) = samples.now.warnings.last() {
        let at = last.at.get(11..19).unwrap_or(&last.at);
        foot.push(Cells::plain(&shown(&format!("{at} {}", last.text))).in_colour(Colour::Yellow));
    }
    let keys = if view.paused {
        "q quit   a all stages   space go on   up, down scroll   PAUSED"
    } else {
        "q quit   a all stages   space pause   up, down scroll"
    };
    foot.push(Cells::plain(keys).in_colour(Colour::Dim));
    let body = pipelines(samples, view);
    let room = view.rows.saturating_sub(lines.len() + foot.len());
    let hidden = body.len().saturating_sub(room);
    lines.extend(body.into_iter().skip(view.scroll.min(hidden)).take(room));
    while lines.len() + foot.len() < view.rows {
        lines.push(Cells::default());
    }
    lines.extend(foot);
    lines.truncate(view.rows);
    (lines.iter().map(|line| line.text(view)).collect(), hidden)
}

/// A line of pieces, each with its colour.
#[derive(Debug, Clone, Default)]
struct Cells(Vec<(String, Option<Colour>)>);

impl Cells {
    fn plain(text: &str) -> Self {
        Self(vec![(text.to_owned(), None)])
    }

    fn in_colour(self, colour: Colour) -> Self {
        Self(self.0.into_iter().map(|(text, _)| (text, Some(colour))).collect())
    }

    fn push(&mut self, text: &str, colour: Option<Colour>) {
        self.0.push((text.to_owned(), colour));
    }

    /// Cut to the columns.
    fn text(&self, view: View) -> String {
        let (mut text, mut room) = (String::new(), view.columns);
        for (piece, colour) in &self.0 {
            let cut: String = piece.chars().take(room).collect();
            room -= cut.chars().count();
            match colour {
                Some(colour) if !cut.trim().is_empty() => {
                    text.push_str(&view.paint.in_colour(*colour, &cut));
                }
                _ => text.push_str(&cut),
            }
        }
        text
    }
}

fn head(Samples { before, now, elapsed }: Samples<'_>, view: View) -> Vec<Cells> {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let up = humantime::format_duration(Duration::from_secs(now.uptime_seconds));
    let title = format!("infiniservice {}   process {}   up {up}", shown(&now.version), now.pid);
    let mut lines = vec![Cells::plain(&title).in_colour(Colour::Bold)];
    lines.push(Cells::plain(&format!(
        "{} memory   {:.2} % CPU   queued {} of {}, at most {}",
        size(now.rss_bytes),
        (now.cpu_seconds - before.cpu_seconds).max(0.0) / seconds * 100.0,
        size(now.queued.bytes),
        size(now.queued.ceiling_bytes),
        size(now.queued.max_bytes),
    )));
    for port in &now.ports {
        let earlier = before.ports.iter().find(|other| other.port == port.port);
        lines.push(port_line(port, earlier, seconds));
    }
    for spool in now.spools.iter().filter(|spool| spool.items > 0 || spool.trouble().is_some()) {
        let mut line = Cells::plain(&format!(
            "spool {}   {} messages, {}",
            shown(&spool.port),
            spool.items,
            size(spool.bytes)
        ));
        if let Some(why) = spool.trouble() {
            line.push(&format!("   {}", shown(&why.to_string())), Some(Colour::Red));
        }
        lines.push(line);
    }
    for command in now.commands.iter().take(COMMANDS_MAX) {
        let time = humantime::format_duration(Duration::from_secs(command.seconds));
        let text =
            format!("command {}   for {time}   id {}", shown(&command.action), shown(&command.id));
        lines.push(Cells::plain(&text).in_colour(Colour::Green));
    }
    match now.commands.len().saturating_sub(COMMANDS_MAX) {
        0 => {}
        more => lines.push(Cells::plain(&format!("and {more} commands more"))),
    }
    lines.push(Cells::plain(&rule(view)).in_colour(Colour::Dim));
    lines
}

fn rule(view: View) -> String {
    (if view.is_utf8 { "─" } else { "-" }).repeat(view.columns)
}

fn port_line(port: &PortStatus, earlier: Option<&PortStatus>, seconds: f64) -> Cells {
    let (state, colour) = match (port.opened, port.host_connected) {
        (false, _) => ("not open", Colour::Red),
        (true, true) => ("host connected", Colour::Green),
        (true, false) => ("no host", Colour::Yellow),
    };
    let rate = |now: u64, before: Option<u64>| {
        let gained = now.saturating_sub(before.unwrap_or(now));
        format!("{}/s", size((gained as f64 / seconds) as u64))
    };
    let mut line = Cells::plain(&format!("{}  ", shown(&port.port)));
    line.push(state, Some(colour));
    let bytes_in = rate(port.bytes_in, earlier.map(|port| port.bytes_in));
    let bytes_out = rate(port.bytes_out, earlier.map(|port| port.bytes_out));
    line.push(&format!("  {bytes_in} in  {bytes_out} out"), None);
    if port.unacknowledged_bytes > 0 {
        line.push(&format!("  {} unacked", size(port.unacknowledged_bytes)), Some(Colour::Yellow));
    }
    if port.is_full || port.waits_for_host {
        line.push("  host does not read", Some(Colour::Red));
    }
    line
}

/// The pipelines, one below the other, and what belongs to none: ports, spools and events.
fn pipelines(samples: Samples<'_>, view: View) -> Vec<Cells> {
    let Samples { now, .. } = samples;
    let mut names: Vec<&str> = Vec::new();
    for stage in &now.stages {
        let (name, _) = parts(&stage.stage);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut lines = Vec::new();
    for name in names {
        let own = |(_, stage): &(usize, &StageStatus)| parts(&stage.stage).0 == name;
        let has_moved = |(_, stage): &(usize, &StageStatus)| view.all || !stage.is_quiet(None);
        let all: Vec<_> = now.stages.iter().enumerate().filter(own).collect();
        let shown_stages: Vec<_> = all.iter().copied().filter(has_moved).collect();
        let mut title = Cells::default();
        title.push(&shown(name), Some(Colour::Bold));
        match (&shown_stages[..], &all[..]) {
            ([], [_]) => title.push("   nothing has moved yet", Some(Colour::Dim)),
            ([], all) => {
                let text = format!("   nothing has moved yet, stages: {}", all.len());
                title.push(&text, Some(Colour::Dim));
            }
            ([(index, stage)], _) if parts(&stage.stage).1.is_none() => {
                let activity = Activity::of(stage, *index, samples);
                title.push(&format!("   {}", activity.rate), activity.colour);
                title.push(&format!("   {}", activity.note), activity.note_colour);
            }
            _ => {}
        }
        lines.push(title);
        let boxes: Vec<_> = shown_stages
            .iter()
            .filter_map(|(index, stage)| Some((index, stage, parts(&stage.stage).1?)))
            .map(|(index, stage, name)| boxed(name, &Activity::of(stage, *index, samples), view))
            .collect();
        let in_a_row = ((view.columns + ARROW) / (BOX + ARROW)).max(1);
        for (number, row) in boxes.chunks(in_a_row).enumerate() {
            let goes_on = (number + 1) * in_a_row < boxes.len();
            for line in 0..BOX_LINES {
                let mut cells = Cells::default();
                for (index, one) in row.iter().enumerate() {
                    cells.0.extend(one[line].0.iter().cloned());
                    let is_last = index + 1 == row.len();
                    let arrow = match (line, view.is_utf8) {
                        (1, true) => "─▶",
                        (1, false) => "->",
                        _ => "  ",
                    };
                    if !is_last || goes_on && (index + 1) * (BOX + ARROW) <= view.columns {
                        cells.push(arrow, None);
                    }
                }
                lines.push(cells);
            }
        }
    }
    lines
}

/// The pipeline of a stage and its name in there. A port or a spool is in none; the name of its port may have a `/` itself.
fn parts(stage: &str) -> (&str, Option<&str>) {
    match stage.split_once('/') {
        Some((pipeline, name))
            if !stage.starts_with(PORT_STAGE) && !stage.starts_with(SPOOL_STAGE) =>
        {
            (pipeline, Some(name))
        }
        _ => (stage, None),
    }
}

/// What a stage does now, and what it holds or has lost.
struct Activity {
    rate: String,
    colour: Option<Colour>,
    note: String,
    note_colour: Option<Colour>,
}

impl Activity {
    /// Of the stage that is number `index` of the answer.
    fn of(stage: &StageStatus, index: usize, samples: Samples<'_>) -> Self {
        let Samples { before, now, elapsed } = samples;
        let seconds = elapsed.as_secs_f64().max(0.001);
        let earlier = counterpart(&before.stages, &now.stages, index);
        let gained = |count: fn(&StageStatus) -> u64| {
            count(stage).saturating_sub(earlier.map_or(count(stage), count))
        };
        // A sink hands nothing on.
        let moved = gained(|stage| stage.sent).max(gained(|stage| stage.received));
        let lost: u64 = stage.dropped.iter().map(|(_, count)| count).sum();
        let counted = |count: u64, what: &str| format!("{} {what}", short_number(count as f64));
        let (note, note_colour) = match (stage.failed, lost, stage.buffered) {
            (failed @ 1.., ..) => (counted(failed, "failed"), Some(Colour::Red)),
            (0, lost @ 1.., _) => (counted(lost, "lost"), Some(Colour::Red)),
            (0, 0, held @ 1..) => (counted(held, "held"), Some(Colour::Yellow)),
            (0, 0, 0) => (String::new(), None),
        };
        Self {
            rate: format!("{}/s", short_number(moved as f64 / seconds)),
            colour: (moved > 0).then_some(Colour::Green),
            note,
            note_colour,
        }
    }
}

/// The box of a stage: its name, what comes out of it a second, and what it holds or has lost.
fn boxed(name: &str, activity: &Activity, view: View) -> [Cells; BOX_LINES] {
    let inner = BOX - 2;
    let name = shown(name);
    let name: String = match name.chars().count() > inner {
        true => name.chars().take(inner - 1).chain(['~']).collect(),
        false => name,
    };
    let [corners, line, side] = match view.is_utf8 {
        true => ["┌┐└┘", "─", "│"],
        false => ["++++", "-", "|"],
    };
    let corner = |index: usize| corners.chars().nth(index).unwrap_or_default().to_string();
    let mut top = Cells::plain(&corner(0));
    top.push(&name, Some(Colour::Bold));
    top.push(&(line.repeat(inner - name.chars().count()) + &corner(1)), None);
    let middle = |text: &str, colour| {
        let mut cells = Cells::plain(side);
        cells.push(&format!("{text:>inner$}"), colour);
        cells.push(side, None);
        cells
    };
    let bottom = Cells::plain(&(corner(2) + &line.repeat(inner) + &corner(3)));
    let rate = middle(&activity.rate, activity.colour);
    [top, rate, middle(&activity.note, activity.note_colour), bottom]
}

/// At most six characters.
fn short_number(value: f64) -> String {
    match value {
        value if value < 10_000.0 && value.fract() == 0.0 => format!("{value:.0}"),
        value if value < 10_000.0 => format!("{value:.1}"),
        value if value < 1e6 => format!("{:.1}k", value / 1e3),
        value if value < 1e9 => format!("{:.1}M", value / 1e6),
        value => format!("{:.1}G", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::log::recent::RecentLine;
    use crate::commands::execute::running::RunningCommand;

    fn stage(name: &str, moved: u64) -> StageStatus {
        StageStatus { stage: name.into(), received: moved, sent: moved, ..StageStatus::default() }
    }

    fn status(moved: u64) -> Status {
        let mut join = stage("metrics/join", moved);
        join.dropped = vec![("waiting".into(), 2)];
        let mut held = stage("metrics/a-very-long-name", moved);
        held.buffered = 12_345;
        let mut port = stage("port unix:/run/a.sock", moved);
        port.dropped = vec![("overwritten".into(), 27)];
        let mut status = Status::example();
        (status.ports[0].bytes_in, status.ports[0].bytes_out) = (0, moved * 1_024);
        Status {
            stages: vec![
                stage("metrics/collect", moved),
                join,
                held,
                stage("metrics/port", moved),
                stage("metrics/x", 0),
                stage("commands/verify", 0),
                port,
                stage("spool unix:/run/a.sock", 0),
            ],
            commands: vec![RunningCommand {
                id: "7".into(),
                action: "PackageUpdate".into(),
                seconds: 61,
            }],
            warnings: vec![RecentLine {
                at: "2026-11-29T08:30:12.345Z".into(),
                text: "x".repeat(100),
            }],
            ..status
        }
    }

    fn view() -> View {
        View {
            paint: Paint::fixed(false),
            is_utf8: true,
            columns: 80,
            rows: 24,
            all: false,
            scroll: 0,
            paused: false,
        }
    }

    fn shown_with(view: View) -> (Vec<String>, usize) {
        let (before, now) = (status(10), status(30));
        screen(Samples { before: &before, now: &now, elapsed: Duration::from_secs(2) }, None, view)
    }

    #[test]
    fn one_screen_shows_the_flow_as_boxes_with_rates_and_losses() {
        let (lines, hidden) = shown_with(view());
        let expected = "\
infiniservice 0.1.0   process 812   up 1h 2m
5.0 MiB memory   0.00 % CPU   queued 0 B of 16.0 MiB, at most 34.0 KiB
org.infinibay.agent  host connected  0 B/s in  10.0 KiB/s out  512 B unacked
command PackageUpdate   for 1m 1s   id 7
────────────────────────────────────────────────────────────────────────────────
metrics
┌collect─────┐  ┌join────────┐  ┌a-very-long~┐  ┌port────────┐
│        10/s│─▶│        10/s│─▶│        10/s│─▶│        10/s│
│            │  │      2 lost│  │  12.3k held│  │            │
└────────────┘  └────────────┘  └────────────┘  └────────────┘
commands   nothing has moved yet
port unix:/run/a.sock   10/s   27 lost
spool unix:/run/a.sock   nothing has moved yet";
        assert_eq!(lines[..13].join("\n"), expected);
        assert_eq!((lines.len(), hidden), (24, 0));
        assert_eq!(lines[23], "q quit   a all stages   space pause   up, down scroll");
        assert!(lines[22].starts_with("08:30:12 xxx") && lines[22].len() == 80);
    }

    #[test]
    fn every_line_fits_a_small_terminal_and_the_rest_can_be_scrolled_to() {
        for (columns, rows) in [(80, 24), (40, 12), (20, 5), (1, 1), (200, 50)] {
            let (lines, hidden) =
                shown_with(View { columns, rows, all: true, scroll: 3, ..view() });
            assert_eq!(lines.len(), rows);
            assert!(lines.iter().all(|line| line.chars().count() <= columns), "{lines:#?}");
            assert!(hidden > 0 || rows > 20, "{rows}");
        }
        let (lines, hidden) = shown_with(View { rows: 12, scroll: 100, ..view() });
        assert!(lines[9].starts_with("spool unix:/run/a.sock   nothing"), "{hidden} {lines:#?}");
    }

    #[test]
    fn without_utf_8_there_is_ascii_alone_and_a_loss_is_red() {
        let (lines, _) = shown_with(View { is_utf8: false, ..view() });
        assert!(lines.iter().all(|line| line.is_ascii()), "{lines:#?}");
        let (lines, _) = shown_with(View { paint: Paint::fixed(true), ..view() });
        assert!(lines[8].contains("\x1b[31m      2 lost\x1b[0m"), "{:?}", lines[8]);
    }
}
