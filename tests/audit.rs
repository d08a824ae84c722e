//! The audit file on a real file system: what is written, what never is, and what happens when it
//! cannot be.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "audit/unrun.rs"]
mod unrun;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use infiniservice::internals::commands::actions::checks::RunHealthCheck;
use infiniservice::internals::commands::actions::cleanup::DiskCleanup;
use infiniservice::internals::commands::actions::packages::PackageRemove;
use infiniservice::internals::commands::argument::{Account, PackageName};
use infiniservice::internals::commands::audit::chain;
use infiniservice::internals::commands::audit::{Audit, AuditError, LATE};
use infiniservice::internals::commands::authorize::{Authorize, Permit};
use infiniservice::internals::commands::outcome::{Outcome, OutputSize};
use infiniservice::internals::commands::request::{
    RawCommand, Request, RequestKind, Script, Shell,
};
use infiniservice::internals::config::load;
use infiniservice::sinks::Rotation;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

const WIDE: Rotation = Rotation { max_bytes: 1 << 30, keep: 3 };

fn gate(deny: &str) -> Authorize {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("commands.toml");
    let rules = format!("allow = [\"*\"]\nraw_shell = true\nscripts = true\ndeny = [{deny}]");
    fs::write(&path, format!("[receive]\n[enforce]\n{rules}\n")).unwrap();
    let mut commands = load(&[path], &|_| None).unwrap().commands.unwrap();
    commands.origin = "commands.toml".to_owned();
    Authorize::new(commands.policy())
}

fn request(id: &str, what: RequestKind) -> Request {
    Request::new(id.to_owned(), what, Duration::from_secs(9), Instant::now())
}

fn remove(id: &str, package: &str) -> Request {
    let package = PackageName::new(package).unwrap();
    request(id, RequestKind::Action(PackageRemove(package).into()))
}

fn permit(request: Request) -> Permit {
    gate("").decide(request).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A folder that is gone after the test, and the audit file in it.
fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.jsonl");
    (folder, path)
}

#[tokio::test]
async fn a_request_is_written_down_before_it_runs_and_when_it_has_ended() {
    let (_folder, path) = place();
    let audit = Audit::new(&path, WIDE, true);
    let entry = audit.begin(&permit(remove("id-1", "nginx"))).await.unwrap();
    let begun = lines(&path);
    assert_eq!(begun.len(), 1);
    assert_eq!(begun[0]["event"], "begin");

    let outcome = Outcome {
        exit_code: Some(3),
        stdout: "12345".to_owned(),
        took: Duration::from_millis(1_500),
        ..Outcome::failed("no")
    };
    let output_size = OutputSize { truncated: true, ..outcome.output_size };
    entry.end(&Outcome { output_size, ..outcome }).await;
    let mut line = lines(&path).remove(1);
    for time in ["time", "began"] {
        let time = line.as_object_mut().unwrap().remove(time).unwrap();
        assert!(humantime::parse_rfc3339(time.as_str().unwrap()).is_ok());
    }
    let before = fs::read_to_string(&path).unwrap();
    let before = chain::Link::of(before.lines().next().unwrap().as_bytes());
    assert_eq!(line["prev"], before.to_string());
    line.as_object_mut().unwrap().remove("prev");
    assert_eq!(
        line,
        serde_json::json!({
            "event": "end", "id": "id-1", "action": "PackageRemove", "user": "root",
            "arguments": {"package": ["nginx"]}, "decision": "allowed", "rule": "commands.toml:3",
            "timeout_ms": 9000, "success": false, "exit": 3, "duration_ms": 1500,
            "stdout_bytes": 5, "stderr_bytes": 0, "truncated": true
        })
    );
    // The process's own mask may take more away.
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !0o600, 0);
}

#[tokio::test]
async fn a_refusal_is_one_line_with_the_rule_that_decided() {
    let (_folder, path) = place();
    let audit = Audit::new(&path, WIDE, true);
    let refusal = gate("\"PackageRemove\"").decide(remove("id-2", "nginx")).unwrap_err();
    audit.denied(&refusal).await;
    audit.refused(&remove("id-3", "vim"), "commands.toml:3", true, "too many are waiting").await;
    let lines = lines(&path);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["event"], "refused");
    assert_eq!(
        (&lines[0]["decision"], &lines[0]["rule"]),
        (&"denied".into(), &"commands.toml:6".into())
    );
    assert_eq!(lines[0]["why"], "denied by commands.toml:6: \"PackageRemove\"");
    assert_eq!(
        (&lines[1]["decision"], &lines[1]["why"]),
        (&"allowed".into(), &"too many are waiting".into())
    );
}

