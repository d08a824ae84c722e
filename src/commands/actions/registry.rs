//! The names that a policy may use: every action the host can ask for, and what of it a rule can look
//! at. Decides nothing.

use crate::commands::decode::{RAW_COMMAND, SCRIPT};

/// What of a request a rule can look at, by the word that stands for it in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Argument {
    /// A package: as the host wrote it, without its architecture, and without the `+` or `-` that some
    /// package tools read as an instruction.
    Package,
    /// A service: as the host wrote it, and without `.service`.
    Service,
    /// What to do with a service: `start`, `stop`, `restart`, `enable`, `disable`, `status`.
    Operation,
    /// What packages are searched for.
    Query,
    /// A process id.
    Pid,
    /// What to clean up: `temp_files`, …
    Target,
    /// The name of a check or of a script.
    Name,
    /// As whom; `root` where the host names nobody.
    User,
    /// Where a command line starts, without `.`; one with `..` could be anywhere. `/` where
    /// the host names no folder.
    Path,
    /// `sh`, `bash`, `cmd` or `powershell`.
    Shell,
}

impl Argument {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Package,
        Self::Service,
        Self::Operation,
        Self::Query,
        Self::Pid,
        Self::Target,
        Self::Name,
        Self::User,
        Self::Path,
        Self::Shell,
    ];

    /// The word for it in files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Service => "service",
            Self::Operation => "operation",
            Self::Query => "query",
            Self::Pid => "pid",
            Self::Target => "target",
            Self::Name => "name",
            Self::User => "user",
            Self::Path => "path",
            Self::Shell => "shell",
        }
    }
}

use Argument::{Name, Operation, Package, Path, Pid, Query, Service, Shell, Target, User};

/// Every action that the host is known to send or to have sent, and its arguments that a rule can look
/// at. One that is not here can still be asked for; only rules with a `*` match it. A name that becomes
/// another action (`CleanTemporaryFiles`) has the arguments of that one.
pub const ACTIONS: &[(&str, &[Argument])] = &[
    (RAW_COMMAND, &[Shell, Path, User]),
    (SCRIPT, &[Name, Shell, User]),
    ("SystemInfo", &[]),
    ("OsInfo", &[]),
    ("UserList", &[]),
    ("ServiceList", &[]),
    ("ServiceControl", &[Service, Operation]),
    ("RestartServices", &[Service, Operation]),
    ("PackageList", &[]),
    ("PackageSearch", &[Query]),
    ("PackageInstall", &[Package]),
    ("PackageRemove", &[Package]),
    ("PackageUpdate", &[Package]),
    ("UpdateSystemSoftware", &[Package]),
    ("ProcessList", &[]),
    ("ProcessTop", &[]),
    ("ProcessKill", &[Pid]),
    ("CheckDiskSpace", &[]),
    ("CheckResourceOptimization", &[]),
    ("RunHealthCheck", &[Name]),
    ("RunAllHealthChecks", &[]),
    ("DiskCleanup", &[Target]),
    ("CleanTemporaryFiles", &[Target]),
    ("CheckLinuxUpdates", &[]),
    ("GetInstalledApplications", &[]),
    ("GetInstalledApplicationsWMI", &[]),
    ("GetApplicationDetails", &[Package]),
    ("CheckApplicationUpdates", &[]),
    ("CheckSpecificAppUpdates", &[]),
    ("GetUpdateHistory", &[]),
    ("GetLinuxUpdateHistory", &[]),
    ("GetAvailableUpdates", &[]),
    ("GetSecurityUpdates", &[]),
    ("GetPendingUpdates", &[]),
    ("GetPendingLinuxUpdates", &[]),
    ("GetLinuxSecurityUpdates", &[]),
    ("EstimateUpdateSize", &[]),
    ("EstimateDiskCleanup", &[]),
    ("CheckLinuxSecurity", &[]),
    ("GetLinuxSecurityStatus", &[]),
    ("CheckSecurityModules", &[]),
    ("GetFirewallStatus", &[Name]),
    ("CheckFirewallStatus", &[Name]),
    ("CheckWindowsUpdates", &[]),
    ("CheckWindowsDefender", &[]),
    ("GetDefenderStatus", &[]),
    ("GetThreatHistory", &[]),
    ("RunDefenderQuickScan", &[]),
    ("AutoFixWindowsUpdates", &[]),
    ("AutoFixDefender", &[]),
    ("AutoOptimizeDisk", &[]),
    ("CheckSystemIntegrity", &[]),
    ("ValidateSystemHealth", &[Name]),
    ("RunMaintenanceTask", &[]),
    ("ExecutePowerShellScript", &[]),
    ("PrepareGoldenImage", &[]),
    ("JoinDomain", &[]),
    ("RebootSystem", &[]),
];

/// The arguments that a rule can look at, of the actions that `matches`; `None` where there is no such
/// action.
pub fn arguments_of(matches: impl Fn(&str) -> bool) -> Option<Vec<Argument>> {
    let mut known = ACTIONS.iter().filter(|(name, _)| matches(name)).peekable();
    known.peek()?;
    let mut arguments: Vec<Argument> =
        known.flat_map(|(_, arguments)| *arguments).copied().collect();
    arguments.sort();
    arguments.dedup();
    Some(arguments)
}
