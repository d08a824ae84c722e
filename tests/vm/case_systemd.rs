//! The agent as a service of a real systemd: told of, watched, controlling other services over the bus,
//! installing a package, and restarting the machine. One machine for all of it: its start is what costs.

use std::time::{Duration, Instant};

use infiniservice::host::Response;
use serde_json::Value;

use super::lab;
use super::qemu::Vm;
use super::systemd::{BOOT, boot};
use super::talk::{Talk, raw};

const SOON: Duration = Duration::from_secs(30);
/// What takes systemd, apt or all checks under emulation.
const LONG: Duration = Duration::from_secs(120);

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_service_of_systemd_is_ready_controls_others_installs_is_watched_and_survives_a_restart() {
    let turn = lab::turn();
    let disk = turn.lab.systemd_disk();
    let started = Instant::now();
    let mut vm = boot(turn.lab, &disk);
    is_ready(&mut vm);
    let talk = Talk::connect(&vm.socket());
    lab::say(&format!("systemd and the agent are up after {:.0?}", started.elapsed()));
    the_bus_lists_and_controls_services(&mut vm, &talk);
    a_failed_unit_is_found(&mut vm, &talk);
    without_the_bus_systemctl_does_it(&mut vm, &talk);
    a_package_is_installed_and_removed(&mut vm, &talk);
    a_reload_takes_files_and_refuses_wrong_ones(&mut vm, &talk);
    the_journal_is_read_on_from_where_the_agent_stopped(&mut vm);
    a_stop_leaves_what_runs_to_the_next_start(&mut vm, &talk);
    a_stuck_agent_is_ended_by_the_watchdog(&mut vm, &talk);
    the_machine_restarts_after_the_answer(&mut vm, &talk);
    lab::say(&format!("all of it took {:.0?}", started.elapsed()));
}

/// `READY=1` came, the links of udev are there, and nothing is wrong with the machine.
fn is_ready(vm: &mut Vm) {
    vm.guest.until("systemctl is-active infiniservice", LONG);
    assert_eq!(vm.guest.run("systemctl is-system-running --wait").trim(), "running");
    assert_eq!(property(vm, "NRestarts,Result"), "Result=success NRestarts=0");
    vm.guest.until("test -e /dev/virtio-ports/org.infinibay.agent", SOON);
}

fn the_bus_lists_and_controls_services(vm: &mut Vm, talk: &Talk) {
    // With no program of that name there, only the bus can have done it.
    vm.guest.run("mv /usr/bin/systemctl /usr/bin/systemctl-away");
    let list = talk.ask("ServiceList", &[], SOON);
    let find = |name: &str| {
        let all = list.data.as_array().expect("a list of services");
        all.iter().find(|service| service["name"] == name).cloned().unwrap_or_default()
    };
    let agent = find("infiniservice");
    assert_eq!((&agent["status"], &agent["startup_type"]), (&"running".into(), &"enabled".into()));
    let under_test = find("under-test");
    assert_eq!(under_test["status"], "stopped");
    assert_eq!(under_test["startup_type"], "disabled");
    assert_eq!(find("getty@tty1")["startup_type"], "enabled", "as its template");
    assert_eq!(find("dbus-org.freedesktop.login1"), Value::Null, "another name of logind");

    let mut operate = |operation: &str| {
        let answer = control(talk, "under-test", operation);
        assert!(answer.success, "{operation}: {answer:?}");
        let real = vm.guest.run(
            "systemctl-away is-active under-test; systemctl-away is-enabled under-test; \
             systemctl-away show -P MainPID under-test; true",
        );
        let mut real = real.lines().map(str::to_owned);
        let mut next = || real.next().unwrap_or_default();
        let (active, enabled, pid) = (next(), next(), next());
        let running = if active == "active" { "running" } else { "stopped" };
        assert_eq!(answer.data["status"], running, "after {operation}");
        assert_eq!(answer.data["startup_type"], *enabled, "after {operation}");
        (running, enabled, pid)
    };
    assert_eq!(operate("status").0, "stopped");
    let (running, _, first) = operate("start");
    assert_eq!(running, "running");
    let (running, _, second) = operate("restart");
    assert_eq!(running, "running");
    assert_ne!(first, second, "another process");
    assert_eq!(operate("enable").1, "enabled");
    assert_eq!(operate("disable").1, "disabled");
    assert_eq!(operate("stop").0, "stopped");
    let named = talk.ask("RestartServices", &[("service_name", "under-test")], SOON);
    assert_eq!(named.data["status"], "running");
    for operation in ["status", "start", "stop", "enable"] {
        let answer = control(talk, "no-such", operation);
        let error = answer.error.unwrap_or_default();
        assert!(!answer.success && error.contains("no-such"), "{operation}: {error}");
    }
    vm.guest.run("mv /usr/bin/systemctl-away /usr/bin/systemctl");
}