#[tokio::test]
async fn the_file_is_turned_over_by_size_and_every_line_is_whole() {
    let (folder, path) = place();
    let audit = Audit::new(&path, Rotation { max_bytes: 2_000, keep: 2 }, true);
    for number in 0..40 {
        let entry = audit.begin(&permit(remove(&format!("id-{number}"), "nginx"))).await.unwrap();
        entry.end(&Outcome::default()).await;
    }
    let files =
        ["audit.jsonl.2", "audit.jsonl.1", "audit.jsonl"].map(|name| folder.path().join(name));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
    let mut ids = Vec::new();
    for file in &files {
        let metadata = fs::metadata(file).unwrap();
        assert!(metadata.len() <= 2_000);
        assert_eq!(metadata.permissions().mode() & 0o077, 0);
        ids.extend(lines(file).iter().map(|line| (line["id"].clone(), line["event"].clone())));
    }
    assert_eq!(ids.last().unwrap(), &("id-39".into(), "end".into()));
    let verdict = chain::verify(&path).unwrap();
    assert_eq!((verdict.files.len(), verdict.unchained, verdict.breaks), (3, 0, vec![]));
    for pair in ids.windows(2).filter(|pair| pair[0].1 == "begin") {
        assert_eq!((&pair[0].0, &pair[1].1), (&pair[1].0, &"end".into()));
    }
}

#[tokio::test]
async fn what_somebody_else_could_have_put_there_is_not_written_to_and_nothing_runs() {
    let (folder, path) = place();
    let other = folder.path().join("other");
    fs::write(&other, "mine\n").unwrap();
    symlink(&other, &path).unwrap();
    let told = |audit: Audit| async move {
        let error = audit.begin(&permit(remove("1", "x"))).await.unwrap_err();
        assert!(matches!(error, AuditError::Unwritable { .. }), "{error}");
        error.to_string()
    };
    let error = told(Audit::new(&path, WIDE, true)).await;
    assert!(error.starts_with("the audit file"), "{error}");
    assert!(error.ends_with("it is a symbolic link (name the file itself)"), "{error}");

    fs::remove_file(&path).unwrap();
    fs::hard_link(&other, &path).unwrap();
    let error = told(Audit::new(&path, WIDE, true)).await;
    assert!(error.contains("it has another name too"), "{error}");
    assert_eq!(fs::read_to_string(&other).unwrap(), "mine\n");

    let error = told(Audit::new("/dev/full", WIDE, true)).await;
    assert!(error.contains("it is not a regular file"), "{error}");
    let error = Audit::new(folder.path(), WIDE, true).open().unwrap_err().to_string();
    assert!(error.contains("is a directory"), "{error}");
}

#[tokio::test]
async fn a_file_that_others_could_read_is_closed_to_them() {
    let (_folder, path) = place();
    fs::write(&path, "{\"old\":1}\n{\"torn").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let audit = Audit::new(&path, WIDE, true);
    audit.open().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // What a crash cut short is ended, so that the next line is one.
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"old\":1}\n{\"torn\n");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_made_for_the_agent_alone() {
    let (folder, _) = place();
    let path = folder.path().join("state/infiniservice/audit.jsonl");
    Audit::new(&path, WIDE, true).open().unwrap();
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o077, 0);
}

#[tokio::test]
async fn where_it_is_not_required_requests_run_and_what_could_not_be_written_follows() {
    let (folder, path) = place();
    fs::create_dir(&path).unwrap();
    let audit = Audit::new(&path, WIDE, false);
    let entry = audit.begin(&permit(remove("a", "x"))).await.unwrap();
    entry.end(&Outcome::default()).await;
    fs::remove_dir(&path).unwrap();
    let entry = audit.begin(&permit(remove("b", "x"))).await.unwrap();
    let seen: Vec<_> = lines(&path).iter().map(|line| line["id"].clone()).collect();
    assert_eq!(seen, ["a", "a", "b"]);

    // Of too many the newest are kept, and the file says how many are missing.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    for number in 0..LATE + 5 {
        audit.refused(&remove(&number.to_string(), "x"), "r", true, "no").await;
    }
    fs::remove_dir(&path).unwrap();
    entry.end(&Outcome::default()).await;
    let lines = lines(&path);
    assert_eq!(lines[0]["lines_lost"], 5);
    assert_eq!(lines[1]["id"], "5");
    assert_eq!((lines.len(), &lines[LATE + 1]["id"]), (LATE + 2, &"b".into()));
    drop(folder);
}

