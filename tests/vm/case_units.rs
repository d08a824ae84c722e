//! A hardened agent under a real systemd: each command of the host in a unit of its own, outside the sandbox, with limits,
//! and alive when the agent is restarted, replaced or killed.

use std::time::Duration;

use serde_json::Value;

use super::installed::main_pid;
use super::lab;
use super::qemu::Vm;
use super::systemd::boot;
use super::talk::{Talk, raw};

const SOON: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(120);

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn commands_run_in_units_of_their_own_and_outlive_the_agent() {
    let turn = lab::turn();
    let disk = turn.lab.systemd_disk();
    let mut vm = boot(turn.lab, &disk);
    vm.guest.until("systemctl is-active infiniservice", LONG);
    let talk = Talk::connect(&vm.socket());
    the_agent_is_in_a_sandbox_and_its_commands_are_not(&mut vm, &talk);
    a_command_that_takes_all_memory_ends_and_the_agent_does_not(&mut vm, &talk);
    a_command_ends_at_its_deadline_with_all_it_has_started(&mut vm, &talk);
    without_a_unit_a_command_runs_in_a_group_within_the_sandbox(&mut vm, &talk);
    a_command_goes_on_when_the_agent_is_restarted_replaced_or_killed(&mut vm, &talk);
    a_command_that_nobody_answers_is_answered_after_the_next_start(&mut vm, &talk);
    nothing_is_left(&mut vm);
}

fn the_agent_is_in_a_sandbox_and_its_commands_are_not(vm: &mut Vm, talk: &Talk) {
    vm.guest.run("systemd-analyze security --no-pager --threshold=30 infiniservice.service");
    let own = vm.guest.run(
        "pid=$(systemctl show -P MainPID infiniservice); \
         grep -E '^(NoNewPrivs|Seccomp):' /proc/$pid/status | tr -s '\\t\\n' ' '; \
         nsenter -m -t $pid touch /etc/x 2> /dev/null || echo read-only",
    );
    assert_eq!(
        own.split_whitespace().collect::<Vec<_>>().join(" "),
        "NoNewPrivs: 1 Seccomp: 2 read-only"
    );
    let told = talk.exec(
        "g=$(cut -d: -f3 /proc/self/cgroup); echo $g; u=/sys/fs/cgroup${g%/*}; cat $u/pids.max $u/cpu.weight; \
         m=$(cat $u/memory.max); t=$(awk '/MemTotal/ { print $2 * 1024 }' /proc/meminfo); \
         [ $m -gt $((t * 7 / 10)) ] && [ $m -lt $((t * 9 / 10)) ] && echo most; \
         cat /sys/fs/cgroup$g/pids.max; umask; cat /proc/self/oom_score_adj; env | grep -c INFINI; \
         grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; touch /etc/x && rm /etc/x && echo written; \
         ls /proc/self/fd | wc -l",
        SOON,
    );
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert!(lines[0].starts_with("/infiniservice.slice/infiniservice-run-"), "{told:?}");
    assert!(lines[0].contains(".service/infiniservice-run."), "{told:?}");
    let expected = [
        "1024",
        "50",
        "most",
        "512",
        "0022",
        "0",
        "0",
        "NoNewPrivs:\t0",
        "Seccomp:\t0",
        "written",
        "4",
    ];
    assert_eq!(lines[1..], expected, "{told:?}");
    the_sandbox_hides_nothing_from_the_collectors(vm);
    // What the command and its variables are stands in no property, where everybody could read it.
    let line = "u=$(cut -d/ -f3 /proc/self/cgroup); systemctl show $u | grep -c hidden-word; \
                cat /run/systemd/transient/$u | grep -c hidden-word; : hidden-word";
    assert_eq!(talk.exec(line, SOON).stdout, "0\n0\n");
    let services =
        talk.ask("ServiceControl", &[("service", "under-test"), ("operation", "start")], SOON);
    assert!(services.success, "{services:?}");
}

/// One reading of all groups under the shipped unit, and one without a sandbox.
fn the_sandbox_hides_nothing_from_the_collectors(vm: &mut Vm) {
    vm.guest.run(
        "cd /run/systemd/system && printf '[[collect]]\\nevery = \"5s\"\\n\
         from = [\"cpu\", \"memory\", \"load\", \"disk\", \"network\", { processes = { keep = 1000 } }, \
         \"ports\", \"host\", \"pressure\"]\\n[batch]\\nmax_items = 1\\n[serialize]\\nformat = \"json-lines\"\\n\
         [write]\\nport = \"org.infinibay.agent\"\\n' > /run/all.toml && \
         start=/opt/infiniservice/infiniservice && \
         sed -e \"s,^ExecStart=.*,ExecStart=$start run --once --pipelines /run/all.toml,; s/^Type=.*/Type=oneshot/; \
                 /^Restart=/d; /^ExecReload=/d; /^WatchdogSec=/d; /^NotifyAccess=/d; /^.Install/,\\$d\" \
             /etc/systemd/system/infiniservice.service > inside.service && \
         grep -E '^(.Service|ExecStart|Type)' inside.service > outside.service && \
         for one in inside outside; do echo StandardOutput=file:/run/$one >> $one.service; done && \
         systemctl daemon-reload && systemctl start inside outside",
    );
    let mut read = |name: &str| {
        let text = vm.guest.run(&format!("cat /run/{name}"));
        let reading: Value = serde_json::from_str(text.trim()).expect("one reading");
        let list = |value: &Value, of: &dyn Fn(&Value) -> String| -> Vec<String> {
            value.as_array().into_iter().flatten().map(of).collect()
        };
        let keys = |value: &Value| -> Vec<String> {
            value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
        };
        let first = reading["processes"]
            .as_array()
            .and_then(|all| all.iter().find(|process| process["pid"] == 1).map(&keys));
        let disks = list(&reading["disk"]["mounts"], &|disk| disk["mount_point"].to_string());
        let ports =
            list(&reading["ports"], &|port| format!("{} {}", port["port"], port["process_name"]));
        let troubles = list(&reading["troubles"], &|trouble| trouble.to_string());
        assert!(!disks.is_empty() && first.is_some(), "{reading}");
        (keys(&reading), disks, ports, first, troubles)
    };
    assert_eq!(read("inside"), read("outside"));
}