fn a_failed_unit_is_found(vm: &mut Vm, talk: &Talk) {
    vm.guest.run("touch /run/must-fail");
    let answer = control(talk, "under-test", "restart");
    assert!(!answer.success && answer.data["status"] == "failed", "{answer:?}");
    let check = || talk.ask("RunHealthCheck", &[("check_name", "critical_services")], LONG).data;
    let failed = check();
    assert_eq!(failed["status"], "warning", "{failed}");
    assert!(failed.to_string().contains("under-test.service"), "{failed}");
    vm.guest.run("rm /run/must-fail");
    assert!(control(talk, "under-test", "start").success);
    assert_eq!(check()["status"], "passed");
}

fn without_the_bus_systemctl_does_it(vm: &mut Vm, talk: &Talk) {
    vm.guest.run("mv /run/dbus/system_bus_socket /run/dbus/away");
    assert!(control(talk, "under-test", "stop").success);
    assert_eq!(vm.guest.run("systemctl is-active under-test || true").trim(), "inactive");
    let list = talk.ask("ServiceList", &[], SOON);
    assert!(list.data.as_array().is_some_and(|list| list.len() > 10), "{list:?}");
    vm.guest.run("mv /run/dbus/away /run/dbus/system_bus_socket");
}

fn a_package_is_installed_and_removed(vm: &mut Vm, talk: &Talk) {
    vm.guest.run(
        "mkdir -p /repo /build/DEBIAN /build/usr/share/hello-vm && cd /build && \
         echo hello > usr/share/hello-vm/text && \
         printf 'Package: hello-vm\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: T <t@localhost>\\n\
         Description: says hello\\n' > DEBIAN/control && \
         printf '#!/bin/sh\\necho configured > /etc/hello-vm\\n' > DEBIAN/postinst && \
         chmod 755 DEBIAN/postinst && dpkg-deb -b . /repo/hello-vm.deb && cd /repo && \
         { cat /build/DEBIAN/control; echo Filename: ./hello-vm.deb; \
           echo Size: $(stat -c %s hello-vm.deb); \
           echo SHA256: $(sha256sum hello-vm.deb | cut -d' ' -f1); } > Packages && \
         echo 'deb [trusted=yes] file:/repo ./' > /etc/apt/sources.list && apt-get update",
    );
    let package = [("package", "hello-vm")];
    let installed = talk.ask("PackageInstall", &package, LONG);
    assert!(installed.success, "{installed:?}");
    assert_eq!(vm.guest.run("cat /etc/hello-vm /usr/share/hello-vm/text"), "configured\nhello\n");
    let removed = talk.ask("PackageRemove", &package, LONG);
    assert!(removed.success, "{removed:?}");
    vm.guest.run("! test -e /usr/share/hello-vm/text");
}

