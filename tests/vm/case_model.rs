//! The model of the port against the port: the same script on both, and the same observations, byte for
//! byte. What the simulations run on is then what the agent will meet.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::doubles::port::script::{Numbered, Op, play, random, seen};
use crate::doubles::port::{BUFFER_BYTES, ModelHost, ModelPort, cost, pair};
use serde_json::json;

use super::lab::{self, Lab};
use super::qemu::Vm;
use super::wait::readable;

/// What the host did has reached the guest after so long, in the guest's clock.
const SETTLE_MILLIS: u64 = 120;
/// A port that says nothing for so long says nothing more.
const QUIET: Duration = Duration::from_millis(400);
/// Operations of a random script.
const LENGTH: usize = 40;

/// Every state of the table in [`crate::doubles::port`], each way into it and out.
const TABLE: &[&str] = &[
    // Nobody, somebody, one opener; a ring that counts writes, and a buffer lost with each host that
    // leaves while it is full.
    "open, poll, read, write 200 5, open, connect, poll, read, write 200 400, poll, leave, poll, read, \
     connect, poll, write 200 400, take, poll, write 200 400, leave, connect, write 4096 400, take, \
     write 32768 400, take, write 40000 2, take, close, leave",
    // What the host sent before anybody opened waits, and is lost when it leaves before; after an open
    // it is read also when the host has left.
    "connect, send 5000, leave, open, read, poll, connect, send 5000, read, send 10000, leave, poll, read, \
     poll, close, connect, send 30, open, read, leave",
    // An agent that is started again is invisible to the host.
    "open, open, connect, write 200 10, close, open, take, send 3000, close, open, read, send 100, poll, \
     read, poll",
    // Taken out while it is full, and put in again.
    "open, connect, write 200 400, unplug, poll, write 1 1, read, open, plug, open, poll, take, \
     write 200 400, poll, take",
    // A host behind another one.
    "open, connect, behind, write 200 3, send 10, leave, poll, read, write 200 2, take, leave, poll",
    // Read in parts: no write is taken before a quarter of the socket is left.
    "open, connect, write 200 400, take 1000, poll, write 200 1, take 30000, write 200 100, take",
    // The machine stands still: a host that leaves then is not told of, and what was stuck stays so.
    "open, stop, connect, cont, poll, read, write 1 5, send 100, poll, read, take, leave, poll",
    "open, connect, write 200 400, stop, take, send 700, cont, read, poll, write 200 400, stop, leave, \
     connect, cont, poll, read, write 200 400, take, leave, connect, write 200 400, take",
    "open, connect, write 32768 60, stop, leave, cont, poll, write 200 5, connect, poll, write 200 400, take, \
     send 50, read, leave, connect, write 200 400, take",
];

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_real_port_does_what_its_model_does_in_every_state() {
    let turn = lab::turn();
    let script =
        |text: &&str| text.split(',').map(|op| op.trim().parse().expect("known")).collect();
    compare(turn.lab, TABLE.iter().map(script));
}

/// More of them: `INFINISERVICE_PORT_SEEDS=100..200 cargo test --test vm model::`, ten seconds each.
#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_real_port_does_what_its_model_does_in_random_scripts() {
    let turn = lab::turn();
    let asked = std::env::var("INFINISERVICE_PORT_SEEDS").unwrap_or_else(|_| "5..9".to_owned());
    let (from, to) = asked.split_once("..").expect("seeds as FROM..TO");
    let seeds = from.parse::<u64>().expect("a seed")..to.parse().expect("a seed");
    compare(turn.lab, seeds.map(|seed| random(seed, LENGTH)));
}

/// After 128 hosts that left a full port nothing can be written, and a re-plug does not heal it: a write
/// then returns 0. It takes two minutes: `cargo test --test vm model:: -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn a_port_that_lost_all_its_buffers_is_dead_on_both() {
    let turn = lab::turn();
    let mut script: Vec<Op> = vec![Op::Open];
    for _ in 0..128 {
        script.extend([Op::Connect, Op::Write { bytes: 4096, times: 400 }, Op::Leave]);
    }
    let one = Op::Write { bytes: 1, times: 1 };
    script.extend([Op::Connect, Op::Poll, one, Op::Send(10), Op::Read, Op::Take]);
    script.extend([
        Op::Unplug,
        Op::Plug,
        Op::Open,
        Op::Poll,
        one,
        Op::Send(10),
        Op::Read,
        Op::Take,
    ]);
    compare(turn.lab, [script]);
}

/// Runs the scripts one after the other on one machine and one model: what a port has lost for good it
/// has lost for the next script, too.
fn compare(lab: &Lab, scripts: impl IntoIterator<Item = Vec<Op>>) {
    let is_exact = socket_is_as_modelled();
    let program = lab.port_script();
    let mut vm = Vm::boot_with(lab, "port_script", &program);
    let mut real = Real::new(&mut vm);
    let (guest, host) = pair();
    let mut held = 0;
    for script in scripts {
        let expected = on_the_model(&script, &guest, &host);
        let observed = real.play(&script);
        for (at, (expected, observed)) in expected.iter().zip(&observed).enumerate() {
            let same = if is_exact {
                expected == observed
            } else {
                without_counts(expected) == without_counts(observed)
            };
            let before: Vec<String> = script[..at].iter().map(Op::to_string).collect();
            assert!(same, "model {expected:?}, port {observed:?}, after {}", before.join(", "));
            held += 1;
        }
    }
    lab::say(&format!("{held} observations were the same; {} buffers lost", host.leaked()));
}

