//! What the host may ask for, decoded and checked. Does nothing of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::commands::decode::argument::{
    Account, ComputerName, DomainName, PackageName, Query, ServiceName,
};
use crate::commands::verify::secret::Secret;
use crate::model::Rank;
use crate::pipeline::Reservation;

/// One thing the host asked for, with everything that was told about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The host's name for it; the answer carries the same.
    pub id: String,
    /// What is asked.
    pub what: What,
    /// How long it may take, counted from when the host sent it. Never zero.
    pub timeout: Duration,
    /// When its line was whole.
    pub received: Instant,
    /// How old it was then.
    pub age: Duration,
    /// What it is charged while it waits and runs.
    pub held: Reservation,
}

/// What runs of a request is asked to end when this share of its time is left …
const LEAD: u32 = 20;
/// … or this, where that is less.
const LEAD_MAX: Duration = Duration::from_millis(500);

impl Request {
    /// A request that was received as soon as it was sent.
    pub fn new(id: String, what: What, timeout: Duration, received: Instant) -> Self {
        Self { id, what, timeout, received, age: Duration::ZERO, held: Reservation::default() }
    }

    /// When the host gives it up: an answer that comes later is lost.
    pub fn deadline(&self) -> Instant {
        self.received + self.timeout.saturating_sub(self.age)
    }

    /// When what still runs of it is asked to end, so that the answer, with what there is of its output, is there
    /// before the [deadline](Self::deadline): 5 % of its time before it, half a second at most. The host's timer runs
    /// to the millisecond.
    pub fn ends_by(&self) -> Instant {
        self.deadline() - self.lead()
    }

    /// When it is answered at the latest, with what is known then: a quarter of that before the
    /// [deadline](Self::deadline), in which the answer is written down and sent.
    pub fn answered_by(&self) -> Instant {
        self.deadline() - self.lead() / 4
    }

    fn lead(&self) -> Duration {
        (self.timeout.saturating_sub(self.age) / LEAD).min(LEAD_MAX)
    }
}

/// Among the variables of a command line or a script: what it starts and does not wait for shall go on. The
/// wire has no other place for it.
pub const DETACH: &str = "INFINISERVICE_DETACH";

impl What {
    /// Whether what it starts and does not wait for shall go on when it has ended: [`DETACH`] is set, to
    /// anything but `0`, `false`, `no` and nothing.
    pub fn detach(&self) -> bool {
        let variables = match self {
            Self::Action(_) => return false,
            Self::Raw(raw) => &raw.environment,
            Self::Script(script) => &script.inputs,
        };
        let off = ["", "0", "false", "no"];
        let is_on = |value: &String| !off.iter().any(|off| value.trim().eq_ignore_ascii_case(off));
        variables.get(DETACH).is_some_and(is_on)
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// One of the known actions (`SafeCommand`).
    Action(ActionRequest),
    /// A command line for a shell (`UnsafeCommand`).
    Raw(RawCommand),
    /// A script that the host had pending.
    Script(Script),
}

impl What {
    /// Whether it may change the machine: whatever is not known to read only.
    pub fn changes_machine(&self) -> bool {
        use Action::*;
        let Self::Action(ActionRequest { action, .. }) = self else { return true };
        let is_status =
            matches!(action, ServiceControl { operation: ServiceOperation::Status, .. });
        let reads = matches!(
            action,
            SystemInfo
                | OsInfo
                | UserList
                | ServiceList
                | PackageList
                | PackageSearch(_)
                | ProcessList { .. }
                | ProcessTop { .. }
                | CheckDiskSpace { .. }
                | CheckResourceOptimization
                | RunHealthCheck(_)
                | RunAllHealthChecks
                | CheckLinuxUpdates
                | GetInstalledApplicationsWMI
                | CheckApplicationUpdates
                | GetUpdateHistory
                | GetApplicationDetails(_)
                | Incomplete { .. }
                | OtherSystem(_)
                | NotBuilt { .. }
        );
        !reads && !is_status
    }
}

/// A known action, and the name that it was asked for by. Several names may become one action:
/// `CleanTemporaryFiles` is `DiskCleanup`. The answer and the audit bear the one that was asked for.
#[derive(Clone, PartialEq)]
pub struct ActionRequest {
    asked: Box<str>,
    /// What is done.
    pub action: Action,
}

/// A command line for a shell.
#[derive(Clone, PartialEq, Eq)]
pub struct RawCommand {
    /// The command line; may hold secrets, so it is never in a log.
    pub command: String,
    /// Which shell.
    pub shell: Shell,
    /// Where it starts; must exist.
    pub working_dir: Option<PathBuf>,
    /// Added to the clean environment; may hold secrets.
    pub environment: BTreeMap<String, String>,
    /// As whom; root where absent.
    pub run_as: Option<Account>,
}

/// A pending script. Its [`Request::id`] is the execution id.
#[derive(Clone, PartialEq, Eq)]
pub struct Script {
    /// Its name, for the log.
    pub name: String,
    /// Its text; may hold secrets.
    pub content: String,
    /// Which shell.
    pub shell: Shell,
    /// Values for its variables; may hold secrets.
    pub inputs: BTreeMap<String, String>,
    /// As whom; root where absent.
    pub run_as: Option<Account>,
}

/// A shell by the names the host uses, in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shell {
    /// `sh`: also where none is named.
    #[default]
    Sh,
    /// `bash`.
    Bash,
    /// `cmd`: not on Linux.
    Cmd,
    /// `powershell` or `pwsh`.
    PowerShell,
}

