//! The real program, changed while it runs: by the signal, by the command, and by its files; with metrics and
//! commands under way, and a host that must not notice.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use infiniservice::commands::secret::Secret;
use infiniservice::host::{Host, Listener, RawCommand, Settings, Shell, payload, uuid};
use infiniservice::wire::envelope;
use rustix::process::Signal;
use serde_json::Value;
use support::{PATIENCE, Running};
use tempfile::TempDir;

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Lines for the host.
fn metrics(number: usize) -> String {
    let (every, keep) = (50 + number % 3 * 25, 16 + number % 5);
    format!(
        "[[collect]]\nevery = \"{every}ms\"\nfrom = [\"cpu\", \"memory\", \"load\", \"disk\", \"network\"]\n\
         [batch]\nmax_items = 1\n[serialize]\nformat = \"infinibay\"\n\
         [write]\nport = \"org.infinibay.agent\"\nkeep = {keep}\n"
    )
}

/// What the host may ask.
fn commands(number: usize) -> String {
    let (parallel, minutes) = (3 + number % 4, 1 + number % 7);
    format!(
        "[receive]\nport = \"org.infinibay.agent\"\n\
         [verify]\nsecret = \"env:INFINISERVICE_SHARED_SECRET\"\n\
         [enforce]\nallow = [\"*\"]\nraw_shell = true\n\
         [execute]\nparallel = {parallel}\nwaiting = 1000\ntimeout = \"{minutes}m\"\n"
    )
}

/// An agent with its state and its files, and the socket that its host listens at.
struct Lab {
    folder: TempDir,
    listener: Listener,
}

impl Lab {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        for name in ["pipelines", "state"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let listener = Listener::bind(&folder.path().join("host.sock")).await.unwrap();
        let lab = Self { folder, listener };
        lab.write("metrics", &metrics(0));
        lab.write("numbers", &lab.numbers(0));
        lab.write("commands", &commands(0));
        lab.write("agent", &lab.agent(false));
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As an editor does: beside, and renamed over.
    fn write(&self, name: &str, text: &str) {
        let (beside, path) =
            (self.path("beside"), self.path("pipelines").join(format!("{name}.toml")));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, path).unwrap();
    }

    fn agent(&self, watch: bool) -> String {
        format!("[state]\nfolder = {:?}\n[reload]\nwatch = {watch}\n", self.path("state"))
    }

    /// Readings with their numbers, into a file.
    fn numbers(&self, number: usize) -> String {
        let (every, items, keep) = (20 + number % 3 * 5, 1 + number % 4, 8 + number % 3);
        format!(
            "[[collect]]\nevery = \"{every}ms\"\nfrom = [\"cpu\", \"network\", {{ processes = {{ keep = 3 }} }}]\n\
             [[enrich]]\nrates = {{}}\n[batch]\nmax_items = {items}\n[serialize]\nformat = \"json-lines\"\n\
             [write]\nkeep = {keep}\nfile = {{ path = {:?} }}\n",
            self.path("numbers.jsonl")
        )
    }

    fn start(&self) -> Running {
        self.start_at("host.sock")
    }

