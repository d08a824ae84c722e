//! An agent that is installed on a real Debian, however that is done: the port starts it, and an upgrade ends no command.

use std::time::Duration;

use super::qemu::Vm;
use super::talk::{SECRET, Talk, raw};

pub const SOON: Duration = Duration::from_secs(30);
pub const LONG: Duration = Duration::from_secs(120);
/// Every name where something is installed, and those of the agent where it keeps what it has.
pub const NAMES: &str = "{ find /etc /opt /usr; find /var -name '*infiniservice*'; } | sort";

/// Of a machine without the port, whose agent gets a secret and then the port.
pub fn starts_with_the_port(vm: &mut Vm) -> Talk {
    vm.guest.run(&format!(
        "printf 'INFINIBAY_VM_ID=vm-under-test\\nINFINISERVICE_SHARED_SECRET={SECRET}\\n' > /etc/infiniservice/agent.env"
    ));
    is_inactive(vm);
    vm.plug();
    vm.guest.until("systemctl is-active infiniservice", LONG);
    vm.host().metrics(LONG);
    let talk = Talk::connect(&vm.socket());
    let own = talk.exec("cat /proc/self/cgroup", SOON);
    assert!(own.stdout.contains("/infiniservice.slice/infiniservice-run-"), "{own:?}");
    talk
}

pub fn is_inactive(vm: &mut Vm) {
    assert_eq!(vm.guest.run("systemctl is-active infiniservice || true").trim(), "inactive");
}

/// A command of the host runs during `upgrade`, to a newer version or an older one, which answers it.
pub fn an_upgrade_ends_no_command(vm: &mut Vm, talk: &Talk, upgrade: impl AsyncFnOnce(&mut Vm)) {
    let before = main_pid(vm);
    vm.guest.run("rm -f /run/begun /run/go");
    let line =
        raw("touch /run/begun; until test -e /run/go; do sleep 0.2; done; echo survived; exit 3");
    let running = talk.wait(async {
        let running = talk.host.exec(&line, LONG);
        let upgraded = async {
            vm.guest.until("test -e /run/begun", SOON);
            upgrade(vm).await;
            vm.guest.run("touch /run/go");
        };
        tokio::join!(running, upgraded).0
    });
    let running = running.expect("it is answered");
    assert_eq!(
        (running.stdout.as_str(), running.exit_code),
        ("survived\n", Some(3)),
        "{running:?}"
    );
    assert_ne!(main_pid(vm), before, "the other version runs");
}

/// What may take longer than a line of the shell: packages, sums of the whole executable, and systemd.
pub fn run(vm: &mut Vm, script: &str) -> String {
    let (status, told) = vm.guest.try_run(script, LONG).expect("it ends");
    assert_eq!(status, 0, "{script}: {told}");
    told
}

pub fn main_pid(vm: &mut Vm) -> String {
    vm.guest.run("systemctl show -P MainPID infiniservice").trim().to_owned()
}
