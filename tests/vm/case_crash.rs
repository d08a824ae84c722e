//! A host that crashes again and again while all the metrics there are want to go to it; and an agent that does while
//! it runs what it was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::doubles::port::script::Op;
use infiniservice::host::{Script, Shell, payload};
use infiniservice::internals::commands::request_log::{CUT, CUT_SCRIPT};
use infiniservice::model::Rng;
use serde_json::Value;

use super::agent::Agent;
use super::host::{Host, is_session};
use super::host_comes_and_goes::fatten;
use super::lab;
use super::model::Real;
use super::qemu::Vm;
use super::talk::{Talk, raw};

const SOON: Duration = Duration::from_secs(20);
const CRASHES: u32 = 200;
/// Buffers that may be lost all the same: QEMU throttles a port, too, when it writes to a host in the tenth of a
/// millisecond between that host's end and its seeing it. No guest can avoid that; it takes chance, or a host that
/// crashes on the first bytes of a line that takes two writes (there 6 and 11 of 128 were lost in 200 rounds).
const BY_CHANCE: u32 = 1;
/// How long most of them live, in the guest's clock …
const SHORT: Duration = Duration::from_millis(50);
/// … and each fifth: without the window it is sent more than lies in the socket.
const LONG: Duration = Duration::from_millis(1_200);
/// So many more hang for so long before they crash: they read nothing and say nothing. At a window a second four of
/// those seconds would fill the socket.
const HANG: (u32, Duration) = (5, Duration::from_secs(6));
/// A reading of so many fat processes is about 40 KB: as long as a line can be beside which there is room for a
/// reply.
const PROCESSES: u32 = 10;

/// A host that leaves while QEMU throttles the port takes one of its 128 buffers along for ever
/// ([`crate::doubles::port`]), so what a host that reads nothing is let in tells how many are left.
#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn two_hundred_hosts_that_crash_and_some_that_hang_under_full_load_leave_the_port_its_capacity() {
    let turn = lab::turn();
    let program = turn.lab.port_script();
    let mut vm = Vm::boot_with(turn.lab, "port_script", &program);
    let before = capacity(&mut vm);
    fatten(&mut vm.guest, PROCESSES);
    let agent = Agent::start_under_load(&mut vm.guest);
    let begun = Instant::now();
    for round in 0..CRASHES {
        let host = vm.host();
        vm.guest.sleep(if round % 5 == 0 { LONG } else { SHORT });
        drop(host);
    }
    lab::say(&format!("{CRASHES} hosts crashed within {:.0?}", begun.elapsed()));
    let talk = Talk::connect(&vm.socket());
    let mut metrics = 0;
    talk.hear(SOON, |message| {
        metrics += u32::from(message.kind == infiniservice::host::Kind::Metrics);
        metrics == 20
    });
    assert!(talk.ask("SystemInfo", &[], SOON).success);
    drop(talk);
    for _ in 0..HANG.0 {
        let host = vm.host();
        vm.guest.sleep(HANG.1);
        drop(host);
    }
    let talk = Talk::connect(&vm.socket());
    assert!(talk.ask("SystemInfo", &[], SOON).success);
    drop(talk);
    assert_eq!(agent.terminate(&mut vm.guest, SOON), 0);
    let after = capacity(&mut vm);
    lab::say(&format!("writes let in by a host that reads nothing: {before}, after them {after}"));
    assert!(before - after <= BY_CHANCE, "{before} writes, after them {after}");
}

