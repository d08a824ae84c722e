//! The relay, what it sends to (NATS, a receiver of OTLP) and a guest are killed in every order, again and again, between real
//! agents and a real output. A few rounds; `ROUNDS=100 cargo test --test relay every_order -- --nocapture` for more.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_nats::Client;

use super::commands::{RULES, one_at_a_time};
use super::nats::{Nats, Stored};
use super::otlp::Stored as LogRecord;
use super::otlp::StoringReceiver;
use super::*;

/// Who is killed, one after the other.
const ORDERS: [[Victim; 3]; 6] = {
    use Victim::{Guest as G, Output as O, Relay as R};
    [[R, O, G], [O, G, R], [G, R, O], [R, G, O], [O, R, G], [G, O, R]]
};

#[derive(Debug, Clone, Copy)]
enum Victim {
    Relay,
    Output,
    Guest,
}

fn rounds(otherwise: usize) -> usize {
    std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A moment that is another one in each round, for each of those that are killed.
fn moment(round: usize, place: usize) -> Duration {
    Duration::from_millis((37 * round + 61 * place) as u64 % 150)
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

    /// Writes lines to its file until `stop`.
    fn writes(&self, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
        let (written, stopped) = (Arc::clone(&self.written), Arc::clone(stop));
        let log = self.folder.join("log");
        tokio::spawn(async move {
            let mut log = OpenOptions::new().append(true).create(true).open(log).unwrap();
            while !stopped.load(SeqCst) {
                writeln!(log, "{{\"number\":{}}}", written.load(SeqCst)).unwrap();
                written.fetch_add(1, SeqCst);
                sleep(Duration::from_millis(20)).await;
            }
        })
    }

    /// Asks it one command after another until `stop`.
    fn asks(&self, client: &Client, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
        let (answered, stopped) = (Arc::clone(&self.answered), Arc::clone(stop));
        let (client, ran, vm) = (client.clone(), self.folder.join("ran"), self.vm);
        tokio::spawn(async move {
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
        })
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
    let rounds = rounds(6);
    let place = Place::new();
    let mut guests = ["kept", "killed"].map(|vm| Guest::new(&place, vm));
    let outputs = format!("{}{RULES}", nats.output(""));
    let start = || place.relay("", &outputs);
    let mut relay = Some(start());
    let client = nats.client().await;
    let stop = Arc::new(AtomicBool::new(false));
    let busy = |guest: &Guest| [guest.writes(&stop), guest.asks(&client, &stop)];
    let busy: Vec<_> = guests.iter().flat_map(busy).collect();
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
                Victim::Output => nats.kill(),
                Victim::Guest => drop(guests[1].agent.take()),
            }
            sleep(moment(round, place)).await;
        }
        for victim in ORDERS[(5 * round + 1) % ORDERS.len()] {
            match victim {
                Victim::Relay => relay = Some(start()),
                Victim::Output => nats.again().await,
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_every_order_no_durable_line_for_a_receiver_of_otlp_is_lost() {
    let rounds = rounds(3);
    let place = Place::new();
    let mut receiver = StoringReceiver::start(&place);
    let mut guests = ["kept", "killed"].map(|vm| Guest::new(&place, vm));
    let outputs = receiver.output();
    let start = || place.relay("", &outputs);
    let mut relay = Some(start());
    let stop = Arc::new(AtomicBool::new(false));
    let writes: Vec<_> = guests.iter().map(|guest| guest.writes(&stop)).collect();
    let has = |stored: &[LogRecord], vm: &str, number: u64| {
        stored.iter().any(|record| record.vm == vm && record.number == number)
    };
    for round in 0..rounds {
        // All of it works.
        for guest in &guests {
            let newest = guest.written.load(SeqCst);
            receiver.until(|stored| has(stored, guest.vm, newest)).await;
        }
        for (place, victim) in ORDERS[round % ORDERS.len()].into_iter().enumerate() {
            match victim {
                Victim::Relay => drop(relay.take()),
                Victim::Output => receiver.kill(),
                Victim::Guest => drop(guests[1].agent.take()),
            }
            sleep(moment(round, place)).await;
        }
        for victim in ORDERS[(5 * round + 1) % ORDERS.len()] {
            match victim {
                Victim::Relay => relay = Some(start()),
                Victim::Output => receiver.again(),
                Victim::Guest => guests[1].start(),
            }
        }
    }
    stop.store(true, SeqCst);
    for task in writes {
        task.await.unwrap();
    }
    for guest in &guests {
        let written = guest.written.load(SeqCst);
        receiver.until(|stored| has(stored, guest.vm, written - 1)).await;
        let stored: Vec<_> =
            receiver.stored().iter().filter(|record| record.vm == guest.vm).collect();
        let numbers: BTreeSet<u64> = stored.iter().map(|record| record.number).collect();
        assert!(numbers.iter().copied().eq(0..written), "{}: no line is missing", guest.vm);
        let mut ids = HashSet::new();
        let first = stored.iter().filter(|record| ids.insert(record.uid.as_str()));
        let first: Vec<u64> = first.map(|record| record.number).collect();
        println!(
            "{}: {rounds} rounds, {written} lines, {} records, of which {} have ids of their own",
            guest.vm,
            stored.len(),
            first.len()
        );
        if guest.vm == "kept" {
            assert!(first.into_iter().eq(0..written), "told apart by their ids, once and in order");
        }
    }
}
