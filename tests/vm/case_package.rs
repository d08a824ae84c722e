//! The agent's `.deb` on a real Debian: the port starts it, an upgrade ends no command, and a purge leaves nothing.

use std::time::Duration;

use super::lab;
use super::package::deb;
use super::qemu::Vm;
use super::systemd::boot_package;
use super::talk::{SECRET, Talk, raw};

const SOON: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(180);
/// Every name where a package may put something, and those of the agent where it keeps what it has.
const NAMES: &str = "{ find /etc /opt /usr; find /var -name '*infiniservice*'; } | sort";

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn the_package_starts_with_the_port_is_upgraded_under_a_command_and_a_purge_leaves_nothing() {
    let turn = lab::turn();
    let disk = turn.lab.systemd_disk();
    let mut vm = boot_package(turn.lab, &disk, &deb(&turn.lab.agent));
    run(&mut vm, "systemctl is-system-running --wait || true");
    vm.unplug();
    // Folders that other packages own, and the disk was made without.
    vm.guest.run(&format!(
        "mkdir -p /usr/share/doc /usr/share/lintian/overrides; {NAMES} > /run/before"
    ));
    run(&mut vm, "dpkg -i /root/agent.deb 2>&1");
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
    drop(talk);
    // The secret, with which the file differs from that of the package, stays until a purge.
    run(&mut vm, "dpkg -r infiniservice 2>&1");
    vm.guest.run(&format!(
        "grep -q {SECRET} /etc/infiniservice/agent.env && ! test -e /usr/bin/infiniservice"
    ));
    assert_eq!(vm.guest.run("systemctl is-active infiniservice || true").trim(), "inactive");
    run(&mut vm, "dpkg -P infiniservice 2>&1");
    vm.guest.run(&format!("{NAMES} | diff /run/before - >&2"));
}

/// A command of the host runs while the next version is installed; it is answered by that.
fn an_upgrade_ends_no_command(vm: &mut Vm, talk: &Talk) {
    // What stands behind the end of an executable is of no meaning to the kernel.
    run(
        vm,
        "dpkg-deb -R /root/agent.deb /root/next && echo >> /root/next/usr/bin/infiniservice && \
         sed -i 's/^Version: .*/Version: 9.9.9-1/' /root/next/DEBIAN/control && dpkg-deb -Znone -b /root/next /root/next.deb",
    );
    let before = main_pid(vm);
    let line =
        raw("touch /run/begun; until test -e /run/go; do sleep 0.2; done; echo survived; exit 3");
    let running = talk.wait(async {
        let running = talk.host.exec(&line, LONG);
        let upgrade = async {
            vm.guest.until("test -e /run/begun", SOON);
            run(vm, "dpkg --force-confold -i /root/next.deb 2>&1 && cmp /root/next/usr/bin/infiniservice /usr/bin/infiniservice");
            vm.guest.run("touch /run/go");
        };
        tokio::join!(running, upgrade).0
    });
    let running = running.expect("it is answered");
    assert_eq!(
        (running.stdout.as_str(), running.exit_code),
        ("survived\n", Some(3)),
        "{running:?}"
    );
    assert_ne!(main_pid(vm), before, "the next version runs");
    let version = vm.guest.run("dpkg-query -W -f '${Version}' infiniservice");
    assert_eq!(version.trim(), "9.9.9-1");
}

/// What may take longer than a line of the shell.
fn run(vm: &mut Vm, script: &str) -> String {
    let (status, told) = vm.guest.try_run(script, LONG).expect("it ends");
    assert_eq!(status, 0, "{script}: {told}");
    told
}

fn main_pid(vm: &mut Vm) -> String {
    vm.guest.run("systemctl show -P MainPID infiniservice").trim().to_owned()
}
