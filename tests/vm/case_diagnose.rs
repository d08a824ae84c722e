//! `diagnose` on a real machine: each fault is made there, and found by its exit code and its evidence; and a bundle of the
//! journal, without the secret. Faults that need no systemd are in the small machine.

use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, SystemTime};

use infiniservice::host::payload;
use infiniservice::wire::envelope;
use serde_json::json;

use super::agent::Agent;
use super::host_comes_and_goes::fatten;
use super::installed::{LONG, SOON, main_pid};
use super::lab;
use super::qemu::{PORT, Vm};
use super::support::has;
use super::systemd::boot;
use super::talk::{SECRET, Talk};

const PROGRAM: &str = "/opt/infiniservice/infiniservice";
/// In the machine with systemd, and in the small one.
const UNDER_SYSTEMD: &str = "/opt/infiniservice/infiniservice diagnose";
const SMALL: &str = "infiniservice diagnose --pipelines /load";
const FILES: &str = "/etc/infiniservice/pipelines";
const KEY: &str = "/etc/infiniservice/own.secret";
/// What follows the agent's own lines in the journal of its unit.
const CANARY: &str = "cnry7Nqx";

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn what_keeps_the_host_away_is_found_under_systemd_and_a_bundle_of_the_journal_holds_no_secret() {
    let turn = lab::turn();
    let disk = turn.lab.systemd_disk();
    let mut vm = boot(turn.lab, &disk);
    vm.guest.until("systemctl is-active infiniservice", LONG);
    set_up(&mut vm);
    finds(&mut vm, UNDER_SYSTEMD, 19, "no program at the host has opened it");
    let talk = Talk::connect(&vm.socket());
    finds(&mut vm, UNDER_SYSTEMD, 0, "nothing is wrong");
    a_bundle_holds_no_secret(&mut vm);
    what_the_host_sees_refused(&mut vm, talk);
    lines_of_another_time_are_refused(&mut vm);
    an_agent_that_is_stopped_or_crashes(&mut vm);
}

/// A secret in a file, and a policy; the unit prints secrets into its journal.
fn set_up(vm: &mut Vm) {
    vm.guest.run(&format!(
        "umask 077 && mkdir -p {FILES} && printf %s {SECRET} > {KEY} && \
         printf '[receive]\\nport = \"org.infinibay.agent\"\\n[verify]\\nsecret = \"file:{KEY}\"\\n\
         [enforce]\\nallow = [\"ServiceList\"]\\n' > {FILES}/commands.toml && \
         rm /etc/infiniservice/agent.env && unit=/run/systemd/system/infiniservice.service.d && mkdir $unit && \
         printf '[Service]\\nExecStartPost=-/bin/echo begun with {SECRET} and password={CANARY}\\n' > $unit/own.conf && \
         systemctl daemon-reload && systemctl restart infiniservice"
    ));
    vm.guest.until("systemctl is-active infiniservice", SOON);
}

/// That this `diagnose` ends with this code, once the fault is there, and says so.
fn finds(vm: &mut Vm, diagnose: &str, code: u8, words: &str) {
    let (status, printed) = vm
        .guest
        .try_run(
            &format!(
                "n=0; while :; do {diagnose} > /tmp/verdicts; c=$?; [ $c = {code} ] && break; \
                 n=$((n+1)); [ $n = 60 ] && break; sleep 0.5; done; tr -s '\\n ' '  ' < /tmp/verdicts; [ $c = {code} ]"
            ),
            Duration::from_secs(600),
        )
        .expect("it ends");
    assert_eq!(status, 0, "not {code}: {printed}");
    assert!(printed.contains(words), "{words}: {printed}");
}

/// The file is not compressed, so that its texts can be looked for.
fn a_bundle_holds_no_secret(vm: &mut Vm) {
    let (status, told) = vm
        .guest
        .try_run(
            &format!(
                "cd /root && {PROGRAM} diagnose --bundle b.tar.zst && \
                 for part in log.txt unit.txt unit-state.txt status.json state.txt; do grep -aq $part b.tar.zst || echo no $part; done && \
                 ! grep -aq ': missing: ' b.tar.zst && grep -aq 'a host is connected' b.tar.zst && \
                 grep -aq 'begun with .redacted. and password=.redacted.' b.tar.zst && grep -aq own.conf b.tar.zst && \
                 journalctl -u infiniservice | grep -q 'begun with {SECRET} and password={CANARY}' && \
                 ! grep -aqE '{SECRET}|{CANARY}' b.tar.zst"
            ),
            LONG,
        )
        .expect("it ends");
    assert_eq!(status, 0, "{told}");
    assert!(!told.contains("no "), "{told}");
}

/// A request that the policy denies, and a secret that is not there.
fn what_the_host_sees_refused(vm: &mut Vm, talk: Talk) {
    let refused = talk.ask("OsInfo", &[], LONG);
    assert!(!refused.success, "{refused:?}");
    finds(vm, UNDER_SYSTEMD, 24, "OsInfo");
    vm.guest.run(&format!("mv {KEY} {KEY}.away"));
    finds(vm, UNDER_SYSTEMD, 22, &format!("cannot take the secret from {KEY}"));
    vm.guest.run(&format!("mv {KEY}.away {KEY}"));
    drop(talk);
}

