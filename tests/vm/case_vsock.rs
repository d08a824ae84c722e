//! The host over vsock instead of virtio-serial: the agent connects, and the host listens.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::agent::Agent;
use super::host::{is_answer, is_session};
use super::lab;
use super::qemu::{Vm, end};
use super::shape;
use super::talk::SECRET;
use super::wait::Lines;

const SOON: Duration = Duration::from_secs(30);

#[test]
#[ignore = "boots a VM: .ci/vm-kernel and .ci/vm-vsock, then cargo test --test vm -- --ignored"]
fn a_host_that_leaves_and_comes_back_gets_metrics_and_answers() {
    let turn = lab::turn();
    let mut vm = Vm::boot_with_vsock(turn.lab);
    let agent = Agent::start_with_commands_over_vsock(&mut vm.guest);
    vm.guest.until("grep -q 'nobody listens at vsock 2:8460' /tmp/agent.log", SOON);
    let mut last = None;
    for session in 1..=3 {
        let listener = vm.vsock().listen();
        let mut host = listener.accept();
        assert_eq!(host.until(SOON, is_session)["context"]["session"], session);
        let id = format!("in-{session}");
        host.asks(&id);
        let answer = host.until(SOON, is_answer(&id));
        assert_eq!((&answer["success"], answer.get("redelivered")), (&json!(true), None));
        host.acknowledges();
        let lines = host.take(5);
        assert!(lines.is_sorted_by(|a, b| shape::time(a) < shape::time(b)), "in order, none twice");
        assert!(last < Some(shape::time(&lines[0])), "none of those of the session before");
        last = Some(shape::time(&lines[4]));
    }
    assert!(agent.runs(&mut vm.guest), "the same process in every session");
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel and .ci/vm-vsock, then cargo test --test vm -- --ignored"]
fn the_relay_has_the_lines_of_its_guest_and_goes_on_after_a_kill() {
    let turn = lab::turn();
    let mut vm = Vm::boot_with_vsock(turn.lab);
    Agent::start_with_commands_over_vsock(&mut vm.guest);
    for session in 1..=2 {
        let mut relay = Relay::start(&vm.vsock().socket);
        relay
            .until(|told| told["kind"] == "event" && told["line"]["context"]["session"] == session);
        for _ in 0..5 {
            let told = relay.until(|told| told["kind"] == "metrics");
            assert_eq!((&told["site"], &told["vm"]), (&json!("lab"), &json!("web")));
            shape::metrics(told["line"].to_string().as_bytes());
        }
    }
}

/// The host's own vsock, without a second kernel: the agent and the relay are in one machine, which connects to itself (CID 1).
#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn the_relay_listens_at_the_vsock_of_its_machine_and_knows_a_guest_by_its_cid() {
    let turn = lab::turn();
    let relay = stripped(Path::new(env!("CARGO_BIN_EXE_infiniservice-host")));
    let mut vm = Vm::boot_with(turn.lab, "infiniservice-host", &relay);
    let agent = Agent::start_with_commands_at(&mut vm.guest, "vsock:1:8460");
    vm.guest.until("grep -q 'nobody listens at vsock 1:8460' /tmp/agent.log", SOON);
    let file = |cid: u32| {
        format!(
            "site = \"lab\"\n[guests]\nsecret = \"env:KEY\"\n[guests.vsock]\ncids = {{ web = {cid} }}\n\
             [[write]]\nfile = {{ path = \"/tmp/lines\" }}\n"
        )
    };
    let start = |vm: &mut Vm, cid: u32| {
        vm.guest.run(&format!(
            "cat > /tmp/relay.toml << 'END'\n{}END\n\
             KEY={SECRET} infiniservice-host relay --config /tmp/relay.toml 2>> /tmp/relay.log &\n\
             echo $! > /tmp/relay.pid",
            file(cid)
        ));
    };
    start(&mut vm, 7);
    vm.guest.until("grep -q 'cids does not name.*cid=1' /tmp/relay.log", SOON);
    vm.guest.run("kill $(cat /tmp/relay.pid) && wait $(cat /tmp/relay.pid); ! test -s /tmp/lines");
    start(&mut vm, 1);
    let lines = |count: u32| {
        format!("[ $(grep -c '\"vm\":\"web\".*\"kind\":\"metrics\"' /tmp/lines) -ge {count} ]")
    };
    vm.guest.until(&lines(3), SOON);
    // A relay that was killed leaves nothing behind, and the agent comes again.
    vm.guest.run("kill -KILL $(cat /tmp/relay.pid); wait $(cat /tmp/relay.pid); rm /tmp/lines");
    start(&mut vm, 1);
    vm.guest.until(&lines(3), SOON);
    assert!(agent.runs(&mut vm.guest), "the same process all along");
}

/// A program without its symbols, which take more room than the guest has.
fn stripped(program: &Path) -> Vec<u8> {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let stripped = folder.path().join("program");
    let done = Command::new("strip").arg("-o").arg(&stripped).arg(program).status();
    assert!(done.expect("strip runs (package binutils)").success());
    fs::read(stripped).expect("strip has written it")
}

/// A relay that writes to standard output. Dropping it kills it.
#[derive(Debug)]
struct Relay {
    child: Child,
    told: Lines,
    _folder: TempDir,
}

impl Relay {
    /// Starts one for the machines whose vsock is beside `socket`.
    fn start(socket: &Path) -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let config = folder.path().join("relay.toml");
        let sockets = socket.with_file_name("{vm}.vsock");
        let text = format!(
            "site = \"lab\"\n[guests]\nsecret = \"env:INFINISERVICE_SHARED_SECRET\"\n\
             [guests.vsock]\nsockets = {sockets:?}\n[[write]]\nstdout = true\n"
        );
        fs::write(&config, text).expect("a file can be written");
        let (told, stdout) = UnixStream::pair().expect("sockets can be made");
        // It must not outlive a test run that is killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_infiniservice-host")])
            .args(["relay", "--config"])
            .arg(&config)
            .env("INFINISERVICE_SHARED_SECRET", SECRET)
            .stdin(Stdio::null())
            .stdout(OwnedFd::from(stdout))
            .spawn()
            .expect("the relay starts");
        Self { child, told: Lines::new(told), _folder: folder }
    }

    /// The next object that `wanted` accepts; the ones before it are gone.
    ///
    /// # Panics
    /// Where it does not come in time.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + SOON;
        loop {
            let line = self.told.next(until).expect("it comes in time");
            let told = serde_json::from_slice(&line).expect("whole objects");
            if wanted(&told) {
                return told;
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
