//! What the program makes of what it is given at its start: descriptors that nobody reads, limits, signals that
//! are blocked or ignored, and process id 1.

use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Signal, geteuid};

use super::quick;
use super::support::{PATIENCE, Place, Running};

/// Twenty readings a second into a file.
fn to_a_file(place: &Place) -> (PathBuf, PathBuf) {
    let out = place.folder.path().join("out.jsonl");
    let file = format!("file = {{ path = {:?} }}", out.display().to_string());
    let text = quick().replace("port = \"org.infinibay.agent\"", &file);
    (place.file("quick.toml", &text), out)
}

/// The program, with `more` in its environment.
fn run(pipeline: &Path, more: &[(&str, &str)]) -> Running {
    let mut agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    agent.args(["run", "--pipelines"]).arg(pipeline).env_clear().envs(more.iter().copied());
    Running(agent.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
}

fn lines(out: &Path) -> usize {
    std::fs::read_to_string(out).map_or(0, |text| text.lines().count())
}

pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// Fills what `end` writes to, without leaving it non-blocking.
fn fill(end: impl AsFd) {
    let flags = fcntl_getfl(&end).unwrap();
    fcntl_setfl(&end, flags | OFlags::NONBLOCK).unwrap();
    for piece in [4096, 1] {
        while rustix::io::write(&end, &vec![b'x'; piece]).is_ok() {}
    }
    fcntl_setfl(&end, flags).unwrap();
}

#[test]
fn an_unread_log_delays_neither_metrics_nor_the_end() {
    let (reader, writer) = std::io::pipe().unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    fill(&writer);
    fill(&theirs);
    let ends: [(OwnedFd, &str); 2] = [(writer.into(), "pipe"), (theirs.into(), "socket")];
    for (end, kind) in ends {
        let place = Place::new();
        let (pipeline, out) = to_a_file(&place);
        let mut agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        agent.args(["run", "--pipelines"]).arg(pipeline).env_clear().env("RUST_LOG", "trace");
        agent.stdin(Stdio::null()).stderr(end.try_clone().unwrap());
        let mut agent = Running(agent.spawn().unwrap());
        until(kind, || lines(&out) >= 12);
        agent.signal(Signal::TERM);
        let begun = Instant::now();
        assert_eq!(agent.0.wait().unwrap().code(), Some(0), "{kind}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{kind}: {:?}", begun.elapsed());
        assert!(!fcntl_getfl(&end).unwrap().contains(OFlags::NONBLOCK), "others share it");
    }
    drop(reader);
    ours.set_nonblocking(true).unwrap();
    assert_eq!(ours.read(&mut [0]).unwrap(), 1);
}

#[test]
fn a_full_socket_of_systemd_holds_up_neither_the_start_nor_the_end() {
    let place = Place::new();
    let (pipeline, out) = to_a_file(&place);
    let path = place.folder.path().join("notify");
    let _systemd = UnixDatagram::bind(&path).unwrap();
    let full = UnixDatagram::unbound().unwrap();
    full.set_nonblocking(true).unwrap();
    let error = std::iter::repeat_with(|| full.send_to(b"x", &path)).find_map(Result::err).unwrap();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let socket = path.display().to_string();
    let agent = run(&pipeline, &[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "20000")]);
    until("readings", || lines(&out) >= 12);
    agent.signal(Signal::TERM);
    let begun = Instant::now();
    let (code, log) = agent.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(
        log.matches("the watchdog of systemd could not be notified").count(),
        1,
        "once a minute: {log}"
    );
}

