//! The program as a whole, held from outside: its port, its signals, its exit codes, systemd's socket.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "daemon/follow.rs"]
mod follow;
#[path = "daemon/outputs.rs"]
mod outputs;
#[path = "daemon/sources.rs"]
mod sources;
#[path = "daemon/given.rs"]
mod given;
mod support;

use std::io::{BufRead, Read};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::flows::{WHOLE, metrics};
use support::{PATIENCE, Place, line};

/// Twenty readings a second.
fn quick() -> String {
    metrics("50ms", WHOLE)
}

#[test]
fn the_shipped_pipeline_sends_a_reading_within_three_seconds() {
    let place = Place::new();
    let begun = Instant::now();
    let _running = place.run("built-in:metrics.toml".as_ref(), &[]);
    let mut host = place.host();
    let mut first = String::new();
    host.read_line(&mut first).unwrap();
    assert_eq!(first, "\n", "a bare newline comes first");
    let first = line(&mut host);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(first.is_ascii());
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first["type"], "metrics");
    let system = &first["data"]["system"];
    assert!(system["cpu"]["usage_percent"].as_f64().unwrap() <= 100.0);
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(system["cpu"]["cores_usage"].as_array().unwrap().len() >= cores);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = system["memory"]["total_kb"].as_u64().unwrap();
    assert!(meminfo.contains(&format!("{total} kB")), "the machine's own figure");
    assert!(first["data"]["processes"].as_array().is_some_and(|list| !list.is_empty()));
}

/// What the C library makes of freed memory is decided by whoever starts the agent, or else by the agent.
#[test]
fn freed_memory_is_returned_unless_the_environment_says_otherwise() {
    for (wanted, is) in [("", 1), ("glibc.malloc.arena_max=3", 3)] {
        let place = Place::new();
        let chosen = [("GLIBC_TUNABLES", wanted)];
        let chosen = if wanted.is_empty() { &[][..] } else { &chosen[..] };
        let running = place.run("built-in:metrics.toml".as_ref(), chosen);
        let _host = place.host();
        let process = format!("/proc/{}", running.0.id());
        let environment = std::fs::read_to_string(format!("{process}/environ")).unwrap();
        let tunables = environment.split_once("GLIBC_TUNABLES=").unwrap().1;
        assert!(tunables.starts_with(&format!("glibc.malloc.arena_max={is}")), "{tunables}");
        let name = std::fs::read_to_string(format!("{process}/comm")).unwrap();
        assert_eq!(name, "infiniservice\n", "it is still called by its name");
    }
}

#[test]
fn the_first_signal_flushes_buffers_and_exits_0_under_both_runtimes() {
    let held = quick()
        .replace("max_items = 1", "max_items = 65536\nmax_bytes = \"16MiB\"\nmax_delay = \"1h\"");
    for agent in ["", "[runtime]\nkind = \"multi_thread\"\nworker_threads = 2\n"] {
        let place = Place::new();
        let pipelines = place.folder.path().join("pipelines");
        std::fs::create_dir(&pipelines).unwrap();
        std::fs::write(pipelines.join("held.toml"), &held).unwrap();
        std::fs::write(pipelines.join("agent.toml"), agent).unwrap();
        let running = place.run(&pipelines, &[]);
        let mut host = place.host();
        // Nothing leaves by itself; the books of the kernel tell when a few readings have been taken.
        let begun = Instant::now();
        let cpu = format!("/proc/{}/stat", running.0.id());
        while begun.elapsed() < Duration::from_millis(600) {
            let _ = std::fs::read_to_string(&cpu).unwrap();
            std::thread::yield_now();
        }
        running.signal(Signal::TERM);
        let mut rest = String::new();
        host.read_to_string(&mut rest).unwrap();
        let lines: Vec<&str> = rest.lines().filter(|line| !line.is_empty()).collect();
        assert!(lines.len() >= 3, "{} lines were flushed", lines.len());
        for line in lines {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
        }
        let (code, log) = running.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("stopping; a second signal stops at once"), "{log}");
    }
}

#[test]
fn a_second_signal_ends_at_once_and_the_deadline_ends_a_host_that_does_not_read() {
    let stalled = quick().replace("\"load\"", "\"load\", { processes = { keep = 1000 } }");
    for second in [true, false] {
        let place = Place::new();
        let pipelines = place.folder.path().join("pipelines");
        std::fs::create_dir(&pipelines).unwrap();
        std::fs::write(pipelines.join("stalled.toml"), &stalled).unwrap();
        std::fs::write(pipelines.join("agent.toml"), "[shutdown]\ndeadline = \"1s\"\n").unwrap();
        let mut running = place.run(&pipelines, &[]);
        let host = place.host(); // and never reads
        let mut log = running.log();
        fill(&host);
        running.signal(Signal::TERM);
        let mut said = String::new();
        while !said.contains("stopping") {
            assert!(log.read_line(&mut said).unwrap() > 0, "{said}");
        }
        let begun = Instant::now();
        if second {
            running.signal(Signal::TERM);
        }
        let code = running.0.wait().unwrap().code();
        if second {
            assert_eq!(code, Some(128 + 15));
            assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
        } else {
            assert_eq!(code, Some(0));
            assert!(begun.elapsed() >= Duration::from_millis(900), "it waited for the host");
            assert!(begun.elapsed() < PATIENCE);
        }
    }
}