fn lines_of_another_time_are_refused(vm: &mut Vm) {
    let mut host = vm.host();
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3_600);
    let stamp = an_hour_ago.duration_since(SystemTime::UNIX_EPOCH).expect("it is later than 1970");
    let stamp = i64::try_from(stamp.as_millis()).expect("a time of this century");
    let asked = payload::safe_command("late", &json!({ "action": "ServiceList" }), SOON);
    host.repeats(&envelope::seal(SECRET.as_bytes(), stamp, "late", &asked));
    finds(vm, UNDER_SYSTEMD, 23, "1 message of the host came from more than");
}

fn an_agent_that_is_stopped_or_crashes(vm: &mut Vm) {
    vm.guest.run("systemctl stop infiniservice");
    finds(vm, UNDER_SYSTEMD, 16, "the unit is not started");
    vm.guest.run("systemctl start infiniservice");
    let pid = main_pid(vm);
    vm.guest.run(&format!("kill -ABRT {pid}"));
    finds(vm, UNDER_SYSTEMD, 17, "infiniservice");
}

/// Of several causes the first one has the exit code, so that a fault may stay when a later one is made.
#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn what_keeps_the_agent_from_its_port_and_its_host_from_reading_is_found() {
    let turn = lab::turn();
    let policy = policy();
    let mut vm = Vm::boot_with(turn.lab, "policy", policy.as_deref().unwrap_or_default());
    the_port_cannot_be_opened(&mut vm);
    if policy.is_some() {
        a_security_module_denies_the_port(&mut vm);
    }
    finds(&mut vm, SMALL, 16, "no agent listens at /state/control.sock");
    fatten(&mut vm.guest, 100);
    let agent = Agent::start_under_load(&mut vm.guest);
    the_host_answers_nothing_or_does_not_read(&mut vm);
    vm.guest.run(&format!("kill -STOP {}", agent.pid));
    finds(&mut vm, SMALL, 18, "has not answered within 5 s");
    vm.guest.run(&format!("kill -CONT {}; chmod 0777 /state", agent.pid));
    finds(&mut vm, SMALL, 11, "/state has mode 0777");
    vm.guest.run("echo nonsense > /load/broken.toml");
    finds(&mut vm, SMALL, 10, "/load/broken.toml");
}

fn the_port_cannot_be_opened(vm: &mut Vm) {
    vm.guest.run("rmmod virtio_console");
    finds(vm, SMALL, 12, "the kernel has no driver for it");
    vm.guest.run("insmod /modules/virtio_console.ko");
    vm.unplug();
    finds(vm, SMALL, 13, "no port named org.infinibay.agent; there is org.qemu.guest_agent.0");
    vm.plug();
    vm.guest.until(&format!("grep -qx {PORT} /sys/class/virtio-ports/*/name"), SOON);
    vm.guest.run(&format!(
        "port=$(grep -lx {PORT} /sys/class/virtio-ports/*/name); port=${{port%/name}}; \
         sleep 9999 < /dev/${{port##*/}} & echo $! > /tmp/holder"
    ));
    finds(vm, SMALL, 15, "(sleep) has /dev/vport");
    vm.guest.run("kill $(cat /tmp/holder); wait $(cat /tmp/holder) || true");
}

/// What AppArmor enforces of the agent, as the kernel takes it; none where there is no compiler of policies.
fn policy() -> Option<Vec<u8>> {
    const COMPILER: &str = "/usr/sbin/apparmor_parser";
    const POLICY: &str = "abi <abi/3.0>,
        profile infiniservice /bin/infiniservice flags=(attach_disconnected) {
            file, capability, network, signal, ptrace, unix, mount,
            audit deny /dev/vport* rw,
        }";
    has(COMPILER).then(|| {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("text"), POLICY).expect("the temporary folder takes files");
        // For the features of that version, and not for those of the kernel that runs here.
        let mut compiler = Command::new(COMPILER);
        compiler.args([
            "--skip-kernel-load",
            "--skip-cache",
            "--features-file",
            "/etc/apparmor.d/abi/3.0",
        ]);
        let compiled = compiler.arg("--ofile").args([at("binary"), at("text")]).output();
        let compiled = compiled.expect("the compiler starts");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        fs::read(at("binary")).expect("it has written the file")
    })
}

fn a_security_module_denies_the_port(vm: &mut Vm) {
    vm.guest.run(
        "mount -t securityfs securityfs /sys/kernel/security && mkdir -p /var/log && syslogd && klogd && \
         cat /bin/policy > /sys/kernel/security/apparmor/.load",
    );
    let agent = Agent::start_under_load(&mut vm.guest);
    finds(vm, SMALL, 14, "/var/log/messages: apparmor=\"DENIED\" operation=\"open\"");
    agent.kill(&mut vm.guest);
    vm.guest.run(
        "printf infiniservice > /sys/kernel/security/apparmor/.remove && \
         killall klogd syslogd && rm /var/log/messages",
    );
}

/// Its lines are longer than what may be unacknowledged, so each waits until the one before it is acknowledged, or a second.
fn the_host_answers_nothing_or_does_not_read(vm: &mut Vm) {
    let reads = UnixStream::connect(vm.socket()).expect("QEMU listens on the port's socket");
    let mut from = reads.try_clone().expect("a descriptor is left");
    let reading = std::thread::spawn(move || io::copy(&mut from, &mut io::sink()));
    finds(vm, SMALL, 21, "the host has acknowledged none of them");
    reads.shutdown(Shutdown::Both).expect("it is connected");
    let _ = reading.join(); // how it ended does not matter
    drop(reads);
    let _does_not_read = vm.host();
    finds(vm, SMALL, 20, "the host has it open and reads nothing");
}
