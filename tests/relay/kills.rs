//! The relay, NATS and a guest are killed in every order, again and again, between real agents and a real stream. Six rounds;
//! `ROUNDS=100 cargo test --test relay every_order -- --nocapture` for more.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_nats::Client;

use super::commands::{RULES, one_at_a_time};
use super::nats::{Nats, Stored};
use super::*;

/// Who is killed, one after the other.
const ORDERS: [[Victim; 3]; 6] = {
    use Victim::{Guest as G, Nats as N, Relay as R};
    [[R, N, G], [N, G, R], [G, R, N], [R, G, N], [N, R, G], [G, N, R]]
};

#[derive(Debug, Clone, Copy)]
enum Victim {
    Relay,
    Nats,
    Guest,
}

/// A guest with a real agent, which follows a file whose lines must arrive, and takes commands.
struct Guest {
    vm: &'static str,
    folder: PathBuf,
    agent: Option<Running>,
    /// Lines of its file, of which each has its number.
    written: Arc<AtomicU64>,
    /// Commands that were answered, and the answers.
    answered: Arc<Mutex<BTreeMap<u64, Value>>>,
}

impl Guest {
    fn new(place: &Place, vm: &'static str) -> Self {
        let folder = place.at(vm);
        std::fs::create_dir_all(folder.join("pipelines")).unwrap();
        let at = |name: &str| folder.join(name);
        one_at_a_time(UnixListener::bind(at("port")).unwrap(), place.guest(vm));
        let log = at("log");
        let files = [
            ("agent", format!("host = \"own\"\n[state]\nfolder = {:?}\n", at("state"))),
            ("commands", support::flows::COMMANDS.to_owned()),
            (
                "records",
                format!(
                    "[[read]]\nlines = {{ file = {log:?} }}\n[batch]\nmax_delay = \"20ms\"\n\
                     [write]\nport = \"org.infinibay.agent\"\ndelivery = \"durable\"\n"
                ),
            ),
        ];
        for (name, text) in files {
            std::fs::write(at("pipelines").join(name).with_extension("toml"), text).unwrap();
        }
        let mut guest =
            Self { vm, folder, agent: None, written: Arc::default(), answered: Arc::default() };
        guest.start();
        guest
    }

    fn start(&mut self) {
        let mut agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        agent.args(["run", "--pipelines"]).arg(self.folder.join("pipelines"));
        agent.arg("--port").arg(format!("unix:{}", self.folder.join("port").display()));
        agent.env("INFINISERVICE_SHARED_SECRET", SECRET).env("RUST_LOG", "error");
        self.agent = Some(Running(agent.stdin(Stdio::null()).spawn().unwrap()));
    }

    /// Writes lines to its file, and asks it one command after another, until `stop`.
    fn busy(&self, client: &Client, stop: &Arc<AtomicBool>) -> [tokio::task::JoinHandle<()>; 2] {
        let (written, stopped) = (Arc::clone(&self.written), Arc::clone(stop));
        let log = self.folder.join("log");
        let writes = tokio::spawn(async move {
            let mut log = OpenOptions::new().append(true).create(true).open(log).unwrap();
            while !stopped.load(SeqCst) {
                writeln!(log, "{{\"number\":{}}}", written.load(SeqCst)).unwrap();
                written.fetch_add(1, SeqCst);
                sleep(Duration::from_millis(20)).await;
            }
        });
        let (answered, stopped) = (Arc::clone(&self.answered), Arc::clone(stop));
        let (client, ran, vm) = (client.clone(), self.folder.join("ran"), self.vm);
        let asks = tokio::spawn(async move {
            for number in 0.. {
                if stopped.load(SeqCst) {
                    break;
                }
                let command = serde_json::json!({
                    "type": "UnsafeCommand",
                    "id": format!("{vm}-{number}"),
                    "raw_command": format!("echo {number} >> {}", ran.display()),
                    "timeout": 30,
                });
                let answer = until_answered(&client, vm, &command.to_string()).await;
                answered.lock().unwrap().insert(number, answer);
            }
        });
        [writes, asks]
    }

