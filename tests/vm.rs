//! The agent on a real port: a real kernel, a real virtio-serial device, the release binary in the
//! guest and a plain socket at the host. Nothing here knows how the agent is built inside.
//!
//! Each case boots its own machine and says by its name what it holds the agent to. As many run at a time as there
//! are test threads; those that measure run alone. `cargo test` shows them as ignored. With what they need (QEMU, a static busybox, and the kernel, the disk and the program of
//! `.ci/vm-kernel`, `.ci/vm-systemd` and `.ci/vm-vsock`) `cargo test --test vm -- --ignored` runs them, and fails where something is
//! missing; the case of the relay has a NATS server and Prometheus beside its machines. `.ci/run` gets everything and runs them.
//!
//! Reading order: [`lab`] (what this machine must have), [`kernel`] and [`initramfs`] (what boots),
//! [`systemd`] (the machine with a whole system on its disk, from `.ci/vm-systemd`) and [`package`] (the `.deb` for it),
//! [`qemu`] (the machine), [`travel`] (its way into another one), [`vsock`] (the host's half of its vsock device), [`qmp`], [`guest`], [`host`] and [`talk`] (its handles), [`agent`] (the process
//! in the guest) and [`unit`] (what the shipped unit makes of its surroundings), [`installed`] (one that was installed), [`shape`] (what a line must be), then the cases.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a step of a case that fails ends the case")]

mod support;

#[path = "doubles/mod.rs"]
mod doubles;
#[path = "vm/accel.rs"]
mod accel;
#[path = "vm/agent.rs"]
mod agent;
#[path = "vm/guest.rs"]
mod guest;
#[path = "vm/host.rs"]
mod host;
#[path = "vm/initramfs.rs"]
mod initramfs;
#[path = "vm/kernel.rs"]
mod kernel;
#[path = "vm/lab.rs"]
mod lab;
#[path = "vm/installed.rs"]
mod installed;
#[path = "vm/package.rs"]
mod package;
#[path = "vm/pipelines.rs"]
mod pipelines;
#[path = "vm/qemu.rs"]
mod qemu;
#[path = "vm/qmp.rs"]
mod qmp;
#[path = "vm/shape.rs"]
mod shape;
#[path = "vm/systemd.rs"]
mod systemd;
#[path = "vm/talk.rs"]
mod talk;
#[path = "vm/travel.rs"]
mod travel;
#[path = "vm/unit.rs"]
mod unit;
#[path = "vm/vsock.rs"]
mod vsock;
#[path = "vm/wait.rs"]
mod wait;

#[path = "vm/case_commands.rs"]
mod commands;
#[path = "vm/case_crash.rs"]
mod crash;
#[path = "vm/case_delivery.rs"]
mod spool;
#[path = "vm/case_diagnose.rs"]
mod diagnose;
#[path = "vm/case_host.rs"]
mod host_comes_and_goes;
#[path = "vm/case_install.rs"]
mod install;
#[path = "vm/case_life.rs"]
mod machine_events;
#[path = "vm/case_load.rs"]
mod load;
#[path = "vm/case_manners.rs"]
mod manners;
#[path = "vm/case_model.rs"]
mod model;
#[path = "vm/case_package.rs"]
mod packaged;
#[path = "vm/case_plug.rs"]
mod plug;
#[path = "vm/case_recipes.rs"]
mod recipes;
#[path = "vm/case_records.rs"]
mod case_records;
#[path = "vm/case_relay.rs"]
mod relayed;
#[path = "vm/case_reload.rs"]
mod reload;
#[path = "vm/case_units.rs"]
mod units;
#[path = "vm/case_systemd.rs"]
mod under_systemd;
#[path = "vm/case_vsock.rs"]
mod over_vsock;
