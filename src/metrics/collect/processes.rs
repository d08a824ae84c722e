//! The processes that use most. Does not watch threads, and starts and kills nothing.
//!
//! # Why not `sysinfo`
//! It takes 7.1 ms for 111 processes. Here one pass reads `stat` of all, 4 µs each, and only the kept ones are asked for
//! more, 21 µs each (2 cores, Linux 6.18): the kernel's work of making those texts.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::process_table::{DescriptorLimit, ProcessTable, read_at_start};
use super::procfs::{self, BootTime, Processes, Reader};
use super::{Collector, CollectorContext, Registered, parse, pid_stat, tell};
use crate::metrics::counter::{Difference, bound};
use crate::model::{Group, Process, Rank, SystemMetrics};
use crate::redact::redact_arguments;
use crate::values::words::{COMMAND_LINE, COUNT, RANK};
use crate::values::{Count, Section, key};

/// Longest command line that is read and kept.
const COMMAND_LINE_MAX: usize = 4096;
/// Seven lines of `io` with the longest numbers are 300 bytes.
const IO_MAX: usize = 1024;
/// Intervals shorter than this say nothing about processor use, which is counted in 10 ms.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Beyond the interval itself, what a process may have used in it: a reading may come late.
const SLACK: Duration = Duration::from_secs(60);

/// Which processes are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessesOptions {
    /// How many.
    pub keep: usize,
    /// By what they are ranked.
    pub by: Rank,
    /// How much of their command lines is reported.
    pub command_line: CommandLine,
}

/// The same as the keys of a file, where a count may be a variable.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessesKeys {
    /// How many processes are kept.
    pub keep: Count,
    /// What makes a process important.
    pub by: Rank,
    /// How much of their command lines is read.
    pub command_line: CommandLine,
}

impl Default for ProcessesKeys {
    fn default() -> Self {
        Self { keep: Count::fixed(20), by: Rank::Cpu, command_line: CommandLine::default() }
    }
}

/// How much of a command line is reported. Arguments may hold secrets, and every user of the machine may read them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandLine {
    /// All of it, with its secrets.
    Full,
    /// All of it but likely secrets.
    #[default]
    Redacted,
    /// Nothing but the name and executable of the process, which are reported in any case.
    Name,
}

impl Default for ProcessesOptions {
    fn default() -> Self {
        Self { keep: 20, by: Rank::Cpu, command_line: CommandLine::default() }
    }
}

/// The processes that use most, and how much since the reading before.
///
/// The first reading only remembers. A process that has started since the reading before gets all
/// its time over the whole interval, so that the figures add up to that of the machine; one that is
/// older but was not seen before gets 0 once. A process that ends during the reading is left out.
#[derive(Debug)]
pub struct ProcessesCollector {
    options: ProcessesOptions,
    table: Option<ProcessTable>,
    file: Reader,
    boot: BootTime,
    /// Names of the reading in progress, one after the other; rows point into it.
    names: Vec<u8>,
    rows: Vec<Row>,
    /// Of the processes that are kept, by id and start.
    descriptions: HashMap<(u32, u64), Description>,
    io: Vec<u8>,
    before: Option<PreviousReading>,
    /// Processors that the machine can have, once that was read.
    processors: Option<u64>,
}

impl ProcessesCollector {
    /// A collector that has not read yet.
    pub fn new(options: ProcessesOptions) -> Self {
        Self {
            options,
            table: None,
            file: Reader::default(),
            boot: BootTime::default(),
            names: Vec::new(),
            rows: Vec::new(),
            descriptions: HashMap::new(),
            io: vec![0; IO_MAX],
            before: None,
            processors: None,
        }
    }

    /// One pass over all: fills `rows`, in the order of their ids.
    fn pass(&mut self, now: Instant) -> io::Result<()> {
        let Self { table, rows, names, .. } = self;
        let table = match table {
            Some(table) => table,
            none => none.insert(ProcessTable::open()?),
        };
        rows.clear();
        names.clear();
        table.read(now, |pid, stat| {
            let name = (names.len(), stat.name.len());
            names.extend_from_slice(stat.name);
            rows.push(Row {
                seen: SeenProcess { pid, started: stat.started_ticks, ticks: stat.cpu_ticks },
                parent: stat.parent,
                state: stat.state,
                rss_pages: stat.rss_pages,
                addresses: stat.addresses,
                spent: 0,
                name,
            });
        })
    }