    /// The commands that ran, as often as they did.
    fn ran(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(self.folder.join("ran")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    fn answers(&self) -> usize {
        self.answered.lock().unwrap().len()
    }
}

/// Asks the same until the guest has answered it.
async fn until_answered(client: &Client, vm: &str, command: &str) -> Value {
    let late = Instant::now() + 4 * PATIENCE;
    loop {
        let asked = client.request(format!("infini.lab.{vm}.command"), command.to_owned().into());
        // What was asked of a relay that is killed has no reply.
        if let Ok(Ok(reply)) = timeout(Duration::from_secs(2), asked).await {
            let reply: Value = serde_json::from_slice(&reply.payload).unwrap();
            if reply["error"].is_null() {
                return reply["line"].clone();
            }
        }
        assert!(Instant::now() < late, "{vm} answers {command}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The numbers of a guest's lines with their message ids, in the order of the stream.
fn lines<'s>(all: &'s [Stored], vm: &str) -> Vec<(u64, &'s str)> {
    let subject = format!("infini.lab.{vm}.records");
    let of_vm = all.iter().filter(|stored| stored.subject == subject);
    of_vm.map(|stored| (stored.line["line"]["number"].as_u64().unwrap(), &*stored.id)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_every_order_nothing_durable_is_lost_and_no_command_runs_twice() {
    let Some(mut nats) = Nats::start("").await else { return };
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let place = Place::new();
    let mut guests = ["kept", "killed"].map(|vm| Guest::new(&place, vm));
    let outputs = format!("{}{RULES}", nats.output(""));
    let start = || place.relay("", &outputs);
    let mut relay = Some(start());
    let client = nats.client().await;
    let stop = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = guests.iter().flat_map(|guest| guest.busy(&client, &stop)).collect();
    for round in 0..rounds {
        // All of it works.
        for guest in &guests {
            let (answers, late) = (guest.answers(), Instant::now() + 4 * PATIENCE);
            while guest.answers() < answers + 2 {
                assert!(Instant::now() < late, "round {round}: {} answers", guest.vm);
                sleep(Duration::from_millis(10)).await;
            }
        }
        for (place, victim) in ORDERS[round % ORDERS.len()].into_iter().enumerate() {
            match victim {
                Victim::Relay => drop(relay.take()),
                Victim::Nats => nats.kill(),
                Victim::Guest => drop(guests[1].agent.take()),
            }
            // At another moment each time.
            sleep(Duration::from_millis((37 * round + 61 * place) as u64 % 150)).await;
        }
        for victim in ORDERS[(5 * round + 1) % ORDERS.len()] {
            match victim {
                Victim::Relay => relay = Some(start()),
                Victim::Nats => nats.again().await,
                Victim::Guest => guests[1].start(),
            }
        }
    }
    stop.store(true, SeqCst);
    for task in busy {
        task.await.unwrap();
    }

    let mut stream = nats.stream(Default::default()).await;
    let late = Instant::now() + 4 * PATIENCE;
    let all = loop {
        let all = stream.all().await;
        let has = |guest: &Guest| {
            let last = guest.written.load(SeqCst) - 1;
            lines(&all, guest.vm).iter().any(|(number, _)| *number == last)
        };
        if guests.iter().all(has) {
            break all;
        }
        assert!(Instant::now() < late, "the last lines are stored");
        sleep(Duration::from_millis(200)).await;
    };
    let ids: HashSet<&str> = all.iter().map(|stored| stored.id.as_str()).collect();
    assert_eq!(ids.len(), all.len(), "no message id is stored twice");
    for guest in &guests {
        let (written, lines) = (guest.written.load(SeqCst), lines(&all, guest.vm));
        let numbers: BTreeSet<u64> = lines.iter().map(|(number, _)| *number).collect();
        assert!(numbers.iter().copied().eq(0..written), "{}: no line is missing", guest.vm);
        let again = lines.len() - numbers.len();
        let (ran, answered) = (guest.ran(), guest.answered.lock().unwrap().clone());
        let once: BTreeSet<u64> = ran.iter().copied().collect();
        assert_eq!(once.len(), ran.len(), "{}: no command runs twice", guest.vm);
        let done = answered.iter().filter(|(_, answer)| answer["success"] == true);
        let done: BTreeSet<u64> = done.map(|(number, _)| *number).collect();
        assert!(once.is_superset(&done), "{}: what is said to have run has", guest.vm);
        println!(
            "{}: {rounds} rounds, {written} lines, {again} of them stored again; {} commands answered, {} ran",
            guest.vm,
            answered.len(),
            ran.len()
        );
        if guest.vm == "kept" {
            assert!(lines.iter().map(|(number, _)| *number).eq(0..written), "once, in order");
            assert!(ran.iter().copied().eq(0..answered.len() as u64), "each ran, in order");
        }
    }
}
