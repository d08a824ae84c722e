//! `infiniservice install` on a machine without the package: the port starts the agent, an upgrade ends no command, and
//! `uninstall` leaves nothing.

use std::collections::BTreeSet;

use super::installed::{
    LONG, NAMES, an_upgrade_ends_no_command, main_pid, run, starts_with_the_port,
};
use super::lab;
use super::systemd::boot_bare;
use super::talk::raw;

/// Where the executable was copied to.
const COPY: &str = "/root/infiniservice";

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
    let talk = starts_with_the_port(&mut vm);
    // Another file that runs: what stands behind its end is of no meaning to the kernel.
    vm.guest.run(&format!("cp {COPY} /root/next && echo >> /root/next"));
    an_upgrade_ends_no_command(&mut vm, &talk, async |vm| {
        // By another command of the host.
        let upgraded = talk.host.exec(&raw("/root/next install"), LONG).await;
        let upgraded = upgraded.expect("it is answered");
        assert!(
            upgraded.success && upgraded.stdout.contains("replaced: /opt/infiniservice/"),
            "{upgraded:?}"
        );
        vm.guest.run("cmp /root/next /opt/infiniservice/infiniservice");
    });
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