/// The known actions. Arguments are checked when they are decoded, so none can be dangerous to hand to
/// a program as one argument.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Kind of machine.
    SystemInfo,
    /// The same, with package managers and the default shell.
    OsInfo,
    /// Accounts of people.
    UserList,
    /// All services.
    ServiceList,
    /// One service.
    ServiceControl {
        /// Which.
        service: ServiceName,
        /// What to do with it.
        operation: ServiceOperation,
    },
    /// All installed packages.
    PackageList,
    /// Packages that can be installed.
    PackageSearch(Query),
    /// Installs one.
    PackageInstall(PackageName),
    /// Removes one.
    PackageRemove(PackageName),
    /// Brings one up to date.
    PackageUpdate(PackageName),
    /// Brings everything up to date, or one package.
    UpdateSystemSoftware(Option<PackageName>),
    /// Processes.
    ProcessList {
        /// At most so many.
        limit: Option<u32>,
    },
    /// Processes that use most.
    ProcessTop {
        /// At most so many.
        limit: Option<u32>,
        /// By what.
        by: Rank,
    },
    /// Ends a process.
    ProcessKill {
        /// Which.
        pid: u32,
        /// At once (SIGKILL) instead of asking it (SIGTERM).
        force: bool,
    },
    /// Space on file systems.
    CheckDiskSpace {
        /// Above this share in use: a warning.
        warning_percent: f64,
        /// Above this one: critical.
        critical_percent: f64,
    },
    /// Whether the machine has more or less than it needs.
    CheckResourceOptimization,
    /// One check by name, or all.
    RunHealthCheck(Option<String>),
    /// All checks.
    RunAllHealthChecks,
    /// Deletes what the declared targets name.
    DiskCleanup {
        /// `temp_files`, `system_cache`, …; empty: temporary files.
        targets: Vec<String>,
    },
    /// Pending updates of the system's packages.
    CheckLinuxUpdates,
    /// Installed applications; the name is Windows', the host asks Linux too.
    GetInstalledApplicationsWMI,
    /// What is known of one installed application: a package.
    GetApplicationDetails(PackageName),
    /// Installed applications that could be newer.
    CheckApplicationUpdates,
    /// Past updates.
    GetUpdateHistory,
    /// Restarts the machine, seconds after the answer.
    RebootSystem {
        /// Without asking programs to end.
        force: bool,
    },
    /// Joins a domain.
    JoinDomain(Box<Join>),
    /// Makes the machine ready to be copied.
    PrepareGoldenImage(GoldenImage),
    /// Known, and without what it cannot be done without: rules judge it like any, then it fails with this reason.
    Incomplete {
        /// The host's name for it.
        name: String,
        /// What is missing.
        why: &'static str,
    },
    /// Makes sense on another system only: answered with success and a note.
    OtherSystem(String),
    /// Known by name and not built: answered with failure and this reason.
    NotBuilt {
        /// The host's name for it.
        name: String,
        /// Why.
        why: &'static str,
    },
}

