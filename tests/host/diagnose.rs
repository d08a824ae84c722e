//! `infiniservice-host … diagnose`: one fault for each verdict, at a real socket, with the real agent where it has a part.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use infiniservice::model::Iso8601;
use rustix::process::{Signal, geteuid};
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::peer::{Done, SECRET, Socket, host, run};
use super::support::flows::{COMMANDS, WHOLE, metrics};
use super::support::{Place, Running, leave_socket};

/// Diagnoses a socket: the cause, and the whole verdict.
async fn verdict(socket: &Path) -> (String, String) {
    cause(&host(socket, &["diagnose", "--json", "--timeout", "3s"], "").await)
}

fn cause(done: &Done) -> (String, String) {
    let told: Value = serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{done:?}"));
    let verdict = &told["verdicts"][0];
    assert_eq!(verdict["exit_code"].as_i64().unwrap_or(0), i64::from(done.code), "{told}");
    assert_eq!(told["ok"], done.code == 0, "{told}");
    (verdict["cause"].as_str().unwrap_or("none").to_owned(), verdict.to_string())
}

/// A guest with the real agent.
struct Guest {
    /// Where the host connects.
    path: PathBuf,
    agent: Running,
    _place: Place,
}

impl Guest {
    /// An agent that has this secret, behind a socket that takes one host, as QEMU does.
    fn with(secret: Option<&str>) -> Self {
        let (socket, place) = (Socket::bind(), Place::new());
        let pipelines = place.folder.path().join("pipelines");
        fs::create_dir(&pipelines).unwrap();
        fs::write(pipelines.join("metrics.toml"), metrics("200ms", WHOLE)).unwrap();
        fs::write(pipelines.join("commands.toml"), COMMANDS).unwrap();
        let state = place.folder.path().join("state").display().to_string();
        let mut variables = vec![("INFINISERVICE_STATE_DIR", state.as_str())];
        variables.extend(secret.map(|secret| ("INFINISERVICE_SHARED_SECRET", secret)));
        let agent = place.run(&pipelines, &variables);
        let port = place.host().into_inner();
        port.set_nonblocking(true).unwrap();
        let (path, mut port) = (socket.path(), UnixStream::from_std(port).unwrap());
        tokio::spawn(async move {
            let mut host = socket.stream().await;
            let _ = copy_bidirectional(&mut host, &mut port).await; // until one of them has left
        });
        Self { path, agent, _place: place }
    }
}

#[tokio::test]
async fn a_path_where_no_guest_can_be_has_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.sock");
    assert_eq!(verdict(&path).await.0, "no_socket");
    assert_eq!(verdict(&path.join("below")).await.0, "no_socket");
    leave_socket(&path);
    assert_eq!(verdict(&path).await.0, "nobody_listens");
    assert_eq!(verdict(&path.join("below")).await.0, "no_socket", "below what is no folder");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert_eq!(verdict(&path).await.0, "not_a_socket");

    let done = host(&path, &["diagnose"], "").await;
    assert_eq!(done.code, 11);
    assert!(done.out.starts_with("not a socket (exit code 11)\n  /"), "{}", done.out);
    assert!(done.out.lines().all(|line| line.len() <= 80 || !line.trim().contains(' ')));
    let done = host(&path, &["--listen", "diagnose"], "").await;
    assert_eq!(done.code, 78);
}

#[tokio::test]
async fn a_socket_of_another_user_has_its_cause() {
    let socket = Socket::bind();
    fs::set_permissions(socket.path(), Permissions::from_mode(0o600)).unwrap();
    let done = match geteuid().is_root() {
        true => {
            fs::set_permissions(socket.dir.path(), Permissions::from_mode(0o755)).unwrap();
            let program = socket.dir.path().join("infiniservice-host");
            fs::copy(env!("CARGO_BIN_EXE_infiniservice-host"), &program).unwrap();
            let mut as_nobody = Command::new("setpriv");
            as_nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
            as_nobody.arg(program).arg(socket.path()).args(["diagnose", "--json"]);
            run(as_nobody, "").await
        }
        false => {
            fs::set_permissions(socket.path(), Permissions::from_mode(0o000)).unwrap();
            host(&socket.path(), &["diagnose", "--json"], "").await
        }
    };
    assert_eq!(cause(&done).0, "no_permission");
}

