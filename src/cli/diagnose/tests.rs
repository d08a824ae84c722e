//! One fault for each verdict, over a root that a test sets up.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::agent::status::{PortStatus, Queued, StageStatus};

struct Machine {
    folder: tempfile::TempDir,
}

const NAME: &str = "org.infinibay.agent";

impl Machine {
    /// A machine with the driver, a controller and the port.
    fn whole() -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(machine.at("sys/bus/virtio/drivers/virtio_console")).unwrap();
        machine.put("sys/bus/virtio/devices/virtio2/device", "0x0003\n");
        machine.put("sys/class/virtio-ports/vport2p1/name", &format!("{NAME}\n"));
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn port(&self) -> Option<Verdict> {
        machine::port(self.folder.path(), &NAME.parse().unwrap(), Some(7))
    }
}

fn cause(verdict: Option<Verdict>) -> Option<Cause> {
    verdict.map(|verdict| verdict.cause)
}

#[test]
fn a_port_that_cannot_be_opened_has_its_cause() {
    let machine = Machine::whole();
    assert_eq!(machine.port(), None);

    // The agent itself may have it open, and a process may have another file open.
    for (pid, file) in [(7, "/dev/vport2p1"), (8, "/dev/vport2p2")] {
        machine.put(&format!("proc/{pid}/comm"), "cat\n");
        fs::create_dir_all(machine.at(&format!("proc/{pid}/fd"))).unwrap();
        symlink(file, machine.at(&format!("proc/{pid}/fd/3"))).unwrap();
    }
    assert_eq!(machine.port(), None);
    symlink("/dev/vport2p1", machine.at("proc/8/fd/4")).unwrap();
    let busy = machine.port().unwrap();
    assert_eq!(busy.cause, Cause::PortBusy);
    assert!(busy.seen.contains("process 8 (cat)") && busy.next.contains("kill 8"), "{busy:?}");

    fs::write(machine.at("sys/class/virtio-ports/vport2p1/name"), "com.redhat.spice.0\n").unwrap();
    let other = machine.port().unwrap();
    assert_eq!(other.cause, Cause::NoDevice);
    assert!(other.seen.ends_with("there is com.redhat.spice.0"), "{other:?}");

    fs::remove_dir_all(machine.at("sys/class")).unwrap();
    assert_eq!(cause(machine.port()), Some(Cause::NoDevice));
    fs::remove_dir_all(machine.at("sys/bus/virtio/drivers")).unwrap();
    assert_eq!(cause(machine.port()), Some(Cause::DriverMissing));
    fs::remove_dir_all(machine.at("sys")).unwrap();
    let none = machine.port().unwrap();
    assert_eq!(none.cause, Cause::NoDevice);
    assert!(none.seen.contains("no virtio-serial controller"), "{none:?}");
}

#[test]
fn the_unit_tells_why_it_is_not_up() {
    let unit = |active: &str, result: &str, code: u8, status: u8, restarts: u8| {
        machine::unit(&format!(
            "LoadState=loaded\nActiveState={active}\nUnitFileState=disabled\nResult={result}\n\
             ExecMainCode={code}\nExecMainStatus={status}\nNRestarts={restarts}\n"
        ))
    };
    assert_eq!(unit("active", "success", 0, 0, 0), None);
    for (found, expected) in [
        (unit("inactive", "success", 0, 0, 0), Cause::NotRunning),
        (unit("activating", "exit-code", 1, 78, 4), Cause::NotRunning),
        (unit("failed", "signal", 2, 9, 0), Cause::Crashed),
        (unit("activating", "watchdog", 3, 6, 1), Cause::Crashed),
        (unit("active", "success", 0, 0, 3), Cause::Crashed),
    ] {
        assert_eq!(cause(found.clone()), Some(expected), "{found:?}");
    }
    assert_eq!(machine::unit("LoadState=not-found\nActiveState=inactive\n"), None);
    assert_eq!(machine::unit(""), None);
}

#[test]
fn a_refusal_of_a_security_module_is_found_in_the_logs() {
    let machine = Machine::whole();
    let found = || machine::security_module(machine.folder.path());
    assert_eq!(found(), None);
    let other = "type=AVC msg=audit(1): apparmor=\"DENIED\" operation=\"open\" comm=\"cupsd\"\n";
    machine.put("var/log/audit/audit.log", other);
    assert_eq!(found(), None);
    for (log, line) in [
        (
            "var/log/audit/audit.log",
            "type=AVC msg=audit(2): avc:  denied  { open } for  pid=1 comm=\"infiniservice\" name=\"vport2p1\"",
        ),
        (
            "kernel-messages",
            "audit: type=1400 audit(3): apparmor=\"DENIED\" name=\"/dev/vport2p1\" comm=\"infiniservice\"",
        ),
        (
            "var/log/kern.log",
            "kernel: audit: apparmor=\"DENIED\" operation=\"open\" name=\"/dev/vport2p1\" comm=\"infiniservice\"",
        ),
    ] {
        machine.put("var/log/audit/audit.log", other);
        machine.put(log, &format!("{other}{line}\n"));
        let verdict = found().unwrap();
        assert_eq!(verdict.cause, Cause::SecurityModule);
        assert!(verdict.seen.contains("vport2p1"), "{verdict:?}");
    }
}

fn status(port: PortStatus, dropped: &[(&str, u64)]) -> Status {
    let dropped = dropped.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
    Status {
        version: "0.1.0".into(),
        pid: 7,
        uptime_seconds: 9,
        cpu_seconds: 0.0,
        rss_bytes: 1,
        queued: Queued { bytes: 0, max_bytes: 0, ceiling_bytes: 1 },
        ports: vec![port],
        spools: Vec::new(),
        commands: Vec::new(),
        stages: vec![StageStatus { stage: "commands/verify".into(), dropped, ..<_>::default() }],
        warnings: Vec::new(),
    }
}

