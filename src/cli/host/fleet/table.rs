//! The guests as a table: for `ls` as wide as they need, for `top` as a screen. Pure: prints nothing.

use clap::ValueEnum;

use super::page::Guest;
use crate::cli::paint::{Colour, Paint};

/// A share of at least this many percent is shown in red.
const FULL: f64 = 90.0;
/// Columns behind those of the names, and the narrowest name.
const FIGURES: usize = 50;
const NAME_MIN: usize = 8;

/// The order of the rows; of the same value by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    Name,
    Cpu,
    Memory,
    Disk,
    Lost,
    /// Those that have said nothing for longest first.
    Last,
}

impl Sort {
    /// The one behind it, for a key that changes it.
    pub(super) fn next(self) -> Self {
        let all = Self::value_variants();
        let at = all.iter().position(|sort| *sort == self).map_or(0, |at| at + 1);
        all[at % all.len()]
    }

    fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Lost => "lost",
            Self::Last => "last",
        }
    }

    /// Sorts the guests.
    pub(super) fn sort(self, guests: &mut [Guest]) {
        let key = |guest: &Guest| match self {
            Self::Name => 0.0,
            Self::Cpu => guest.cpu.unwrap_or(-1.0),
            Self::Memory => guest.memory.unwrap_or(-1.0),
            Self::Disk => guest.disk.unwrap_or(-1.0),
            Self::Lost => guest.lost as f64,
            Self::Last => -guest.last_seconds,
        };
        let names =
            |one: &Guest, other: &Guest| (&one.site, &one.vm).cmp(&(&other.site, &other.vm));
        guests
            .sort_by(|one, other| key(other).total_cmp(&key(one)).then_with(|| names(one, other)));
    }
}

/// Columns of guest and site.
type Names = [usize; 2];

fn length(text: &str) -> usize {
    text.chars().count()
}

/// A heading, and a line for each guest, as wide as their names are.
pub(super) fn table(guests: &[Guest], now_seconds: f64, paint: Paint) -> String {
    let longest = |of: fn(&Guest) -> &String| guests.iter().map(|guest| length(of(guest))).max();
    let names = [longest(|guest| &guest.vm), longest(|guest| &guest.site)];
    let names = names.map(|longest| longest.unwrap_or_default().max(5));
    let mut text = paint.in_colour(Colour::Bold, heading(names).trim_end()) + "\n";
    for guest in guests {
        text.push_str(row(guest, names, now_seconds, paint).trim_end());
        text.push('\n');
    }
    text
}

fn heading([guest, site]: Names) -> String {
    format!(
        "{:guest$}  {:site$}  {:5}  {:>5}  {:>5}  {:>5}  {:>6}  {:>5}  VERSION",
        "GUEST", "SITE", "STATE", "CPU%", "MEM%", "DISK%", "LOST", "LAST"
    )
}

fn row(guest: &Guest, [width, site]: Names, now_seconds: f64, paint: Paint) -> String {
    let (state, colour) = match (guest.is_up, guest.last_seconds > 0.0) {
        (true, _) => ("up", Colour::Green),
        (false, true) => ("down", Colour::Red),
        (false, false) => ("never", Colour::Yellow),
    };
    let state = paint.in_colour(colour, &format!("{state:5}"));
    let share = |value: Option<f64>| {
        let text = value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        let text = format!("{text:>5}");
        match value {
            Some(FULL..) => paint.in_colour(Colour::Red, &text),
            _ => text,
        }
    };
    let lost = format!("{:>6}", count(guest.lost));
    let lost = if guest.lost > 0 { paint.in_colour(Colour::Yellow, &lost) } else { lost };
    format!(
        "{:width$}  {:site$}  {state}  {}  {}  {}  {lost}  {:>5}  {}",
        cut(&guest.vm, width),
        cut(&guest.site, site),
        share(guest.cpu),
        share(guest.memory),
        share(guest.disk),
        age(guest.last_seconds, now_seconds),
        cut(guest.version.as_deref().unwrap_or("-"), 8),
    )
}

/// At most `width` characters.
fn cut(text: &str, width: usize) -> String {
    match length(text) > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['~']).collect(),
        false => text.to_owned(),
    }
}

/// At most six characters.
fn count(value: u64) -> String {
    match value {
        ..1_000_000 => value.to_string(),
        1_000_000..1_000_000_000 => format!("{:.1}M", value as f64 / 1e6),
        _ => format!("{:.0}G", value as f64 / 1e9),
    }
}

