//! What a relay costs for a fleet: the release binary as a child, between guests at real Unix sockets, which this process plays
//! with the line of a real agent, and a real NATS server. A minute of each (`SECONDS=…`, `GUESTS=…`, `AGENTS=…`, `IDLE=…` for other numbers).
//! Prints what was measured, and exits 1 where a bound is broken.
//!
//! - **A fleet**: a line of each guest every second. Every one is stored by JetStream; the time from the guest's write to the
//!   acknowledgement of the stream, as another client of the server hears it.
//! - **The same beside guests that misbehave**: a fifth of them flood, say nothing, or stop in the middle of a line without reading.
//! - **Real agents**: twenty that take a reading every second. The time is from the reading, as its line says, to the acknowledgement.
//! - **Idle**: ten thousand guests that are connected and say nothing, then one line each.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener as StdListener;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_nats::{Client, ConnectOptions, Subscriber};
use futures::StreamExt;
use hdrhistogram::Histogram;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::flows::{SECRET, WHOLE, metrics};
use support::{Running, nats};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot::{self, Receiver};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

const LATENCY_MAX: Duration = Duration::from_millis(50);
const CORES_MAX: f64 = 0.5;
const MEMORY_MAX_KIB: u64 = 96 << 10;
const IDLE_MEMORY_MAX_KIB: u64 = 200 << 10;
/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(5);
/// How often a guest asks for an acknowledgement, as the agent does where its host is its own.
const KEEP_ALIVE: u64 = 5;
/// How often Prometheus would come.
const SCRAPE: Duration = Duration::from_secs(15);
/// Nothing is waited for longer.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return ExitCode::SUCCESS;
    }
    if !nats::is_there() {
        return ExitCode::FAILURE;
    }
    let files = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files });
    let given = |name: &str, otherwise| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let time = Duration::from_secs(given("SECONDS", 60));
    let (guests, idle) = (given("GUESTS", 1000) as usize, given("IDLE", 10_000) as usize);
    let agents = given("AGENTS", 20) as usize;
    let line = line_of_an_agent();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kept = runtime.block_on(async {
        [
            fleet(guests, 0, &line, time).await,
            fleet(guests - guests / 5, guests / 5, &line, time).await,
            real_agents(agents, time).await,
            idle_fleet(idle, &line).await,
        ]
    });
    if kept.contains(&false) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A whole metrics line of the agent on this machine, without its first brace.
