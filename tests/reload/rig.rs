//! An agent with its files and the host that hears it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use infiniservice::host::Secret;
use infiniservice::host::{Host, Listener, Settings, payload, uuid};
use serde_json::Value;
use tempfile::TempDir;

use super::support::flows::{self, COMMANDS, SECRET, WHOLE};
use super::support::{PATIENCE, Running, raw};

/// Lines for the host.
pub fn metrics(number: usize) -> String {
    let (every, keep) = (50 + number % 3 * 25, 16 + number % 5);
    format!("{}keep = {keep}\n", flows::metrics(&format!("{every}ms"), WHOLE))
}

/// What the host may ask.
pub fn commands(number: usize) -> String {
    let (parallel, minutes) = (3 + number % 4, 1 + number % 7);
    format!(
        "{COMMANDS}[execute]\nparallel = {parallel}\nwaiting = 1000\ntimeout = \"{minutes}m\"\n"
    )
}

/// An agent with its state and its files, and the socket that its host listens at.
pub struct Lab {
    folder: TempDir,
    listener: Listener,
}

impl Lab {
    pub async fn new() -> Self {
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As an editor does: beside, and renamed over.
    pub fn write(&self, name: &str, text: &str) {
        let (beside, path) =
            (self.path("beside"), self.path("pipelines").join(format!("{name}.toml")));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, path).unwrap();
    }

    pub fn agent(&self, watch: bool) -> String {
        format!(
            "host = \"own\"\n[state]\nfolder = {:?}\n[reload]\nwatch = {watch}\n",
            self.path("state")
        )
    }

    /// Readings with their numbers, into a file.
    pub fn numbers(&self, number: usize) -> String {
        let (every, items, keep) = (20 + number % 3 * 5, 1 + number % 4, 8 + number % 3);
        format!(
            "[[collect]]\nevery = \"{every}ms\"\nfrom = [\"cpu\", \"network\", {{ processes = {{ keep = 3 }} }}]\n\
             [[enrich]]\nrates = {{}}\n[batch]\nmax_items = {items}\n[serialize]\nformat = \"json-lines\"\n\
             [write]\nkeep = {keep}\nfile = {{ path = {:?} }}\n",
            self.path("numbers.jsonl")
        )
    }

    pub fn start(&self) -> Running {
        self.start_at("host.sock")
    }

    pub fn start_at(&self, socket: &str) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        let port = format!("unix:{}", self.path(socket).display());
        command.args(["run", "--port", &port, "--pipelines"]).arg(self.path("pipelines"));
        command.env_clear().env("INFINISERVICE_SHARED_SECRET", SECRET);
        command.stderr(fs::File::create(self.path("log")).unwrap());
        Running(command.stdin(Stdio::null()).spawn().unwrap())
    }

    pub async fn host(&self) -> Host {
        let secret = Secret::new(SECRET.as_bytes().to_vec());
        let settings = Settings { secret, keep_alive: None };
        tokio::time::timeout(PATIENCE, self.listener.accept(settings)).await.unwrap().unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Waits until the log says `what` more than `before` times.
    pub async fn says(&self, what: &str, before: usize) {
        let begun = Instant::now();
        while self.log().matches(what).count() <= before {
            assert!(begun.elapsed() < PATIENCE, "{what} was not said: {}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn reload(&self) -> Output {
        let state = self.path("state");
        let run = move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
            command.arg("reload").arg("--state").arg(state).env_clear().output().unwrap()
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    }
}

pub const TAKEN: &str = "configuration reloaded";
pub const NOT_TAKEN: &str = "configuration not reloaded";

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What the host has heard.
#[derive(Default)]
pub struct EventReceiver {
    pub answers: BTreeMap<String, Vec<Arc<Value>>>,
    pub metrics: usize,
    pub greetings: usize,
    /// What was told of the files: whether they were refused, each time.
    pub files: Vec<bool>,
}

pub async fn listen(host: Arc<Host>, heard: Arc<Mutex<EventReceiver>>) {
    while let Ok(message) = host.next().await {
        let body = message.body;
        let mut heard = heard.lock().unwrap();
        match body["type"].as_str() {
            Some("metrics") => heard.metrics += 1,
            Some("response") => {
                let id = body["id"].as_str().unwrap().to_owned();
                heard.answers.entry(id).or_default().push(body);
            }
            Some("agent_event") if body["source"] == "reload" => {
                heard.files.push(body["severity"] == "warn");
            }
            Some("agent_event") => heard.greetings += 1,
            _ => {}
        }
    }
}

/// Sends a command line and tells its id.
pub async fn send(host: &Host, line: impl Fn(&str) -> String) -> String {
    let id = uuid().unwrap();
    host.send(payload::unsafe_command(&id, &raw(&line(&id)), PATIENCE)).await.unwrap();
    id
}