/// Whether this machine's kernel counts what a socket holds as the model does. Where it counts otherwise,
/// other numbers of writes fit on the way to the host, and only what became of them can be compared.
fn socket_is_as_modelled() -> bool {
    let other = [1, 200, 1_000, 4_096, 32_768].into_iter().find(|bytes| {
        let (mut one, _other) = UnixStream::pair().expect("a socket can be made");
        one.set_nonblocking(true).expect("it can wait for nothing");
        let data = vec![0; *bytes];
        let fits = std::iter::from_fn(|| one.write(&data).ok()).count();
        fits != BUFFER_BYTES.div_ceil(cost(*bytes))
    });
    if let Some(bytes) = other {
        lab::say(&format!("sockets hold other numbers of {bytes} bytes here: counts not compared"));
    }
    other.is_none()
}

/// `write 200 400: 295 writes, 59000 bytes, then full` without what differs between kernels.
fn without_counts(line: &str) -> String {
    let (op, told) = line.split_once(": ").unwrap_or((line, ""));
    let end = told.rsplit(", then ").next().filter(|_| told.contains(", then "));
    match end {
        Some(end) => format!("{op}: {end}"),
        None if op.starts_with("take") => op.to_owned(),
        None => line.to_owned(),
    }
}

fn on_the_model(script: &[Op], guest: &ModelPort, host: &ModelHost) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be made");
    runtime.block_on(play(script, guest.clone(), host))
}

/// The real port: the guest's half over the shell, the host's half over the socket and QMP.
pub struct Real<'a> {
    vm: &'a mut Vm,
    hosts: Vec<UnixStream>,
    content: Numbered,
    number: u32,
}

impl<'a> Real<'a> {
    /// The port of a machine that has `port_script`, which nobody else holds.
    pub fn new(vm: &'a mut Vm) -> Self {
        Self { vm, hosts: Vec::new(), content: Numbered::default(), number: 0 }
    }

    /// Does it all, and gives an observation for each.
    pub fn play(&mut self, script: &[Op]) -> Vec<String> {
        self.number += 1;
        self.content = Numbered::default();
        let mut runner = Runner::start(self.vm, self.number);
        let (mut is_plugged, mut is_stopped, mut all) = (true, false, Vec::new());
        for op in script {
            match op {
                Op::Plug => is_plugged = true,
                Op::Unplug => is_plugged = false,
                Op::Stop => is_stopped = true,
                Op::Cont => is_stopped = false,
                _ => {}
            }
            if op.is_guests() {
                all.push(runner.perform(self.vm, &op.to_string()));
                continue;
            }
            all.push(format!("{op}: {}", self.host(*op)));
            if is_stopped {
                // QEMU's loop sees what the host did before it answers the last of these.
                (0..5).for_each(|_| drop(self.vm.qmp.run("query-status", json!({}))));
            } else {
                runner.settle(self.vm);
            }
        }
        while !self.hosts.is_empty() {
            self.host(Op::Leave);
            runner.settle(self.vm);
        }
        runner.end(self.vm);
        if !is_plugged {
            self.vm.plug();
        }
        all
    }

    fn host(&mut self, op: Op) -> String {
        match op {
            Op::Connect | Op::Behind => {
                let host = UnixStream::connect(self.vm.socket()).expect("QEMU listens");
                self.hosts.push(host);
            }
            Op::Send(bytes) => {
                let data = self.content.next(bytes);
                self.hosts[0].write_all(&data).expect("the port stays");
            }
            Op::Take => return seen(&self.take(usize::MAX)),
            Op::TakeSome(bytes) => return seen(&self.take(bytes)),
            Op::Leave => drop(self.hosts.remove(0)),
            Op::Unplug => self.vm.unplug(),
            Op::Plug => self.vm.plug(),
            Op::Stop => drop(self.vm.qmp.run("stop", json!({}))),
            Op::Cont => drop(self.vm.qmp.run("cont", json!({}))),
            _ => return "is not the host's".to_owned(),
        }
        "done".to_owned()
    }

    fn take(&mut self, max: usize) -> Vec<u8> {
        let host = &mut self.hosts[0];
        let (mut all, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
        while all.len() < max && readable(&*host, Instant::now() + QUIET).expect("it can be polled")
        {
            let room = chunk.len().min(max - all.len());
            match host.read(&mut chunk[..room]) {
                Ok(0) => break,
                Ok(bytes) => all.extend_from_slice(&chunk[..bytes]),
                Err(error) => panic!("cannot read the socket: {error}"),
            }
        }
        all
    }
}

/// `port_script` in the guest: it reads operations from a pipe that the shell holds open, and its
/// observations are lines of a file.
struct Runner {
    told: String,
    lines: usize,
}

impl Runner {
    fn start(vm: &mut Vm, number: u32) -> Self {
        let (ops, told) = (format!("/tmp/ops.{number}"), format!("/tmp/told.{number}"));
        vm.guest.run(&format!(
            "rm -f {ops} {told}; mkfifo {ops}; port_script < {ops} > {told} 2>&1 & exec 6> {ops}; touch {told}"
        ));
        Self { told, lines: 0 }
    }

    fn perform(&mut self, vm: &mut Vm, op: &str) -> String {
        self.lines += 1;
        let Self { told, lines } = self;
        let script = format!(
            "echo '{op}' >&6; until [ $(wc -l < {told}) -ge {lines} ]; do usleep 5000; done; \
             tail -n 1 {told}"
        );
        vm.guest.run(&script).trim_end().to_owned()
    }

    fn settle(&mut self, vm: &mut Vm) {
        self.perform(vm, &format!("nap {SETTLE_MILLIS}"));
    }

    fn end(self, vm: &mut Vm) {
        vm.guest.run("exec 6>&-; wait $! || true");
    }
}