#[tokio::test]
async fn many_at_once_are_all_written_down() {
    let (_folder, path) = place();
    let audit = Audit::new(&path, WIDE, true);
    let jobs = (0..200).map(|number| {
        let audit = audit.clone();
        tokio::spawn(async move {
            let entry = audit.begin(&permit(remove(&number.to_string(), "x"))).await.unwrap();
            entry.end(&Outcome::default()).await;
        })
    });
    for job in jobs.collect::<Vec<_>>() {
        job.await.unwrap();
    }
    let mut events: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines(&path) {
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        events.entry(text("id")).or_default().push(text("event"));
    }
    assert_eq!(events.len(), 200);
    assert!(events.values().all(|events| events == &["begin", "end"]));
}

/// Runs itself once more as a process whose files may not grow over four blocks, so that the kernel takes
/// a part of a write and refuses the rest, as it does on a full disk.
#[test]
fn on_a_full_disk_nothing_runs_and_no_line_is_torn() {
    const CHILD: &str = "INFINISERVICE_TEST_FULL_DISK";
    let name = "on_a_full_disk_nothing_runs_and_no_line_is_torn";
    if std::env::var_os(CHILD).is_none() {
        // A block of `ulimit -f` has 512 bytes in dash and 1024 in bash.
        let script = "trap '' XFSZ; ulimit -f 4; exec \"$0\" --exact \"$1\" --test-threads 1";
        let output = std::process::Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .arg(name)
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (_folder, path) = place();
        let audit = Audit::new(&path, WIDE, true);
        let mut running = Vec::new();
        let refused = loop {
            match audit.begin(&permit(remove("x", "nginx"))).await {
                Ok(entry) => running.push(entry),
                Err(error) => break error.to_string(),
            }
            assert!(running.len() < 1_000);
        };
        assert!(refused.contains("cannot be written: file too large"), "{refused}");
        let whole = lines(&path).len();
        assert_eq!(whole, running.len());
        assert!(whole > 4);

        // The end of one that runs cannot be written either, and is not lost: once there is room again it
        // comes before what follows.
        running.pop().unwrap().end(&Outcome { exit_code: Some(7), ..Outcome::default() }).await;
        assert_eq!(lines(&path).len(), whole);
        assert!(audit.begin(&permit(remove("y", "nginx"))).await.is_err());
        fs::rename(&path, path.with_extension("moved")).unwrap();
        let entry = audit.begin(&permit(remove("z", "nginx"))).await.unwrap();
        let now = lines(&path);
        assert_eq!((&now[0]["event"], &now[0]["exit"]), (&"end".into(), &7.into()));
        assert_eq!((&now[1]["event"], &now[1]["id"]), (&"begin".into(), &"z".into()));
        drop(entry);
    });
}