/// With a program of the host running, which it does not touch. The agent may see a change of its files at the same
/// time, and that is one reload more: no state of the unit.
fn a_reload_takes_files_and_refuses_wrong_ones(vm: &mut Vm, talk: &Talk) {
    let pid = property(vm, "MainPID");
    let (files, running) = ("/etc/infiniservice/pipelines", raw("sleep 20; echo whole"));
    let answer = talk.wait(async {
        let running = talk.host.exec(&running, LONG);
        let reload = async {
            vm.guest.until("pidof sleep", SOON);
            vm.guest.run(&format!(
                "mkdir -p {files} && cd {files} && printf '[receive]\\nport = \"org.infinibay.agent\"\\n\
                 [verify]\\nsecret = \"env:INFINISERVICE_SHARED_SECRET\"\\n\
                 [enforce]\\nallow = [\"*\"]\\nraw_shell = true\\n' > commands.toml && printf '[[collect]]\\nevery = \"5s\"\\n\
                 from = [\"cpu\", \"memory\", \"disk\", \"network\"]\\n\
                 [batch]\\nmax_items = 1\\n[serialize]\\nformat = \"infinibay\"\\n\
                 [write]\\nport = \"org.infinibay.agent\"\\n' > metrics.toml && \
                 systemctl reload infiniservice"
            ));
            assert_eq!(property(vm, "ActiveState,SubState"), "ActiveState=active SubState=running");
            vm.guest.run("journalctl -b -u infiniservice | grep -q 'configuration reloaded'");
            let (status, said) = vm
                .guest
                .try_run(
                    &format!(
                        "echo nonsense > {files}/metrics.toml; systemctl reload infiniservice"
                    ),
                    SOON,
                )
                .expect("it comes back");
            assert_ne!(status, 0, "{said}");
            vm.guest.run("journalctl -b -u infiniservice | grep -q 'nothing was taken'");
            assert_eq!(property(vm, "ActiveState,SubState"), "ActiveState=active SubState=running");
            vm.guest.run(&format!("rm -r {files} && systemctl reload infiniservice"));
        };
        let (answer, ()) = tokio::join!(running, reload);
        answer
    });
    let answer = answer.expect("it is answered");
    assert_eq!((answer.success, answer.stdout.as_str()), (true, "whole\n"), "{answer:?}");
    assert_eq!(property(vm, "MainPID"), pid, "the same process");
}

/// By `journalctl` in the sandbox of the unit: each entry once over a stop, and none missing after a crash.
fn the_journal_is_read_on_from_where_the_agent_stopped(vm: &mut Vm) {
    let files = "/etc/infiniservice/pipelines";
    vm.guest.run(&format!(
        "mkdir -p {files} && printf '[[read]]\njournal = {{}}\n[[transform]]\n\
         filter = {{ field = \"SYSLOG_IDENTIFIER\", equals = \"app\" }}\n[[transform]]\nkeep = {{ fields = [\"MESSAGE\"] }}\n\
         [serialize]\nformat = \"json-lines\"\n\
         [write]\nfile = {{ path = \"/var/lib/infiniservice/app\" }}\n' > {files}/journal.toml && \
         systemctl reload infiniservice"
    ));
    let entries = |vm: &mut Vm, first: u32, last: u32| {
        vm.guest.run(&format!("seq -f 'entry %.0f' {first} {last} | systemd-cat -t app"));
    };
    let seen = "grep -o 'entry [0-9]*' /var/lib/infiniservice/app";
    entries(vm, 1, 300);
    vm.guest.until(&format!("{seen} | grep -qx 'entry 300'"), LONG);
    vm.guest.run("systemctl stop infiniservice");
    entries(vm, 301, 400);
    vm.guest.run("systemctl start infiniservice");
    entries(vm, 401, 500);
    vm.guest.until(&format!("{seen} | grep -qx 'entry 500'"), LONG);
    vm.guest.run(&format!("seq -f 'entry %.0f' 1 500 > /run/all; {seen} | cmp - /run/all"));
    vm.guest.run("systemctl kill -s KILL infiniservice");
    entries(vm, 501, 600);
    vm.guest.until(&format!("{seen} | grep -qx 'entry 600'"), LONG);
    assert_eq!(vm.guest.run(&format!("{seen} | sort -u | wc -l")).trim(), "600", "none is missing");
    vm.guest.run(&format!("rm -r {files} && systemctl reload infiniservice"));
}