fn line_of_an_agent() -> String {
    let folder = TempDir::new().unwrap();
    let (socket, file) = (folder.path().join("host.sock"), folder.path().join("fast.toml"));
    fs::write(&file, metrics("100ms", WHOLE)).unwrap();
    let listener = StdListener::bind(&socket).unwrap();
    let agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"))
        .args(["run", "--pipelines"])
        .arg(file)
        .args(["--port", &format!("unix:{}", socket.display())])
        .stderr(Stdio::null())
        .spawn();
    let _agent = Running(agent.unwrap());
    let lines = BufReader::new(listener.accept().unwrap().0).lines().map(Result::unwrap);
    let mut readings = lines.filter(|line| line.contains(r#""type":"metrics""#));
    // The second has rates.
    readings.nth(1).unwrap().strip_prefix('{').unwrap().to_owned()
}

/// A relay, its NATS server, and the folder of its guests' sockets.
struct Lab {
    relay: Running,
    nats: nats::Server,
    client: Client,
    folder: TempDir,
}

impl Lab {
    /// A relay of guests of these names, whose sockets listen before it starts.
    async fn start(names: &[String]) -> (Self, Vec<StdListener>) {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("guests")).unwrap();
        fs::create_dir(at("machines")).unwrap();
        fs::create_dir(at("nats")).unwrap();
        let bind = |name| StdListener::bind(at("guests").join(name)).unwrap();
        let listeners = names.iter().map(bind).collect();
        let nats = nats::start(&at("nats"), "").await;
        let (sockets, page) = (at("guests/{vm}"), at("metrics"));
        let machines = at("machines/{vm}.vsock");
        let text = format!(
            "site = \"lab\"\n[guests]\nsockets = {sockets:?}\nsecret = \"env:KEY\"\n\
             [guests.vsock]\nsockets = {machines:?}\n[nats]\nservers = \"nats://{}\"\n[[write]]\nprometheus = {{ unix = {page:?} }}\n",
            nats.address
        );
        fs::write(at("relay.toml"), text).unwrap();
        let server = format!("nats://{}", nats.address);
        let client = ConnectOptions::new().connect(server).await.unwrap();
        let relay = Command::new(env!("CARGO_BIN_EXE_infiniservice-host"))
            .args(["relay", "--config"])
            .arg(at("relay.toml"))
            .env("KEY", SECRET)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .spawn();
        (Self { relay: Running(relay.unwrap()), nats, client, folder }, listeners)
    }

    /// The readings that go to the stream, and the stream's answers to the relay.
    async fn subscribe(&self) -> (Subscriber, Subscriber) {
        let lines = self.client.subscribe("infini.*.*.metrics").await.unwrap();
        let mut answers = self.client.subscribe("_INBOX.>").await.unwrap();
        // Once this comes back, the server knows of both.
        self.client.publish("_INBOX.ready", "".into()).await.unwrap();
        while answers.next().await.unwrap().subject.as_str() != "_INBOX.ready" {}
        (lines, answers)
    }

    /// What Prometheus reads.
    async fn scrape(&self) -> String {
        let mut stream = UnixStream::connect(self.folder.path().join("metrics")).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        page
    }
}

/// Takes the relay's connections, one for each socket.
async fn connected(listeners: Vec<StdListener>) -> Vec<UnixStream> {
    let mut streams = Vec::with_capacity(listeners.len());
    for listener in listeners {
        listener.set_nonblocking(true).unwrap();
        let listener = UnixListener::from_std(listener).unwrap();
        let accepted = timeout(PATIENCE, listener.accept()).await;
        streams.push(accepted.expect("the relay connects").unwrap().0);
    }
    streams
}

/// What guests have written.
struct Load {
    line: String,
    /// The zero of the times in lines.
    zero: Instant,
    until: Instant,
    written: AtomicU64,
    /// How late the guests themselves were, in microseconds: what the machine's other work adds to each time.
    late: Mutex<Histogram<u64>>,
}

/// Measures `calm` guests beside others that misbehave.
async fn fleet(calm: usize, wild: usize, line: &str, time: Duration) -> bool {
    let names: Vec<String> = (0..calm + wild).map(|number| format!("vm-{number:05}")).collect();
    let (lab, mut listeners) = Lab::start(&names).await;
    let wild_listeners = listeners.split_off(calm);
    let (stop, stopped) = oneshot::channel::<()>();
    let wild_guests = std::thread::spawn(move || misbehave(wild_listeners, stopped));
    let heard = Heard { times: Histogram::new(3).unwrap(), stored: 0, twice: 0 };
    let heard = Arc::new(Mutex::new(heard));
    let streams = connected(listeners).await;
    let zero = Instant::now();
    let begin = zero + WARM_UP;
    let load = Arc::new(Load {
        line: line.to_owned(),
        zero,
        until: begin + time,
        written: AtomicU64::new(0),
        late: Mutex::new(Histogram::new(3).unwrap()),
    });
    let (lines, answers) = lab.subscribe().await;
    let hears = tokio::spawn(hear(lines, answers, zero, sent_at, Arc::clone(&heard)));
    let mut guests = JoinSet::new();
    for (number, stream) in streams.into_iter().enumerate() {
        let phase = Duration::from_secs(1).mul_f64(number as f64 / calm as f64);
        guests.spawn(play(stream, zero + phase, Arc::clone(&load)));
    }
    sleep_until(begin.into()).await;
    let before = Cost::of(&lab);
    lab.relay.forget_peak();
    let mut scrapes = 0;
    while Instant::now() + SCRAPE < load.until {
        sleep(SCRAPE).await;
        assert!(lab.scrape().await.contains("infiniservice_guest_up"));
        scrapes += 1;
    }
    sleep_until(load.until.into()).await;
    let after = Cost::of(&lab);
    let streams = guests.join_all().await;
    let written = load.written.load(Relaxed);
    let late = Instant::now() + PATIENCE;
    while heard.lock().unwrap().stored < written && Instant::now() < late {
        sleep(Duration::from_millis(100)).await;
    }
    hears.abort();
    let dropped = dropped(&lab.scrape().await, calm);
    let stream = async_nats::jetstream::new(lab.client.clone()).get_stream("infini").await.unwrap();
    let stream = stream.cached_info().state.clone();
    drop(streams);

    let heard = heard.lock().unwrap();
    println!(
        "\n{calm} guests{}, a line of {} bytes each second, {} s, {scrapes} scrapes",
        if wild > 0 { format!(" beside {wild} that misbehave") } else { String::new() },
        written_line(0, 0, line).len(),
        time.as_secs()
    );
    println!(
        "  stream   {} lines of all guests, {} bytes each",
        stream.messages,
        stream.bytes / stream.messages.max(1)
    );
    let ms = |us: u64| us as f64 / 1000.0;
    let [p50, p99] = [0.5, 0.99].map(|at| heard.times.value_at_quantile(at));
    let own = load.late.lock().unwrap().value_at_quantile(0.99);
    println!(
        "  lines    {written} written, {} stored, {} twice, {dropped} dropped by the relay",
        heard.stored, heard.twice
    );
    println!(
        "  latency  p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms; the players themselves were late by p99 {:.1} ms",
        ms(p50),
        ms(p99),
        ms(heard.times.max()),
        ms(own)
    );
    let cost = |now: f64, before: f64| (now - before) / time.as_secs_f64();
    let relay = cost(after.relay, before.relay);
    let [nats, own] = [cost(after.nats, before.nats), cost(after.own, before.own)];
    let others = (cost(after.machine, before.machine) - relay - nats - own).max(0.0);
    println!("  cores    relay {relay:.3}, NATS {nats:.2}, players {own:.2}, others {others:.2}");
    let (memory, peak) = (lab.relay.status("VmRSS:"), lab.relay.status("VmHWM:"));
    println!("  memory   relay {} MiB, at most {} MiB", mib(memory), mib(peak));
    let stored = verdict(heard.stored == written && heard.twice == 0, "every line is stored once");
    let p99 = Duration::from_micros(p99);
    let fast = verdict(p99 <= LATENCY_MAX, &format!("p99 at most {LATENCY_MAX:?}"));
    let small = verdict(peak <= MEMORY_MAX_KIB, &format!("at most {} MiB", MEMORY_MAX_KIB >> 10));
    // Those that flood are read at their rate, which is work.
    let cheap = wild > 0 || verdict(relay <= CORES_MAX, &format!("at most {CORES_MAX} cores"));
    drop(stop);
    wild_guests.join().unwrap();
    stored && fast && small && cheap
}

/// What the relay has dropped of the first guests.
fn dropped(page: &str, calm: usize) -> u64 {
    let mut dropped = 0;
    for line in page.lines().filter(|line| line.starts_with("infiniservice_guest_dropped_total")) {
        let vm = line.split_once("vm=\"vm-").unwrap().1;
        if vm[..5].parse::<usize>().unwrap() < calm {
            dropped += line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
        }
    }
    dropped
}

/// A line with the time at which it is written, in microseconds.
fn written_line(sent_us: u128, number: u64, line: &str) -> String {
    format!("{{\"sent\":{sent_us},\"number\":{number},{line}\n")
}

/// A guest that says a line each second from `first` on, and hears what the relay says.
async fn play(stream: UnixStream, first: Instant, load: Arc<Load>) -> impl Send {
    let (mut reader, mut writer) = stream.into_split();
    let hears =
        tokio::spawn(async move { while matches!(reader.read(&mut [0; 1024]).await, Ok(1..)) {} });
    for number in 0.. {
        let due = first + Duration::from_secs(number);
        if due >= load.until {
            break;
        }
        sleep_until(due.into()).await;
        let now = Instant::now();
        let late = u64::try_from((now - due).as_micros()).unwrap();
        load.late.lock().unwrap().record(late).unwrap();
        let mut line = written_line((now - load.zero).as_micros(), number, &load.line);
        if number % KEEP_ALIVE == KEEP_ALIVE - 1 {
            line += &format!("{{\"type\":\"keep_alive\",\"sequence_number\":{number}}}\n");
        }
        writer.write_all(line.as_bytes()).await.unwrap();
        load.written.fetch_add(1, Relaxed);
    }
    (writer, hears)
}

/// Guests that flood, say nothing or say half a line, in turn, until `stopped`.
fn misbehave(listeners: Vec<StdListener>, stopped: Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut guests = JoinSet::new();
        for (number, mut stream) in connected(listeners).await.into_iter().enumerate() {
            guests.spawn(async move {
                let flood =
                    format!("{{\"type\":\"agent_event\",\"p\":\"{}\"}}\n", "x".repeat(1000));
                match number % 4 {
                    0 | 1 => while stream.write_all(flood.as_bytes()).await.is_ok() {},
                    2 => while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {},
                    _ => {
                        let half = format!("{{\"p\":\"{}", "x".repeat(100_000));
                        let _ = stream.write_all(half.as_bytes()).await;
                        std::future::pending().await // nothing is read
                    }
                }
            });
        }
        let _ = stopped.await; // dropped
    });
}

