//! A reading as a line, and as a table for a terminal. Pure: prints nothing.

use std::time::Duration;

use crate::host::{Reading, Status};
use crate::model::Iso8601;
use crate::wire::plain;

/// Bars of the table, in characters.
const BAR: usize = 20;

/// The longest line, in characters.
const LINE_MAX: usize = 80;

/// The column titles of [`line`], in 80 characters at most.
pub(super) fn heading() -> String {
    columns("time UTC", "cpu", "memory", "load", "fullest disk", "net/s", "top process")
}

/// The reading as one line under [`heading`]; `-` stands for a missing value.
pub(super) fn line(now: &Reading, before: Option<&Reading>) -> String {
    let dash = || "-".to_owned();
    let time = now.at.map_or_else(dash, |at| Iso8601::new(at).as_str()[11..19].to_owned());
    let cpu = now.cpu_percent.map_or_else(dash, |share| format!("{share:.1}%"));
    let memory = now.memory_bytes.map_or_else(dash, |(used, all)| {
        let (used, all) = (used as f64, all as f64);
        format!("{}/{} {:.0}%", bytes(used), bytes(all), percent(used, all))
    });
    let load = now.load.map_or_else(dash, |load| format!("{:.2}", load[0]));
    let share = |mount: &crate::host::Mount| percent(mount.used_bytes, mount.total_bytes);
    let fullest = now.mounts.iter().max_by(|one, other| share(one).total_cmp(&share(other)));
    let disk = fullest.map_or_else(dash, |mount| {
        format!("{} {:.0}%", short(&mount.mount_point, 7), share(mount))
    });
    let network = network(now, before).map_or_else(dash, |(received, sent)| bytes(received + sent));
    let top = now.processes.first().map_or_else(dash, |process| {
        format!("{} {:.0}%", short(&process.name, 8), process.cpu_percent)
    });
    columns(&time, &cpu, &memory, &load, &disk, &network, &top)
}

fn columns(
    time: &str,
    cpu: &str,
    memory: &str,
    load: &str,
    disk: &str,
    net: &str,
    top: &str,
) -> String {
    let line = format!("{time:8} {cpu:>6} {memory:>20} {load:>5}  {disk:12} {net:>8}  {top}");
    line.chars().take(LINE_MAX).chain(['\n']).collect()
}

/// The reading as a table of at most `rows` lines, each cut to `columns`.
pub(super) fn table(
    title: &str,
    now: &Reading,
    before: Option<&Reading>,
    status: &Status,
    (columns, rows): (usize, usize),
) -> String {
    let mut lines = vec![headline(title, now, status), String::new()];
    let cores = match now.cores {
        1 => "one core".to_owned(),
        cores => format!("{cores} cores"),
    };
    let load = now.load.map_or(String::new(), |[one, five, fifteen]| {
        let [one, five, fifteen] = [one, five, fifteen].map(three_figures);
        format!("   load {one} {five} {fifteen}")
    });
    if let Some(share) = now.cpu_percent {
        lines.push(format!("{}  {cores}{load}", bar("cpu", share)));
    }
    let mut used = |name: &str, (used, all): (f64, f64)| {
        let of = format!("{} of {}", bytes(used), bytes(all));
        lines.push(format!("{}  {of}", bar(name, percent(used, all))));
    };
    let floats = |(used, all): (u64, u64)| (used as f64, all as f64);
    if let Some(memory) = now.memory_bytes {
        used("memory", floats(memory));
    }
    if let Some(swap) = now.swap_bytes.filter(|swap| swap.1 > 0) {
        used("swap", floats(swap));
    }
    for mount in now.mounts.iter().take(6) {
        used(&mount.mount_point, (mount.used_bytes, mount.total_bytes));
    }
    if let Some((read, written)) = now.disk_bytes_per_second {
        lines.push(format!("{:14}  {}/s read, {}/s written", "disks", bytes(read), bytes(written)));
    }
    if let Some((received, sent)) = network(now, before) {
        lines.push(format!("{:14}  {}/s in, {}/s out", "network", bytes(received), bytes(sent)));
    }
    for interface in now.interfaces.iter().filter(|interface| interface.is_up).take(4) {
        let addresses = match interface.addresses.is_empty() {
            true => "no address".to_owned(),
            false => plain(&interface.addresses.join(", ")),
        };
        lines.push(format!("  {:12}  {addresses}", short(&interface.name, 12)));
    }
    if !now.processes.is_empty() {
        lines.push(String::new());
        lines.push(format!("{:>9}  {:>7}  {:>9}  PROCESS", "PID", "CPU", "MEMORY"));
    }
    for process in &now.processes {
        let memory = bytes(process.memory_bytes as f64);
        let (pid, share, name) = (process.pid, process.cpu_percent, plain(&process.name));
        lines.push(format!("{pid:>9}  {share:>6.1}%  {memory:>9}  {name}"));
    }
    lines.truncate(rows.max(1));
    let cut = |line: &String| line.chars().take(columns).collect::<String>();
    lines.iter().map(cut).collect::<Vec<_>>().join("\n")
}

