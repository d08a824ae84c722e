//! Every message both ways, beside the files with their exact bytes.

mod file;

use std::time::{Duration, UNIX_EPOCH};

use infiniservice::internals::commands::outcome::Outcome;
use infiniservice::internals::commands::reply::Outbound;
use infiniservice::internals::commands::request::{RAW_COMMAND, Refusal};
use infiniservice::wire::outbound::{
    AgentEvent, Breaker, BreakerState, ErrorReport, Gravity, Severity,
};
use serde_json::{Value, json};

pub use file::golden;

/// One line of `tests/golden/inbound.jsonl` each, as today's host writes it, and what is made of it.
pub fn inbound() -> Vec<(Value, &'static str)> {
    let safe = |id: &str, command_type: Value, timeout: u32| json!({"type": "SafeCommand", "id": id, "command_type": command_type, "params": null, "timeout": timeout});
    let script = |id: &str, shell: &str| {
        json!({"execution_id": id, "script_id": "s1", "script_name": "Set up", "script_content": "echo \"é\"\n",
            "shell": shell, "execution_type": "FIRST_BOOT", "input_values": {"NAME": "lab"},
            "timeout_seconds": 600, "run_as": null})
    };
    let at = "2026-07-14T10:00:00.000Z";
    vec![
        (safe("c01", json!({"action": "SystemInfo"}), 30), "c01 30s SystemInfo"),
        (safe("c02", json!({"action": "OsInfo"}), 30), "c02 30s OsInfo"),
        (safe("c03", json!({"action": "ServiceList"}), 30), "c03 30s ServiceList"),
        (
            safe(
                "c04",
                json!({"action": "ServiceControl", "params": {"service": "nginx.service", "operation": "restart"}}),
                30,
            ),
            "c04 30s ServiceControl { service: ServiceName(\"nginx.service\"), operation: Restart }",
        ),
        (
            safe(
                "c05",
                json!({"action": "ServiceControl", "service_name": "nginx", "operation": "STOP"}),
                30,
            ),
            "c05 30s ServiceControl { service: ServiceName(\"nginx\"), operation: Stop }",
        ),
        (safe("c06", json!({"action": "PackageList"}), 45), "c06 45s PackageList"),
        (
            safe("c07", json!({"action": "PackageSearch", "query": "web server"}), 45),
            "c07 45s PackageSearch(Query(\"web server\"))",
        ),
        (
            safe("c08", json!({"action": "PackageInstall", "package": "libstdc++6"}), 120),
            "c08 120s PackageInstall(PackageName(\"libstdc++6\"))",
        ),
        (
            safe("c09", json!({"action": "PackageRemove", "package": "nano"}), 60),
            "c09 60s PackageRemove(PackageName(\"nano\"))",
        ),
        (
            safe("c10", json!({"action": "PackageUpdate", "package": "nano"}), 60),
            "c10 60s PackageUpdate(PackageName(\"nano\"))",
        ),
        (
            safe("c11", json!({"action": "PackageInstall", "package": ""}), 60),
            "c11 refused PackageInstall: a package is missing; name one",
        ),
        (
            safe("c12", json!({"action": "ProcessList", "limit": null}), 30),
            "c12 30s ProcessList { limit: None }",
        ),
        (
            safe("c13", json!({"action": "ProcessTop", "limit": 10, "sort_by": "memory"}), 30),
            "c13 30s ProcessTop { limit: Some(10), by: Memory }",
        ),
        (
            safe("c14", json!({"action": "ProcessKill", "pid": 4711, "force": true}), 30),
            "c14 30s ProcessKill { pid: 4711, force: true }",
        ),
        (
            safe("c15", json!({"action": "CheckDiskSpace"}), 60),
            "c15 60s CheckDiskSpace { warning_percent: 80.0, critical_percent: 90.0 }",
        ),
        (
            safe("c16", json!({"action": "CheckResourceOptimization"}), 240),
            "c16 240s CheckResourceOptimization",
        ),
        (safe("c17", json!({"action": "RunHealthCheck"}), 300), "c17 300s RunHealthCheck(None)"),
        (safe("c18", json!({"action": "RunAllHealthChecks"}), 300), "c18 300s RunAllHealthChecks"),
        (
            safe("c19", json!({"action": "DiskCleanup"}), 300),
            "c19 300s DiskCleanup { targets: [] }",
        ),
        (safe("c20", json!({"action": "CheckLinuxUpdates"}), 300), "c20 300s CheckLinuxUpdates"),
        (
            safe("c21", json!({"action": "GetInstalledApplicationsWMI"}), 180),
            "c21 180s GetInstalledApplicationsWMI",
        ),
        (
            safe("c22", json!({"action": "CheckApplicationUpdates"}), 180),
            "c22 180s CheckApplicationUpdates",
        ),
        (safe("c23", json!({"action": "GetUpdateHistory"}), 300), "c23 300s GetUpdateHistory"),
        (safe("c24", json!({"action": "UserList"}), 10), "c24 10s UserList"),
        (
            safe("c25", json!({"action": "RebootSystem", "force": false}), 30),
            "c25 30s RebootSystem { force: false }",
        ),
        (
            safe("c26", json!({"action": "UpdateSystemSoftware", "package": null}), 1800),
            "c26 1800s UpdateSystemSoftware(None)",
        ),
        (
            safe("c27", json!({"action": "CheckWindowsUpdates"}), 300),
            "c27 300s OtherSystem(\"CheckWindowsUpdates\")",
        ),
        (
            safe("c28", json!({"action": "CheckWindowsDefender"}), 300),
            "c28 300s OtherSystem(\"CheckWindowsDefender\")",
        ),
        (
            safe(
                "c29",
                json!({"action": "JoinDomain", "domain": "lab.example", "username": "ann", "password": "hunter2",
                "ou": null, "computer_name": null, "restart_after": true}),
                300,
            ),
            "c29 300s JoinDomain { domain: DomainName(\"lab.example\"), username: Account(\"ann\"), password: …, ou: None, \
             computer_name: None, restart_after: true }",
        ),
        (
            safe(
                "c30",
                json!({"action": "PrepareGoldenImage", "cleanup_level": "standard", "sanitize_user_data": true, "shutdown_after": true}),
                600,
            ),
            "c30 600s PrepareGoldenImage { level: Standard, sanitize_user_data: true, shutdown_after: true }",
        ),
        (
            safe(
                "c31",
                json!({"action": "ExecutePowerShellScript", "script": "Get-Date", "script_type": "inline", "run_as_admin": false}),
                120,
            ),
            "c31 120s NotBuilt { name: \"ExecutePowerShellScript\", why: \"PowerShell scripts are for Windows guests; send an UnsafeCommand with shell BASH\" }",
        ),
        (
            safe(
                "c32",
                json!({"action": "RunMaintenanceTask", "task_type": "cleanup", "task_name": "tmp", "parameters": {"a": 1}, "validate_before": true, "validate_after": true}),
                30,
            ),
            "c32 30s NotBuilt { name: \"RunMaintenanceTask\", why: \"maintenance tasks are not built in this agent yet; send what they do as commands\" }",
        ),
        (
            safe("c33", json!({"action": "ValidateSystemHealth", "check_name": "disk_space"}), 30),
            "c33 30s ValidateSystemHealth = RunHealthCheck(Some(\"disk_space\"))",
        ),
        (
            safe("c34", json!({"action": "CleanTemporaryFiles", "targets": ["temp_files"]}), 30),
            "c34 30s CleanTemporaryFiles = DiskCleanup { targets: [\"temp_files\"] }",
        ),
        (
            safe("c35", json!({"action": "RestartServices", "service_name": null}), 30),
            "c35 30s NotBuilt { name: \"RestartServices\", why: \"restarting every service at once is not done; name one\" }",
        ),
        (
            safe("c36", json!({"action": "CheckSystemIntegrity"}), 30),
            "c36 30s NotBuilt { name: \"CheckSystemIntegrity\", why: \"checking installed files is not built in this agent yet\" }",
        ),
        (
            safe("c37", json!({"action": "Teleport"}), 30),
            "c37 refused Teleport: the action \"Teleport\" is not known to this agent",
        ),
        (safe("c38", json!({"action": "SystemInfo"}), 0), "c38 0s SystemInfo"),
        (
            json!({"type": "UnsafeCommand", "id": "u01", "raw_command": "echo 'é' && uptime", "shell": "BASH", "timeout": 30,
                "working_dir": "/tmp", "env_vars": {"A": "1"}, "run_as": "ann"}),
            "u01 30s Raw echo 'é' && uptime Bash Some(\"/tmp\") {\"A\": \"1\"} Some(Account(\"ann\"))",
        ),
        (
            json!({"type": "UnsafeCommand", "id": "u02", "raw_command": "id", "timeout": 30}),
            "u02 30s Raw id Sh None {} None",
        ),
        (
            json!({"type": "keep_alive_request", "sequence_number": 1006, "timestamp": at}),
            "keep_alive 1006",
        ),
        (
            json!({"type": "keep_alive_response", "sequence_number": 2000, "timestamp": at}),
            "answered 2000",
        ),
        (json!({"type": "Metrics"}), "metrics"),
        (json!({"type": "pending_scripts_response", "timestamp": at, "scripts": []}), "scripts"),
        (
            json!({"type": "pending_scripts_response", "timestamp": at, "scripts": [script("e01", "BASH"), script("e02", "POWERSHELL")]}),
            "scripts; e01 600s Script Set up \"echo \\\"é\\\"\\n\" Bash {\"NAME\": \"lab\"} None; \
             e02 600s Script Set up \"echo \\\"é\\\"\\n\" PowerShell {\"NAME\": \"lab\"} None",
        ),
        (
            json!({"type": "Reformat", "id": "x01"}),
            "x01 refused Reformat: the message was not understood: its type is not known to this agent",
        ),
        (
            safe("x02", json!({"action": "ProcessTop", "limit": "3"}), 30),
            "x02 refused ProcessTop: the message was not understood: a field is not of its kind (at character 50)",
        ),
        (
            json!({"type": "SafeCommand", "id": 22, "command_type": {"action": "OsInfo"}, "timeout": 30}),
            "22 30s OsInfo",
        ),
    ]
}

