//! `infiniservice-host relay` as it is run, between guests at real sockets, who may do anything, and real outputs.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test ends where the world is not as it should be

mod support;

#[allow(dead_code)] // the tests of the client use the rest
#[path = "host/peer.rs"]
mod peer;
#[path = "relay/browser.rs"]
mod browser;
#[path = "relay/commands.rs"]
mod commands;
#[path = "relay/fleet.rs"]
mod fleet;
#[path = "relay/kills.rs"]
mod kills;
#[path = "relay/nats.rs"]
mod nats;
#[path = "relay/otlp.rs"]
mod otlp;
#[path = "relay/prometheus.rs"]
mod prometheus;
#[path = "relay/vsock.rs"]
mod vsock;
#[path = "relay/web.rs"]
mod web;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use peer::{Peer, SECRET};
use support::flows::{WHOLE, metrics};
use support::{PATIENCE, Running, soon};

/// A folder with the sockets of guests, the relay's file and what it writes.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("guests")).unwrap();
        Self(folder)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A guest's socket, where QEMU listens.
    fn guest(&self, vm: &str) -> UnixListener {
        UnixListener::bind(self.at(&format!("guests/{vm}.socket"))).unwrap()
    }

    /// A relay that writes to `outputs`, with `more` in `[guests]`.
    fn relay(&self, more: &str, outputs: &str) -> Running {
        self.relay_with(more, outputs, Stdio::inherit())
    }

    /// The same, with its log where the test wants it.
    fn relay_with(&self, more: &str, outputs: &str, log: Stdio) -> Running {
        let secret = "secret = \"env:INFINISERVICE_SHARED_SECRET\"";
        self.run(&self.relay_file(&format!("{secret}\n{more}"), outputs), log)
    }

    /// A relay with this file.
    fn run(&self, file: &str, log: Stdio) -> Running {
        let path = self.at("relay.toml");
        std::fs::write(&path, file).unwrap();
        let mut command = host();
        command.args(["relay", "--config"]).arg(&path).env("INFINISERVICE_SHARED_SECRET", SECRET);
        let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        Running(pipes.spawn().unwrap())
    }

    /// The file of a relay.
    fn relay_file(&self, more: &str, outputs: &str) -> String {
        let sockets = self.at("guests/{vm}.socket");
        format!(
            "site = \"lab\"\n[guests]\nsockets = {sockets:?}\nscan = \"50ms\"\n{more}\n{outputs}"
        )
    }

    /// What Prometheus reads at the socket `metrics`, as soon as somebody answers.
    async fn scrape(&self) -> String {
        let path = self.at("metrics");
        let mut stream =
            soon("the relay serves metrics", || UnixStream::connect(path.clone())).await;
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// What Prometheus reads, once it `has` all it should.
    async fn scraped(&self, has: &[&str]) -> String {
        let late = Instant::now() + PATIENCE;
        loop {
            let answer = self.scrape().await;
            if has.iter().all(|part| answer.contains(part)) {
                return answer;
            }
            assert!(Instant::now() < late, "{has:?} are not all in {answer}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn host() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice-host"));
    command.env_remove("RUST_LOG");
    command
}

async fn accept(listener: &UnixListener) -> Peer {
    let accepted = timeout(PATIENCE, listener.accept()).await;
    Peer::over(accepted.expect("the relay connects").unwrap().0)
}

/// Waits for the answer to the sign of life `number`, which acknowledges everything before it.
async fn acknowledged(guest: &mut Peer, number: u64) {
    guest.say(format!(r#"{{"type":"keep_alive","sequence_number":{number}}}"#)).await;
    loop {
        let heard = guest.hear().await.body;
        if heard["type"] == "keep_alive_response" && heard["sequence_number"] == number {
            return;
        }
    }
}

/// Does the same to each connection, for ever.
fn misbehave<F>(listener: UnixListener, act: impl Fn(UnixStream) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            act(stream).await;
        }
    });
}

async fn say_for_ever(mut stream: UnixStream, bytes: Vec<u8>) {
    while stream.write_all(&bytes).await.is_ok() {}
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect()
}

