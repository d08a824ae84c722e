//! Where the secrets in commands must not be seen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use infiniservice::host::Shell;
use rustix::process::Signal;
use serde_json::json;

use super::rig::{Lab, script};
use super::support::flows::SECRET;
use super::support::{PATIENCE, raw};

/// 200 secrets: in command lines, in variables, in the texts and inputs of scripts, in passwords of
/// actions, in the script of an action for PowerShell. While all of it runs, every process that the agent has started
/// is looked at.
#[tokio::test]
async fn secrets_in_commands_reach_no_log_no_audit_and_no_argument_of_any_process() {
    let lab = Lab::new().await;
    let mut agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let mut planted = 0;
    let mut canary = || {
        planted += 1;
        format!("canary-{planted}-tweet")
    };
    // All say so when they run, and wait until they have been looked at.
    let (ready, go) = (lab.folder.path().join("ready"), lab.folder.path().join("go"));
    let stay =
        format!("echo >> {}; until [ -e {} ]; do sleep 0.02; done", ready.display(), go.display());
    let mut lines = Vec::new();
    for shell in [Shell::Sh, Shell::Bash, Shell::Sh] {
        let secrets: Vec<String> = (0..25).map(|_| canary()).collect();
        let mut line = raw(&format!("x='{}'; {stay}; echo done", secrets.join(" ")));
        line.shell = Some(shell);
        line.env_vars = (0..25).map(|number| (format!("SECRET_{number}"), canary())).collect();
        lines.push(line);
    }
    let content = format!("y='{}'; {stay}; echo done", canary());
    let mut pushed = script("e-canary", content);
    pushed.script_name = format!("deploy --password {}", canary());
    pushed.input_values = (0..25).map(|number| (format!("INPUT_{number}"), canary())).collect();
    let mut actions = Vec::new();
    for _ in 0..6 {
        actions.push(json!({ "action": "JoinDomain", "domain": "lab", "username": "u",
            "password": canary(), "restart_after": false }));
        actions.push(json!({ "action": "ExecutePowerShellScript", "script": canary(),
            "script_type": "inline", "environment_vars": { "TOKEN": canary() } }));
        actions.push(
            json!({ "action": "PackageInstall", "package": format!("--password={}", canary()) }),
        );
    }
    assert!(planted >= 200, "{planted}");

    let asked = async {
        let (lines, completed) = tokio::join!(
            join_all(lines.iter().map(|line| host.exec(line, PATIENCE))),
            host.script(&pushed, PATIENCE)
        );
        for answer in lines {
            let answer = answer.unwrap();
            assert_eq!((answer.success, answer.stdout.as_str()), (true, "done\n"), "{answer:?}");
        }
        assert_eq!(completed.unwrap().stdout, "done\n");
        for action in &actions {
            assert!(!host.command(action, PATIENCE).await.unwrap().success, "{action}");
        }
    };
    let looked = async {
        let begun = Instant::now();
        let mut seen = String::new();
        while std::fs::read(&ready).map_or(0, |said| said.len()) < 4 {
            seen += &arguments_below(agent.0.id()); // the step in between is short
            assert!(begun.elapsed() < PATIENCE, "not all four run");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        seen += &arguments_below(agent.0.id());
        std::fs::write(&go, "").unwrap();
        seen
    };
    let ((), seen) = tokio::join!(asked, looked);
    assert!(seen.contains("bash\0-c\0eval") && seen.contains("sh\0/proc/self/fd/"), "{seen:?}");

    agent.signal(Signal::TERM);
    let mut log = String::new();
    std::io::Read::read_to_string(&mut agent.log(), &mut log).unwrap();
    for place in [log, lab.state("audit.jsonl"), lab.state("requests.log"), seen] {
        let found = place.split("canary-").nth(1).map(|rest| rest.split('\n').next());
        assert_eq!(found, None);
        assert!(!place.contains(SECRET));
    }
    let state = std::fs::read_dir(lab.folder.path().join("state")).unwrap().flatten();
    let found = |path: &std::path::Path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains("until [ -e")
    };
    let texts: Vec<_> = state.map(|entry| entry.path()).filter(|path| found(path)).collect();
    assert_eq!(texts, [""; 0].map(std::path::PathBuf::from), "no text of a script is on the disk");
}

/// The arguments of a process and of all its descendants, each ended by a NUL, as `/proc/PID/cmdline` shows
/// them to everybody.
fn arguments_below(root: u32) -> String {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let parent =
            after.split_ascii_whitespace().nth(1).and_then(|word| word.parse::<u32>().ok());
        parents.insert(pid, parent.unwrap_or(0));
    }
    let below = |mut pid: u32| loop {
        match parents.get(&pid) {
            _ if pid == root => return true,
            Some(parent) if *parent != pid && pid > 1 => pid = *parent,
            _ => return false,
        }
    };
    let ours = parents.keys().copied().filter(|pid| below(*pid));
    let read = |pid| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    ours.map(|pid| String::from_utf8_lossy(&read(pid)).into_owned() + "\n").collect()
}

#[tokio::test]
async fn every_file_of_the_state_folder_is_for_its_owner_alone_and_can_be_opened_again() {
    use std::os::unix::fs::PermissionsExt;
    for umask in ["0", "777"] {
        let lab = Lab::new().await;
        let _agent = lab.start_after(&format!("umask {umask};"), Some(SECRET));
        let host = lab.host().await;
        assert!(host.exec(&raw("true"), PATIENCE).await.unwrap().success);
        let state = lab.folder.path().join("state");
        let mut files = 0;
        for entry in std::fs::read_dir(state).unwrap() {
            let metadata = entry.as_ref().unwrap().metadata().unwrap();
            let (name, mode) = (entry.unwrap().file_name(), metadata.permissions().mode() & 0o7777);
            assert!(!metadata.is_file() || mode == 0o600, "{umask}: {name:?} has mode {mode:o}");
            files += usize::from(metadata.is_file());
        }
        assert!(files > 3, "{files} files");
    }
}
