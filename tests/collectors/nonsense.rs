//! What a kernel tells that cannot be: files of `/proc` that begin anew, step back or jump, under the real program.
//! They are bound over the real ones in a mount namespace of the program's own.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Readings to wait for a change to be seen.
const READINGS_MAX: usize = 200;

/// The program, with files of its own in place of some of `/proc`.
struct Machine {
    folder: TempDir,
    program: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Machine {
    /// Starts the program, which collects `groups`; `None`, said aloud, where a mount namespace cannot be made.
    fn start(groups: &str, files: &[(&str, &str)]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let pipeline = format!(
            "[[collect]]\nevery = \"20ms\"\nfrom = [{groups}]\n[batch]\nmax_items = 1\n\
             [serialize]\nformat = \"json-lines\"\n[write]\nstdout = true\n"
        );
        fs::write(path("pipeline.toml"), pipeline).unwrap();
        let mut script = String::from("set -e\n");
        for (name, text) in files {
            write(&path(name), text);
            script += &format!("mount --bind {} /proc/{name}\n", path(name).display());
        }
        let (program, file) = (env!("CARGO_BIN_EXE_infiniservice"), path("pipeline.toml"));
        script += &format!("exec {program} run --pipelines {}\n", file.display());
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.arg("--map-root-user");
        }
        let started = unshare
            .args(["--mount", "sh", "-c", &script])
            .env("RUST_LOG", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut program = match started {
            Ok(program) => program,
            Err(error) => {
                println!("not tried: unshare: {error}");
                return None;
            }
        };
        let lines = BufReader::new(program.stdout.take().unwrap()).lines();
        let mut machine = Self { folder, program, lines };
        if machine.next().is_none() {
            println!("not tried: no mount namespace can be made here");
            return None;
        }
        Some(machine)
    }

    /// From the next reading on the file says this.
    fn says(&self, name: &str, text: &str) {
        write(&self.folder.path().join(name), text);
    }

    fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?.unwrap();
        Some(serde_json::from_str(&line).unwrap())
    }

    /// The first of the next readings that `found` something in.
    fn until<T>(&mut self, what: &str, found: impl Fn(&Value) -> Option<T>) -> T {
        for _ in 0..READINGS_MAX {
            let reading = self.next().unwrap();
            if let Some(found) = found(&reading) {
                return found;
            }
        }
        panic!("{what}: not in {READINGS_MAX} readings");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// Writes a text of always the same length in one go, so that no reader sees half of it.
fn write(path: &std::path::Path, text: &str) {
    let padded = format!("{text:\n<2048}");
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
    file.write_all_at(padded.as_bytes(), 0).unwrap();
    (&file).flush().unwrap();
}

fn troubles(reading: &Value) -> Option<String> {
    let troubles = reading["troubles"].as_array()?;
    troubles.first().map(|trouble| trouble["what"].as_str().unwrap().to_owned())
}

fn usage(reading: &Value) -> Option<f64> {
    reading["cpu"]["usage_percent"].as_f64()
}

#[test]
fn processor_use_comes_back_after_its_counters_began_anew() {
    let long = "cpu  1000090 0 500045 9000135 0 0 0 7\n";
    let Some(mut machine) = Machine::start("\"cpu\", \"load\"", &[("stat", long)]) else { return };
    machine.says("stat", "cpu  500 0 300 4000 0 0 0 0\n");
    let why = machine.until("the restart is told", troubles);
    assert!(why.contains("user went back from 1000090 to 500"), "{why}");
    machine.says("stat", "cpu  505 0 300 4095 0 0 0 0\n");
    assert_eq!(machine.until("use after a restart", usage), 5.0);

    machine.says("stat", "cpu  515 0 300 3000 0 0 0 0\n");
    let why = machine.until("idle far back is told", troubles);
    assert!(why.contains("idle went back"), "{why}");

    machine.says("stat", &format!("cpu  525 0 300 3090 0 0 0 {}\n", u64::MAX));
    let (used, steal) = machine.until("use without steal", |reading| {
        Some((usage(reading)?, reading["cpu"]["steal_percent"].clone()))
    });
    assert_eq!((used, steal), (10.0, Value::Null));
}

#[test]
fn swap_that_is_more_free_than_there_is_counts_as_unused() {
    let meminfo = "MemTotal: 2000 kB\nMemFree: 500 kB\nMemAvailable: 3000 kB\nSwapTotal: 1000 kB\nSwapFree: 1004 kB\n";
    let Some(mut machine) = Machine::start("\"memory\"", &[("meminfo", meminfo)]) else { return };
    let memory = machine.until("memory", |reading| Some(reading["memory"].clone()));
    assert_eq!(
        (&memory["swap_used_bytes"], &memory["used_bytes"]),
        (&Value::from(0), &Value::from(0))
    );
}
