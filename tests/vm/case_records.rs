//! What applications write in the guest reaches the host, line by line, while hosts come and go.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::agent::Agent;
use super::host::{Host, is_session};
use super::lab;
use super::qemu::Vm;

/// How long the flow may stand still.
const STALL: Duration = Duration::from_secs(120);
/// How often the host leaves.
const LEAVES: u64 = 10;
/// The applications, each with a log of its own.
const APPS: [&str; 2] = ["shop", "mail"];

/// What has been at a host.
#[derive(Default)]
struct Seen {
    /// Of each application, whether each line was.
    lines: BTreeMap<String, Vec<bool>>,
    /// How many were.
    whole: u64,
    /// How many came once more.
    again: u64,
    /// The last line of each application since a host connected or a session began.
    last: BTreeMap<String, u64>,
}

/// Another number of lines: `LINES=1000000`.
#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn each_line_of_an_application_is_at_the_host_once_or_marked_and_in_order_while_hosts_leave() {
    let lines = std::env::var("LINES").ok().and_then(|lines| lines.parse().ok()).unwrap_or(50_000);
    let each = lines / APPS.len() as u64;
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    let agent = Agent::start_with_records(&mut vm.guest);
    vm.guest.run("mkdir -p /logs");
    for app in APPS {
        let part = each / 20;
        vm.guest.run(&format!(
            "(from=0; while [ $from -lt {each} ]; do \
               to=$((from + {part})); [ $to -le {each} ] || to={each}; \
               seq $from $((to - 1)) | sed 's/.*/{{\"app\":\"{app}\",\"n\":&,\"message\":\"an order was placed\"}}/' >> /logs/{app}.log; \
               from=$to; usleep 100000; \
             done) > /dev/null 2>&1 &"
        ));
    }
    let begun = Instant::now();
    let mut seen = Seen::default();
    for visit in 0..=LEAVES {
        let mut host = vm.host();
        seen.last.clear();
        // The last one stays.
        while seen.whole < (visit + 1) * each * APPS.len() as u64 / (LEAVES + 1) {
            seen.take(&mut host);
        }
        // It is gone at once: what is on its way was not read.
    }
    lab::say(&format!(
        "{} lines in {:.0} s, {} of them again, marked",
        seen.whole,
        begun.elapsed().as_secs_f64(),
        seen.again
    ));
    assert!(APPS.iter().all(|app| seen.lines[*app].len() as u64 == each), "none is made up");
    assert!(agent.runs(&mut vm.guest), "the same process");
}

impl Seen {
    /// Takes the next line.
    fn take(&mut self, host: &mut Host) {
        let line = host.line(STALL).expect("the flow goes on");
        if line.is_empty() {
            return;
        }
        let line: Value = serde_json::from_slice(&line).expect("whole lines");
        if line["type"] == "keep_alive" {
            host.answers(&line);
        } else if is_session(&line) {
            // The agent has seen another host, and begins with what it may not have.
            self.last.clear();
        }
        let Some(app) = line["app"].as_str() else { return };
        let number = line["n"].as_u64().expect("it is as it was written");
        if let Some(last) = self.last.insert(app.to_owned(), number) {
            assert_eq!(number, last + 1, "the lines of {app} come in order");
        }
        let lines = self.lines.entry(app.to_owned()).or_default();
        let index = usize::try_from(number).expect("so few lines");
        if lines.len() <= index {
            lines.resize(index + 1, false);
        }
        match std::mem::replace(&mut lines[index], true) {
            false => self.whole += 1,
            true => {
                assert_eq!(line["redelivered"], true, "a second time, not marked: {line}");
                self.again += 1;
            }
        }
    }
}
