//! The typed requests of the host.

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

/// One request of the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The id that the host gave it; the reply carries the same.
    pub id: String,
    /// What to run.
    pub kind: RequestKind,
    /// The timeout, counted from when the host sent it. Never zero.
    pub timeout: Duration,
    /// When its line was complete.
    pub received: Instant,
    /// Its age at that time.
    pub age: Duration,
    /// Its memory reservation while it waits and runs.
    pub held: Reservation,
}

/// The program of a request is terminated when this fraction of its timeout is left …
const LEAD: u32 = 20;
/// … but at most this much before the deadline.
const LEAD_MAX: Duration = Duration::from_millis(500);

impl Request {
    /// A request that was received as soon as it was sent.
    pub fn new(id: String, kind: RequestKind, timeout: Duration, received: Instant) -> Self {
        Self { id, kind, timeout, received, age: Duration::ZERO, held: Reservation::default() }
    }

    /// When the host stops waiting: a later reply is lost.
    pub fn deadline(&self) -> Instant {
        self.received + self.timeout.saturating_sub(self.age)
    }

    /// When its program is terminated, so that the reply with the output so far arrives before the
    /// [deadline](Self::deadline): 5 % of the timeout before it, half a second at most.
    pub fn ends_by(&self) -> Instant {
        self.deadline() - self.lead()
    }

    /// When the reply is due at the latest: a quarter of that margin before the [deadline](Self::deadline), which leaves
    /// time to log and send it.
    pub fn answered_by(&self) -> Instant {
        self.deadline() - self.lead() / 4
    }

    fn lead(&self) -> Duration {
        (self.timeout.saturating_sub(self.age) / LEAD).min(LEAD_MAX)
    }
}

/// The variable by which a command line or script requests that its background processes keep running. The wire has no
/// field for it.
pub const DETACH: &str = "INFINISERVICE_DETACH";

impl RequestKind {
    /// Whether its background processes keep running after it ends: [`DETACH`] is set to anything but `0`, `false`, `no` or
    /// an empty value.
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

/// The kinds of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum RequestKind {
    /// One of the known actions (`SafeCommand`).
    Action(ActionRequest),
    /// A command line for a shell (`UnsafeCommand`).
    Raw(RawCommand),
    /// A script that the host had pending.
    Script(Script),
}

impl RequestKind {
    /// Whether it may change the machine; false only for read-only actions.
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

/// A known action, and the name in the request. An action may have aliases: `CleanTemporaryFiles` is `DiskCleanup`. The
/// reply and the audit use the name in the request.
#[derive(Clone, PartialEq)]
pub struct ActionRequest {
    asked: Box<str>,
    /// The action.
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

/// The known actions. Their arguments are checked during decoding, so each is safe to pass to a program as one argument.
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
    /// An action that was requested by the name `asked`.
    pub fn new(asked: &str, action: Action) -> Self {
        Self { asked: asked.into(), action }
    }

    /// The name in the request.
    pub fn name(&self) -> &str {
        &self.asked
    }

    /// The action's own name, if the request used an alias.
    pub fn becomes(&self) -> Option<&str> {
        Some(self.action.name()).filter(|name| *name != &*self.asked)
    }
}

impl From<Action> for ActionRequest {
    /// Requested by its own name.
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
