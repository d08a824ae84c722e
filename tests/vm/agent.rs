//! The agent as a process in the guest: started as the shipped unit does, measured and ended from the guest's shell.

use std::collections::BTreeMap;
use std::time::Duration;

use super::guest::Guest;
use super::talk::SECRET;
use super::unit;
use super::vsock;

/// One tick of `utime` and `stime` in `/proc/PID/stat` on x86 (proc(5), `USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// A running agent.
#[derive(Debug, Clone, Copy)]
pub struct Agent {
    pub pid: u32,
}

/// What the agent has used since an earlier look.
#[derive(Debug)]
pub struct Used {
    /// Time that passed in the guest.
    pub time: Duration,
    /// Processor time, all threads, those that have ended included.
    pub cpu: Duration,
    /// Times a thread went to sleep by itself.
    pub switches: u64,
}

impl Used {
    /// Processor time as percent of one core.
    pub fn cpu_percent(&self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.time.as_secs_f64()
    }

    /// Sleeps, that is wake-ups, per second.
    pub fn switches_per_second(&self) -> f64 {
        self.switches as f64 / self.time.as_secs_f64()
    }
}

impl Agent {
    /// Starts the agent with the pipeline of this name.
    pub fn start(guest: &mut Guest, pipeline: &str) -> Self {
        Self::run(guest, &format!("--pipelines /pipelines/{pipeline}.toml"))
    }

    /// Starts the agent with five readings a second and the shipped commands, which this secret unlocks.
    pub fn start_with_commands(guest: &mut Guest) -> Self {
        Self::run_with_secret(guest, "--pipelines /commands")
    }

    /// The same with its host over vsock.
    pub fn start_with_commands_over_vsock(guest: &mut Guest) -> Self {
        Self::start_with_commands_at(guest, &format!("vsock:2:{}", vsock::PORT))
    }

    /// The same with its host at another port.
    pub fn start_with_commands_at(guest: &mut Guest, port: &str) -> Self {
        Self::run_with_secret(guest, &format!("--pipelines /commands --port {port}"))
    }

    /// Starts the agent with as many long readings as go through, and the shipped commands.
    pub fn start_under_load(guest: &mut Guest) -> Self {
        Self::run_with_secret(guest, "--pipelines /load")
    }

    /// Starts the agent with the logs of `/logs`, durable, and the shipped commands.
    pub fn start_with_records(guest: &mut Guest) -> Self {
        Self::run_with_secret(guest, "--pipelines /records")
    }

    /// Starts the agent as it is shipped.
    pub fn start_as_shipped(guest: &mut Guest) -> Self {
        Self::run(guest, "")
    }

    /// The first one of a machine refuses what was signed before it started, and the machine's clock may be half a second ahead: its
    /// kernel takes whole seconds from the RTC, for the middle of each.
    fn run_with_secret(guest: &mut Guest, arguments: &str) -> Self {
        guest.run(&format!("export INFINISERVICE_SHARED_SECRET={SECRET}"));
        let before = guest.run("ls /state/requests.log 2> /dev/null || echo none");
        let agent = Self::run(guest, arguments);
        if before.trim() == "none" {
            guest.sleep(Duration::from_secs(1));
        }
        agent
    }

    fn run(guest: &mut Guest, arguments: &str) -> Self {
        let start = unit::start(unit::UNIT, arguments);
        let script = format!("{start} >> /tmp/agent.log 2>&1 & echo $!");
        let pid = guest.run(&script).trim().parse().expect("the shell tells the process id");
        Self { pid }
    }

    /// Whether it still runs.
    pub fn runs(self, guest: &mut Guest) -> bool {
        let script = format!("grep -q '^State:.[RSD]' /proc/{}/status && echo yes", self.pid);
        guest.run(&format!("{script} || true")).trim() == "yes"
    }

    /// Sends SIGTERM and gives the exit status the agent ends with.
    ///
    /// # Panics
    /// Where it has not ended within `limit`.
    pub fn terminate(self, guest: &mut Guest, limit: Duration) -> i32 {
        let script = format!("kill -TERM {pid}; wait {pid}", pid = self.pid);
        match guest.try_run(&script, limit) {
            Ok((status, _)) => status,
            Err(why) => panic!("the agent did not end within {limit:?} of SIGTERM: {why}"),
        }
    }

    /// The devices it holds open.
    pub fn ports(self, guest: &mut Guest) -> Vec<String> {
        let script = format!(
            "for fd in /proc/{}/fd/*; do readlink $fd; done | grep /dev/vport || true",
            self.pid
        );
        guest.run(&script).lines().map(str::to_owned).collect()
    }

    /// Resident memory, KiB: all of it, and what is its own beside pages of its file.
    pub fn rss_kib(self, guest: &mut Guest) -> (u64, u64) {
        let script = format!("awk '/^VmRSS|^RssAnon/ {{ print $2 }}' /proc/{}/status", self.pid);
        let told = guest.run(&script);
        let mut kib = told.lines().map(|line| line.parse().expect("a number of KiB"));
        let mut next = || kib.next().expect("proc(5) tells both");
        (next(), next())
    }

    /// How many descriptors it has open.
    pub fn files(self, guest: &mut Guest) -> u64 {
        let count = guest.run(&format!("ls /proc/{}/fd | wc -l", self.pid));
        count.trim().parse().expect("a number")
    }

    /// Ends it as a crash would.
    pub fn kill(self, guest: &mut Guest) {
        guest.run(&format!("kill -KILL {pid}; wait {pid} || true", pid = self.pid));
    }

    /// Watches it for `time`.
    pub fn watch(self, guest: &mut Guest, time: Duration) -> Used {
        let step = Duration::from_secs(5).min(time);
        let first = self.look(guest);
        let mut threads = first.switches.clone();
        let (mut last, mut switches) = (self.look(guest), 0);
        loop {
            // A thread counts from when it was first seen; one that ends takes its last steps along.
            for (thread, count) in &last.switches {
                let before = threads.insert(thread.clone(), *count).unwrap_or(0);
                switches += count.saturating_sub(before);
            }
            let passed = last.uptime.saturating_sub(first.uptime);
            if passed >= time {
                return Used { time: passed, cpu: last.cpu - first.cpu, switches };
            }
            guest.sleep(step.min(time - passed));
            last = self.look(guest);
        }
    }

    fn look(self, guest: &mut Guest) -> Look {
        let script = format!(
            "cat /proc/uptime /proc/{pid}/stat
             grep ^voluntary /dev/null /proc/{pid}/task/*/status 2> /dev/null || true",
            pid = self.pid
        );
        let output = guest.run(&script);
        Look::parse(&output).unwrap_or_else(|| panic!("not what /proc says: {output}"))
    }
}

struct Look {
    uptime: Duration,
    cpu: Duration,
    switches: BTreeMap<String, u64>,
}

impl Look {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let uptime = lines.next()?.split(' ').next()?.parse().ok()?;
        // Fields 14 and 15; the name, which may hold anything, ends with the last bracket.
        let stat: Vec<&str> = lines.next()?.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = stat.get(11)?.parse::<u32>().ok()? + stat.get(12)?.parse::<u32>().ok()?;
        let mut switches = BTreeMap::new();
        for line in lines {
            let (thread, count) = line.split_once(":voluntary_ctxt_switches:")?;
            switches.insert(thread.to_owned(), count.trim().parse().ok()?);
        }
        Some(Self { uptime: Duration::from_secs_f64(uptime), cpu: TICK * ticks, switches })
    }
}
