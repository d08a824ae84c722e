//! InfiniService: a guest daemon made of streams.
//!
//! It runs inside a virtual machine, reads the machine, and streams what it finds to the host over a
//! virtio-serial port. A pipeline is a chain of small stages; the compiler checks that they fit.
//!
//! ```text
//!  collect ──▶ mpsc ─▶ [ enrich ▸ batch ▸ serialize ] ─▶ broadcast ring ─┐ port: lanes ─▶ virtio-serial ─▶ host
//!  (blocking             one task, fused                 newest N frames  ▼ one writer,                    │
//!   pool)                                                    └─▶ file …     durable frames first           │
//!                                                                        ▲                                 │
//!  spool ◀─ mpsc ◀─ [ reply ] ◀─ execute (≤ N) ◀─ mpsc ◀─ [ frame ▸ verify ▸ decode ▸ authorize ] ◀────────┘
//!  on disk until acknowledged ───────────────────────────────────────────┘
//! ```
//!
//! # The readings as a stream
//! To read metrics without the daemon:
//! ```
//! use futures::StreamExt;
//! use infiniservice::metrics::collect::{Collector, CpuCollector, MemoryCollector, readings};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let (cpu, memory) = (CpuCollector::new(), MemoryCollector::new());
//! let collect: Vec<Box<dyn Collector>> = vec![Box::new(cpu), Box::new(memory)];
//! let mut readings = std::pin::pin!(readings(Duration::from_millis(100), collect));
//! let reading = readings.next().await.unwrap();
//! assert!(reading.cpu.unwrap().usage_percent <= 100.0);
//! assert!(reading.memory.unwrap().total_bytes > 0);
//! # }
//! ```
//!
//! # As a library
//! A program begins with `use infiniservice::prelude::*;` and the programs of `examples/`. What it may use is what is listed
//! here:
//!
//! | module | what it is |
//! |---|---|
//! | [`prelude`] | the builder, the traits of the stages, the collectors, enrichers, formats and sinks |
//! | [`pipeline`] | the engine: stages, channels, tasks, supervision |
//! | [`model`] | the data that travels |
//! | [`metrics`] | the flow: collect → enrich → batch → serialize |
//! | [`wire`] | the formats, byte for byte |
//! | [`sinks`] | file, Unix socket, TCP, syslog, stdout, null |
//! | [`host`] | the other end of the port, for people and tests without a host |
//!
//! The other modules are the programs' own. `internals`, hidden from this documentation, lists what the programs and the tests of
//! this repository use of them; it may change with any version.
//!
//! # Reading order
//! `pipeline/stage.rs`, then `metrics/mod.rs`: the flow in one screen. All modules, from top to bottom, and every bound with its
//! reason are in `docs/architecture.md`.
#![forbid(unsafe_code)]
#![deny(unreachable_pub)]

// For everybody.
pub mod host;
pub mod metrics;
pub mod model;
pub mod pipeline;
pub mod sinks;
pub mod wire;

// For the programs and the tests of this repository.
#[doc(hidden)]
pub mod internals;

mod agent;
mod bench;
mod cli;
mod commands;
mod config;
mod files;
mod machine_events;
mod port;
mod record_file;
mod records;
mod redact;
#[cfg(feature = "host")]
mod relay;
mod sort;
mod spool;
mod sync;
mod tasks;
mod values;

/// What a program that uses this crate as a library needs: the builder, the traits of the stages, the collectors,
/// enrichers, formats and sinks.
pub mod prelude {
    pub use crate::metrics::batch::{Batcher, Limits};
    pub use crate::metrics::collect::{
        AgentCollector, Collector, CpuCollector, DiskCollector, HostCollector, IntervalSource,
        LoadCollector, MemoryCollector, NetworkCollector, PortsCollector, PressureCollector,
        ProcessesCollector, readings,
    };
    pub use crate::metrics::enrich::{Changes, Join, Rates, Select, Tags, Top};
    pub use crate::metrics::serialize::Serialize;
    pub use crate::model::{Batch, Field, Frame, Group, Kind, OwnGroup, SystemMetrics};
    pub use crate::pipeline::{
        ConcurrencyLimit, ConcurrencyLimits, Context, EventCount, ExitStatus, Graph, Handler,
        Outcome, Output, Pipeline, Restart, Ring, Sink, Source, StageError, StatsRegistry,
        Transform,
    };
    pub use crate::sinks::{File, Null, Stdout, Syslog, Tcp, Unix};
    pub use crate::wire::Format;
    #[doc(no_inline)]
    pub use tokio_util::sync::CancellationToken;
}