/// Waits until the socket towards the host holds as much as it takes.
fn fill(host: &std::io::BufReader<std::os::unix::net::UnixStream>) {
    let (begun, mut before, mut same) = (Instant::now(), 0, Instant::now());
    while begun.elapsed() < PATIENCE {
        let waiting = rustix::io::ioctl_fionread(host.get_ref()).unwrap();
        if waiting != before {
            (before, same) = (waiting, Instant::now());
        } else if before > 100_000 && same.elapsed() > Duration::from_millis(400) {
            return;
        }
        std::thread::yield_now();
    }
    panic!("the socket did not fill: {before} bytes");
}

#[test]
fn systemd_is_notified_of_ready_alive_and_stopping() {
    let place = Place::new();
    let notify = place.folder.path().join("notify.sock");
    let socket = UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let pipeline = place.file("quick.toml", &quick());
    let heard = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap().trim().to_owned()
    };
    let environment = [("NOTIFY_SOCKET", notify.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let running = place.run(&pipeline, &environment);
    let _host = place.host();
    assert_eq!(heard(), "READY=1");
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1");
    }
    running.signal(Signal::INT);
    while heard() != "STOPPING=1" {}
    let (code, _) = running.end();
    assert_eq!(code, Some(0));
}

#[test]
fn an_invalid_start_reports_the_reason_once_and_exits_78() {
    let place = Place::new();
    let good = place.file("good.toml", &quick());
    let wrong = place.file("wrong.toml", &quick().replace("every", "evry"));
    let regular = place.file("device", "");
    let (good, wrong) = (good.to_str().unwrap(), wrong.to_str().unwrap());
    let regular = regular.to_str().unwrap();
    let folder = place.folder.path().to_str().unwrap();
    let cases: [(&[&str], &str); 7] = [
        (&["--pipelines", wrong], "wrong.toml:2:1: unknown key \"evry\""),
        (&["--pipelines", "/nowhere.toml"], "/nowhere.toml: there is no such file"),
        (&["--pipelines", good, "--port", regular], "not a character device"),
        (&["--pipelines", good, "--port", folder], "not a character device"),
        (&["--pipelines", good, "--port", "tcp:1.2.3.4:5"], "unknown kind of port"),
        (&["--pipelines", good, "--pipelines", good], "already given by"),
        (&["--pipelines", "built-in:bench.toml"], "made-up readings"),
    ];
    for (arguments, says) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_infiniservice"))
            .arg("run")
            .args(arguments)
            .env_clear()
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {log}");
        assert!(log.contains(says), "{arguments:?}: {log}");
        assert!(output.stdout.is_empty());
        assert!(!log.contains("pipeline started"), "nothing was started: {log}");
    }
}

