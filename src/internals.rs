//! What the two programs, and the tests, benches, fuzzers and the simulator of this repository, use beyond the public
//! modules. It is no API: it may change with any version. A part that none of them uses any more is removed here.

pub mod agent {
    pub use crate::agent::{Ports, TelemetryMux, assemble, record_stages, stages};
}

pub mod cli {
    pub use crate::cli::{Arguments, EXIT_CONFIG, main};
    #[cfg(feature = "host")]
    pub mod host {
        pub use crate::cli::host::{arguments, main};
    }
    pub mod validate {
        pub use crate::cli::validate::{ReportOptions, report};
    }
}

pub mod commands {
    pub mod actions {
        pub use crate::commands::actions::{
            Action, ActionOutcome, ActionRequest, Afterwards, Context, LINE_MAX,
        };
        pub mod applications {
            pub use crate::commands::actions::applications::{
                CheckApplicationUpdates, GetInstalledApplicationsWMI, installed_in, updates_in,
            };
        }
        pub mod checks {
            pub use crate::commands::actions::checks::{RunAllHealthChecks, RunHealthCheck};
            pub mod disk {
                pub use crate::commands::actions::checks::disk::CheckDiskSpace;
            }
        }
        pub mod cleanup {
            pub use crate::commands::actions::cleanup::{DiskCleanup, TARGETS, run_in};
        }
        pub mod packages {
            pub use crate::commands::actions::packages::{
                ChangeKind, Manager, Operation, PackageInstall, PackageList, PackageRemove,
                PackageSearch, PackageUpdate, Planned, Root, change_in, list_in,
                planned_changes_in, search_in,
            };
        }
        pub mod plan {
            pub use crate::commands::actions::plan::{Argument, Effect, Part, Value};
        }
        pub mod power {
            pub use crate::commands::actions::power::RebootSystem;
        }
        pub mod processes {
            pub use crate::commands::actions::processes::{ProcessKill, ProcessList, ProcessTop};
        }
        pub mod registry {
            pub use crate::commands::actions::registry::{request, rules};
        }
        pub mod resources {
            pub use crate::commands::actions::resources::CheckResourceOptimization;
        }
        pub mod services {
            pub use crate::commands::actions::services::{
                ServiceControl, ServiceList, ServiceOperation, ends_the_system,
            };
        }
        pub mod system {
            pub use crate::commands::actions::system::{OsInfo, SystemInfo};
        }
        pub mod unsupported {
            pub use crate::commands::actions::unsupported::OtherSystem;
        }
        pub mod updates {
            pub use crate::commands::actions::updates::{
                CheckLinuxUpdates, GetUpdateHistory, UpdateSystemSoftware, check_in, history_in,
                upgrade_in,
            };
        }
        pub mod users {
            pub use crate::commands::actions::users::UserList;
        }
    }
    pub mod argument {
        pub use crate::commands::argument::{Account, PackageName, Query, ServiceName};
    }
    pub mod audit {
        pub use crate::commands::audit::{Audit, AuditError, LATE, WAITING_UNHEARD};
        pub mod chain {
            pub use crate::commands::audit::chain::{Link, verify};
        }
    }
    pub mod authorize {
        pub use crate::commands::authorize::{
            Authorization, Authorize, AuthorizedMessage, CurrentPolicy, Permit,
        };
        pub mod policy {
            pub use crate::commands::authorize::policy::{Decision, Policy};
        }
    }
    pub mod decode {
        pub use crate::commands::decode::Decode;
        pub mod ack_filter {
            pub use crate::commands::decode::ack_filter::AckFilter;
        }
    }
    pub mod execute {
        pub use crate::commands::execute::Execute;
        pub mod executor {
            pub use crate::commands::execute::executor::Executor;
        }
        pub mod running {
            pub use crate::commands::execute::running::Running;
        }
        pub mod unit {
            pub mod supervisor {
                pub use crate::commands::execute::unit::supervisor::{WORD, main};
            }
        }
    }
    pub mod notify {
        pub mod agent_events {
            pub use crate::commands::notify::agent_events::{AgentEvents, EventReceiver};
        }
        pub mod control_messages {
            pub use crate::commands::notify::control_messages::ControlMessages;
        }
        pub mod drain_acks {
            pub use crate::commands::notify::drain_acks::DrainAcks;
        }
        pub mod drop_report {
            pub use crate::commands::notify::drop_report::{DropReport, LOOK_EVERY};
        }
        pub mod session_start {
            pub use crate::commands::notify::session_start::{SessionStart, SessionStarts};
        }
    }
    pub mod outcome {
        pub use crate::commands::outcome::{Outcome, OutputSize};
    }
    pub mod process {
        pub use crate::commands::process::{
            Exit, Finished, OutputStream, PATH, Prepared, Program, ProgramOutput, Runner, Settings,
            command_line, script,
        };
        pub mod exec_helper {
            pub use crate::commands::process::exec_helper::{WORD, main};
        }
    }
    pub mod receive {
        pub mod inbound {
            pub use crate::commands::receive::inbound::{Receive, SharedInbound};
        }
        pub mod line_framer {
            pub use crate::commands::receive::line_framer::{Frame, Line};
        }
    }
    pub mod reply {
        pub use crate::commands::reply::{CommandType, Outbound, Reply};
        pub mod sink {
            pub use crate::commands::reply::sink::ReplySink;
        }
    }
    pub mod request {
        pub use crate::commands::request::{
            HostMessage, RAW_COMMAND, RawCommand, Refusal, Request, RequestKind, SCRIPT, Script,
            Shell,
        };
    }
    pub mod request_log {
        pub use crate::commands::request_log::{
            CUT, CUT_SCRIPT, Claim, Continued, LATE, NAMES, NOT_RUN, Owner, REQUESTS_KEPT,
            Recovery, RequestLog, SIZE,
        };
    }
    pub mod secret {
        pub use crate::commands::secret::harden;
    }
    pub mod verify {
        pub use crate::commands::verify::{Verified, Verify};
    }
}