/// 200 secrets, in every place of a request that can hold one.
#[tokio::test]
async fn no_secret_of_a_request_is_ever_in_the_file() {
    let (folder, path) = place();
    let audit = Audit::new(&path, Rotation { max_bytes: 20_000, keep: 9 }, true);
    let mut planted = Vec::new();
    let mut canary = || {
        // Letters and digits like those of a password, no two alike.
        let number = planted.len() as u64 + 1;
        let secret = format!("Zq{:014x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8);
        planted.push(secret.clone());
        secret
    };
    let mut requests = Vec::new();
    for round in 0..16 {
        let environment = [
            ("DB_PASSWORD".to_owned(), canary()),
            ("PLAIN".to_owned(), canary()),
            (format!("token={}", canary()), String::new()),
        ];
        let raw = RawCommand {
            command: format!("mysql -u root -p{} --execute '{}'", canary(), canary()),
            shell: Shell::Bash,
            working_dir: Some(format!("/srv/https://ann:{}@lab/x", canary()).into()),
            environment: environment.into(),
            run_as: Some(Account::new("ann").unwrap()),
        };
        let script = Script {
            name: format!("deploy --password {}", canary()),
            content: format!("#!/bin/sh\nexport KEY={}\n", canary()),
            shell: Shell::Sh,
            inputs: [("admin".to_owned(), canary())].into(),
            run_as: None,
        };
        let check = RunHealthCheck(Some(format!("{{\"api_key\":\"{}\"}}", canary())));
        let targets = vec![format!("Bearer {}", canary()), format!("secret: '{}'", canary())];
        let whats = [
            RequestKind::Raw(raw),
            RequestKind::Script(script),
            RequestKind::Action(check.into()),
            RequestKind::Action(DiskCleanup { targets }.into()),
        ];
        let id = format!("{round} password={}", canary());
        requests.extend(whats.map(|what| request(&id, what)));
    }
    for request in requests {
        let permit = permit(request);
        let entry = audit.begin(&permit).await.unwrap();
        let outcome = Outcome {
            stdout: canary(),
            stderr: canary(),
            data: Some(canary().into()),
            ..Outcome::failed(canary())
        };
        entry.end(&outcome).await;
        let why = format!("not now: password={}", canary());
        audit.refused(permit.request(), "r", true, &why).await;
    }
    assert!(planted.len() >= 200, "{}", planted.len());
    let mut written = String::new();
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        lines(&path);
        written += &fs::read_to_string(path).unwrap();
    }
    assert_eq!(written.lines().count(), 3 * 64, "nothing was rotated away");
    for secret in &planted {
        let found = written.lines().find(|line| line.contains(secret));
        assert_eq!(found, None, "{secret}");
    }
    // What may be known is there.
    for word in ["\"ann\"", "DB_PASSWORD", "\"sha256\":\"", "UnsafeCommand", "Script", "deploy"] {
        assert!(written.contains(word), "{word}");
    }
}

#[tokio::test]
async fn a_line_is_bounded_whatever_a_request_holds() {
    let (_folder, path) = place();
    let audit = Audit::new(&path, WIDE, true);
    let many = (0..10_000).map(|number| (format!("{number}{}", "n".repeat(500)), String::new()));
    let raw = RawCommand {
        command: "\u{1}".repeat(1 << 20),
        shell: Shell::Sh,
        working_dir: Some("/".repeat(1 << 20).into()),
        environment: many.collect(),
        run_as: None,
    };
    let huge = request(&"\u{0} x".repeat(1 << 18), RequestKind::Raw(raw));
    let entry = audit.begin(&permit(huge)).await.unwrap();
    let length = fs::metadata(&path).unwrap().len();
    assert!(length < 32 * 1024, "{length}");
    assert_eq!(lines(&path)[0]["command"]["bytes"], 1 << 20);
    drop(entry);
}

#[tokio::test]
async fn the_file_that_is_verified_is_the_one_that_the_agents_files_name() {
    let (folder, path) = place();
    let audit = Audit::new(&path, WIDE, true);
    audit.begin(&permit(remove("a", "x"))).await.unwrap().end(&Outcome::default()).await;
    let [named, given] = ["named", "given"].map(|name| folder.path().join(name));
    for files in [&named, &given] {
        fs::create_dir(files).unwrap();
    }
    let commands = "[receive]\n[enforce]\n";
    let agent = format!("[state]\nfolder = {:?}\n", folder.path());
    fs::write(given.join("agent.toml"), agent).unwrap();
    fs::write(given.join("commands.toml"), commands).unwrap();
    let at = format!("{commands}[audit]\npath = {path:?}\n");
    fs::write(named.join("commands.toml"), at).unwrap();
    let verify = |arguments: &[&std::ffi::OsStr]| {
        let agent = std::process::Command::new(env!("CARGO_BIN_EXE_infiniservice"))
            .args(["audit", "verify"])
            .args(arguments)
            .output()
            .unwrap();
        (agent.status.code(), String::from_utf8(agent.stdout).unwrap())
    };
    let whole = (Some(0), "the chain is whole: 2 lines in 1 file\n".to_owned());
    for files in [&named, &given] {
        assert_eq!(verify(&["--pipelines".as_ref(), files.as_ref()]), whole, "{files:?}");
    }
    assert_eq!(verify(&["--state".as_ref(), folder.path().as_ref()]), whole);
    assert_eq!(verify(&[path.as_ref()]), whole);
    let text = fs::read_to_string(&path).unwrap().replacen("allowed", "denied", 1);
    fs::write(&path, text).unwrap();
    let (code, told) = verify(&["--pipelines".as_ref(), named.as_ref()]);
    assert_eq!(code, Some(1));
    assert!(told.starts_with(&format!("{}:2: ", path.display())), "{told}");
}
