//! The model of the port against the port: the same script on both, and the same observations.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use infiniservice::port::model::script::{Numbered, Op, play, random, seen};
use infiniservice::port::model::{ModelHost, ModelPort, pair};

use super::lab;
use super::qemu::Vm;
use super::wait::readable;

/// What the host did has reached the guest after so long, in the guest's clock.
const SETTLE_MILLIS: u64 = 120;
/// A port that says nothing for so long says nothing more.
const QUIET: Duration = Duration::from_millis(400);

#[test]
fn explore() {
    let Some(turn) = lab::turn() else { return };
    let program = turn.lab.port_script();
    let mut vm = Vm::boot_with(turn.lab, "port_script", &program);
    let mut real = Real::start(&mut vm);
    let (guest, host) = pair();
    let scripts = std::env::var("SCRIPTS").unwrap_or_default();
    for script in scripts.split('|') {
        let script: Vec<Op> = if let Some(seed) = script.strip_prefix("seed ") {
            random(seed.parse().expect("n"), 40)
        } else {
            script.split(',').map(|line| line.trim().parse().expect("op")).collect()
        };
        let model = on_the_model(&script, &guest, &host);
        let real = real.play(&script);
        println!("---");
        for (m, r) in model.iter().zip(&real) {
            if m == r { println!("   {m}") } else { println!("## model {m}\n## real  {r}") }
        }
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
struct Real<'a> {
    vm: &'a mut Vm,
    hosts: Vec<UnixStream>,
    content: Numbered,
    number: u32,
}

impl<'a> Real<'a> {
    fn start(vm: &'a mut Vm) -> Self {
        Self { vm, hosts: Vec::new(), content: Numbered::default(), number: 0 }
    }

    fn play(&mut self, script: &[Op]) -> Vec<String> {
        self.number += 1;
        let (ops, told) =
            (format!("/tmp/ops.{}", self.number), format!("/tmp/told.{}", self.number));
        self.content = Numbered::default();
        // The shell holds the pipe open until the script is done.
        self.vm.guest.run(&format!(
            "mkfifo {ops}; port_script < {ops} > {told} 2>&1 & exec 6> {ops}; touch {told}"
        ));
        let mut lines = 0;
        let mut all = Vec::new();
        let mut is_plugged = true;
        for op in script {
            match op {
                Op::Plug => is_plugged = true,
                Op::Unplug => is_plugged = false,
                _ => {}
            }
            let observed = if op.is_guests() {
                self.guest(&op.to_string(), &told, &mut lines)
            } else {
                let observed = self.host(*op);
                self.guest(&format!("nap {SETTLE_MILLIS}"), &told, &mut lines);
                format!("{op}: {observed}")
            };
            all.push(observed.trim_end().to_owned());
        }
        while !self.hosts.is_empty() {
            self.host(Op::Leave);
            self.guest(&format!("nap {SETTLE_MILLIS}"), &told, &mut lines);
        }
        self.vm.guest.run("exec 6>&-; wait $! || true");
        if !is_plugged {
            self.host(Op::Plug);
        }
        all
    }

    fn guest(&mut self, line: &str, told: &str, lines: &mut usize) -> String {
        *lines += 1;
        let script = format!(
            "echo '{line}' >&6; until [ $(wc -l < {told}) -ge {lines} ]; do usleep 5000; done; \
             tail -n 1 {told}"
        );
        self.vm.guest.run(&script).trim_end().to_owned()
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
