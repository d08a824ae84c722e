//! `diagnose` on a real machine: what the host meets there is found by its exit code and its evidence; and a bundle of the
//! journal, without the secret.

use std::time::{Duration, SystemTime};

use infiniservice::host::payload;
use infiniservice::wire::envelope;
use serde_json::json;

use super::installed::{LONG, SOON};
use super::lab;
use super::qemu::Vm;
use super::systemd::boot;
use super::talk::{SECRET, Talk};

const PROGRAM: &str = "/opt/infiniservice/infiniservice";
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
    finds(&mut vm, 19, "no program at the host has opened it");
    let talk = Talk::connect(&vm.socket());
    finds(&mut vm, 0, "nothing is wrong");
    a_bundle_holds_no_secret(&mut vm);
    what_the_host_sees_refused(&mut vm, talk);
    lines_of_another_time_are_refused(&mut vm);
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

/// That `diagnose` ends with this code, once the fault is there, and says so.
fn finds(vm: &mut Vm, code: u8, words: &str) {
    let (status, told) = vm
        .guest
        .try_run(
            &format!(
                "n=0; while :; do {PROGRAM} diagnose > /run/told; c=$?; [ $c = {code} ] && break; \
                 n=$((n+1)); [ $n = 60 ] && break; sleep 0.5; done; tr -s '\\n ' '  ' < /run/told; [ $c = {code} ]"
            ),
            Duration::from_secs(600),
        )
        .expect("it ends");
    assert_eq!(status, 0, "not {code}: {told}");
    assert!(told.contains(words), "{words}: {told}");
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
    finds(vm, 24, "OsInfo");
    vm.guest.run(&format!("mv {KEY} {KEY}.away"));
    finds(vm, 22, &format!("cannot take the secret from {KEY}"));
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
    finds(vm, 23, "1 message of the host came from more than");
}
