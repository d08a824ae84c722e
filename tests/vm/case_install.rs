//! `infiniservice install` on a machine without the package: the port starts the agent, an upgrade ends no command, and
//! `uninstall` leaves nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::lab;
use super::qemu::Vm;
use super::systemd::boot_bare;
use super::talk::{SECRET, Talk, raw};

const SOON: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(120);
/// Where the executable was copied to.
const COPY: &str = "/root/infiniservice";
/// Every name where something is installed, and those of the agent where it keeps what it has.
const NAMES: &str = "{ find /etc /opt /usr; find /var -name '*infiniservice*'; } | sort";

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn what_install_writes_starts_with_the_port_is_upgraded_under_a_command_and_goes_without_a_trace() {
    let turn = lab::turn();
    let disk = turn.lab.systemd_disk();
    let mut vm = boot_bare(turn.lab, &disk);
    run(&mut vm, "systemctl is-system-running --wait || true");
    vm.unplug();
    vm.guest.run(&format!("{NAMES} > /run/before"));
    run(&mut vm, &format!("{COPY} install --dry-run && {NAMES} | diff /run/before -"));
    run(&mut vm, &format!("{COPY} install"));
    vm.guest.run(&format!(
        "printf 'INFINIBAY_VM_ID=vm-under-test\\nINFINISERVICE_SHARED_SECRET={SECRET}\\n' > /etc/infiniservice/agent.env"
    ));
    assert_eq!(vm.guest.run("systemctl is-active infiniservice || true").trim(), "inactive");
    vm.plug();
    vm.guest.until("systemctl is-active infiniservice", LONG);
    vm.host().metrics(LONG);
    let talk = Talk::connect(&vm.socket());
    let own = talk.exec("cat /proc/self/cgroup", SOON);
    assert!(own.stdout.contains("/infiniservice.slice/infiniservice-run-"), "{own:?}");
    an_upgrade_ends_no_command(&mut vm, &talk);
    let pid = main_pid(&mut vm);
    let again = run(&mut vm, "/root/next install");
    assert!(!again.contains("written") && !again.contains("replaced"), "{again}");
    assert_eq!(main_pid(&mut vm), pid, "there was nothing to restart for");
    drop(talk);
    run(&mut vm, "/opt/infiniservice/infiniservice uninstall --purge");
    vm.guest.run(&format!("{NAMES} | diff /run/before -"));
    let unit = vm.guest.run("systemctl show -P LoadState,ActiveState infiniservice");
    let states: BTreeSet<&str> = unit.split_whitespace().collect();
    assert_eq!(states, ["inactive", "not-found"].into());
}

/// The host has the agent replaced by the next version, while another command runs. Both are answered.
fn an_upgrade_ends_no_command(vm: &mut Vm, talk: &Talk) {
    // Another file that runs: what stands behind its end is of no meaning to the kernel.
    vm.guest.run(&format!("cp {COPY} /root/next && echo >> /root/next"));
    let before = main_pid(vm);
    let line =
        raw("touch /run/begun; until test -e /run/go; do sleep 0.2; done; echo survived; exit 3");
    let upgrade = raw("/root/next install");
    let (running, upgraded) = talk.wait(async {
        let running = talk.host.exec(&line, LONG);
        let upgrade = async {
            vm.guest.until("test -e /run/begun", SOON);
            let upgraded = talk.host.exec(&upgrade, LONG).await;
            vm.guest.run("cmp /root/next /opt/infiniservice/infiniservice && touch /run/go");
            upgraded
        };
        tokio::join!(running, upgrade)
    });
    let upgraded = upgraded.expect("it is answered");
    assert!(
        upgraded.success && upgraded.stdout.contains("replaced: /opt/infiniservice/"),
        "{upgraded:?}"
    );
    let running = running.expect("it is answered");
    assert_eq!(
        (running.stdout.as_str(), running.exit_code),
        ("survived\n", Some(3)),
        "{running:?}"
    );
    assert_ne!(main_pid(vm), before, "the next version runs");
}

/// What may take longer than a line of the shell: sums of the whole executable, and systemd.
fn run(vm: &mut Vm, script: &str) -> String {
    let (status, told) = vm.guest.try_run(script, LONG).expect("it ends");
    assert_eq!(status, 0, "{script}: {told}");
    told
}

fn main_pid(vm: &mut Vm) -> String {
    vm.guest.run("systemctl show -P MainPID infiniservice").trim().to_owned()
}