/// A domain to join, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Which.
    pub domain: DomainName,
    /// Who may let machines join.
    pub username: Account,
    /// Shown nowhere, and overwritten when it is dropped.
    pub password: Secret,
    /// Where in the directory the machine's account is made: a distinguished name.
    pub ou: Option<String>,
    /// What the machine is called there; its host name where absent.
    pub computer_name: Option<ComputerName>,
    /// Whether the machine is restarted, seconds after the answer.
    pub restart_after: bool,
}

/// How a machine is made ready to be copied. The host has to say each of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoldenImage {
    /// How much is taken away.
    pub level: CleanupLevel,
    /// Whether the accounts of people go, with their homes.
    pub sanitize_user_data: bool,
    /// Whether the machine is switched off, seconds after the answer.
    pub shutdown_after: bool,
}

/// How much is taken away; each level does what the one before does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CleanupLevel {
    /// What makes the machine this one: ids, keys, leases, the agent's state.
    Minimal,
    /// What was written while it ran: logs, histories, caches, temporary files.
    Standard,
    /// Subscriptions, and room on the host.
    Deep,
}

impl CleanupLevel {
    /// The host's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Standard => "standard",
            Self::Deep => "deep",
        }
    }
}

/// What to do with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceOperation {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Stop and start it.
    Restart,
    /// Start it at boot.
    Enable,
    /// Do not start it at boot.
    Disable,
    /// Tell how it is.
    Status,
}

impl ActionRequest {
    /// An action that was asked for as `asked`.
    pub fn new(asked: &str, action: Action) -> Self {
        Self { asked: asked.into(), action }
    }

    /// The name that it was asked for by.
    pub fn name(&self) -> &str {
        &self.asked
    }

    /// The action's own name, where it was asked for by another.
    pub fn becomes(&self) -> Option<&str> {
        Some(self.action.name()).filter(|name| *name != &*self.asked)
    }
}

impl From<Action> for ActionRequest {
    /// Asked for by its own name.
    fn from(action: Action) -> Self {
        Self { asked: action.name().into(), action }
    }
}

/// `CleanTemporaryFiles = DiskCleanup { … }`, or the action alone.
impl std::fmt::Debug for ActionRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.becomes().is_some() {
            write!(f, "{} = ", self.asked)?;
        }
        self.action.fmt(f)
    }
}

impl std::fmt::Debug for RawCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawCommand").field("shell", &self.shell).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Action {
    /// The host's name for it; where it has several, the one that all of them become.
    pub fn name(&self) -> &str {
        match self {
            Self::SystemInfo => "SystemInfo",
            Self::OsInfo => "OsInfo",
            Self::UserList => "UserList",
            Self::ServiceList => "ServiceList",
            Self::ServiceControl { .. } => "ServiceControl",
            Self::PackageList => "PackageList",
            Self::PackageSearch(_) => "PackageSearch",
            Self::PackageInstall(_) => "PackageInstall",
            Self::PackageRemove(_) => "PackageRemove",
            Self::PackageUpdate(_) => "PackageUpdate",
            Self::UpdateSystemSoftware(_) => "UpdateSystemSoftware",
            Self::ProcessList { .. } => "ProcessList",
            Self::ProcessTop { .. } => "ProcessTop",
            Self::ProcessKill { .. } => "ProcessKill",
            Self::CheckDiskSpace { .. } => "CheckDiskSpace",
            Self::CheckResourceOptimization => "CheckResourceOptimization",
            Self::RunHealthCheck(_) => "RunHealthCheck",
            Self::RunAllHealthChecks => "RunAllHealthChecks",
            Self::DiskCleanup { .. } => "DiskCleanup",
            Self::CheckLinuxUpdates => "CheckLinuxUpdates",
            Self::GetInstalledApplicationsWMI => "GetInstalledApplicationsWMI",
            Self::GetApplicationDetails(_) => "GetApplicationDetails",
            Self::CheckApplicationUpdates => "CheckApplicationUpdates",
            Self::GetUpdateHistory => "GetUpdateHistory",
            Self::RebootSystem { .. } => "RebootSystem",
            Self::JoinDomain(_) => "JoinDomain",
            Self::PrepareGoldenImage(_) => "PrepareGoldenImage",
            Self::OtherSystem(name)
            | Self::Incomplete { name, .. }
            | Self::NotBuilt { name, .. } => name,
        }
    }
}
