//! The agent's `.deb` on a real Debian: the port starts it, an upgrade and a downgrade end no command, and a purge leaves
//! nothing.

use super::installed::{NAMES, an_upgrade_ends_no_command, is_inactive, run, starts_with_the_port};
use super::lab;
use super::package::deb;
use super::qemu::Vm;
use super::systemd::boot_package;
use super::talk::SECRET;

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn the_package_starts_with_the_port_is_replaced_under_a_command_and_a_purge_leaves_nothing() {
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
    let talk = starts_with_the_port(&mut vm);
    // What stands behind the end of an executable is of no meaning to the kernel.
    run(
        &mut vm,
        "dpkg-deb -R /root/agent.deb /root/next && echo >> /root/next/usr/bin/infiniservice && \
         sed -i 's/^Version: .*/Version: 9.9.9-1/' /root/next/DEBIAN/control && dpkg-deb -Znone -b /root/next /root/next.deb",
    );
    an_upgrade_ends_no_command(&mut vm, &talk, async |vm| {
        run(
            vm,
            "dpkg --force-confold -i /root/next.deb 2>&1 && cmp /root/next/usr/bin/infiniservice /usr/bin/infiniservice",
        );
    });
    assert_eq!(version(&mut vm), "9.9.9-1");
    an_upgrade_ends_no_command(&mut vm, &talk, async |vm| {
        run(vm, "dpkg --force-confold -i /root/agent.deb 2>&1");
    });
    assert_eq!(version(&mut vm), concat!(env!("CARGO_PKG_VERSION"), "-1"));
    drop(talk);
    // The secret, with which the file differs from that of the package, stays until a purge.
    run(&mut vm, "dpkg -r infiniservice 2>&1");
    vm.guest.run(&format!(
        "grep -q {SECRET} /etc/infiniservice/agent.env && ! test -e /usr/bin/infiniservice"
    ));
    is_inactive(&mut vm);
    run(&mut vm, "dpkg -P infiniservice 2>&1");
    vm.guest.run(&format!("{NAMES} | diff /run/before - >&2"));
}

fn version(vm: &mut Vm) -> String {
    vm.guest.run("dpkg-query -W -f '${Version}' infiniservice").trim().to_owned()
}