/// Since the last line, in at most five characters.
fn age(last_seconds: f64, now_seconds: f64) -> String {
    if last_seconds <= 0.0 {
        return "-".to_owned();
    }
    let seconds = (now_seconds - last_seconds).max(0.0) as u64;
    match seconds {
        ..100 => format!("{seconds}s"),
        100..6_000 => format!("{}m", seconds / 60),
        6_000..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How `top` shows them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub paint: Paint,
    pub columns: usize,
    pub rows: usize,
    pub sort: Sort,
    /// Guests that are above the screen.
    pub scroll: usize,
    pub paused: bool,
}

/// The lines of the screen, at most `rows`, none wider than `columns`; and how far it can be scrolled.
pub(super) fn screen(
    guests: &[Guest],
    now_seconds: f64,
    trouble: Option<&str>,
    look: Look,
) -> (Vec<String>, usize) {
    let Look { paint, columns, rows, .. } = look;
    let fitted = |text: &str, colour| paint.in_colour(colour, &cut(text, columns));
    let up = guests.iter().filter(|guest| guest.is_up).count();
    let lost: u64 = guests.iter().map(|guest| guest.lost).sum();
    let title = format!(
        "{} guests   {up} up   {} not   {} lost   by {}",
        guests.len(),
        guests.len() - up,
        count(lost),
        look.sort.word()
    );
    let mut lines = vec![fitted(&title, Colour::Bold)];
    lines.extend(trouble.map(|why| fitted(why, Colour::Red)));
    let site = guests.iter().map(|guest| length(&guest.site)).max().unwrap_or_default();
    let site = site.clamp(4, 10);
    let longest = guests.iter().map(|guest| length(&guest.vm)).max().unwrap_or_default();
    let room = columns.saturating_sub(FIGURES + site + 4).max(NAME_MIN);
    let names = [longest.clamp(NAME_MIN, room), site];
    lines.push(fitted(&heading(names), Colour::Bold));
    let keys = if look.paused {
        "q quit   s sort   space go on   up, down scroll   PAUSED"
    } else {
        "q quit   s sort   space pause   up, down scroll"
    };
    let free = rows.saturating_sub(lines.len() + 1);
    let hidden = guests.len().saturating_sub(free);
    let is_narrow = length(&heading(names)) > columns;
    for guest in guests.iter().skip(look.scroll.min(hidden)).take(free) {
        // A row that does not fit is cut, and then without colours.
        lines.push(match is_narrow {
            true => cut(&row(guest, names, now_seconds, Paint::none()), columns),
            false => row(guest, names, now_seconds, paint),
        });
    }
    lines.resize(rows.saturating_sub(1).max(lines.len()), String::new());
    lines.truncate(rows.saturating_sub(1));
    lines.push(fitted(keys, Colour::Dim));
    lines.truncate(rows);
    (lines, hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet() -> Vec<Guest> {
        let guest = |vm: &str, cpu, lost| Guest {
            site: "lab".into(),
            vm: vm.into(),
            is_up: true,
            last_seconds: 1000.0,
            cpu: Some(cpu),
            memory: Some(41.26),
            disk: Some(93.0),
            lost,
            version: Some("0.1.0".into()),
        };
        let never = Guest { vm: "a-new-one".into(), site: "lab".into(), ..Guest::default() };
        let down =
            Guest { is_up: false, last_seconds: 10.0, cpu: None, ..guest("down", 0.0, 1_234_567) };
        vec![never, guest("db", 100.0, 0), down, guest("web-1", 3.0, 7)]
    }

    const ROWS: &str = "\
GUEST      SITE   STATE   CPU%   MEM%  DISK%    LOST   LAST  VERSION
a-new-one  lab    never      -      -      -       0      -  -
db         lab    up     100.0   41.3   93.0       0     5s  0.1.0
down       lab    down       -   41.3   93.0    1.2M    16m  0.1.0
web-1      lab    up       3.0   41.3   93.0       7     5s  0.1.0
";

    #[test]
    fn a_list_has_a_line_for_each_guest_as_wide_as_the_names_are() {
        assert_eq!(table(&fleet(), 1005.0, Paint::fixed(false)), ROWS);
        let coloured = table(&fleet(), 1005.0, Paint::fixed(true));
        assert!(coloured.contains("\x1b[31m 93.0\x1b[0m"), "{coloured:?}");
        assert_eq!(table(&[], 0.0, Paint::fixed(false)).lines().count(), 1);
    }

    #[test]
    fn a_screen_fits_whatever_terminal_and_the_rest_can_be_scrolled_to() {
        let guests: Vec<Guest> = (0..50)
            .map(|number| Guest {
                vm: format!("{}-{number}", "x".repeat(60)),
                ..fleet()[1].clone()
            })
            .collect();
        for (columns, rows) in [(80, 24), (40, 12), (10, 3), (1, 1), (200, 60)] {
            let look = Look {
                paint: Paint::fixed(false),
                columns,
                rows,
                sort: Sort::Name,
                scroll: 1000,
                paused: false,
            };
            let (lines, hidden) = screen(&guests, 1005.0, Some(&"why ".repeat(50)), look);
            assert_eq!(lines.len(), rows, "{columns} {lines:#?}");
            assert!(lines.iter().all(|line| length(line) <= columns), "{columns} {lines:#?}");
            assert_eq!(hidden, 50_usize.saturating_sub(rows.saturating_sub(4)));
        }
    }

    #[test]
    fn eighty_columns_are_enough_for_every_figure_and_the_order_is_what_was_asked_for() {
        let mut guests = fleet();
        let look = Look {
            paint: Paint::fixed(false),
            columns: 80,
            rows: 24,
            sort: Sort::Cpu,
            scroll: 0,
            paused: false,
        };
        let names = |guests: &[Guest]| guests.iter().map(|one| one.vm.clone()).collect::<Vec<_>>();
        look.sort.sort(&mut guests);
        assert_eq!(names(&guests), ["db", "web-1", "a-new-one", "down"]);
        let (lines, hidden) = screen(&guests, 1005.0, None, look);
        assert_eq!(lines[0], "4 guests   2 up   2 not   1.2M lost   by cpu");
        assert_eq!(lines[2], "db         lab   up     100.0   41.3   93.0       0     5s  0.1.0");
        assert_eq!((lines.len(), hidden), (24, 0));
        assert_eq!(lines[23], "q quit   s sort   space pause   up, down scroll");
        Sort::Name.sort(&mut guests);
        assert_eq!(guests, fleet());
        Sort::Last.sort(&mut guests);
        assert_eq!(names(&guests), ["a-new-one", "down", "db", "web-1"]);
        assert_eq!((Sort::Cpu.next(), Sort::Last.next()), (Sort::Memory, Sort::Name));
    }
}
