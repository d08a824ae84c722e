//! What Prometheus reads of an agent: the real program, a real connection; and its own checker, where there is one.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Instant;

use support::{PATIENCE, Running};

fn agent(folder: &tempfile::TempDir, prometheus: &str) -> Running {
    let file = folder.path().join("metrics.toml");
    let text = format!(
        "[[collect]]\nevery = \"100ms\"\nfrom = [\"cpu\", \"load\", \"agent\"]\n\
         [[collect]]\nevery = \"1s\"\nfrom = [\"memory\", \"disk\", \"network\", \"pressure\"]\n\
         [[enrich]]\nidentity = {{ vm_id = \"vm-1\" }}\n[[enrich]]\ntags = {{ \"a-b\" = \"x\\\"y\\\\z\" }}\n\
         [write]\nprometheus = {{ {prometheus} }}\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    run.args(["run", "--pipelines"]).arg(&file).arg("--state").arg(folder.path().join("state"));
    Running(run.env_remove("RUST_LOG").stderr(Stdio::null()).spawn().unwrap())
}

/// The whole answer to `request`, as soon as somebody answers.
fn ask<S: Read + Write>(connect: impl Fn() -> std::io::Result<S>, request: &str) -> String {
    let late = Instant::now() + PATIENCE;
    let mut stream = loop {
        match connect() {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < late, "{error}"),
        }
        std::thread::yield_now();
    };
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// What is served, once it has a value of the slower cadence.
fn whole<S: Read + Write>(connect: impl Fn() -> std::io::Result<S>) -> String {
    let late = Instant::now() + PATIENCE;
    loop {
        let answer = ask(&connect, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4"),
            "{head}"
        );
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        if body.contains("\nsystem_memory_limit_bytes ") {
            return body.to_owned();
        }
        assert!(Instant::now() < late, "{body}");
    }
}

#[test]
fn one_reading_with_the_values_of_all_cadences_is_served_and_other_requests_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    // Free now, and most likely still when the agent takes it.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _agent = agent(&folder, &format!("address = \"{address}\""));
    let connect = || TcpStream::connect(address);
    let body = whole(connect);
    assert_eq!(body.matches("# EOF\n").count(), 1, "{body}");
    for (family, kind) in [
        ("system_cpu_time_seconds_total", "counter"),
        ("system_cpu_load_average_1m", "gauge"),
        ("process_cpu_time_seconds_total", "counter"),
        ("infiniservice_stage_received_total", "counter"),
    ] {
        assert_eq!(body.matches(&format!("\n# TYPE {family} {kind}\n")).count(), 1, "{body}");
    }
    assert!(body.contains("\nsystem_cpu_time_seconds_total{cpu_mode=\"idle\"} "), "{body}");
    assert!(body.contains("host_id=\"vm-1\",a_b=\"x\\\"y\\\\z\"} 1\n"), "{body}");
    let names = body.lines().filter(|line| !line.starts_with('#'));
    let mut series: Vec<&str> = names.map(|line| line.rsplit_once(' ').unwrap().0).collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all, "a series comes once");
    for (request, status) in [
        ("GET / HTTP/1.0\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.0\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        assert!(ask(connect, request).starts_with(&format!("HTTP/1.0 {status} ")), "{request}");
    }
    support::prometheus::check_metrics(&body);
}

#[test]
fn a_unix_socket_serves_too_and_one_that_nobody_listens_at_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let _agent = agent(&folder, &format!("unix = \"{}\"", path.display()));
    let body = whole(|| UnixStream::connect(&path));
    assert!(body.contains("\nsystem_memory_usage_bytes{system_memory_state=\"used\"} "), "{body}");
}