fn a_command_that_takes_all_memory_ends_and_the_agent_does_not(vm: &mut Vm, talk: &Talk) {
    let before = main_pid(vm);
    let told = talk.exec("tail /dev/zero; echo $?", LONG);
    assert_eq!((told.stdout.as_str(), told.exit_code), ("137\n", Some(0)), "{told:?}");
    vm.guest.run("journalctl -b -k | grep -q 'Memory cgroup out of memory'");
    assert_eq!(main_pid(vm), before);
}

fn a_command_ends_at_its_deadline_with_all_it_has_started(vm: &mut Vm, talk: &Talk) {
    let told = talk.exec("setsid sleep 45678 & echo begun; sleep 45678", Duration::from_secs(20));
    assert_eq!((told.stdout.as_str(), told.exit_code), ("begun\n", Some(124)), "{told:?}");
    vm.guest.none_runs("sleep 45678", SOON);
}

fn without_a_unit_a_command_runs_in_a_group_within_the_sandbox(vm: &mut Vm, talk: &Talk) {
    vm.guest.run("mv /run/systemd/private /run/systemd/away");
    let told = talk.exec(
        "g=$(cut -d: -f3 /proc/self/cgroup); echo $g; cat /sys/fs/cgroup$g/pids.max; \
         touch /etc/x 2> /dev/null || echo read-only; echo said >&2",
        SOON,
    );
    vm.guest.run("mv /run/systemd/away /run/systemd/private");
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert!(
        lines[0].starts_with("/system.slice/infiniservice.service/infiniservice-run."),
        "{told:?}"
    );
    assert_eq!(lines[1..], ["512", "read-only"], "{told:?}");
    assert!(
        told.stderr.starts_with("said\ninfiniservice: systemd started no unit for it, so it ran"),
        "{told:?}"
    );
    assert!(talk.exec("touch /etc/x && rm /etc/x", SOON).success, "the next one has a unit again");
}

fn a_command_goes_on_when_the_agent_is_restarted_replaced_or_killed(vm: &mut Vm, talk: &Talk) {
    let own = "/opt/infiniservice/infiniservice";
    for (number, how) in [
        "systemctl restart infiniservice".to_owned(),
        // As a package manager does it: another file in its place, then a restart; both as another command of the host.
        format!("cp {own} {own}.new && mv {own}.new {own} && systemctl restart infiniservice"),
        "kill -KILL $(systemctl show -P MainPID infiniservice)".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let before = main_pid(vm);
        let line =
            raw(&format!("echo begun > /run/begun-{number}; sleep 12; echo survived; exit 3"));
        let answer = talk.wait(async {
            let running = talk.host.exec(&line, LONG);
            let end = async {
                vm.guest.until(&format!("test -e /run/begun-{number}"), SOON);
                vm.guest.run(&how);
                vm.guest.until("systemctl is-active infiniservice", SOON);
            };
            tokio::join!(running, end).0
        });
        let answer = answer.unwrap_or_else(|why| panic!("{how}: {why}"));
        assert_eq!(
            (answer.stdout.as_str(), answer.exit_code),
            ("survived\n", Some(3)),
            "{how}: {answer:?}"
        );
        assert_ne!(main_pid(vm), before, "{how}");
    }
    // The file that runs was replaced: a unit gets the one that runs.
    vm.guest.run(&format!("cp {own} {own}.new && mv {own}.new {own}"));
    assert_eq!(talk.exec("echo here", SOON).stdout, "here\n");
}

fn a_command_that_nobody_answers_is_answered_after_the_next_start(vm: &mut Vm, talk: &Talk) {
    let line = raw("echo begun > /run/begun-last; sleep 5; echo ended > /run/ended; echo told");
    let answer = talk.wait(async {
        let running = talk.host.exec(&line, LONG);
        let end = async {
            vm.guest.until("test -e /run/begun-last", SOON);
            vm.guest.run("systemctl stop infiniservice");
            vm.guest.until("test -e /run/ended", SOON);
            vm.guest.until(
                "! systemctl --plain --no-legend list-units 'infiniservice-run-*' | grep -q .",
                SOON,
            );
            vm.guest.run("test -n \"$(cat /var/lib/infiniservice/runs/*)\"");
            vm.guest.run("systemctl start infiniservice");
        };
        tokio::join!(running, end).0
    });
    let answer = answer.expect("it is answered");
    assert_eq!((answer.stdout.as_str(), answer.exit_code), ("told\n", Some(0)), "{answer:?}");
    vm.guest.run("grep '\"end\"' /var/lib/infiniservice/audit.jsonl | grep -q 'went on while the agent was restarted'");
}

fn nothing_is_left(vm: &mut Vm) {
    vm.guest.until(
        "! systemctl --plain --no-legend --all list-units 'infiniservice-run-*' | grep -q .",
        SOON,
    );
    assert_eq!(vm.guest.run("ls -A /var/lib/infiniservice/runs").trim(), "");
    assert_eq!(vm.guest.run("systemctl is-failed infiniservice || true").trim(), "active");
}
