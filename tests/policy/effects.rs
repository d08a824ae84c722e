//! Rules are held against what would happen, whatever it is called.

use infiniservice::internals::commands::actions::checks::RunAllHealthChecks;
use infiniservice::internals::commands::actions::plan::{Argument, Effect, Part, Value};
use infiniservice::internals::commands::actions::services::{ServiceOperation, ends_the_system};
use infiniservice::internals::commands::actions::updates::UpdateSystemSoftware;
use infiniservice::internals::commands::authorize::policy::Decision;

use super::{action, decided, package, policy, remove, service};

#[test]
fn a_restart_by_the_name_of_a_unit_is_a_restart() {
    let deny = policy("allow = [\"*\"]\ndeny = [\"RebootSystem\"]");
    for unit in [
        "reboot.target",
        "poweroff.target",
        "halt.target",
        "kexec.target",
        "soft-reboot.target",
        "ctrl-alt-del.target",
        "runlevel0.target",
        "runlevel6.target",
        "shutdown.target",
        "rescue.target",
        "emergency.target",
        "suspend.target",
        "systemd-reboot",
        "systemd-reboot.service",
        "systemd-poweroff.service",
        "reboot",
    ] {
        for operation in [ServiceOperation::Start, ServiceOperation::Restart] {
            let why = decided(&deny, &service(unit, operation));
            assert_eq!(
                why, "denied by commands.toml:4: \"RebootSystem\"; it comes to RebootSystem",
                "{unit}"
            );
        }
        assert!(deny.decide(&service(unit, ServiceOperation::Status)).is_allowed(), "{unit}");
        assert!(ends_the_system(unit));
    }
    for unit in ["ssh", "reboot-notifier.service", "multi-user.target", "reboot.timer", "halt@x"] {
        assert!(deny.decide(&service(unit, ServiceOperation::Start)).is_allowed(), "{unit}");
    }
    // Nor is it allowed with all other services, but only by name.
    let services = policy("allow = [\"ServiceControl\"]");
    let why = decided(&services, &service("reboot.target", ServiceOperation::Start));
    assert_eq!(why, "denied: no rule of commands.toml allows this RebootSystem, which it comes to");
    let both = policy("allow = [\"ServiceControl\", \"RebootSystem\"]");
    assert_eq!(
        decided(&both, &service("reboot.target", ServiceOperation::Start)),
        "+commands.toml:3"
    );
}

#[test]
fn another_spelling_of_a_package_or_unit_does_not_get_around_a_rule() {
    let deny = policy(
        "allow = [\"*\"]\ndeny = [\n{ action = \"PackageRemove\", package = \"systemd\" },\n\
         { action = \"ServiceControl\", service = \"ssh.service\" },\n\
         { action = \"ServiceControl\", service = \"getty\" },\n]",
    );
    for name in [
        "systemd.x86_64",
        "systemd.i686",
        "systemd.noarch",
        "systemd:amd64",
        "systemd-",
        "systemd+",
        "+systemd",
        "1:systemd",
        "0:systemd.x86_64",
    ] {
        assert!(!deny.decide(&remove(name)).is_allowed(), "{name}");
    }
    for name in ["systemd.conf", "systemd-boot", "libsystemd0"] {
        assert!(deny.decide(&remove(name)).is_allowed(), "{name}");
    }
    for name in ["ssh", "ssh.service", "getty@tty1", "getty@tty1.service"] {
        assert!(!deny.decide(&service(name, ServiceOperation::Stop)).is_allowed(), "{name}");
    }
}

#[test]
fn an_action_that_does_what_another_one_does_is_denied_with_it() {
    let deny = policy(
        "allow = [\"*\"]\ndeny = [\n{ action = \"PackageUpdate\", package = \"linux-*\" },\n\
         { action = \"RunHealthCheck\", name = \"firewall_status\" },\n]",
    );
    let update = |name: Option<&str>| action(UpdateSystemSoftware(name.map(package)));
    assert!(!deny.decide(&update(Some("linux-image-amd64"))).is_allowed());
    assert!(!deny.decide(&update(None)).is_allowed());
    assert!(deny.decide(&update(Some("vim"))).is_allowed());
    assert!(!deny.decide(&action(RunAllHealthChecks)).is_allowed());
}

#[test]
fn what_is_found_to_come_along_is_held_against_the_rules_that_deny() {
    let deny =
        policy("allow = [\"*\"]\ndeny = [{ action = \"PackageRemove\", package = \"systemd\" }]");
    let along = |name: &str| {
        Effect::side_effect(
            "PackageRemove",
            vec![(Argument::Package, Value::Is(name.to_owned().into()))],
        )
    };
    assert_eq!(deny.deny_side_effects(&[along("nano")]), None);
    let Some(Decision::Denied { why, .. }) =
        deny.deny_side_effects(&[along("nano"), along("systemd.x86_64")])
    else {
        panic!()
    };
    assert!(why.ends_with("; it comes to PackageRemove { package = \"systemd.x86_64\" }"), "{why}");
    let services = policy("allow = [\"ServiceControl\"]");
    assert!(services.deny_side_effects(&[Effect::restart(Part::Disguised)]).is_some());
    assert_eq!(services.deny_side_effects(&[along("systemd")]), None, "no rule denies it");
    assert!(deny.has_limits() && services.has_limits() && !policy("allow = [\"*\"]").has_limits());
}