    /// All that is reported of one process; `None` if it has ended.
    fn describe(&mut self, row: &Row, scale: &Scale, now: Instant) -> Option<Process> {
        let (proc, kept) = self.table.as_mut()?.proc();
        let pid = row.seen.pid;
        let name = self.names.get(row.name.0..row.name.0 + row.name.1)?;
        let key = (pid, row.seen.started);
        if !self.descriptions.get(&key).is_some_and(|known| known.is_good(row, name, now)) {
            let how = self.options.command_line;
            let fresh = Description::read(proc, &mut self.file, row, name, how)?;
            let place = self.descriptions.entry(key).or_default();
            let io = place.io.take();
            *place = Description { read_at: Some(now), io, ..fresh };
        }
        let description = self.descriptions.get_mut(&key)?;
        description.used = true;
        let io = description.io(proc, kept, pid, &mut self.io);
        Some(Process {
            pid,
            parent: (row.parent != 0).then_some(row.parent),
            name: parse::lossy(name),
            executable: description.executable.clone(),
            command_line: description.command_line.clone(),
            cpu_percent: scale.percent(row.spent),
            cpu_seconds: Some(scale.seconds(row.seen.ticks)),
            rss_bytes: row.rss_pages.saturating_mul(scale.page_bytes),
            read_bytes: parse::value(io, b"read_bytes:").and_then(parse::number),
            written_bytes: parse::value(io, b"write_bytes:").and_then(parse::number),
            status: pid_stat::state_name(row.state),
            started: scale.started(row.seen.started),
            uid: description.uid,
        })
    }

    /// Forgets the descriptions of processes that were not kept this time, so that there are never more than those.
    fn forget(&mut self) {
        let Some(table) = &mut self.table else { return self.descriptions.clear() };
        let (_, kept) = table.proc();
        self.descriptions.retain(|_, description| {
            let used = std::mem::take(&mut description.used);
            if !used {
                kept.close(description.io.take());
            }
            used
        });
    }
}

/// What seldom changes about a process: read when the process is new, has become another program or has another name, and
/// from time to time.
#[derive(Debug, Default)]
struct Description {
    read_at: Option<Instant>,
    name: Vec<u8>,
    addresses: [u64; 2],
    uid: u32,
    executable: Option<String>,
    command_line: Option<String>,
    /// Its `io`, where it may be kept open.
    io: Option<OwnedFd>,
    used: bool,
}

impl Description {
    /// How long it is good: a process may change its user or what its arguments say (`setproctitle`) unseen. Their ages
    /// differ, so that not all are read at once.
    fn good_for(pid: u32) -> Duration {
        Duration::from_secs(4 + u64::from(pid % 5))
    }

    fn is_good(&self, row: &Row, name: &[u8], now: Instant) -> bool {
        let age = self.read_at.map(|read| now.saturating_duration_since(read));
        age.is_some_and(|age| age < Self::good_for(row.seen.pid))
            && self.name == name
            && self.addresses == row.addresses
    }

    fn read(
        proc: &mut Processes,
        file: &mut Reader,
        row: &Row,
        name: &[u8],
        how: CommandLine,
    ) -> Option<Self> {
        let pid = row.seen.pid;
        let uid = uid(proc, file, pid)?;
        let executable = proc.link(pid, "exe");
        let command_line = (how != CommandLine::Name).then(|| {
            let (dir, path) = proc.file(pid, "cmdline");
            let arguments = file.read_once_at(dir, path, COMMAND_LINE_MAX).ok()?;
            command_line(arguments, how)
        });
        Some(Self {
            name: name.to_vec(),
            addresses: row.addresses,
            uid,
            executable,
            command_line: command_line.flatten(),
            ..Self::default()
        })
    }

