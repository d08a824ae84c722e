//! A reading for a person at a terminal. Not for a program: the layout promises nothing.

use std::fmt::{self, Write};

use super::format::Spec;
use super::rows::{Scalar, rows};
use super::{MAX_LINE, Refused, steers};
use crate::model::{AnyGroup, Disk, Host, Iso8601, Mount, Network, Process, SystemMetrics};

/// A little of everything.
pub(super) const FORMAT: Spec = Spec::of_everything("pretty", encode);

/// Processes shown under a reading.
const PROCESSES: usize = 3;

/// Fields shown of a group that has no column.
const FIELDS: usize = 12;

/// The width of a terminal as it opens. Lines are shorter, so that a comma has room.
const WIDTH: usize = 80;

/// From this share on, a file system other than the first is worth its place.
const NEARLY_FULL: f64 = 90.0;

/// Writes aligned columns, and under them the busiest processes, the host and the troubles where the reading has them.
/// What it does not have takes no place. A column that would pass [`WIDTH`] begins another line.
///
/// What a terminal would obey, or would not show, is shown as `?`, so that no process can write to the terminal by its name.
///
/// # Errors
/// `oversize` above [`MAX_LINE`]. Nothing is written then.
fn encode(reading: &SystemMetrics, out: &mut Vec<u8>) -> Result<(), Refused> {
    let mut text = String::with_capacity(512);
    write_reading(&mut text, reading).map_err(|_| Refused::Unencodable)?;
    if text.len() > MAX_LINE {
        return Err(Refused::Oversize);
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn write_reading(out: &mut String, reading: &SystemMetrics) -> fmt::Result {
    let mut row = Row::new(out);
    let at = Iso8601::new(reading.at);
    write!(row, "{} {}Z", &at.as_str()[..10], &at.as_str()[11..19])?;
    if let Some(identity) = &reading.identity {
        write!(row, "  {}", Clean(&identity.host))?;
    }
    if let Some(cpu) = &reading.cpu {
        write!(row, "  cpu {:>5.1} %", cpu.usage_percent)?;
        if let Some(celsius) = cpu.temperature_celsius {
            write!(row, " {celsius:>3.0} C")?;
        }
    }
    if let Some(memory) = &reading.memory {
        let (used, total) = (memory.used_bytes as f64, memory.total_bytes as f64);
        write!(row, "  mem {} of {}", Bytes(used), Bytes(total))?;
    }
    if let Some(load) = &reading.load {
        write!(row, "  load {:>5.2} {:>5.2} {:>5.2}", load.one, load.five, load.fifteen)?;
    }
    if let Some(disk) = &reading.disk {
        write_disk(&mut row, disk)?;
    }
    if let Some(network) = &reading.network {
        write_network(&mut row, network)?;
    }
    if let Some(agent) = &reading.agent {
        write!(row, "  agent {}", Bytes(agent.rss_bytes as f64))?;
        if let Some(percent) = agent.cpu_percent {
            write!(row, " {percent:.2} %")?;
        }
    }
    row.end();
    if let Some(host) = &reading.host {
        write_host(out, host)?;
    }
    for process in reading.processes.iter().flat_map(|all| all.iter().take(PROCESSES)) {
        write_process(out, process)?;
    }
    for own in reading.own.iter() {
        write_own(out, own)?;
    }
    for trouble in &reading.troubles {
        let mut row = Row::new(out);
        write!(row, "    ! {}:", trouble.group.name())?;
        trouble.what.split(' ').try_for_each(|word| write!(row, " {}", Clean(word)))?;
        row.end();
    }
    Ok(())
}

/// A line in the making. What is written at once stays together.
struct Row<'a> {
    out: &'a mut String,
    /// Where the line begins.
    start: usize,
}

impl<'a> Row<'a> {
    fn new(out: &'a mut String) -> Self {
        let start = out.len();
        Self { out, start }
    }

    fn write_fmt(&mut self, part: fmt::Arguments<'_>) -> fmt::Result {
        let at = self.out.len();
        self.out.write_fmt(part)?;
        let (before, part) = self.out.split_at(at);
        let (before, part) = (before.trim_end(), part.trim_start());
        let is_first = before.len() <= self.start;
        if !is_first && self.out[self.start..].trim_end().chars().count() >= WIDTH {
            let (end, part) = (before.len(), part.to_owned());
            self.out.truncate(end);
            self.start = end + 1;
            write!(self.out, "\n    {part}")?;
        }
        Ok(())
    }

    fn end(self) {
        self.out.truncate(self.out.trim_end().len());
        self.out.push('\n');
    }
}

/// A group that has no column: its own fields, without those of its lists.
fn write_own(out: &mut String, own: &AnyGroup) -> fmt::Result {
    let value = own.value();
    let rows = rows(&value);
    let own_fields = rows.iter().filter(|row| row.list.is_empty()).flat_map(|row| &row.fields);
    let mut row = Row::new(out);
    write!(row, "    {}:", own.group().name())?;
    for (at, (name, value)) in own_fields.take(FIELDS).enumerate() {
        if at > 0 {
            row.out.push(',');
        }
        let name = Clean(name);
        match value {
            Scalar::Whole(value) => write!(row, " {name} {value}")?,
            Scalar::Real(value) => write!(row, " {name} {value:.2}")?,
            Scalar::Text(value) => write!(row, " {name} {}", Clean(value))?,
            Scalar::Bool(value) => write!(row, " {name} {value}")?,
        }
    }
    row.end();
    Ok(())
}

fn write_disk(row: &mut Row<'_>, disk: &Disk) -> fmt::Result {
    for (at, mount) in disk.mounts.iter().enumerate() {
        let share = share(mount);
        if at == 0 || share >= NEARLY_FULL {
            write!(row, "  {} {share:>3.0} %", Clean(&mount.mount_point))?;
        }
    }
    if let Some(io) = &disk.io {
        let (read, written) = (io.read_bytes_per_sec as f64, io.write_bytes_per_sec as f64);
        write!(row, "  read {} write {}", Rate(read), Rate(written))?;
    }
    Ok(())
}

/// The first interface that is up and is not loopback: the real ones come first.
fn write_network(row: &mut Row<'_>, network: &Network) -> fmt::Result {
    let real = |addresses: &[std::net::IpAddr]| addresses.iter().any(|one| !one.is_loopback());
    let shown = network.interfaces.iter().find(|one| one.is_up && real(&one.addresses));
    let Some(interface) = shown else { return write!(row, "  no address") };
    let name = Clean(&interface.name);
    match &interface.rates {
        Some(rates) => {
            let (received, sent) = (rates.received_bytes_per_sec, rates.sent_bytes_per_sec);
            write!(row, "  {name} in {} out {}", Rate(received), Rate(sent))
        }
        None => {
            let (received, sent) = (interface.received_bytes as f64, interface.sent_bytes as f64);
            write!(row, "  {name} in {} out {}", Bytes(received), Bytes(sent))
        }
    }
}

fn write_host(out: &mut String, host: &Host) -> fmt::Result {
    let mut row = Row::new(out);
    write!(row, "    {}:", Clean(&host.hostname))?;
    write!(row, " {},", Clean(&host.os))?;
    write!(row, " {} {},", Clean(&host.kernel), Clean(&host.architecture))?;
    write!(row, " {} cores", host.cores)?;
    row.end();
    Ok(())
}

fn write_process(out: &mut String, process: &Process) -> fmt::Result {
    let (pid, cpu, memory) = (process.pid, process.cpu_percent, Bytes(process.rss_bytes as f64));
    writeln!(out, "    {pid:>8} {cpu:>6.1} % {memory}  {}", Clean(&process.name))
}

fn share(mount: &Mount) -> f64 {
    // As `df` has it: what is reserved for root is neither used nor available.
    100.0 * mount.used_bytes as f64 / (mount.used_bytes + mount.available_bytes).max(1) as f64
}

/// Bytes with a unit, always ten characters wide up to the pebibyte.
struct Bytes(f64);

/// Bytes per second, two characters wider.
struct Rate(f64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = scaled(self.0);
        write!(f, "{value:>6.1} {unit:<3}")
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = scaled(self.0);
        write!(f, "{value:>6.1} {unit}/s{:1$}", "", 3 - unit.len())
    }
}

