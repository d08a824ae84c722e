//! A shell in the guest, over its second serial port: it is there whatever happens to the virtio
//! device. One script at a time; a script that waits, waits in the guest's clock.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::wait::{Lines, NoLine};

/// How long a script may take beyond the time it waits by itself.
const SCRIPT: Duration = Duration::from_secs(90);

/// The shell. What is started in its background is its child, and it can `wait` for it.
#[derive(Debug)]
pub struct Guest {
    lines: Lines,
    scripts: u32,
}

impl Guest {
    /// Waits until the guest's script has done its part.
    pub fn start(stream: UnixStream, limit: Duration) -> Result<Self, String> {
        let mut lines = Lines::new(stream);
        match lines.next(Instant::now() + limit) {
            Ok(line) if line == b"ready" => Ok(Self { lines, scripts: 0 }),
            Ok(line) => Err(format!("the guest said {:?}", String::from_utf8_lossy(&line))),
            Err(NoLine::Late) => Err("the guest did not boot in time".into()),
            Err(NoLine::Closed) => Err("QEMU ended while the guest was booting".into()),
        }
    }

    /// The same shell, of a machine that goes on in another QEMU, at whose socket it is now.
    pub fn go_on(&mut self, stream: UnixStream) {
        self.lines = Lines::new(stream);
    }

    /// Waits until the machine has started once more, and its shell is there again.
    ///
    /// # Panics
    /// Where that takes longer than `limit`.
    pub fn restarted(&mut self, limit: Duration) {
        let until = Instant::now() + limit;
        loop {
            match self.lines.next(until) {
                Ok(line) if line == b"ready" => return,
                Ok(_) => {}
                Err(why) => panic!("the machine did not start again: {why:?}"),
            }
        }
    }

    /// Runs `script` (below 4 KiB) and gives what it printed.
    ///
    /// # Panics
    /// Where it fails, or takes more than half a minute.
    pub fn run(&mut self, script: &str) -> String {
        self.run_for(script, Duration::ZERO)
    }

    /// Does nothing for `time`, in the guest's clock.
    pub fn sleep(&mut self, time: Duration) {
        self.run_for(&format!("sleep {}", time.as_secs_f64()), time);
    }

    /// Waits until `condition` holds, asking ten times a second.
    ///
    /// # Panics
    /// Where it does not within `limit`.
    pub fn until(&mut self, condition: &str, limit: Duration) {
        let tries = limit.as_millis() / 100;
        let script = format!(
            "n=0; until {condition}; do n=$((n+1)); [ $n -gt {tries} ] && break; sleep 0.1; done; \
             {condition}"
        );
        self.run_for(&script, limit);
    }

    /// How many processes have exactly this command line.
    pub fn running(&mut self, line: &str) -> usize {
        self.run(&count(line)).trim().parse().expect("a number")
    }

    /// Waits until none has it any more.
    pub fn none_runs(&mut self, line: &str, limit: Duration) {
        self.until(&format!("[ $({}) = 0 ]", count(line)), limit);
    }

    fn run_for(&mut self, script: &str, time: Duration) -> String {
        let (status, output) = self
            .try_run(script, time + SCRIPT)
            .unwrap_or_else(|why| panic!("in the guest: {script}: {why}"));
        assert_eq!(status, 0, "in the guest: {script}\n{output}");
        output
    }

    /// Runs `script` and gives its exit status and what it printed, both streams.
    pub fn try_run(&mut self, script: &str, limit: Duration) -> Result<(i32, String), String> {
        self.scripts += 1;
        let mark = format!("@@{} ", self.scripts);
        let line = format!("{{ {script}\n}} < /dev/null 2>&1; s=$?; echo; echo \"{mark}$s\"\n");
        self.lines.stream.write_all(line.as_bytes()).map_err(|error| error.to_string())?;
        let until = Instant::now() + limit;
        let mut output = String::new();
        loop {
            let line = self.lines.next(until).map_err(|why| format!("{why:?} after {output:?}"))?;
            let line = String::from_utf8_lossy(&line);
            if let Some(status) = line.strip_prefix(&mark) {
                output.pop();
                let status = status.trim().parse().map_err(|_| format!("status {status:?}"))?;
                return Ok((status, output));
            }
            output.push_str(&line);
            output.push('\n');
        }
    }
}

/// Counts the processes with this command line.
fn count(line: &str) -> String {
    format!(
        "for c in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $c; echo; done 2> /dev/null | \
         grep -cx '{line} ' || true"
    )
}