    /// The text of `io`; empty where it may not be read.
    fn io<'b>(
        &mut self,
        proc: &mut Processes,
        kept: &mut DescriptorLimit,
        pid: u32,
        into: &'b mut [u8],
    ) -> &'b [u8] {
        if let Some(io) = &self.io {
            if let Ok(length) = read_at_start(io, into) {
                return &into[..length];
            }
            kept.close(self.io.take());
        }
        let Ok(io) = proc.open_file(pid, "io") else { return &[] };
        let Ok(length) = read_at_start(&io, into) else { return &[] };
        self.io = kept.keep(io);
        &into[..length]
    }
}

impl Registered for ProcessesCollector {
    const GROUP: Group = Group::Processes;
    type Options = ProcessesKeys;
    const MANUAL: Option<Section> = Some(Section {
        header: "`processes = { … }` in `from`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\n[[collect.from]]\nprocesses.{}\n[write]\nstdout = true",
        keys: &[
            key("keep", COUNT, "20", "50", "how many processes are kept"),
            key("by", RANK, "\"cpu\"", "\"memory\"", "what makes a process more important"),
            key(
                "command_line",
                COMMAND_LINE,
                "\"redacted\"",
                "\"name\"",
                "how much of command lines is shown: without what looks like a secret, all, or none",
            ),
        ],
    });

    fn build(options: &ProcessesKeys, _: &CollectorContext<'_>) -> Self {
        Self::new(ProcessesOptions {
            keep: options.keep.items(),
            by: options.by,
            command_line: options.command_line,
        })
    }
}

impl Collector for ProcessesCollector {
    fn group(&self) -> Group {
        Group::Processes
    }

    fn read(&mut self, now: Instant, into: &mut SystemMetrics) {
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        let at = ticks(procfs::since_boot(), ticks_per_second);
        if let Err(error) = self.pass(now) {
            (self.table, self.descriptions) = (None, HashMap::new());
            return tell(into, Group::Processes, format!("cannot list /proc: {error}"));
        }
        if let Some(before) = &self.before {
            let interval = now.saturating_duration_since(before.now);
            if interval < INTERVAL_MIN {
                return; // keep the older reading, so that the next one has an interval
            }
            // All of them, also where the agent may use fewer.
            let possible = || self.file.processors(procfs::POSSIBLE) as u64;
            let processors = *self.processors.get_or_insert_with(possible);
            let most = bound(ticks_per_second.saturating_mul(processors), interval, SLACK);
            for row in &mut self.rows {
                row.spent = before.spent(&row.seen, most);
            }
            let mut kept: Vec<Row> = self.rows.clone();
            keep(&mut kept, &self.options);
            let page_bytes = rustix::param::page_size() as u64;
            let scale = Scale { ticks_per_second, interval, page_bytes, boot: self.boot.get() };
            let processes: Vec<_> =
                kept.iter().filter_map(|row| self.describe(row, &scale, now)).collect();
            self.forget();
            into.processes = Some(processes.into());
        }
        let before = self.before.get_or_insert_with(|| PreviousReading { now, at, seen: Vec::new() });
        (before.now, before.at) = (now, at);
        before.seen.clear();
        before.seen.extend(self.rows.iter().map(|row| row.seen));
    }
}

/// One process in one reading. An id that is used again has another start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SeenProcess {
    pid: u32,
    started: u64,
    ticks: u64,
}

#[derive(Debug, Clone)]
struct Row {
    seen: SeenProcess,
    parent: u32,
    state: u8,
    rss_pages: u64,
    /// Where its stack and its arguments begin: a program that takes the place of another has others.
    addresses: [u64; 2],
    /// Ticks since the reading before.
    spent: u64,
    /// Place and length in the names.
    name: (usize, usize),
}

/// The reading before.
#[derive(Debug)]
struct PreviousReading {
    now: Instant,
    /// Ticks since boot just before it.
    at: u64,
    /// In the order of the ids.
    seen: Vec<SeenProcess>,
}