#[tokio::test]
async fn a_socket_that_serves_another_host_is_busy() {
    let socket = Socket::bind();
    let _other = UnixStream::connect(socket.path()).await.unwrap();
    let _taken = socket.accept().await; // and no second one
    let (cause, told) = verdict(&socket.path()).await;
    assert_eq!(cause, "busy", "{told}");
}

#[tokio::test]
async fn what_is_not_read_is_a_port_that_is_not_open_and_what_ends_is_closed() {
    let socket = Socket::bind();
    let path = socket.path();
    let (found, _unread) = tokio::join!(verdict(&path), socket.stream());
    assert_eq!(found.0, "port_not_open", "{}", found.1);
    let (found, ()) = tokio::join!(verdict(&path), async { drop(socket.stream().await) });
    assert_eq!(found.0, "closed", "{}", found.1);
}

#[tokio::test]
async fn an_agent_that_answers_a_signed_line_is_well() {
    let guest = Guest::with(Some(SECRET));
    let done = host(&guest.path, &["diagnose"], "").await;
    assert!(done.out.starts_with("nothing is wrong: the agent has answered"), "{done:?}");
    assert_eq!(done.code, 0);
}

#[tokio::test]
async fn an_agent_that_hangs_is_silent() {
    let guest = Guest::with(Some(SECRET));
    guest.agent.signal(Signal::STOP);
    // A line that it had said before may still come.
    let (cause, told) = verdict(&guest.path).await;
    assert_eq!(cause, "silent", "{told}");
}

#[tokio::test]
async fn an_agent_with_another_secret_or_none_speaks_and_does_not_answer() {
    for secret in [Some("another-secret-than-the-hosts"), None] {
        let guest = Guest::with(secret);
        let (cause, told) = verdict(&guest.path).await;
        assert_eq!(cause, "secret", "{told}");
        assert!(told.contains("answers no line that is signed"), "{told}");
    }
    let guest = Guest::with(Some(SECRET));
    let mut without = Command::new(env!("CARGO_BIN_EXE_infiniservice-host"));
    without.arg(&guest.path).args(["diagnose", "--json"]);
    without.env_remove("INFINISERVICE_SHARED_SECRET");
    let (cause, told) = cause(&run(without, "").await);
    assert!(cause == "secret" && told.contains("there is no secret here"), "{told}");
}

#[tokio::test]
async fn a_guest_that_refuses_this_clock_and_takes_its_own_is_told_from_another_secret() {
    let socket = Socket::bind();
    let path = socket.path();
    let (found, ()) = tokio::join!(verdict(&path), async {
        let mut guest = socket.accept().await;
        let ahead = SystemTime::now() + Duration::from_secs(7200);
        let ahead_ms = ahead.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
        let is_fresh = |ts: i64| ts.abs_diff(ahead_ms) < 300_000;
        assert!(!is_fresh(guest.hear().await.ts), "by the host's clock: dropped");
        let time = Iso8601::new(ahead);
        let metrics = format!(r#"{{"type":"metrics","timestamp":"{}"}}"#, time.as_str());
        let heard = loop {
            guest.say(&metrics).await;
            if let Ok(heard) = timeout(Duration::from_millis(500), guest.hear()).await {
                break heard;
            }
        };
        assert!(is_fresh(heard.ts));
        let number = &heard.body["sequence_number"];
        guest.say(format!(r#"{{"type":"keep_alive","sequence_number":{number}}}"#)).await;
        guest.rest().await;
    });
    assert_eq!(found.0, "clock_skew", "{}", found.1);
    assert!(found.1.contains(" s ahead"), "{}", found.1);
}