/// What another client of the server has heard of the stream.
struct Heard {
    /// From a guest's write to the acknowledgement, in microseconds, of lines after the warm-up.
    times: Histogram<u64>,
    stored: u64,
    /// Lines that the stream had already.
    twice: u64,
}

/// Answers that are kept until their line comes; most are to lines of guests that flood.
const EARLY_MAX: usize = 100_000;

/// Hears the lines and the stream's answers to the relay, which come in any order.
async fn hear(
    lines: Subscriber,
    answers: Subscriber,
    zero: Instant,
    sent_at: impl Fn(&[u8]) -> Duration,
    heard: Arc<Mutex<Heard>>,
) {
    let (mut sent, mut early) = (HashMap::new(), HashMap::new());
    let mut both = futures::stream::select(
        lines.map(|line| {
            (line.reply.expect("published with acknowledgement"), Some(line.payload), false)
        }),
        answers.map(|answer| {
            let is_twice = memchr::memmem::find(&answer.payload, b"\"duplicate\":true").is_some();
            (answer.subject, None, is_twice)
        }),
    );
    while let Some((reply, line, is_twice)) = both.next().await {
        let (reply, now) = (reply.to_string(), zero.elapsed());
        let (at, answered, is_twice) = match line {
            Some(object) => {
                let at = sent_at(&object);
                match early.remove(&reply) {
                    Some((answered, is_twice)) => (at, answered, is_twice),
                    None => {
                        sent.insert(reply, at);
                        continue;
                    }
                }
            }
            None => match sent.remove(&reply) {
                Some(at) => (at, now, is_twice),
                None => {
                    if early.len() == EARLY_MAX {
                        early.clear();
                    }
                    early.insert(reply, (now, is_twice));
                    continue;
                }
            },
        };
        let mut heard = heard.lock().unwrap();
        if is_twice {
            heard.twice += 1;
            continue;
        }
        heard.stored += 1;
        if at >= WARM_UP {
            let micros = answered.saturating_sub(at).as_micros();
            heard.times.record(u64::try_from(micros).unwrap()).unwrap();
        }
    }
}

