//! Which security modules of the kernel are at work, and whether they enforce. Reads files; changes nothing.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::action::{Action, NoArguments, Unfit};
use super::page::Name;
use super::plan::Plan;
use super::{ActionOutcome, Context, blocking};
use crate::commands::outcome::Outcome;

/// `{modules: […], selinux: "enforcing" | "permissive" | null, apparmor: true | false}`: the modules in the order in
/// which the kernel asks them, null where it does not say (securityfs is not mounted).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckSecurityModules;

impl Action for CheckSecurityModules {
    const NAMES: &'static [Name] = &[Name::new(
        "CheckSecurityModules",
        "reports which security modules of the kernel are active",
        "`{modules: […], selinux: enforcing, permissive or null, apparmor}`",
    )];
    type Arguments = NoArguments;

    fn new(_: &'static str, _: NoArguments) -> Result<Self, Unfit> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::reads("reads /sys; runs no program")
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        let outcome = blocking(cx.deadline, "reading /sys", || modules(Path::new("/")));
        outcome.await.map_or_else(Outcome::failed, Outcome::data).into()
    }
}

fn modules(root: &Path) -> Value {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    // Documentation/admin-guide/LSM/index.rst
    let modules = read("sys/kernel/security/lsm");
    let modules = modules.map(|text| {
        let modules = text.trim().split(',').filter(|name| !name.is_empty());
        modules.map(str::to_owned).collect::<Vec<_>>()
    });
    // security/selinux/selinuxfs.c: there where SELinux is on.
    let selinux = read("sys/fs/selinux/enforce").map(|text| match text.trim() {
        "0" => "permissive",
        _ => "enforcing",
    });
    // security/apparmor/lsm.c
    let apparmor = read("sys/module/apparmor/parameters/enabled");
    let apparmor = apparmor.is_some_and(|text| text.trim() == "Y");
    json!({ "modules": modules, "selinux": selinux, "apparmor": apparmor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_told_and_what_it_does_not_say_is_null() {
        let root = tempfile::tempdir().unwrap();
        let none = json!({ "modules": null, "selinux": null, "apparmor": false });
        assert_eq!(modules(root.path()), none);
        for (path, text) in [
            ("sys/kernel/security/lsm", "lockdown,capability,apparmor"),
            ("sys/fs/selinux/enforce", "0"),
            ("sys/module/apparmor/parameters/enabled", "Y\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let some = json!({
            "modules": ["lockdown", "capability", "apparmor"], "selinux": "permissive", "apparmor": true,
        });
        assert_eq!(modules(root.path()), some);
        fs::write(root.path().join("sys/fs/selinux/enforce"), "1").unwrap();
        assert_eq!(modules(root.path())["selinux"], "enforcing");
    }
}