impl PreviousReading {
    /// Processor time since then, in ticks, at most `most`; 0 where the counter says nothing.
    fn spent(&self, now: &SeenProcess, most: u64) -> u64 {
        let known = self.seen.binary_search_by_key(&now.pid, |seen| seen.pid);
        let then = match known.ok().map(|index| &self.seen[index]) {
            Some(then) if then.started == now.started => Some(then.ticks),
            _ if now.started >= self.at => Some(0),
            _ => None,
        };
        Difference::between(then, now.ticks, most).moved().unwrap_or(0)
    }
}

/// From the units of the kernel to those of a reading.
struct Scale {
    ticks_per_second: u64,
    interval: Duration,
    page_bytes: u64,
    boot: SystemTime,
}

impl Scale {
    fn percent(&self, ticks: u64) -> f64 {
        self.seconds(ticks) * 100.0 / self.interval.as_secs_f64()
    }

    fn seconds(&self, ticks: u64) -> f64 {
        ticks as f64 / self.ticks_per_second as f64
    }

    fn started(&self, ticks: u64) -> SystemTime {
        let seconds = Duration::from_secs(ticks / self.ticks_per_second);
        let rest = ticks % self.ticks_per_second * 1_000 / self.ticks_per_second;
        let after = seconds.checked_add(Duration::from_millis(rest));
        after.and_then(|after| self.boot.checked_add(after)).unwrap_or(self.boot)
    }
}

fn ticks(time: Duration, per_second: u64) -> u64 {
    (time.as_secs_f64() * per_second as f64) as u64
}

/// Keeps the most important rows, in their order.
fn keep(rows: &mut Vec<Row>, options: &ProcessesOptions) {
    let order = |a: &Row, b: &Row| rank(a, b, options.by);
    if options.keep == 0 {
        rows.clear();
    } else if rows.len() > options.keep {
        rows.select_nth_unstable_by(options.keep - 1, order);
        rows.truncate(options.keep);
    }
    rows.sort_unstable_by(order);
}

fn rank(a: &Row, b: &Row, by: Rank) -> Ordering {
    let cpu = b.spent.cmp(&a.spent);
    let memory = b.rss_pages.cmp(&a.rss_pages);
    let first = match by {
        Rank::Cpu => cpu.then(memory),
        Rank::Memory => memory.then(cpu),
    };
    first.then(a.seen.pid.cmp(&b.seen.pid))
}

/// Whose it is: its effective user, who owns its directory. The kernel gives the directory of a
/// process that may not be dumped to root (`proc_pid(5)`), so where root owns it, `status` decides.
fn uid(proc: &mut Processes, file: &mut Reader, pid: u32) -> Option<u32> {
    let (dir, path) = proc.file(pid, "");
    let owner = rustix::fs::statat(dir, path, rustix::fs::AtFlags::empty()).ok()?.st_uid;
    if owner != 0 {
        return Some(owner);
    }
    let (dir, path) = proc.file(pid, "status");
    let status = file.read_once_at(dir, path, 4096).ok()?;
    // Real, effective, saved, file system.
    let effective = parse::words(parse::value(status, b"Uid:")?).nth(1).and_then(parse::number)?;
    effective.try_into().ok()
}