/// Runs the program behind some words of a shell; its exit code and what it said.
fn under(place: &Place, words: &str, stop: bool) -> (Option<i32>, String) {
    let (pipeline, out) = to_a_file(place);
    let program = place.folder.path().join("infiniservice");
    std::fs::copy(env!("CARGO_BIN_EXE_infiniservice"), &program).unwrap();
    let mut agent = Command::new("sh");
    agent.arg("-c").arg(format!("{words}; exec \"$0\" \"$@\"")).arg(program);
    agent.args(["run", "--pipelines"]).arg(pipeline).env_clear();
    if geteuid().is_root() && words.contains("ulimit -u") {
        // Root may have as many as it likes.
        use std::os::unix::fs::PermissionsExt;
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(place.folder.path(), open).unwrap();
        agent.uid(65_534);
    }
    let agent = Running(agent.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    if stop {
        until(words, || lines(&out) >= 3);
        agent.signal(Signal::TERM);
    }
    agent.end()
}

#[test]
fn what_its_parent_left_open_is_closed() {
    let place = Place::new();
    let (pipeline, out) = to_a_file(&place);
    let left_open = std::fs::canonicalize(place.file("left-open", "x")).unwrap();
    let mut agent = Command::new("sh");
    agent.args(["-c", "exec 7<\"$0\" 9<>\"$0\"; exec \"$@\""]).arg(&left_open);
    agent.arg(env!("CARGO_BIN_EXE_infiniservice")).args(["run", "--pipelines"]).arg(pipeline);
    let agent = agent.env_clear().stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    let agent = Running(agent.unwrap());
    until("readings", || lines(&out) >= 1);
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", agent.0.id())).unwrap();
    let open = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    assert!(open.into_iter().all(|file| file != left_open));
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
}

#[test]
fn a_limit_under_which_it_cannot_run_is_a_sentence_and_exit_71() {
    for (limit, says) in [
        ("ulimit -n 12", "free file descriptors"),
        ("ulimit -n 4", "free file descriptors"),
        ("ulimit -u 1 2>/dev/null || ulimit -p 1", "more threads"),
        ("ulimit -v 60000", "can be mapped"),
        ("ulimit -s 512", "a stack of 524288 bytes"),
    ] {
        let place = Place::new();
        let (code, log) = under(&place, limit, false);
        assert!(
            log.starts_with("infiniservice: cannot start w") && log.contains(says),
            "{limit}: {log}"
        );
        assert!(log.contains("(raise ") && !log.contains("panicked"), "{limit}: {log}");
        assert_eq!(code, Some(71), "{limit}: {log}");
    }
}

#[test]
fn a_limit_that_may_be_raised_is_and_closed_descriptors_and_ignored_signals_are_no_matter() {
    for words in [
        "ulimit -Sn 12",
        "ulimit -Ss 512",
        "exec 0<&-",
        "exec 1>&-",
        "exec 0<&- 1>&-",
        "trap '' HUP INT QUIT TERM CHLD USR1 ALRM 34 64",
    ] {
        let place = Place::new();
        let (code, log) = under(&place, words, true);
        assert_eq!(code, Some(0), "{words}: {log}");
    }
}

#[test]
fn signals_that_were_blocked_or_ignored_at_the_start_are_not_in_the_agent_or_what_it_starts() {
    let place = Place::new();
    let (pipeline, out) = to_a_file(&place);
    let all = nix::sys::signal::SigSet::all();
    let agent = std::thread::scope(|scope| {
        let blocked = scope.spawn(|| {
            all.thread_set_mask().unwrap();
            // The variable is set: it does not begin again by itself.
            run(&pipeline, &[("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")])
        });
        blocked.join().unwrap()
    });
    until("readings", || lines(&out) >= 3);
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.0.id())).unwrap();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    assert_eq!(blocked.trim().trim_start_matches('0'), "", "{status}");
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
}