fn headline(title: &str, now: &Reading, status: &Status) -> String {
    let mut parts = vec![plain(title)];
    if let Some(at) = now.at {
        parts.push(format!("{} UTC", Iso8601::new(at).as_str()[..19].replace('T', " ")));
    }
    if let Some(uptime) = now.uptime {
        parts.push(format!("up {}", up(uptime)));
    }
    if let Some(offset) = status.clock.offset_ms().filter(|offset| offset.abs() >= 1000) {
        parts.push(format!("clock {:+.1} s off", offset as f64 / 1000.0));
    }
    match (status.keep_alive.missed_in_a_row(), status.keep_alive.round_trip()) {
        (0, Some(trip)) => parts.push(format!("echo in {:.1} ms", trip.as_secs_f64() * 1e3)),
        (0, None) => {}
        (1, _) => parts.push("one keep-alive without echo".to_owned()),
        (missed, _) => parts.push(format!("{missed} keep-alives without echo")),
    }
    parts.join("   ")
}

/// Bytes a second: the guest's counters against those of the reading before.
fn network(now: &Reading, before: Option<&Reading>) -> Option<(f64, f64)> {
    now.network_bytes_per_second(before?)
}

fn bar(name: &str, share: f64) -> String {
    let full = (share.clamp(0.0, 100.0) / 100.0 * BAR as f64).round() as usize;
    let (full, empty) = ("#".repeat(full), ".".repeat(BAR - full));
    format!("{:14}  [{full}{empty}] {share:5.1}%", short(name, 14))
}

/// `0.25`, `10.4`, `120`.
fn three_figures(number: f64) -> String {
    let decimals = match number {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$}")
}

/// With three figures or so: `512 B`, `1.5 KiB`, `37 GiB`.
fn bytes(count: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut count, mut unit) = (count.max(0.0), 0);
    while count >= 1023.5 && unit < UNITS.len() - 1 {
        count /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && count < 99.95);
    format!("{count:.decimals$} {}", UNITS[unit])
}