    fn start_at(&self, socket: &str) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        let port = format!("unix:{}", self.path(socket).display());
        command.args(["run", "--port", &port, "--pipelines"]).arg(self.path("pipelines"));
        command.env_clear().env("INFINISERVICE_SHARED_SECRET", SECRET);
        command.stderr(fs::File::create(self.path("log")).unwrap());
        Running(command.stdin(Stdio::null()).spawn().unwrap())
    }

    async fn host(&self) -> Host {
        let secret = Secret::new(SECRET.as_bytes().to_vec());
        let settings = Settings { secret, keep_alive: None };
        tokio::time::timeout(PATIENCE, self.listener.accept(settings)).await.unwrap().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Waits until the log says `what` more than `before` times.
    async fn says(&self, what: &str, before: usize) {
        let begun = Instant::now();
        while self.log().matches(what).count() <= before {
            assert!(begun.elapsed() < PATIENCE, "{what} was not said: {}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn reload(&self) -> Output {
        let state = self.path("state");
        let run = move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
            command.arg("reload").arg("--state").arg(state).env_clear().output().unwrap()
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    }
}

const TAKEN: &str = "files are taken";
const NOT_TAKEN: &str = "files are not taken";

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What the host has heard.
#[derive(Default)]
struct Heard {
    answers: BTreeMap<String, Vec<Arc<Value>>>,
    metrics: usize,
    greetings: usize,
    refused_files: usize,
}

async fn listen(host: Arc<Host>, heard: Arc<Mutex<Heard>>) {
    while let Ok(message) = host.next().await {
        let body = message.body;
        let mut heard = heard.lock().unwrap();
        match body["type"].as_str() {
            Some("metrics") => heard.metrics += 1,
            Some("response") => {
                let id = body["id"].as_str().unwrap().to_owned();
                heard.answers.entry(id).or_default().push(body);
            }
            Some("agent_event") if body["source"] == "reload" => heard.refused_files += 1,
            Some("agent_event") => heard.greetings += 1,
            _ => {}
        }
    }
}

/// Sends a command line and tells its id.
async fn send(host: &Host, line: impl Fn(&str) -> String) -> String {
    let id = uuid().unwrap();
    let command = RawCommand {
        raw_command: line(&id),
        shell: Some(Shell::Sh),
        working_dir: None,
        env_vars: BTreeMap::new(),
        run_as: None,
    };
    host.send(payload::unsafe_command(&id, &command, PATIENCE)).await.unwrap();
    id
}

/// Resident memory in KiB, and how many descriptors are open.
fn usage(agent: &Running) -> (u64, usize) {
    let folder = format!("/proc/{}", agent.0.id());
    let status = fs::read_to_string(format!("{folder}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let rss = line.split_ascii_whitespace().next().unwrap().parse().unwrap();
    (rss, fs::read_dir(format!("{folder}/fd")).unwrap().count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_reloads_under_load_lose_and_double_nothing() {
    reload_under_load(200, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_do_they_where_the_agent_has_several_threads() {
    reload_under_load(60, "[runtime]\nflavour = \"multi_thread\"\nworker_threads = 3\n").await;
}

async fn reload_under_load(reloads: usize, runtime: &str) {
    let lab = Lab::new().await;
    lab.write("agent", &format!("{}{runtime}", lab.agent(false)));
    let agent = lab.start();
    let host = Arc::new(lab.host().await);
    let heard = Arc::<Mutex<Heard>>::default();
    let listening = tokio::spawn(listen(Arc::clone(&host), Arc::clone(&heard)));
    host.clock_known(PATIENCE).await.unwrap();
    let ran = lab.path("ran");
    let note = |id: &str| format!("echo {id} >> {}; sleep 0.1", ran.display());

    let mut sent = vec![send(&host, |_| "sleep 6; echo over".to_owned()).await];
    let (mut taken, mut not_taken, mut before) = (0, 0, (0, 0));
    for number in 1..=reloads {
        let (name, good) = match number % 3 {
            0 => ("metrics", metrics(number)),
            1 => ("numbers", lab.numbers(number)),
            _ => ("commands", commands(number)),
        };
        let is_wrong = number % 5 == 0;
        let file = if is_wrong { format!("{good}nonsense = 1\n") } else { good.clone() };
        lab.write(name, &format!("about = \"change {number}\"\n{file}"));
        for _ in 0..2 {
            sent.push(send(&host, note).await);
        }
        if number % 2 == 0 {
            let output = lab.reload().await;
            let (said, complained) = (text(&output.stdout), text(&output.stderr));
            if is_wrong {
                assert_eq!(output.status.code(), Some(78), "{complained}");
                assert!(complained.contains(&format!("{name}.toml:")), "{complained}");
                assert!(complained.contains("unknown key \"nonsense\""), "{complained}");
            } else {
                assert_eq!(output.status.code(), Some(0), "{complained}");
                let changed = said.lines().find(|line| line.starts_with("changed: "));
                assert!(changed.is_some_and(|changed| changed.contains(name)), "{said}");
            }
        } else {
            agent.signal(Signal::HUP);
            let (what, times) = if is_wrong { (NOT_TAKEN, not_taken) } else { (TAKEN, taken) };
            lab.says(what, times).await;
        }
        if is_wrong {
            not_taken += 1;
            lab.write(name, &good); // taken with the next change
        } else {
            taken += 1;
        }
        if number == 40 {
            before = usage(&agent);
        }
    }
    let begun = Instant::now();
    while heard.lock().unwrap().answers.len() < sent.len() {
        assert!(begun.elapsed() < PATIENCE, "{} answers", heard.lock().unwrap().answers.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((host.lost(), listening.is_finished()), (0, false), "one session");
    // Nothing runs any more, as it did when it was looked at before.
    let (rss, descriptors) = usage(&agent);
    assert!(rss < before.0 + 4 * 1024, "{} KiB grew to {rss} KiB", before.0);
    assert!(descriptors <= before.1, "{} descriptors grew to {descriptors}", before.1);
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0), "{}", lab.log());

    let heard = heard.lock().unwrap();
    for id in &sent {
        let answers = &heard.answers[id];
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0]["success"], true, "{answers:?}");
    }
    let ran = fs::read_to_string(ran).unwrap();
    let mut ran: Vec<&str> = ran.lines().collect();
    ran.sort_unstable();
    let mut expected: Vec<&str> = sent[1..].iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(ran, expected, "each ran once");
    assert_eq!((heard.greetings, heard.refused_files), (1, reloads / 5));
    assert!(heard.metrics > reloads / 4, "{} lines of metrics", heard.metrics);
    let log = lab.log();
    assert_eq!(log.matches("a host is connected").count(), 1, "{log}");
    assert_eq!(
        (log.matches(TAKEN).count(), log.matches(NOT_TAKEN).count()),
        (reloads - reloads / 5, reloads / 5)
    );
    let numbers = fs::read_to_string(lab.path("numbers.jsonl")).unwrap();
    assert!(numbers_go_on(&numbers) > reloads, "readings");
}

/// Every reading has the number after the one before, and what needs an interval has one.
fn numbers_go_on(lines: &str) -> usize {
    let mut count = 0;
    for line in lines.lines() {
        let reading: Value = serde_json::from_str(line).unwrap();
        assert_eq!(reading["sequence"], count, "{line}");
        let interfaces = reading["network"]["interfaces"].as_array().unwrap();
        let lo = interfaces.iter().find(|interface| interface["name"] == "lo").unwrap();
        assert_eq!(lo["rates"].is_object(), count > 0, "{line}");
        assert!(reading["processes"].is_array(), "{line}");
        count += 1;
    }
    count
}

#[tokio::test]
async fn with_no_host_the_newest_are_kept_over_reloads_and_given_once() {
    let lab = Lab::new().await;
    for name in ["metrics", "commands"] {
        fs::remove_file(lab.path("pipelines").join(format!("{name}.toml"))).unwrap();
    }
    let to_port = |number: usize| {
        let file = lab.numbers(number);
        let (flow, _) = file.split_once("[write]").unwrap();
        format!("{flow}[write]\nport = \"org.infinibay.agent\"\nkeep = {}\n", 7 + number % 2)
    };
    lab.write("numbers", &to_port(0));
    let agent = lab.start_at("later.sock");
    while !lab.path("state/control.sock").exists() {
        tokio::task::yield_now().await;
    }
    for number in 1..=40 {
        lab.write("numbers", &to_port(number));
        assert_eq!(lab.reload().await.status.code(), Some(0));
    }
    let listener = std::os::unix::net::UnixListener::bind(lab.path("later.sock")).unwrap();
    let (host, _) = tokio::task::spawn_blocking(move || listener.accept()).await.unwrap().unwrap();
    host.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut host = std::io::BufReader::new(host);
    let (mut last, mut kept) = (None, 0);
    for _ in 0..60 {
        let line: Value = serde_json::from_str(&support::line(&mut host)).unwrap();
        let number = line["sequence"].as_u64();
        assert!(number > last, "{number:?} after {last:?}");
        kept += u64::from(last.is_some() && number == last.map(|last| last + 1));
        last = number;
    }
    assert!(kept > 50, "{kept} of 60 follow the one before");
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_change_are_taken_by_themselves_once_they_are_quiet() {
    let lab = Lab::new().await;
    lab.write("agent", &lab.agent(true));
    let agent = lab.start();
    let host = lab.host().await;
    host.clock_known(PATIENCE).await.unwrap();
    lab.says("pipeline runs", 1).await;

    lab.write("numbers", &lab.numbers(1));
    lab.says(TAKEN, 0).await;
    // In place, in pieces, slower than the quiet time: one reload, of the whole.
    let (path, text) = (lab.path("pipelines/numbers.toml"), lab.numbers(2));
    let (first, rest) = text.split_at(text.len() / 2);
    let mut file = fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, first.as_bytes()).unwrap();
    tokio::time::sleep(Duration::from_millis(800)).await;
    std::io::Write::write_all(&mut file, rest.as_bytes()).unwrap();
    drop(file);
    lab.says(TAKEN, 1).await;
    lab.write("numbers", "nonsense");
    lab.says(NOT_TAKEN, 0).await;
    fs::remove_file(&path).unwrap();
    lab.says("removed=\"numbers\"", 0).await;
    // The whole folder goes, and comes back with something else.
    let (folder, aside) = (lab.path("pipelines"), lab.path("aside"));
    fs::rename(&folder, &aside).unwrap();
    lab.says(NOT_TAKEN, 1).await;
    fs::write(aside.join("numbers.toml"), lab.numbers(3)).unwrap();
    fs::rename(&aside, &folder).unwrap();
    lab.says("added=\"numbers\"", 0).await;
    // Switched off by its own file.
    lab.write("agent", &lab.agent(false));
    lab.says("pipeline files are not watched any more", 0).await;
    lab.write("numbers", &lab.numbers(5));
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let log = lab.log();
    assert_eq!((log.matches(TAKEN).count(), log.matches(NOT_TAKEN).count()), (4, 2), "{log}");
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
    assert_eq!(lab.log().matches("a host is connected").count(), 1);
}

#[tokio::test]
async fn what_only_a_restart_can_change_is_named_and_the_rest_is_taken() {
    let lab = Lab::new().await;
    let agent = lab.start();
    let host = lab.host().await;
    host.clock_known(PATIENCE).await.unwrap();
    lab.says("pipeline runs", 1).await;
    while !lab.path("state/control.sock").exists() {
        tokio::task::yield_now().await;
    }
    let other = lab.agent(false).replace("/state", "/elsewhere");
    let threads = "[runtime]\nflavour = \"multi_thread\"\n[shutdown]\ndeadline = \"2s\"\n";
    lab.write("agent", &format!("{other}{threads}"));
    lab.write("extra", &lab.numbers(1).replace("numbers.jsonl", "extra.jsonl"));
    fs::remove_file(lab.path("pipelines/commands.toml")).unwrap();
    let output = lab.reload().await;
    let said = text(&output.stdout);
    let expected = "added: extra\nremoved: commands\nunchanged: metrics, numbers\n\
                    [runtime] has changed and is read at a start: restart the agent\n\
                    [state] has changed and is read at a start: restart the agent\n";
    assert_eq!(said, expected, "{}", text(&output.stderr));
    // What is asked now is heard by nobody, and does not wait for somebody.
    let ignored = send(&host, |_| format!("touch {}", lab.path("ignored").display())).await;
    lab.says("the host sends, and nothing here takes it", 0).await;
    // And again: the command flow is back, on the same port.
    lab.write("commands", &commands(1));
    let said = text(&lab.reload().await.stdout);
    assert!(said.starts_with("added: commands\nunchanged: extra, metrics, numbers\n"), "{said}");
    let id = send(&host, |_| "echo heard".to_owned()).await;
    let answer = loop {
        let body = host.next().await.unwrap().body;
        assert_ne!(body["id"], ignored.as_str());
        if body["id"] == id.as_str() {
            break body;
        }
    };
    assert_eq!(answer["stdout"], "heard\n");
    assert!(!lab.path("ignored").exists());
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
    assert!(!lab.path("state/control.sock").exists(), "it is gone with its agent");
    let output = lab.reload().await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no agent listens at"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn what_was_taken_before_a_reload_is_not_done_again_after_it() {
    let lab = Lab::new().await;
    let agent = lab.start();
    let host = Arc::new(lab.host().await);
    host.clock_known(PATIENCE).await.unwrap();
    let heard = Arc::<Mutex<Heard>>::default();
    let _listening = tokio::spawn(listen(Arc::clone(&host), Arc::clone(&heard)));
    let answers = async |id: &str, count: usize| {
        let begun = Instant::now();
        while heard.lock().unwrap().answers.get(id).map_or(0, Vec::len) < count {
            assert!(begun.elapsed() < PATIENCE, "{id} was not answered {count} times");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (id, ran) = (uuid().unwrap(), lab.path("ran"));
    let command = RawCommand {
        raw_command: format!("echo ran >> {}", ran.display()),
        shell: Some(Shell::Sh),
        working_dir: None,
        env_vars: BTreeMap::new(),
        run_as: None,
    };
    let payload = payload::unsafe_command(&id, &command, PATIENCE);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    let seal = |nonce| envelope::seal(SECRET.as_bytes(), now, nonce, &payload);
    host.send_unsigned(seal("n1")).await.unwrap();
    answers(&id, 1).await;
    lab.write("commands", &commands(1));
    while !lab.path("state/control.sock").exists() {
        tokio::task::yield_now().await;
    }
    assert!(text(&lab.reload().await.stdout).starts_with("changed: commands\n"));
    // The same envelope is refused, and the same id in another one is answered from memory.
    host.send_unsigned(seal("n1")).await.unwrap();
    host.send_unsigned(seal("n2")).await.unwrap();
    answers(&id, 2).await;
    let last = send(&host, |_| "true".to_owned()).await;
    answers(&last, 1).await;
    assert_eq!(heard.lock().unwrap().answers[&id].len(), 2);
    assert_eq!(fs::read_to_string(ran).unwrap(), "ran\n");
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
    assert_eq!(lab.log().matches("reason=\"replayed\"").count(), 1, "{}", lab.log());
}

#[tokio::test]
async fn systemd_hears_that_it_reloads_and_when() {
    let lab = Lab::new().await;
    let notify = lab.path("notify.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        text(&buffer[..length])
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    command.args(["run", "--port", "stdio", "--pipelines"]).arg(lab.path("pipelines"));
    command.env_clear().env("NOTIFY_SOCKET", &notify).stdin(Stdio::null());
    let agent = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    assert_eq!(heard().trim(), "READY=1");
    agent.signal(Signal::HUP);
    let reloading = heard();
    let at = reloading.trim().strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    assert!((0..20_000_000).contains(&(now - at.parse::<i128>().unwrap())), "{at}");
    assert_eq!(heard().trim(), "READY=1");
}
