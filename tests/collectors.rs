//! Each collector against an independent source on the machine that runs the test: the kernel's files
//! read here by other means, and `df`, `ps` and `ip`. A tool that is missing is said and passed over.
//! Where a value moves between two readings the tolerance stands beside the comparison.
#![allow(clippy::unwrap_used)] // in helpers of tests, which clippy.toml does not know as tests

#[path = "collectors/rig.rs"]
mod rig;
#[path = "collectors/machine.rs"]
mod machine;
#[path = "collectors/disks.rs"]
mod disks;
#[path = "collectors/network.rs"]
mod network;
#[path = "collectors/processes.rs"]
mod processes;
#[path = "collectors/agent.rs"]
mod agent;
#[path = "collectors/contract.rs"]
mod contract;
#[path = "collectors/nonsense.rs"]
mod nonsense;
