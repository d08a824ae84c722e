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

/// From this share on, a file system other than the first is worth its place.
const NEARLY_FULL: f64 = 90.0;

/// Writes one line of aligned columns, and under it the busiest processes, the host and the troubles
/// where the reading has them. What it does not have takes no place.
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
    let at = Iso8601::new(reading.at);
    write!(out, "{} {}Z", &at.as_str()[..10], &at.as_str()[11..19])?;
    if let Some(identity) = &reading.identity {
        write!(out, "  {}", Clean(&identity.host))?;
    }
    if let Some(cpu) = &reading.cpu {
        write!(out, "  cpu {:>5.1} %", cpu.usage_percent)?;
        if let Some(celsius) = cpu.temperature_celsius {
            write!(out, " {celsius:>3.0} C")?;
        }
    }
    if let Some(memory) = &reading.memory {
        let (used, total) = (memory.used_bytes as f64, memory.total_bytes as f64);
        write!(out, "  mem {} of {}", Bytes(used), Bytes(total))?;
    }
    if let Some(load) = &reading.load {
        write!(out, "  load {:>5.2} {:>5.2} {:>5.2}", load.one, load.five, load.fifteen)?;
    }
    if let Some(disk) = &reading.disk {
        write_disk(out, disk)?;
    }
    if let Some(network) = &reading.network {
        write_network(out, network)?;
    }
    if let Some(agent) = &reading.agent {
        write!(out, "  agent {}", Bytes(agent.rss_bytes as f64))?;
        if let Some(percent) = agent.cpu_percent {
            write!(out, " {percent:.2} %")?;
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
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
        writeln!(out, "    ! {}: {}", trouble.group.name(), Clean(&trouble.what))?;
    }
    Ok(())
}

/// A group that has no column: its own fields, without those of its lists.
fn write_own(out: &mut String, own: &AnyGroup) -> fmt::Result {
    let value = own.value();
    let rows = rows(&value);
    let own_fields = rows.iter().filter(|row| row.list.is_empty()).flat_map(|row| &row.fields);
    write!(out, "    {}:", own.group().name())?;
    for (at, (name, value)) in own_fields.take(FIELDS).enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(out, "{comma} {} ", Clean(name))?;
        match value {
            Scalar::Whole(value) => write!(out, "{value}")?,
            Scalar::Real(value) => write!(out, "{value:.2}")?,
            Scalar::Text(value) => write!(out, "{}", Clean(value))?,
            Scalar::Bool(value) => write!(out, "{value}")?,
        }
    }
    out.push('\n');
    Ok(())
}

fn write_disk(out: &mut String, disk: &Disk) -> fmt::Result {
    for (at, mount) in disk.mounts.iter().enumerate() {
        let share = share(mount);
        if at == 0 || share >= NEARLY_FULL {
            write!(out, "  {} {share:>3.0} %", Clean(&mount.mount_point))?;
        }
    }
    if let Some(io) = &disk.io {
        let (read, written) = (io.read_bytes_per_sec as f64, io.write_bytes_per_sec as f64);
        write!(out, "  read {} write {}", Rate(read), Rate(written))?;
    }
    Ok(())
}

/// The first interface that is up and is not loopback: the real ones come first.
fn write_network(out: &mut String, network: &Network) -> fmt::Result {
    let real = |addresses: &[std::net::IpAddr]| addresses.iter().any(|one| !one.is_loopback());
    let shown = network.interfaces.iter().find(|one| one.is_up && real(&one.addresses));
    let Some(interface) = shown else { return write!(out, "  no address") };
    write!(out, "  {}", Clean(&interface.name))?;
    match &interface.rates {
        Some(rates) => {
            let (received, sent) = (rates.received_bytes_per_sec, rates.sent_bytes_per_sec);
            write!(out, " in {} out {}", Rate(received), Rate(sent))
        }
        None => {
            let (received, sent) = (interface.received_bytes as f64, interface.sent_bytes as f64);
            write!(out, " in {} out {}", Bytes(received), Bytes(sent))
        }
    }
}

fn write_host(out: &mut String, host: &Host) -> fmt::Result {
    let (name, os, kernel) = (Clean(&host.hostname), Clean(&host.os), Clean(&host.kernel));
    let architecture = Clean(&host.architecture);
    writeln!(out, "    {name}: {os}, {kernel} {architecture}, {} cores", host.cores)
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
