//! InfiniService: a guest daemon made of streams.
//!
//! It runs inside a virtual machine, reads the machine, and streams what it finds to the host over a
//! virtio-serial port. A pipeline is a chain of small stages; the compiler checks that they fit.
//!
//! ```text
//!  collect ──▶ mpsc ─▶ [ enrich ▸ batch ▸ serialize ] ─▶ broadcast ring ─┐ port: lanes ─▶ virtio-serial ─▶ host
//!  (blocking             one task, fused                 newest N frames  ▼ one writer,                    │
//!   pool)                                                    └─▶ file …     what must be read first        │
//!                                                                        ▲                                 │
//!  keeper ◀─ mpsc ◀─ [ reply ] ◀─ execute (≤ N) ◀─ mpsc ◀─ [ frame ▸ verify ▸ decode ▸ hear ▸ enforce ] ◀──┘
//!  on disk until read ───────────────────────────────────────────────────┘
//! ```
//!
//! # The readings as a stream
//! Whoever wants the machine's readings and no daemon takes this and nothing else:
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
//! | module | what it is | what it does not know |
//! |---|---|---|
//! | [`mod@redact`] | secrets in texts and command lines, taken out | where the text goes |
//! | [`model`] | the data that travels | how it is read or spelled |
//! | [`pipeline`] | the engine: stages, channels, tasks, supervision | any metric, file or device |
//! | [`metrics`] | the flow: collect → enrich → batch → serialize | where it ends |
//! | [`wire`] | the formats, byte for byte | when and where they are sent |
//! | [`commands`] | the other flow: frame → verify → decode → enforce → execute → reply | the device |
//! | [`sinks`] | file, socket, stdout, null | what the bytes mean |
//! | [`files`] | files and folders that nobody else may change; the state folder | what is in them |
//! | [`delivery`] | what must arrive, kept on disk until the host has read it | when that is |
//! | [`port`] | the device: find, open, read and write at once | what the bytes mean |
//! | [`config`] | the files as types, and errors that say where | how a stage is built |
//! | [`life`] | suspends, clock steps, restores, clones | what is done about them |
//! | [`daemon`] | files → graphs → a running service, its changes and its end | what a stage does |
//! | [`mod@bench`] | the same pipeline flat out, checked | anything of this machine |
//! | [`host`] | the other end of the port, for people and tests without a host | what the guest's side looks like inside |
//! | [`cli`] | the commands; the only part that prints | anything else |
//!
//! # Every bound, once
//! | boundary | channel | when full |
//! |---|---|---|
//! | collect → segment | mpsc, [`metrics::READINGS_WAITING`] readings | the cadence waits; missed ticks merge |
//! | segment → port, or several ways out | broadcast, `keep` frames (64) | the oldest is overwritten, counted as `overwritten` |
//! | the same over a reload | `keep` frames of the flow before, in front of the ring; four pipelines that are no more | the oldest are counted as `overwritten`, `shed`, `retired` |
//! | segment → one file, socket, stdout | mpsc, `keep` frames (64) | the segment waits |
//! | a batch | `max_items` (64), `max_bytes` (256 KiB), `max_delay` (1 s) | it leaves |
//! | a frame | 32 KiB, or one line of at most 1 MiB | processes and ports are cut from the end of the line |
//! | port, in hand | 32 KiB or one frame, and one frame more per lane | nothing more is pulled |
//! | replies to this host → port | mpsc, [`port::REPLIES_KEPT`] frames | the newest is dropped, counted as `full` |
//! | written and not known to be read | [`port::WINDOW_BYTES`], ¾ of them for metrics, or one longer frame; 4 MiB of what must be read, on a socket | metrics wait first |
//! | all that is queued | one ledger, `[memory] ceiling` (16 MiB), or half of what a smaller limit of the control group leaves beside 8 MiB | above half of it the oldest metrics are `shed`; at it requests are refused |
//! | re-opening the port | 100 ms to 30 s apart; five failures in a row: a rest of 15 s at least | |
//! | what must arrive | `[spool] size` (4 MiB, ¾ for what waits), 16,384 items; 4 MiB in memory while the disk takes none | events go first, then refusals, then answers (of a long one a word stays), then ends of scripts, counted as `spool full` |
//! | keeper → port | 1 MiB, a quarter of the spool, or one frame not known to be read | the rest waits on disk |
//! | requests for a sign of life that wait for their echo | 16 | the oldest is dropped |
//! | written beyond what is known to be read, to today's host | the window and 128 KiB | it is asked |
//! | what a host may take with it unread | 1,024 frames told apart | the newest count as one |
//! | port → reader | mpsc, [`port::CHUNKS_KEPT`] chunks of 4 KiB | the device is not read |
//! | a reading | 5 s; one job per collector on the blocking pool | the group is left out and told |
//! | blocking pool | 32 threads | the job waits |
//! | a write of a sink | 30 s | it counts as failed and is tried again; after 5 s it is logged |
//! | the log | 64 KiB that wait and as much being written, 16 KiB a line | lines are dropped and counted; a longer one is cut |
//! | a trouble of a sink, a group of readings, the local control | a line in [`pipeline::LOG_INTERVAL`] | what repeats is counted |
//! | the end of the log | 100 ms | what is not written is lost |
//! | systemd | 5 s for a word, 100 ms at the end | it is not told, and the log says so |
//! | a line of the host | 8 MiB, or an eighth of what the limit leaves; an id 128 bytes | it is dropped and counted |
//! | what is made of a line | its own length, charged before; arguments of an action 256 KiB, 256 variables | refused with a reason |
//! | scripts of one message | 256, one after the other | the next 1,024 are refused at once, the rest is dropped and told in the log |
//! | nonces remembered | [`commands::request_log::NONCES_KEPT`]; keep-alives need none | the earliest is forgotten, and what is not later is refused |
//! | the request log | [`commands::request_log::SIZE`] on disk; 1,024 commands and as many scripts that are done | it is written anew; the oldest is forgotten |
//! | the disk of the request log | 5 s for what must be on it before it starts | the request is refused |
//! | requests | `parallel` (5) at once, `waiting` (64) behind them, over reloads together | refused with a reason |
//! | a command's time | a program is asked to end 5 % of it before the host gives up (500 ms at most), and killed half as long before | answered with what there is of its output, a quarter as long before |
//! | events → host | mpsc, [`commands::news::EVENTS_WAITING`] events | the newest is lost, counted as `full` |
//! | events of reloads | 1 in 10 s | one tells of all since the one before, and how the files are now |
//! | reloads asked for | 8, one at a time | SIGHUP: one of them reads what is there; `reload`: refused |
//! | local control | 4 clients, 64 KiB and 5 s for a line | the one silent for longest is sent away; where all have spoken, the newest is refused |
//! | an answer of an agent or a guest that says nothing (`reload`, `host`) | 10 s | the command ends with a reason |
//! | `bench --sink file` | 4 files of 16 MiB | the oldest is removed, all of them at the end |
//! | a changed file | read after 500 ms without another change, 5 s at most | |
//! | a flow that is replaced | metrics: the shutdown deadline; commands: their own deadlines | what is held is lost, and said so |
//! | a program's output | 256 KiB a stream | head and tail are kept, the rest is counted |
//! | notes of the agent in an answer | 16, of what is left running five names | the others are left out, or counted |
//! | an answer | 1 MiB a line, 500 KiB of data | cut, and said so |
//! | an answer of an action | 99,999 characters a line ([`commands::actions::LINE_MAX`]) | texts, fields nobody reads and ends of lists go, and it says how many |
//! | what an operation on a unit pulls along | 512 units | it is refused where a rule limits anything |
//! | a step of PrepareGoldenImage | 120 s | it failed, and the machine is not switched off |
//! | a password, a place in a directory | 1 KiB each | the request is refused |
//! | answers remembered | 512, 1 MiB | what the oldest said is forgotten, then the oldest |
//! | audit lines waiting | 256, 5 s | the command is refused |
//! | restarts of a stage | 8 within a minute, 100 ms to 30 s apart | the daemon drains and exits 70 |
//! | the host's last word on what it has read | 1 s after all is said | what must be read comes again, marked |
//! | the shutdown | 5 s | what is held is lost |
#![forbid(unsafe_code)]

pub mod bench;
pub mod cli;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod delivery;
pub mod files;
pub mod host;
pub mod life;
pub mod metrics;
pub mod model;
pub mod pipeline;
pub mod port;
pub mod redact;
pub mod sinks;
pub mod wire;