/// The arguments, which the kernel separates by NUL, with spaces between them; `None` for a kernel
/// thread, which has none.
fn command_line(bytes: &[u8], how: CommandLine) -> Option<String> {
    let end = bytes.iter().rposition(|byte| *byte != 0)? + 1;
    let arguments = String::from_utf8_lossy(&bytes[..end]);
    let mut line = match how {
        CommandLine::Full => arguments.replace('\0', " "),
        CommandLine::Redacted => redact_arguments(arguments.split('\0')),
        CommandLine::Name => return None,
    };
    // A byte that is not valid becomes three.
    line.truncate(line.floor_char_boundary(COMMAND_LINE_MAX));
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pid: u32, started: u64, ticks: u64) -> SeenProcess {
        SeenProcess { pid, started, ticks }
    }

    #[test]
    fn the_machines_processors_are_counted_also_where_the_agent_may_use_one() {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let mine = sched_getaffinity(None).unwrap();
        let mut one = CpuSet::new();
        one.set((0..CpuSet::MAX_CPU).find(|at| mine.is_set(*at)).unwrap());
        let on_one = std::thread::spawn(move || {
            sched_setaffinity(None, &one).unwrap();
            let usable = std::thread::available_parallelism().unwrap().get();
            (usable, Reader::default().processors(procfs::POSSIBLE))
        });
        let (usable, possible) = on_one.join().unwrap();
        assert_eq!(usable, 1);
        assert!(possible >= mine.count() as usize, "{possible}");
    }

    #[test]
    fn a_process_id_that_is_used_again_inherits_nothing() {
        let now = Instant::now();
        let before = PreviousReading { now, at: 500, seen: vec![seen(7, 10, 4_000), seen(9, 20, 30)] };
        assert_eq!(before.spent(&seen(9, 20, 42), 1_000), 12);
        assert_eq!(before.spent(&seen(7, 510, 3), 1_000), 3, "the id is used again");
        assert_eq!(before.spent(&seen(8, 505, 6), 1_000), 6, "started since");
        assert_eq!(before.spent(&seen(8, 400, 9_000), 1_000), 0, "older, but not seen before");
        assert_eq!(before.spent(&seen(9, 20, 29), 1_000), 0, "a counter that stepped back");
        assert_eq!(before.spent(&seen(9, 20, u64::MAX), 1_000), 0, "more than is possible");
        assert_eq!(before.spent(&seen(7, 510, u64::MAX), 1_000), 0, "more than is possible");
    }

    fn row(pid: u32, spent: u64, rss_pages: u64) -> Row {
        Row {
            seen: seen(pid, 0, 0),
            parent: 0,
            state: b'S',
            rss_pages,
            addresses: [0; 2],
            spent,
            name: (0, 0),
        }
    }

    fn kept(by: Rank, keep: usize) -> Vec<u32> {
        let mut rows =
            vec![row(1, 5, 10), row(2, 9, 1), row(3, 5, 30), row(4, 5, 10), row(5, 0, 99)];
        super::keep(&mut rows, &ProcessesOptions { keep, by, ..ProcessesOptions::default() });
        rows.iter().map(|row| row.seen.pid).collect()
    }

    #[test]
    fn ties_are_settled_the_same_way_every_time() {
        assert_eq!(kept(Rank::Cpu, 9), [2, 3, 1, 4, 5]);
        assert_eq!(kept(Rank::Cpu, 3), [2, 3, 1]);
        assert_eq!(kept(Rank::Memory, 3), [5, 3, 1]);
        assert_eq!(kept(Rank::Memory, 0), [0; 0]);
    }

    #[test]
    fn a_command_line_has_no_nul_and_is_cut_between_characters() {
        let command_line = |bytes| super::command_line(bytes, CommandLine::Redacted);
        assert_eq!(command_line(b"sh\0-c\0a b\0\0").as_deref(), Some("sh -c a b"));
        assert_eq!(command_line(b""), None);
        assert_eq!(command_line(b"\0\0"), None);
        let long = command_line(&[0xff; COMMAND_LINE_MAX]).unwrap();
        assert!(long.len() <= COMMAND_LINE_MAX && long.len() > COMMAND_LINE_MAX - 4);
        assert!(long.chars().all(|c| c == '\u{fffd}'));
    }

    #[test]
    fn secrets_leave_the_machine_only_where_that_is_asked_for() {
        let line = b"mysqldump\0-u\0root\0-phunter2\0shop\0";
        let shown = |how| command_line(line, how);
        assert_eq!(shown(CommandLine::default()).unwrap(), "mysqldump -u root -p[redacted] shop");
        assert_eq!(shown(CommandLine::Full).unwrap(), "mysqldump -u root -phunter2 shop");
        assert_eq!(shown(CommandLine::Name), None);
    }

    type Reported = (String, Option<String>, Option<String>, Option<u32>, SystemTime, u32);

    fn read(collector: &mut ProcessesCollector, now: Instant, pid: u32) -> Option<Reported> {
        let mut reading = SystemMetrics::empty(SystemTime::now(), now, Duration::ZERO, 0);
        collector.read(now, &mut reading);
        assert_eq!(reading.troubles, []);
        let processes = reading.processes?;
        let one = processes.iter().find(|process| process.pid == pid)?.clone();
        Some((one.name, one.executable, one.command_line, one.parent, one.started, one.uid))
    }

    /// As one reports it that has nothing kept.
    fn plain(now: Instant, pid: u32) -> Option<Reported> {
        let mut fresh = all();
        read(&mut fresh, now, pid);
        // Both take the time of boot from two clocks, and so differ by less than it is kept for.
        let round = |(name, exe, line, parent, _, uid)| {
            (name, exe, line, parent, SystemTime::UNIX_EPOCH, uid)
        };
        read(&mut fresh, now + Duration::from_secs(1), pid).map(round)
    }

    fn all() -> ProcessesCollector {
        ProcessesCollector::new(ProcessesOptions {
            keep: usize::MAX,
            ..ProcessesOptions::default()
        })
    }

    #[test]
    fn what_is_kept_is_what_the_plain_way_tells_over_forks_execs_new_names_and_ends() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let (mut kept, start) = (all(), Instant::now());
        read(&mut kept, start, 0); // what follows has an interval
        let mut second = 0;
        let mut same = |pid: u32, what: &str| {
            second += 1; // a second apart, so that nothing is read anew for its age
            let now = start + Duration::from_secs(second);
            let round = |(name, exe, line, parent, _, uid)| {
                (name, exe, line, parent, SystemTime::UNIX_EPOCH, uid)
            };
            let ours = read(&mut kept, now, pid).map(round);
            assert_eq!(ours, plain(now, pid), "{what}");
            ours
        };
        let script = "read a; printf renamed > /proc/$$/comm; read b; exec sleep 1000";
        let mut child =
            Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let (pid, mut input) = (child.id(), child.stdin.take().unwrap());
        let wait_for = |file: &str, wanted: &str| {
            let path = format!("/proc/{pid}/{file}");
            while !std::fs::read_to_string(&path).unwrap().contains(wanted) {
                std::thread::yield_now();
            }
        };
        wait_for("cmdline", "printf renamed");
        for what in ["it is new", "it is known"] {
            assert!(same(pid, what).unwrap().2.unwrap().contains("read b"));
        }
        input.write_all(b"\n").unwrap();
        wait_for("comm", "renamed");
        assert_eq!(same(pid, "it has another name").unwrap().0, "renamed");
        input.write_all(b"\n").unwrap();
        wait_for("cmdline", "sleep\x001000");
        assert_eq!(same(pid, "it is another program").unwrap().2.as_deref(), Some("sleep 1000"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(same(pid, "it has ended"), None);
        assert!(!kept.descriptions.keys().any(|(one, _)| *one == pid), "and is forgotten");
    }

    #[test]
    fn what_changes_unseen_is_told_after_eight_seconds_at_the_latest() {
        let (mut kept, now, me) = (all(), Instant::now(), std::process::id());
        let later = |seconds| now + Duration::from_secs(seconds);
        read(&mut kept, now, me);
        let line = read(&mut kept, later(1), me).unwrap().2;
        // As if the process had overwritten its arguments since.
        let mut ours = kept.descriptions.iter_mut().find(|((pid, _), _)| *pid == me);
        ours.as_mut().unwrap().1.command_line = Some("before".to_owned());
        assert_eq!(read(&mut kept, later(2), me).unwrap().2.as_deref(), Some("before"));
        assert_eq!(read(&mut kept, later(9), me).unwrap().2, line);
    }

    #[test]
    fn a_start_is_boot_time_plus_ticks() {
        let boot = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let interval = Duration::from_secs(2);
        let scale = Scale { ticks_per_second: 100, interval, page_bytes: 4096, boot };
        assert_eq!(scale.started(1_234), boot + Duration::from_millis(12_340));
        assert_eq!(scale.percent(300), 150.0);
        let _ = scale.started(u64::MAX);
    }
}