/// As where the machine goes down: systemd ends the agent and the command's unit, and the next start answers.
fn a_stop_leaves_what_runs_to_the_next_start(vm: &mut Vm, talk: &Talk) {
    let line = raw("setsid sleep 98765 & sleep 98765");
    let answer = talk.wait(async {
        let running = talk.host.exec(&line, LONG);
        let stop = async {
            while vm.guest.running("sleep 98765") < 2 {}
            vm.guest.run("systemctl stop infiniservice");
            let ended = property(vm, "ActiveState,SubState,Result,ExecMainStatus");
            assert_eq!(ended, "Result=success ExecMainStatus=0 ActiveState=inactive SubState=dead");
            assert_eq!(vm.guest.running("sleep 98765"), 2, "the command goes on");
            vm.guest.run("systemctl stop 'infiniservice-run-*.service'");
            assert_eq!(vm.guest.running("sleep 98765"), 0);
            vm.guest.run("systemctl start infiniservice");
        };
        let (answer, ()) = tokio::join!(running, stop);
        answer
    });
    let answer = answer.expect("the next agent answers");
    assert!(!answer.success && answer.error.is_some(), "{answer:?}");
}

fn a_stuck_agent_is_ended_by_the_watchdog(vm: &mut Vm, talk: &Talk) {
    vm.guest.run(
        "cd /run/systemd/system && mkdir infiniservice.service.d && \
         printf '[Service]\\nWatchdogSec=6s\\nRestartSec=1s\\n' > infiniservice.service.d/quick.conf && \
         systemctl daemon-reload && systemctl restart infiniservice",
    );
    assert!(talk.ask("SystemInfo", &[], SOON).success);
    vm.guest.sleep(Duration::from_secs(13));
    assert_eq!(property(vm, "NRestarts"), "NRestarts=0", "two watchdogs long it was alive");
    vm.guest.run("kill -STOP $(systemctl show -P MainPID infiniservice)");
    vm.guest.until("test $(systemctl show -P NRestarts infiniservice) = 1", LONG);
    vm.guest.until("systemctl is-active infiniservice", SOON);
    vm.guest.run("journalctl -b -u infiniservice | grep -qi 'watchdog timeout'");
    assert!(talk.ask("SystemInfo", &[], SOON).success, "the same host goes on with the next one");
    vm.guest.run("kill -KILL $(systemctl show -P MainPID infiniservice)");
    vm.guest.until("test $(systemctl show -P NRestarts infiniservice) = 2", SOON);
    assert!(talk.ask("SystemInfo", &[], SOON).success, "also after a crash");
}

/// The answer leaves first; the machine then ends its services, the agent among them, and starts again.
fn the_machine_restarts_after_the_answer(vm: &mut Vm, talk: &Talk) {
    let boot_id = |vm: &mut Vm| vm.guest.run("cat /proc/sys/kernel/random/boot_id");
    let before = boot_id(vm);
    let (said, asked) = (vm.console().len(), Instant::now());
    let answer = talk.ask("RebootSystem", &[], SOON);
    let answered = asked.elapsed();
    assert!(answer.success && answer.data["rebooting"] == true, "{answer:?}");
    vm.qmp.event("RESET", LONG, |_| true);
    let reset = asked.elapsed();
    assert!(reset > answered + Duration::from_secs(2), "time for the host to read it");
    let console = vm.console().split_off(said);
    assert!(!console.contains("was not restarted"), "{console}");
    assert!(!console.contains("Killing process"), "nothing had to be killed: {console}");
    vm.guest.restarted(BOOT);
    vm.guest.until("systemctl is-active infiniservice", LONG);
    assert_ne!(boot_id(vm), before);
    assert!(talk.ask("SystemInfo", &[], SOON).success);
    lab::say(&format!("answered in {answered:.0?}, reset after {reset:.1?}"));
}

fn control(talk: &Talk, service: &str, operation: &str) -> Response {
    talk.ask("ServiceControl", &[("service", service), ("operation", operation)], SOON)
}

/// What systemd says of the agent's unit, in its own order.
fn property(vm: &mut Vm, names: &str) -> String {
    let shown = vm.guest.run(&format!("systemctl show infiniservice -p {names}"));
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}