#[test]
fn what_the_agent_tells_has_its_cause() {
    let well = PortStatus {
        port: NAME.into(),
        opened: true,
        host_connected: true,
        host_connects: 1,
        bytes_in: 0,
        bytes_out: 100,
        stalls: 1,
        is_full: false,
        unacknowledged_bytes: 65_000,
        waits_for_host: false,
        never_acknowledged: false,
    };
    let between = |before: &PortStatus, now: &PortStatus, dropped: &[(&str, u64)]| -> Vec<Cause> {
        let verdicts = agent::running(&status(before.clone(), &[]), &status(now.clone(), dropped));
        verdicts.iter().map(|verdict| verdict.cause).collect()
    };
    let of = |port: &PortStatus, dropped: &[(&str, u64)]| between(&well, port, dropped);
    assert_eq!(of(&well, &[("blank", 3)]), []);
    let away = PortStatus { host_connected: false, ..well.clone() };
    assert_eq!(of(&away, &[]), [Cause::HostAbsent]);
    let full = PortStatus { is_full: true, ..well.clone() };
    assert_eq!(of(&full, &[]), [Cause::HostNotReading]);
    let waits = PortStatus { waits_for_host: true, ..well.clone() };
    assert_eq!(of(&waits, &[]), [], "it may have begun to wait a moment ago");
    assert_eq!(between(&waits, &waits, &[]), [Cause::WindowExhausted]);
    let moves = PortStatus { bytes_out: 200, is_full: true, ..waits.clone() };
    assert_eq!(between(&waits, &moves, &[]), []);
    let by_time = PortStatus { never_acknowledged: true, is_full: false, ..moves };
    assert_eq!(between(&waits, &by_time, &[]), [Cause::WindowExhausted]);
    assert_eq!(of(&by_time, &[]), []);
    assert_eq!(of(&well, &[("stale", 1), ("forged", 2)]), [Cause::Secret, Cause::ClockSkew]);
    let closed = PortStatus { opened: false, host_connected: false, ..well.clone() };
    assert_eq!(of(&closed, &[]), [], "the machine says why");
}

#[test]
fn where_nothing_is_wrong_a_sentence_within_eighty_columns_says_so() {
    let text = as_text::<Cause>(&[], NOTHING);
    assert!(text.starts_with("nothing is wrong: the files are right"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
}

#[test]
fn denied_requests_are_counted_from_the_audit() {
    let machine = Machine::whole();
    let allowed =
        "{\"time\":\"t\",\"event\":\"begin\",\"decision\":\"allowed\",\"action\":\"OsInfo\"}\n";
    machine.put("audit.jsonl", allowed);
    assert_eq!(machine::policy(&machine.at("audit.jsonl")), None);
    let denied = "{\"time\":\"t2\",\"event\":\"end\",\"decision\":\"denied\",\"action\":\"Reboot\",\"why\":\"no rule\"}\n";
    machine.put("audit.jsonl", &format!("cut\n{denied}{denied}{allowed}"));
    let verdict = machine::policy(&machine.at("audit.jsonl")).unwrap();
    assert_eq!(
        verdict.seen,
        "2 of the last requests were denied; the last one at t2: Reboot, no rule"
    );
}

/// Files, state folder and secret, and the exit code of the first; no secret is shown.
#[test]
fn files_state_folder_and_secret_have_their_causes_in_order() {
    let machine = Machine::whole();
    let state = machine.at("state");
    let run = |commands: &str| {
        machine.put("etc/commands.toml", commands);
        let pipelines = vec![machine.at("etc/commands.toml")];
        let state = StateOption { state: Some(state.clone()) };
        let root = machine.folder.path().to_owned();
        let (json, bundle, overwrite) = (false, None, false);
        let diagnose = Diagnose { json, state, pipelines, bundle, overwrite, root };
        diagnose.examine().verdicts
    };
    let causes = |verdicts: &[Verdict]| verdicts.iter().map(|one| one.cause).collect::<Vec<_>>();
    let secret = "[receive]\n[verify]\nsecret = \"env:DIAGNOSE_TEST_SECRET\"\n";
    let found = run(secret);
    assert_eq!(causes(&found), [Cause::NotRunning, Cause::Secret]);
    machine.put("etc/infiniservice/agent.env", "X=1\nDIAGNOSE_TEST_SECRET=hunter2canary\n");
    let found = run(secret);
    assert_eq!(causes(&found), [Cause::NotRunning], "the unit will have it");

    let file = machine.at("secret");
    fs::write(&file, "hunter2canary\n").unwrap();
    let of_file = format!("[receive]\n[verify]\nsecret = \"file:{}\"\n", file.display());
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let found = run(&of_file);
    assert_eq!(causes(&found), [Cause::NotRunning, Cause::Secret], "others can read it");
    assert!(!as_text(&found, NOTHING).contains("canary") && !as_json(&found).contains("canary"));

    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let found = run("[receive]\nmax_lin = 3\n");
    assert_eq!(causes(&found), [Cause::Files, Cause::StateFolder, Cause::NotRunning]);
    let text = as_text(&found, NOTHING);
    assert!(text.starts_with("files are wrong (exit code 10)\n  "), "{text}");
    assert!(
        text.contains("\nstate folder (exit code 11)\n") && text.contains("next: `chmod"),
        "{text}"
    );
}