pub mod config {
    pub use crate::config::{
        AgentSettings, BUILT_IN, Batch, ChangesOptions, Collect, Commands, ConfigError, Count,
        Delivery, Destination, Enforce, Enrich, FileOptions, IdentityOptions, Loaded, Period,
        PipelineFile, ProcessesOptions, RatesOptions, Read, RecordsFile, SelectOptions, Serialize,
        Size, TagsOptions, Target, TopOptions, Write, load, load_file,
    };
    pub mod reference {
        pub use crate::config::reference::{AGENT, COMMANDS, PIPELINE, Page, RECORDS, Section};
    }
    pub mod schema {
        pub use crate::config::schema::KINDS;
    }
}

pub mod files {
    pub use crate::files::StateFolder;
}

pub mod machine_events {
    pub use crate::machine_events::MachineEvents;
}

pub mod port {
    pub use crate::port::{
        AckTracker, Audience, Breaker, CHUNK_BYTES_MAX, ControlLines, Counters, DURABLE_KEPT,
        Device, HostPresence, Inbound, NotOpen, Opener, Port, PortExit, Received, Sent, Summary,
        Target, TrackedFrame, WINDOW_BYTES, WRITE_BYTES_MAX,
    };
}

pub mod record_file {
    pub use crate::record_file::{File, Storage};
}

pub mod records {
    pub use crate::records::Records;
    pub mod batch {
        pub use crate::records::batch::Decode;
    }
    pub mod buffers {
        pub use crate::records::buffers::Buffers;
    }
    pub mod read {
        pub mod follow {
            pub use crate::records::read::follow::{Follower, From, Options, Pattern, Positions};
        }
    }
    pub mod transform {
        pub use crate::records::transform::{MANUAL, Manual, Pass};
    }
}

pub mod spool {
    pub use crate::spool::{
        Acks, DurableMessage, DurableSink, ITEMS_MAX, MEMORY_MAX, Machine, MessageKind, NAMES,
        Opened, SIZE, SIZE_MIN, SessionIds, Settings, Spool, SpoolStatus, SpoolTask, State,
        TOMBSTONE_MAX, open, scan,
    };
}