fn scaled(mut value: f64) -> (f64, &'static str) {
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1000.0 {
            return (value, unit);
        }
        value /= 1024.0;
    }
    (value, "PiB")
}

/// A text that came from outside.
struct Clean<'a>(&'a str);

impl fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(steers) {
            match part.strip_suffix(steers) {
                Some(text) => write!(f, "{text}?")?,
                None => f.write_str(part)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_column() {
        let cases = [
            (0.0, "   0.0 B  "),
            (999.0, " 999.0 B  "),
            (1000.0, "   1.0 KiB"),
            (1023.0 * 1024.0, "   1.0 MiB"),
            (7.6 * 1024.0 * 1024.0 * 1024.0, "   7.6 GiB"),
        ];
        for (value, text) in cases {
            assert_eq!(Bytes(value).to_string(), text);
        }
    }

    #[test]
    fn rates_keep_theirs() {
        assert_eq!(Rate(300.0).to_string(), " 300.0 B/s  ");
        assert_eq!(Rate(4096.0).to_string(), "   4.0 KiB/s");
    }

    #[test]
    fn a_name_cannot_write_to_the_terminal() {
        assert_eq!(Clean("a\x1b[2J\u{9b}31m\nb").to_string(), "a?[2J?31m?b");
        assert_eq!(Clean("a\u{202e}b").to_string(), "a?b");
        assert_eq!(Clean("plain é").to_string(), "plain é");
    }
}