/// One line of `tests/golden/outbound.jsonl` each.
pub fn outbound() -> Vec<Outbound> {
    let response = |id: &str, action: &str, outcome: Outcome| Outbound::Response {
        id: id.to_owned(),
        action: action.to_owned(),
        outcome,
    };
    let took = Duration::from_millis(1_234);
    vec![
        response(
            "c02",
            "OsInfo",
            Outcome {
                took,
                ..Outcome::data(json!({"hostname": "café-😀", "nul": "a\0b", "n": 1.5}))
            },
        ),
        response(
            "u01",
            RAW_COMMAND,
            Outcome { exit_code: Some(0), took, ..Outcome::text("ünï\u{1b}[1m\t\"q\"\r\n\0") },
        ),
        response(
            "u03",
            RAW_COMMAND,
            Outcome {
                exit_code: Some(3),
                stderr: "no\nsuch thing\n".to_owned(),
                ..Outcome::default()
            },
        ),
        response(
            "u04",
            RAW_COMMAND,
            Outcome { exit_code: Some(124), ..Outcome::failed("its time of 30 s was over") },
        ),
        Refusal {
            id: "c37".to_owned(),
            action: "Teleport".to_owned(),
            error: "the action \"Teleport\" is not known to this agent".to_owned(),
            is_script: false,
            held: <_>::default(),
        }
        .into(),
        Outbound::KeepAlive(1006),
        Outbound::KeepAlive(u64::MAX),
        Outbound::ScriptCompletion {
            execution_id: "e01".to_owned(),
            outcome: Outcome { exit_code: Some(0), ..Outcome::text("done\n") },
        },
        Outbound::ScriptCompletion {
            execution_id: "e02".to_owned(),
            outcome: Outcome::failed("PowerShell is not installed"),
        },
        Outbound::RequestPendingScripts {
            vm_id: "2f1d4e7a-0000-4000-8000-000000000001".to_owned(),
        },
        Outbound::Event(AgentEvent {
            severity: Severity::Info,
            source: "agent",
            message: "agent started".to_owned(),
            execution_id: None,
            context: None,
        }),
        Outbound::Event(AgentEvent {
            severity: Severity::Error,
            source: "scripts",
            message: "could not start".to_owned(),
            execution_id: Some("e02".to_owned()),
            context: Some(json!({"shell": "pwsh"})),
        }),
        Outbound::BreakerState(Breaker {
            state: BreakerState::Closed,
            failure_count: 0,
            last_failure: None,
            recovery_eta: None,
        }),
        Outbound::BreakerState(Breaker {
            state: BreakerState::HalfOpen,
            failure_count: 3,
            last_failure: Some(UNIX_EPOCH),
            recovery_eta: Some(Duration::from_secs(60)),
        }),
        Outbound::ErrorReport(ErrorReport {
            error_type: "BROKEN_PIPE".to_owned(),
            gravity: Gravity::Recoverable,
            retry_attempt: 1,
            max_retries: 5,
            recovery_suggestion: Some("is the channel defined in the VM?".to_owned()),
            vm_id: "vm-1".to_owned(),
        }),
        Outbound::ErrorReport(ErrorReport {
            error_type: "FILE_NOT_FOUND".to_owned(),
            gravity: Gravity::Temporary,
            retry_attempt: 0,
            max_retries: 0,
            recovery_suggestion: None,
            vm_id: String::new(),
        }),
    ]
}