fn up(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn percent(part: f64, all: f64) -> f64 {
    if all > 0.0 { (part / all * 100.0).clamp(0.0, 100.0) } else { 0.0 }
}

fn short(text: &str, max: usize) -> String {
    let text = plain(text);
    match text.char_indices().nth(max) {
        None => text,
        Some(_) => text.chars().take(max - 1).chain(['…']).collect(),
    }
}

/// The table in the place of the one before, each line over what stood there: `tmux` puts a screen that is cleared into its
/// history, every time.
pub(super) fn redrawn(table: &str) -> String {
    let lines = table.lines().map(|line| format!("\x1b[K{line}\n"));
    format!("\x1b[H{}\x1b[J", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Interface, Mount, Process};
    use std::time::SystemTime;

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_784_030_400) // 2026-07-14T12:00:00Z
    }

    fn reading() -> Reading {
        const GIB: f64 = (1_u64 << 30) as f64;
        let mount = |at: &str, used, total| Mount {
            mount_point: at.to_owned(),
            used_bytes: used * GIB,
            total_bytes: total * GIB,
        };
        Reading {
            at: Some(noon()),
            uptime: Some(Duration::from_secs(93_600)),
            cpu_percent: Some(12.5),
            cores: 4,
            memory_bytes: Some((4 << 30, 8 << 30)),
            swap_bytes: Some((0, 0)),
            load: Some([0.1, 0.2, 0.3]),
            mounts: vec![mount("/", 20.0, 50.0), mount("/var", 9.0, 10.0)],
            disk_bytes_per_second: Some((0.0, 4096.0)),
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                addresses: vec!["10.0.0.5".to_owned()],
                is_up: true,
                bytes: (5_000, 1_000),
            }],
            processes: vec![Process {
                pid: 77,
                name: "fire\u{1b}[31mfox".to_owned(),
                cpu_percent: 101.25,
                memory_bytes: 300 << 20,
            }],
            listening: 3,
        }
    }

    #[test]
    fn a_line_stands_under_its_heading() {
        let mut before = reading();
        before.at = Some(noon() - Duration::from_secs(2));
        before.interfaces[0].bytes = (904, 0);
        let (heading, line) = (heading(), line(&reading(), Some(&before)));
        assert_eq!(
            line,
            "12:00:00  12.5%  4.0 GiB/8.0 GiB 50%  0.10  /var 90%      2.5 KiB  fire\u{fffd}[3… 101%\n"
        );
        let place = |text: &str, word| text.find(word).unwrap();
        assert_eq!(place(&heading, "fullest disk"), place(&line, "/var"));
        assert_eq!(place(&heading, "top process"), place(&line, "fire"));
        let mut widest = reading();
        widest.cpu_percent = Some(100.0);
        widest.memory_bytes = Some((1023 << 20, 1023 << 40));
        widest.load = Some([1000.0; 3]);
        widest.mounts[0].mount_point = "/home/somebody/with/a/long/name".to_owned();
        widest.mounts[0].used_bytes = widest.mounts[0].total_bytes;
        widest.processes[0].name = "a-very-long-name-of-a-process".to_owned();
        widest.processes[0].cpu_percent = 12_800.0;
        for line in [heading, super::line(&widest, None)] {
            assert!(line.trim_end().chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn a_reading_with_nothing_in_it_is_a_line_of_dashes() {
        let line = line(&Reading::default(), None);
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["-"; 7]);
    }

    #[test]
    fn a_table_fits_the_terminal() {
        let whole = table("web-1", &reading(), None, &Status::default(), (200, 100));
        assert_eq!(
            whole,
            "web-1   2026-07-14 12:00:00 UTC   up 1 d 2 h\n\
             \n\
             cpu             [###.................]  12.5%  4 cores   load 0.10 0.20 0.30\n\
             memory          [##########..........]  50.0%  4.0 GiB of 8.0 GiB\n\
             /               [########............]  40.0%  20.0 GiB of 50.0 GiB\n\
             /var            [##################..]  90.0%  9.0 GiB of 10.0 GiB\n\
             disks           0 B/s read, 4.0 KiB/s written\n  \
               eth0          10.0.0.5\n\
             \n      \
                   PID      CPU     MEMORY  PROCESS\n       \
                    77   101.2%    300 MiB  fire\u{fffd}[31mfox"
        );
        let mut wide = reading();
        (wide.cpu_percent, wide.cores) = (Some(100.0), 256);
        wide.load = Some([1000.4, 10.41, 9.996]);
        let table_of = |columns| table("web-1", &wide, None, &Status::default(), (columns, 24));
        assert_eq!(table_of(80), table_of(200), "nothing is cut on the usual terminal");
        assert!(table_of(80).contains("256 cores   load 1000 10.4 10.0"));
        let cut = table("web-1", &reading(), None, &Status::default(), (20, 4));
        assert_eq!(cut.lines().count(), 4);
        assert!(cut.lines().all(|line| line.chars().count() <= 20));
    }

    #[test]
    fn bytes_have_three_digits() {
        let numbers = [0.0, 1023.0, 1024.0, 1536.0, 102_350.0, 1_048_500.0, 3e12, f64::MAX];
        assert_eq!(
            numbers.map(bytes)[..7],
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "100 KiB", "1.0 MiB", "2.7 TiB"]
        );
        assert!(bytes(f64::MAX).ends_with(" PiB"));
    }
}