#[tokio::test]
async fn whatever_other_guests_do_every_line_of_a_guest_arrives_and_is_acknowledged() {
    let place = Place::new();
    let (calm, file) = (place.guest("calm"), place.at("lines"));
    let flood = br#"{"type":"agent_event","message":"again and again and again and again"}"#;
    let flood = [&flood[..], b"\n"].concat().repeat(200);
    for number in 0..4 {
        let flood = flood.clone();
        misbehave(place.guest(&format!("flood-{number}")), move |stream| {
            say_for_ever(stream, flood.clone())
        });
    }
    misbehave(place.guest("endless"), |stream| say_for_ever(stream, vec![b'x'; 16384]));
    misbehave(place.guest("garbage"), |stream| say_for_ever(stream, b"no object\n".repeat(1000)));
    misbehave(place.guest("long"), |stream| {
        let line = format!("{{\"a\":\"{}\"}}\n", "x".repeat(8192)).into_bytes();
        say_for_ever(stream, [line, b"{}\n".to_vec()].concat())
    });
    misbehave(place.guest("deaf"), |stream| {
        say_for_ever(stream, b"{\"type\":\"keep_alive\",\"sequence_number\":7}\n".repeat(100))
    });
    misbehave(place.guest("silent"), |stream| async move {
        let _held = stream;
        std::future::pending().await
    });
    misbehave(place.guest("short"), |stream| async move { drop(stream) });
    let metrics = place.at("metrics");
    let _relay = place.relay(
        "rate = \"64KiB\"\nmax_line = \"4KiB\"\nkeep_alive = \"100ms\"",
        &format!("[[write]]\nfile = {{ path = {file:?} }}\n[[write]]\nprometheus = {{ unix = {metrics:?} }}"),
    );

    let mut guest = accept(&calm).await;
    for number in 0..100 {
        guest.say(format!(r#"{{"number":{number}}}"#)).await;
        acknowledged(&mut guest, 1000 * (number + 1)).await;
        // What is acknowledged is in the file.
        if number % 10 == 0 {
            let written = std::fs::read_to_string(&file).unwrap();
            assert!(written.contains(&format!(r#""line":{{"number":{number}}}"#)), "{number}");
        }
    }
    let lines = objects(&std::fs::read_to_string(&file).unwrap());
    let numbers: Vec<u64> = lines
        .iter()
        .filter(|line| line["vm"] == "calm")
        .map(|line| {
            assert_eq!((&line["site"], &line["kind"]), (&"lab".into(), &"record".into()));
            line["line"]["number"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>(), "each once, and in order");
    let seen = place
        .scraped(&[
            r#"infiniservice_guest_throttled_total{site="lab",vm="flood-0",reason="rate"}"#,
            r#"infiniservice_guest_disconnects_total{site="lab",vm="endless",reason="endless_line"}"#,
            r#"infiniservice_guest_disconnects_total{site="lab",vm="garbage",reason="garbage"}"#,
            r#"infiniservice_guest_dropped_total{site="lab",vm="garbage",reason="garbage"}"#,
            r#"infiniservice_guest_dropped_total{site="lab",vm="long",reason="too_long"}"#,
            r#"infiniservice_guest_dropped_total{site="lab",vm="deaf",reason="unread"}"#,
            r#"infiniservice_guest_disconnects_total{site="lab",vm="short",reason="closed"}"#,
            r#"infiniservice_guest_up{site="lab",vm="silent"} 0"#,
            r#"infiniservice_guest_up{site="lab",vm="flood-3"} 1"#,
        ])
        .await;
    assert!(!seen.contains(r#"vm="calm",reason="#), "nothing happened to the calm one: {seen}");
}

/// The lines that an output at a socket gets.
async fn output(path: &Path) -> Lines<BufReader<UnixStream>> {
    let listener = UnixListener::bind(path).unwrap();
    let accepted = timeout(PATIENCE, listener.accept()).await;
    BufReader::new(accepted.expect("the relay writes").unwrap().0).lines()
}

#[tokio::test]
async fn while_an_output_is_away_readings_are_dropped_and_the_rest_waits_in_the_guest() {
    let place = Place::new();
    let listener = place.guest("web");
    let (socket, metrics) = (place.at("out"), place.at("metrics"));
    let _relay = place.relay(
        "queue = \"64KiB\"",
        &format!("[[write]]\nunix = {socket:?}\n[[write]]\nprometheus = {{ unix = {metrics:?} }}"),
    );
    let mut guest = accept(&listener).await;
    guest.say(r#"{"type":"agent_event","number":0}"#).await;
    guest.say(r#"{"type":"keep_alive","sequence_number":1000}"#).await;
    let reading = format!(r#"{{"type":"metrics","padding":"{}"}}"#, "x".repeat(1000));
    for _ in 0..1000 {
        guest.say(&reading).await;
    }
    place
        .scraped(&[
            r#"infiniservice_guest_dropped_total{site="lab",vm="web",reason="output_full"}"#,
        ])
        .await;
    let answer = timeout(Duration::from_millis(300), guest.line()).await;
    assert!(answer.is_err(), "nothing is acknowledged yet: {answer:?}");

    // More than the relay may hold of a guest, and the kernel of a socket.
    const EVENTS: u64 = 600;
    let says = async {
        let padding = "x".repeat(2000);
        for number in 1..=EVENTS {
            guest
                .say(format!(r#"{{"type":"agent_event","number":{number},"padding":"{padding}"}}"#))
                .await;
        }
    };
    let hears = async {
        place
            .scraped(&[
                r#"infiniservice_guest_throttled_total{site="lab",vm="web",reason="output"}"#,
            ])
            .await;
        let mut lines = output(&socket).await;
        let mut numbers = Vec::new();
        while numbers.last() != Some(&EVENTS) {
            let line =
                timeout(PATIENCE, lines.next_line()).await.expect("it comes").unwrap().unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["kind"] == "event" {
                numbers.push(line["line"]["number"].as_u64().unwrap());
            }
        }
        assert_eq!(numbers, (0..=EVENTS).collect::<Vec<_>>(), "each once, and in order");
        lines
    };
    let ((), _lines) = tokio::join!(says, hears);
    assert_eq!(guest.hear().await.body["sequence_number"], 1000);
    acknowledged(&mut guest, 2000).await;
}

#[tokio::test]
async fn a_guest_that_comes_again_is_read_again_and_one_whose_socket_goes_is_forgotten() {
    let place = Place::new();
    let (listener, metrics) = (place.guest("web"), place.at("metrics"));
    let mut relay = place.relay(
        "silence = \"1h\"",
        &format!("[[write]]\nstdout = true\n[[write]]\nprometheus = {{ unix = {metrics:?} }}"),
    );
    let stdout = relay.0.stdout.take().unwrap();
    let stdout = tokio::process::ChildStdout::from_std(stdout).unwrap();
    let mut lines = BufReader::new(stdout).lines();
    let mut next = async || {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("it comes").unwrap().unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["line"]["number"].as_u64()
    };
    for number in 0..3 {
        let mut guest = accept(&listener).await;
        guest.bytes(b"{\"half a li").await;
        drop(guest);
        let mut guest = accept(&listener).await;
        guest.say(format!(r#"{{"number":{number}}}"#)).await;
        assert_eq!(next().await, Some(number), "what was cut is not put before it");
    }
    place
        .scraped(&[r#"infiniservice_guest_lines_total{site="lab",vm="web",kind="record"} 3"#])
        .await;
    std::fs::remove_file(place.at("guests/web.socket")).unwrap();
    let late = Instant::now() + PATIENCE;
    while place.scrape().await.contains(r#"vm="web""#) {
        assert!(Instant::now() < late, "its series go with its socket");
        sleep(Duration::from_millis(50)).await;
    }
    relay.signal(Signal::TERM);
    assert_eq!(next_end(relay).await, Some(0));
}

async fn next_end(relay: Running) -> Option<i32> {
    tokio::task::spawn_blocking(|| relay.end().0).await.unwrap()
}

#[tokio::test]
async fn readings_of_a_real_agent_are_lines_and_metrics_with_its_name() {
    let place = Place::new();
    let (socket, metrics_at, file) = (place.guest("real"), place.at("metrics"), place.at("lines"));
    // QEMU's part: what the agent says at one socket comes out of the other.
    let behind = UnixListener::bind(place.at("port")).unwrap();
    tokio::spawn(async move {
        let (mut agent, _) = behind.accept().await.unwrap();
        let (mut relay, _) = socket.accept().await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut agent, &mut relay).await;
    });
    std::fs::write(place.at("fast.toml"), metrics("100ms", WHOLE)).unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    agent.args(["run", "--pipelines"]).arg(place.at("fast.toml"));
    agent.arg("--port").arg(format!("unix:{}", place.at("port").display()));
    agent.arg("--state").arg(place.at("state")).stdout(Stdio::null()).stderr(Stdio::null());
    let _agent = Running(agent.spawn().unwrap());
    let relay = place.relay(
        "",
        &format!("[[write]]\nfile = {{ path = {file:?} }}\n[[write]]\nprometheus = {{ unix = {metrics_at:?} }}"),
    );
    let total = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = total.split_whitespace().nth(1).unwrap().parse().unwrap();
    let seen = place
        .scraped(&[
            r#"infiniservice_guest_up{site="lab",vm="real"} 1"#,
            &format!("system_memory_limit_bytes{{site=\"lab\",vm=\"real\"}} {}\n", total * 1024),
            r#"system_network_io_bytes_total{site="lab",vm="real",network_interface_name="#,
            "# TYPE system_cpu_utilization_ratio gauge\nsystem_cpu_utilization_ratio{site=\"lab\",vm=\"real\"} ",
        ])
        .await;
    support::prometheus::check_metrics(seen.split_once("\r\n\r\n").unwrap().1);
    relay.signal(Signal::INT);
    assert_eq!(next_end(relay).await, Some(0));
    let lines = objects(&std::fs::read_to_string(&file).unwrap());
    let readings: Vec<_> = lines.iter().filter(|line| line["kind"] == "metrics").collect();
    assert!(!readings.is_empty());
    for line in readings {
        assert_eq!((&line["vm"], &line["line"]["type"]), (&"real".into(), &"metrics".into()));
        assert!(line["received"].as_str().unwrap().ends_with('Z'));
    }
}

#[test]
fn a_file_that_is_wrong_is_told_with_its_place_and_the_example_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    let check = |path: &Path, more: &[&str]| {
        let mut command = host();
        let output = command.args(["relay", "--config"]).arg(path).args(more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let guests = "[guests]\nsockets = \"/run/guests/{vm}.socket\"\n";
    let stdout = "[[write]]\nstdout = true\n";
    let (vsock, secret) = ("[guests.vsock]\n", "secret = \"env:KEY\"\n");
    let nats = "[nats]\nservers = \"nats://localhost:4222\"\n";
    for (text, said) in [
        (guests.to_owned(), "nothing is written anywhere"),
        (stdout.to_owned(), "has no \"guests\""),
        (format!("[guests]\nsockets = []\n{stdout}"), "no socket is read"),
        (format!("[guests]\nsockets = \"guests/{{vm}}\"\n{stdout}"), "is no path from the root on"),
        (format!("[guests]\nsockets = \"/run/agent\"\n{stdout}"), "which part is the guest's name"),
        (format!("{guests}max_lines = \"1MiB\"\n{stdout}"), "did you mean \"max_line\"?"),
        (format!("{guests}max_line = \"1GiB\"\n{stdout}"), "from \"4KiB\" to \"4MiB\""),
        (format!("{guests}secret = \"hunter2\"\n{stdout}"), "is no place of a secret"),
        (format!("[guests.vsock]\n{stdout}"), "no socket is read"),
        (format!("[guests.vsock]\ncids = 3\n{stdout}"), "is no table of guests and CIDs"),
        (format!("{vsock}cids = {{ web = 3, db = 3 }}\n{stdout}"), "or another one's"),
        (format!("{vsock}cids = {{ web = 2 }}\n{stdout}"), "which is no guest's"),
        (
            format!("{guests}[[write]]\nport = \"org.infinibay.agent\"\n"),
            "a relay writes to no port",
        ),
        (format!("{guests}[[write]]\nstdout = true\nformat = \"influx\"\n"), "as json-lines"),
        (format!("{guests}{stdout}{stdout}"), "writes to the same place"),
        (format!("{guests}[nats]\n"), "has no \"servers\""),
        (format!("{guests}[nats]\nservers = []\n"), "names no server"),
        (format!("{guests}[nats]\nservers = \"localhost:4222\"\n"), "is no server of NATS"),
        (
            format!("{guests}[nats]\nservers = \"nats://relay:hunter2@localhost:4222\"\n"),
            "has a user or a token in it",
        ),
        (format!("{guests}{nats}stream = \"a.b\"\n"), "is no name of a stream"),
        (format!("{guests}{nats}user = \"relay\"\n"), "a user and its secret go together"),
        (format!("{guests}{nats}secret = \"hunter2\"\n"), "does not say where the secret is found"),
        (format!("{guests}{nats}ca = \"ca.pem\"\n"), "is no path of a file"),
        (format!("{guests}{nats}max_age = \"1m\"\n"), "for longer than their lines are kept"),
        (format!("{guests}{nats}max_age = \"367days\"\n"), "the longest \"366days\""),
        (format!("{guests}{nats}commands = true\n[commands]\n"), "nothing signs the commands"),
        (
            format!("{guests}{secret}{nats}commands = true\n[commands]\nallow = [\"Dance\"]\n"),
            "is no action",
        ),
        (
            format!(
                "{guests}{secret}{nats}commands = true\n[commands]\nallow = [{{ action = \"SystemInfo\", service = \"a\" }}]\n"
            ),
            "this action has no",
        ),
        (
            format!("{guests}{secret}{nats}commands = true\n[commands]\ntimeout = \"2h\"\n"),
            "the longest \"1h\"",
        ),
        (format!("{guests}{secret}{nats}commands = true\n"), "no rules say which commands"),
        (
            format!("{guests}{secret}{nats}[nats.commands]\n"),
            "put the rules into a section [commands]",
        ),
        (
            format!("{guests}{secret}{stdout}[commands]\n[web]\ncommands = true\n"),
            "there is no token",
        ),
        (format!("{guests}[otlp]\n"), "has no \"endpoint\""),
        (
            format!("{guests}[otlp]\nendpoint = \"grpc://localhost:4317\"\n"),
            "is no receiver of OTLP",
        ),
        (
            format!("{guests}[otlp]\nendpoint = \"http://relay:hunter2@localhost:4318\"\n"),
            "has a user or a token in it",
        ),
        (
            format!("{guests}[otlp]\nendpoint = \"http://localhost:4318\"\ntoken = \"hunter2\"\n"),
            "does not say where the secret is found",
        ),
        (
            format!("{guests}master = \"hunter2\"\n{stdout}"),
            "does not say where the secret is found",
        ),
        (
            format!("{guests}{secret}master = \"file:/k\"\n{stdout}"),
            "a guest can have one key only",
        ),
    ] {
        std::fs::write(&file, &text).unwrap();
        let (code, err) = check(&file, &[]);
        assert_eq!(code, Some(78), "{text}: {err}");
        assert!(err.contains(said) && !err.contains("hunter2"), "{text}: {err}");
    }
    std::fs::write(&file, format!("{guests}{nats}max_age = \"366days\"\n")).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/relay.toml");
    let by_cid = folder.path().join("by-cid.toml");
    std::fs::write(&by_cid, format!("{vsock}cids = {{ web = 3, db = 4 }}\n{stdout}")).unwrap();
    for right in [&file, &example, &by_cid] {
        let (code, err) = check(right, &["--check"]);
        assert_eq!(code, Some(0), "{}: {err}", right.display());
    }
    let (code, err) = check(&example, &["--json"]);
    assert_eq!(code, Some(78), "{err}");
    assert!(
        err.contains("relay takes the sockets and secrets of its guests from its file"),
        "{err}"
    );
}