#[test]
fn several_pipelines_share_one_port_and_no_line_is_torn() {
    let place = Place::new();
    let pipelines = place.folder.path().join("pipelines");
    std::fs::create_dir(&pipelines).unwrap();
    let tagged = |name: &str| {
        quick()
            .replace("\"infinibay\"", "\"json-lines\"")
            .replace("50ms", "10ms")
            .replace("[batch]", &format!("[[enrich]]\ntags = {{ flow = \"{name}\" }}\n[batch]"))
    };
    for name in ["one", "two", "three"] {
        std::fs::write(pipelines.join(format!("{name}.toml")), tagged(name)).unwrap();
    }
    let running = place.run(&pipelines, &[]);
    let mut host = place.host();
    let mut seen = std::collections::BTreeMap::<String, u64>::new();
    for _ in 0..150 {
        let line: serde_json::Value = serde_json::from_str(&line(&mut host)).expect("a whole line");
        *seen.entry(line["tags"]["flow"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    running.signal(Signal::TERM);
    drop(host);
    let (code, log) = running.end();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("port is open").count(), 1, "one writer: {log}");
}

#[test]
fn one_flow_goes_to_a_file_and_the_port_and_a_host_that_is_away_slows_neither() {
    let place = Place::new();
    let out = place.folder.path().join("out.jsonl");
    let both = quick().replace(
        "[write]\nport = \"org.infinibay.agent\"",
        &format!(
            "[[write]]\nport = \"org.infinibay.agent\"\nkeep = 2\n[[write]]\nfile = {{ path = {:?} }}\n",
            out.display().to_string()
        ),
    );
    let pipeline = place.file("both.toml", &both);
    let running = place.run(&pipeline, &[]);
    let begun = Instant::now();
    let lines = || std::fs::read_to_string(&out).map_or(0, |text| text.lines().count());
    while lines() < 12 {
        assert!(begun.elapsed() < PATIENCE, "the file goes on while nobody accepts at the port");
        std::thread::yield_now();
    }
    running.signal(Signal::TERM);
    let (code, log) = running.end();
    assert_eq!(code, Some(0), "{log}");
    for line in std::fs::read_to_string(&out).unwrap().lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn a_reader_of_stdout_that_has_gone_ends_the_agent_well() {
    let place = Place::new();
    let pipelines = place.file("quick.toml", &quick());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    command.args(["run", "--port", "stdio", "--pipelines"]).arg(pipelines).env_clear();
    let piped = || std::process::Stdio::piped();
    command.stdin(std::process::Stdio::null()).stdout(piped()).stderr(piped());
    let mut running = support::Running(command.spawn().unwrap());
    let mut out = std::io::BufReader::new(running.0.stdout.take().unwrap());
    line(&mut out);
    drop(out);
    let begun = Instant::now();
    while running.0.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < support::PATIENCE, "it goes on with nobody to read");
        std::thread::yield_now();
    }
    let (code, log) = running.end();
    assert_eq!(code, Some(0), "{log}");
}

/// Exit code, what it says and what it complains of.
fn program(arguments: &[&str], variables: &[(&str, &std::path::Path)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_state_folder_that_others_can_change_starts_nothing() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("state")).unwrap();
    symlink("state", at("link")).unwrap();
    std::fs::set_permissions(at("state"), std::fs::Permissions::from_mode(0o777)).unwrap();
    for (name, why) in [
        ("state", "has mode 0777, so others can change what is in it; mend it with `chmod 0700"),
        ("link", "is a symbolic link"),
        ("state/below", "has mode 0777, so others can change it; mend it with `chmod go-w"),
    ] {
        let state = at(name).display().to_string();
        let arguments =
            ["run", "--pipelines", "built-in:metrics.toml", "--port", "stdio", "--state", &state];
        let (code, out, error) = program(&arguments, &[]);
        assert_eq!((code, out.as_str()), (78, ""), "{name}: {error}");
        assert!(error.contains("cannot use the state folder: ") && error.contains(why), "{error}");
    }
    assert_eq!(std::fs::read_dir(at("state")).unwrap().count(), 0, "nothing was put there");
}

#[test]
fn the_state_folder_is_named_by_the_flag_then_the_variable_then_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("metrics.toml"), quick()).unwrap();
    let files = folder.path().display().to_string();
    let verbs = |flag: &[&str], variable: &[(&str, &std::path::Path)]| {
        let (code, told, error) = program(&[&["validate", "-v", &files], flag].concat(), variable);
        assert_eq!(code, 0, "{error}");
        let line = told.lines().find(|line| line.starts_with("state folder: ")).unwrap();
        let place = line.trim_start_matches("state folder: ").split(" (from ").next().unwrap();
        // Never the real one: an agent may run there, and would be asked.
        for verb in
            [&["reload"][..], &["spool", "check"]].into_iter().filter(|_| place.starts_with(&files))
        {
            let arguments = [verb, &["--pipelines", &files], flag].concat();
            let (_, out, error) = program(&arguments, variable);
            assert!(format!("{out}{error}").contains(place), "{verb:?}: {out}{error}");
        }
        line.replace(&files, "AT")
    };
    let (flag, variable) = (at("flag"), at("variable"));
    let flag = ["--state", flag.to_str().unwrap()];
    let set = [("INFINISERVICE_STATE_DIR", variable.as_path())];
    let empty = [("INFINISERVICE_STATE_DIR", std::path::Path::new(""))];
    assert!(verbs(&[], &empty).ends_with("/var/lib/infiniservice (from the default)"));
    std::fs::write(at("agent.toml"), format!("[state]\nfolder = {:?}\n", at("file"))).unwrap();
    assert_eq!(verbs(&[], &[]), "state folder: AT/file (from agent.toml)");
    assert_eq!(verbs(&[], &set), "state folder: AT/variable (from INFINISERVICE_STATE_DIR)");
    assert_eq!(verbs(&flag, &set), "state folder: AT/flag (from --state)");
}

#[test]
fn validate_refuses_what_run_refuses_of_two_outputs_in_one_place() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("files/d")).unwrap();
    let write = |name: &str, path: &str| {
        let start = quick().split("[write]").next().unwrap().to_owned();
        std::fs::write(
            at("files").join(name),
            format!("{start}[write]\nfile = {{ path = {path:?} }}\n"),
        )
        .unwrap();
    };
    write("a.toml", &at("files/d/x").display().to_string());
    write("b.toml", &at("files/d/../d//x.2").display().to_string());
    let files = at("files").display().to_string();
    let state = at("state").display().to_string();
    let (code, _, validated) = program(&["validate", &files, "--state", &state], &[]);
    let (ran, _, error) = program(&["run", "--pipelines", &files, "--state", &state], &[]);
    assert_eq!((code, ran), (78, 78), "{validated} {error}");
    let what = "is rotated";
    assert!(validated.contains(what) && error.contains(what), "{validated} {error}");
    assert!(!at("files/d/x").exists());
}