/// Ends of the agent where no number of them is given by `KILLS=…`.
const KILLS: u64 = 15;
/// The longest that it works before it is killed; what it is asked for takes a little less.
const WORKS_MS: u64 = 3_000;
/// How long all that was ever said may take to be refused, or done.
const LAST: Duration = Duration::from_secs(120);

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn an_agent_killed_at_random_points_does_nothing_twice_and_tells_of_all_once_or_as_cut() {
    let kills = std::env::var("KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    let mut agent = Agent::start_with_commands(&mut vm.guest);
    vm.guest.run("touch /tmp/ran");
    let (mut host, mut chance) = (vm.host(), Rng(kills));
    let (mut heard, mut asked, mut said) = (EventReceiver::new(), Vec::new(), Vec::new());
    for round in 0..kills {
        heard.listen(&mut host, SOON, is_session);
        for number in 0..3 {
            let id = format!("c{round}-{number}");
            let text = format!("echo {id} >> /tmp/ran; sleep 0.{}", chance.below(5));
            said.push(host.says(&payload::unsafe_command(&id, &raw(&text), SOON)));
            asked.push(id);
        }
        let scripts = [0, 1].map(|number| script(&format!("s{round}-{number}"), &mut chance));
        said.push(host.says(&payload::pending_scripts(&scripts, "t")));
        asked.extend(scripts.map(|script| script.execution_id));
        heard.listen(&mut host, Duration::from_millis(chance.below(WORKS_MS)), |_| false);
        agent.kill(&mut vm.guest);
        agent = Agent::start_with_commands(&mut vm.guest);
    }
    heard.listen(&mut host, SOON, is_session);
    heard.listen(&mut host, SOON / 2, |_| false);
    // Everything that was ever said, once more, byte by byte: what was read before is refused, what went down with an
    // agent that had not read it comes for the first time.
    said.iter().for_each(|line| host.repeats(line));
    host.asks("last");
    heard.listen(&mut host, LAST, |line| line["id"] == "last");
    heard.listen(&mut host, SOON, |_| false);
    let ran = vm.guest.run("cat /tmp/ran");
    let all: Vec<&str> = ran.lines().collect();
    let once: BTreeSet<&str> = all.iter().copied().collect();
    assert_eq!(once.len(), all.len(), "each at most once: {all:?}");
    let mut counts = [0; 4];
    for id in &asked {
        let has_run = once.contains(id.as_str());
        let told = heard.0.get(id).map(Vec::as_slice).unwrap_or_default();
        assert!(told.windows(2).all(|two| two[0].0 == two[1].0), "{id} is told two ends: {told:?}");
        let is_marked = told.iter().skip(1).all(|(_, is_redelivered)| *is_redelivered);
        assert!(is_marked, "{id} came again and was not marked redelivered: {told:?}");
        let kind = match told.first().map(|(why, _)| why.as_deref()) {
            // It was with the port when the agent died.
            None => (3, !has_run),
            Some(None) => (0, has_run),
            Some(Some(why)) if [CUT, CUT_SCRIPT].iter().any(|cut| why.contains(cut)) => (1, true),
            // Not begun when the agent ended, or not within its time.
            Some(Some(_)) => (2, !has_run),
        };
        assert!(kind.1, "{id} ran: {has_run}; it is told {told:?}");
        counts[kind.0] += 1;
    }
    let [done, cut, not_run, lost] = counts;
    lab::say(&format!(
        "{kills} kills, {} requests: {done} answered, {cut} told as cut, {not_run} as not run, {lost} never read",
        asked.len()
    ));
    assert!(done > 0 && cut > 0 && lost < asked.len() / 2, "{counts:?}");
}

fn script(id: &str, chance: &mut Rng) -> Script {
    Script {
        execution_id: id.to_owned(),
        script_id: "s".to_owned(),
        script_name: "test".to_owned(),
        script_content: format!("echo {id} >> /tmp/ran; sleep 0.{}", chance.below(3)),
        shell: Shell::Sh,
        execution_type: "ON_DEMAND".to_owned(),
        input_values: BTreeMap::new(),
        timeout_seconds: 60,
        run_as: None,
    }
}

/// What a host was told of each id: nothing, or why it was not done; and whether that was marked redelivered.
struct EventReceiver(BTreeMap<String, Vec<(Option<String>, bool)>>);

impl EventReceiver {
    fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Reads, and answers keep-alives, until `is_last` says so of a line, or for `limit`.
    fn listen(&mut self, host: &mut Host, limit: Duration, is_last: impl Fn(&Value) -> bool) {
        let until = Instant::now() + limit;
        while let Some(line) = host.line(until.saturating_duration_since(Instant::now())) {
            let Ok(line) = serde_json::from_slice::<Value>(&line) else { continue };
            let text = |key: &str| line[key].as_str().map(str::to_owned);
            match line["type"].as_str() {
                Some("keep_alive") => host.answers(&line),
                Some("response" | "script_completion") => {
                    let id = text("id").or_else(|| text("execution_id")).unwrap_or_default();
                    let is_done = line["success"] == true || line["exit_code"] == 0;
                    let why = text("error").or_else(|| text("stderr")).filter(|_| !is_done);
                    let is_redelivered = line["redelivered"] == true;
                    self.0.entry(id).or_default().push((why, is_redelivered));
                }
                _ => {}
            }
            if is_last(&line) {
                return;
            }
        }
    }
}

/// How many writes go into a port whose host reads nothing.
fn capacity(vm: &mut Vm) -> u32 {
    let write = Op::Write { bytes: 200, times: 400 };
    // It takes all that was written before it leaves, which costs nothing.
    let script = [Op::Open, Op::Connect, write, Op::Take, Op::Close];
    let told = Real::new(vm).play(&script).swap_remove(2);
    let count = told.split_once(": ").and_then(|(_, told)| told.split_once(" writes"));
    count.and_then(|(count, _)| count.parse().ok()).unwrap_or_else(|| panic!("{told}"))
}