#[test]
fn as_process_1_it_reaps_orphans_and_forwards_signals() {
    let place = Place::new();
    let (pipeline, out) = to_a_file(&place);
    let mut agent = Command::new("unshare");
    agent.args(["--pid", "--fork", "--kill-child", env!("CARGO_BIN_EXE_infiniservice")]);
    agent.args(["run", "--pipelines"]).arg(pipeline).env_clear();
    let agent = agent.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    let Ok(agent) = agent else { return eprintln!("skipped: there is no unshare") };
    let mut agent = Running(agent);
    let begun = Instant::now();
    while lines(&out) < 3 {
        if agent.0.try_wait().unwrap().is_some() {
            return eprintln!("skipped: no name space can be made: {}", agent.end().1);
        }
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    let children = |pid: u32| -> Vec<u32> {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    };
    let first = children(agent.0.id())[0];
    let own = children(first).len();
    let mut orphan = Command::new("nsenter");
    orphan.args(["--pid", "--target", &first.to_string(), "sh", "-c", "sleep 1 & exit 0"]);
    assert!(orphan.status().unwrap().success());
    until("it has lost its parent", || children(first).len() == own + 1);
    until("it is taken away", || children(first).len() == own);
    let init = rustix::process::Pid::from_raw(first.cast_signed()).unwrap();
    rustix::process::kill_process(init, Signal::TERM).unwrap();
    let (code, log) = agent.end();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_full_standard_error_is_no_panic() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut refused = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    refused.args(["run", "--pipelines", "/nowhere"]).stderr(full);
    assert_eq!(refused.status().unwrap().code(), Some(78));
}

#[test]
fn status_tells_what_the_agent_has_done_on_the_screen_and_as_json() {
    let place = Place::new();
    let (pipeline, out) = to_a_file(&place);
    let state = place.folder.path().join("state").display().to_string();
    let _agent = run(&pipeline, &[("INFINISERVICE_STATE_DIR", &state)]);
    until("readings", || lines(&out) >= 12);
    let status = |more: &[&str]| {
        let mut status = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        let done = status.arg("status").args(more).args(["--state", &state]).output().unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap())
    };
    let (code, text) = status(&["--json"]);
    assert_eq!(code, Some(0), "{text}");
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    let stages = told["stages"].as_array().unwrap();
    let file = stages.iter().find(|stage| stage["stage"] == "quick/file").unwrap();
    assert!(file["sent"].as_u64().unwrap() >= 12, "{text}");
    assert!(told["rss_bytes"].as_u64() > Some(1 << 20), "{text}");

    let (code, screen) = status(&[]);
    assert_eq!(code, Some(0), "{screen}");
    let line = screen.lines().find(|line| line.starts_with("quick/file")).unwrap();
    let rate: f64 = line.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!(rate > 1.0, "twenty readings a second: {screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
}

#[test]
fn lines_of_standard_input_go_through_all_stages_to_the_end() {
    use std::io::Write;
    let place = Place::new();
    let out = place.folder.path().join("out");
    let text = format!(
        r#"
        [[read]]
        lines = {{ stdin = true }}
        max_line = "1KiB"
        [[transform]]
        filter = {{ field = "level", in = ["warn", "error"] }}
        [[transform]]
        rename = {{ msg = "message" }}
        [[transform]]
        drop = {{ fields = ["password"] }}
        [[transform]]
        tags = {{ site = "lab-1" }}
        [write]
        file = {{ path = "{}" }}
        "#,
        out.display()
    );
    let pipeline = place.file("logs.toml", &text);
    let mut agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    agent.args(["run", "--pipelines"]).arg(pipeline).arg("--state").arg(place.folder.path());
    agent.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut agent = Running(agent.spawn().unwrap());
    let mut stdin = agent.0.stdin.take().unwrap();
    for number in 0..10_000 {
        let level = ["info", "warn", "error"][number % 3];
        writeln!(stdin, r#"{{"n":{number},"level":"{level}","msg":"a \u00e9","password":"x"}}"#)
            .unwrap();
    }
    writeln!(stdin, "{{\"level\":\"warn\",\"long\":\"{}\"}}", "x".repeat(2_000)).unwrap();
    stdin.write_all(b"{\"level\":}\n\xff\n{\"n\":10000,\"level\":\"warn\"}").unwrap();
    drop(stdin);
    let (code, log) = agent.end();
    assert_eq!(code, Some(0), "{log}");
    let written = std::fs::read_to_string(&out).unwrap();
    let line = |number: usize| {
        let level = ["info", "warn", "error"][number % 3];
        format!(r#"{{"n":{number},"level":"{level}","message":"a \u00e9","site":"lab-1"}}"#)
    };
    let mut expected: Vec<String> = (0..10_000).filter(|n| n % 3 != 0).map(line).collect();
    expected.push(r#"{"n":10000,"level":"warn","site":"lab-1"}"#.to_owned());
    assert!(written.lines().eq(expected.iter()), "{}", &written[written.len() - 300..]);
}