/// When the guest wrote the line in an object of the relay.
fn sent_at(object: &[u8]) -> Duration {
    let key = b"\"line\":{\"sent\":";
    let at = memchr::memmem::find(object, key).expect("a line of a player") + key.len();
    let digits = object[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let micros = digits.fold(0, |number, byte| number * 10 + u64::from(byte - b'0'));
    Duration::from_micros(micros)
}

/// Measures real agents, whose port is the Unix socket that a hypervisor would connect to for them.
async fn real_agents(count: usize, time: Duration) -> bool {
    let (lab, _) = Lab::start(&[]).await;
    let at = |name: String| lab.folder.path().join(name);
    let (zero, since) = (Instant::now(), SystemTime::now());
    let heard = Heard { times: Histogram::new(3).unwrap(), stored: 0, twice: 0 };
    let heard = Arc::new(Mutex::new(heard));
    let (lines, answers) = lab.subscribe().await;
    let read_at = move |object: &[u8]| {
        let key = b"\"timestamp\":\"";
        let at = memchr::memmem::find(object, key).expect("a reading") + key.len();
        let end = at + memchr::memchr(b'"', &object[at..]).expect("the end of a text");
        let text = std::str::from_utf8(&object[at..end]).unwrap();
        humantime::parse_rfc3339(text).unwrap().duration_since(since).unwrap_or_default()
    };
    let hears = tokio::spawn(hear(lines, answers, zero, read_at, Arc::clone(&heard)));
    let file = at("fast.toml".to_owned());
    fs::write(&file, metrics("1s", WHOLE)).unwrap();
    let (mut machines, mut agents) = (Vec::new(), Vec::new());
    for number in 0..count {
        let socket = at(format!("machines/agent-{number:02}.vsock"));
        machines.push(StdListener::bind(&socket).unwrap());
        let mut agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        agent.args(["run", "--pipelines"]).arg(&file);
        agent.arg("--port").arg(format!("unix:{}_8460", socket.display()));
        agent.arg("--state").arg(at(format!("state-{number:02}")));
        agents.push(Running(agent.env("RUST_LOG", "error").stdin(Stdio::null()).spawn().unwrap()));
    }
    sleep(WARM_UP).await;
    let before = Cost::of(&lab);
    sleep(time).await;
    let relay = (Cost::of(&lab).relay - before.relay) / time.as_secs_f64();
    let memory = agents.iter().map(|agent| agent.status("VmRSS:")).max().unwrap_or_default();
    agents.iter().for_each(|agent| agent.signal(rustix::process::Signal::TERM));
    for agent in &mut agents {
        agent.0.wait().unwrap();
    }
    // What the relay has taken is what is stored.
    let late = Instant::now() + PATIENCE;
    let taken = loop {
        sleep(Duration::from_secs(1)).await;
        let page = lab.scrape().await;
        let lines = page.lines().filter(|line| line.contains("kind=\"metrics\""));
        let taken: u64 =
            lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
        if heard.lock().unwrap().stored == taken || Instant::now() > late {
            break taken;
        }
    };
    hears.abort();
    let heard = heard.lock().unwrap();
    let ms = |at| heard.times.value_at_quantile(at) as f64 / 1000.0;
    println!("\n{count} real agents, a reading each second, {} s", time.as_secs());
    println!("  lines    {taken} taken, {} stored, {} twice", heard.stored, heard.twice);
    println!("  latency  p50 {:.1} ms, p99 {:.1} ms, from the reading on", ms(0.5), ms(0.99));
    println!("  cores    relay {relay:.3}");
    println!(
        "  memory   relay {} MiB, an agent {} MiB at most",
        mib(lab.relay.status("VmRSS:")),
        mib(memory)
    );
    let expected = count as u64 * time.as_secs();
    let stored = heard.stored == taken && heard.twice == 0 && taken >= expected;
    verdict(stored, "every line is stored once, and there is one each second")
}

/// Measures guests that are connected, and nothing else.
async fn idle_fleet(guests: usize, line: &str) -> bool {
    let names: Vec<String> = (0..guests).map(|number| format!("vm-{number:05}")).collect();
    let (lab, listeners) = Lab::start(&names).await;
    let mut streams = connected(listeners).await;
    sleep(WARM_UP).await;
    let before = Cost::of(&lab);
    const TIME: Duration = Duration::from_secs(20);
    sleep(TIME).await;
    let cores = (Cost::of(&lab).relay - before.relay) / TIME.as_secs_f64();
    let silent = lab.relay.status("VmRSS:");
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(written_line(0, number as u64, line).as_bytes()).await.unwrap();
    }
    let late = Instant::now() + PATIENCE;
    let all = format!(
        "infiniservice_guest_lines_total{{site=\"lab\",vm=\"{}\",kind=\"metrics\"}} 1",
        names[guests - 1]
    );
    while !lab.scrape().await.contains(&all) {
        assert!(Instant::now() < late, "all lines are read");
        sleep(Duration::from_secs(1)).await;
    }
    sleep(WARM_UP).await;
    println!("\n{guests} guests that are connected and idle");
    println!("  cores    relay {cores:.3}");
    println!(
        "  memory   relay {} MiB; {} MiB once each has said a line, at most {} MiB",
        mib(silent),
        mib(lab.relay.status("VmRSS:")),
        mib(lab.relay.status("VmHWM:"))
    );
    verdict(silent <= IDLE_MEMORY_MAX_KIB, &format!("at most {} MiB", IDLE_MEMORY_MAX_KIB >> 10))
}

/// Processor seconds so far.
struct Cost {
    relay: f64,
    nats: f64,
    own: f64,
    machine: f64,
}

impl Cost {
    fn of(lab: &Lab) -> Self {
        let seconds = |ticks: u64| ticks as f64 / 100.0;
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        let machine = fs::read_to_string("/proc/stat").unwrap();
        // Behind the name: user and system time (`proc_pid_stat(5)`).
        let own: Vec<&str> = own.rsplit(')').next().unwrap().split_whitespace().collect();
        // user, nice, system, idle, iowait, irq, softirq (`proc_stat(5)`).
        let machine = machine.lines().next().unwrap().split_whitespace().skip(1);
        let machine: Vec<u64> = machine.map(|ticks| ticks.parse().unwrap()).collect();
        Self {
            relay: seconds(lab.relay.ticks()),
            nats: seconds(lab.nats.process.ticks()),
            own: seconds(own[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()),
            machine: seconds([0, 1, 2, 5, 6].iter().map(|at| machine[*at]).sum()),
        }
    }
}

fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}

fn verdict(kept: bool, bound: &str) -> bool {
    println!("  {} {bound}", if kept { "kept:  " } else { "BROKEN:" });
    kept
}
