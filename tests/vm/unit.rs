//! The shipped unit in the machine that has no systemd: what it makes of the agent's surroundings is read from it and
//! done before the agent starts, so that a change of the unit reaches every case.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::support::has;

/// The unit, as it is shipped.
pub const UNIT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/infiniservice.service"));

/// What only a manager can do; the cases with a real systemd see to that.
const OF_THE_MANAGER: [&str; 34] = [
    "Type",
    "NotifyAccess",
    "WatchdogSec",
    "Restart",
    "RestartSec",
    "TimeoutStopSec",
    "ExecReload",
    "Delegate",
    "KillMode",
    "OOMPolicy",
    // Not there; a case puts the secret into the environment.
    "EnvironmentFile",
    // The sandbox.
    "ProtectSystem",
    "ProtectHome",
    "ProtectClock",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "PrivateMounts",
    "DevicePolicy",
    "DeviceAllow",
    "NoNewPrivileges",
    "CapabilityBoundingSet",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "RemoveIPC",
    "SystemCallArchitectures",
    "SystemCallFilter",
    "SystemCallErrorNumber",
    "LimitNICE",
];

/// Folders by the name of their setting, and where they are (systemd.exec(5)).
const FOLDERS: [(&str, &str, &str); 5] = [
    ("StateDirectory", "/var/lib", "STATE_DIRECTORY"),
    ("ConfigurationDirectory", "/etc", "CONFIGURATION_DIRECTORY"),
    ("RuntimeDirectory", "/run", "RUNTIME_DIRECTORY"),
    ("CacheDirectory", "/var/cache", "CACHE_DIRECTORY"),
    ("LogsDirectory", "/var/log", "LOGS_DIRECTORY"),
];

/// Limits, and the letter that `ulimit` of busybox has for them.
const LIMITS: [(&str, char); 5] = [
    ("LimitNOFILE", 'n'),
    ("LimitNPROC", 'p'),
    ("LimitCORE", 'c'),
    ("LimitMEMLOCK", 'l'),
    ("LimitSTACK", 's'),
];

/// A line of a shell that becomes the agent of `unit`, with `arguments` behind its own.
///
/// # Panics
/// The unit says something that is not known here: add it, or it holds in no case of the small machine.
pub fn start(unit: &str, arguments: &str) -> String {
    let settings = settings(unit);
    let find = |name: &str| settings.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let (mut before, mut program) = (String::new(), None);
    for (key, value) in &settings {
        let folder = FOLDERS.iter().find(|(name, ..)| name == key);
        let limit = LIMITS.iter().find(|(name, _)| name == key);
        let done = match (*key, folder, limit) {
            (_, Some((name, parent, variable)), _) => {
                let mode = find(&format!("{name}Mode")).unwrap_or("0755");
                let path = format!("{parent}/{value}");
                write!(before, "mkdir -p {path}; chmod {mode} {path}; export {variable}={path}; ")
            }
            (_, _, Some((_, letter))) => write!(before, "ulimit -{letter} {value}; "),
            ("UMask", ..) => write!(before, "umask {value}; "),
            ("Environment", ..) => write!(before, "export {value}; "),
            ("OOMScoreAdjust", ..) => write!(before, "echo {value} > /proc/self/oom_score_adj; "),
            ("ExecStart", ..) => {
                program = Some(value.rsplit('/').next().unwrap_or(value));
                Ok(())
            }
            (key, ..) => {
                let is_mode = FOLDERS.iter().any(|(name, ..)| format!("{name}Mode") == key);
                assert!(is_mode || OF_THE_MANAGER.contains(&key), "{key}= is not known here");
                Ok(())
            }
        };
        done.expect("a text takes what is written to it");
    }
    let program = program.expect("the unit starts something");
    // No variable of the shell but where programs are and the secret, as systemd has it.
    let secret =
        "${INFINISERVICE_SHARED_SECRET+INFINISERVICE_SHARED_SECRET=$INFINISERVICE_SHARED_SECRET}";
    format!("env -i PATH=$PATH {secret} sh -c '{before}exec {program} {arguments}'")
}

/// What stands in `[Service]`.
fn settings(unit: &str) -> Vec<(&str, &str)> {
    let lines = unit.lines().map(str::trim);
    let lines = lines.skip_while(|line| *line != "[Service]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    lines.map(|line| line.split_once('=').expect("a setting has a value")).collect()
}

#[test]
fn the_shipped_unit_is_what_surrounds_the_agent_of_the_small_machine() {
    let line = start(UNIT, "--pipelines /x");
    for part in [
        "umask 0077; ",
        "mkdir -p /var/lib/infiniservice; chmod 0700 /var/lib/infiniservice; ",
        "chmod 0700 /etc/infiniservice; ",
        "echo -500 > /proc/self/oom_score_adj; ",
        "exec infiniservice run --pipelines /x'",
    ] {
        assert!(line.contains(part), "{part} {line}");
    }
    let other =
        start("[Service]\nLimitNOFILE=64\nUMask=0027\nExecStart=/a/b c\n[Install]\nx=y", "");
    assert!(other.ends_with("sh -c 'ulimit -n 64; umask 0027; exec b c '"), "{other}");
    let unknown = || start("[Service]\nPrivateNetwork=yes\nExecStart=/a", "");
    assert!(std::panic::catch_unwind(unknown).is_err(), "nothing is left out unseen");
}

/// With the programs of this build in the places that the units name.
#[test]
fn systemd_knows_every_setting_of_the_shipped_units() {
    if !has("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for (name, program) in [
        ("infiniservice.service", env!("CARGO_BIN_EXE_infiniservice")),
        ("infiniservice-host.service", env!("CARGO_BIN_EXE_infiniservice-host")),
    ] {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name);
        let shipped = fs::read_to_string(shipped).expect("the unit is shipped");
        let line = |line: &str| match line.split_once('=') {
            Some((key @ ("ExecStart" | "ExecReload"), command)) => {
                let arguments = command.split_once(' ').map_or("", |(_, arguments)| arguments);
                format!("{key}={program} {arguments}\n")
            }
            _ => format!("{line}\n"),
        };
        let unit = folder.path().join(name);
        fs::write(&unit, shipped.lines().map(line).collect::<String>()).expect("it can be written");
        // Without the option, what it does not know is a warning and no failure.
        let mut verify = Command::new("systemd-analyze");
        let done = verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&unit).output();
        let done = done.expect("it starts");
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
