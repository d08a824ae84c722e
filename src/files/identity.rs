//! The identity of this machine, read from the kernel.

use std::fs;

use crate::model::Identity;

/// Host name and boot id of the running kernel (`/proc/sys/kernel`), with the `vm_id` that was given.
pub(crate) fn of_this_machine(vm_id: Option<String>) -> Identity {
    let read = |path| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    Identity {
        vm_id,
        host: read("/proc/sys/kernel/hostname").unwrap_or_default(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
    }
}
