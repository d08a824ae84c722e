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
//! # Reading order
//! | module | what it is |
//! |---|---|
//! | [`mod@redact`] | secrets in texts and command lines, taken out |
//! | [`pipeline`] | the engine: stages, channels, tasks, supervision |
//! | [`model`] | the data that travels |
//! | [`metrics`] | the flow: collect → enrich → batch → serialize |
//! | [`wire`] | the formats, byte for byte |
//! | [`records`] | the flow of what others write: read → transform → serialize |
//! | [`commands`] | the other flow: receive → verify → decode → authorize → execute → reply |
//! | [`sinks`] | file, Unix socket, TCP, syslog, stdout, null |
//! | [`files`] | files and folders that no other user may change; the state folder |
//! | [`spool`] | durable messages, on disk until the host has acknowledged them |
//! | [`port`] | the device: find, open, read and write at once |
//! | [`values`] | texts, times, sizes and counts of files |
//! | [`config`] | the files as types, and errors that say where |
//! | [`machine_events`] | suspends, clock steps, restores, clones |
//! | [`agent`] | files → graphs → a running service, its changes and its end |
//! | [`mod@bench`] | the same pipeline flat out, checked |
//! | [`host`] | the other end of the port, for people and tests without a host |
//! | `relay` | the other end of all guests' ports: their lines to files and to Prometheus |
//! | [`cli`] | the commands; the only part that prints |
//!
//! A program that uses this crate as a library begins with `use infiniservice::prelude::*;` and the programs of
//! `examples/`.
//!
//! Every bound, with its reason, is in `docs/architecture.md`.
#![forbid(unsafe_code)]

pub mod bench;
pub mod cli;
pub mod commands;
pub mod config;
pub mod agent;
pub mod spool;
pub mod files;
pub mod host;
pub mod machine_events;
pub mod metrics;
pub mod model;
pub mod pipeline;
pub mod port;
pub mod records;
pub mod redact;
#[cfg(feature = "host")]
pub mod relay;
pub mod sinks;
mod sync;
pub mod values;
pub mod wire;

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
