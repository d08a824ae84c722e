//! The request log over crashes at every byte, power cuts at every step, and whatever else lies in its place; held
//! against a model that is as simple as can be.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant as Clock};

use futures::StreamExt;
use infiniservice::internals::commands::actions::ActionOutcome;
use infiniservice::internals::commands::audit::Audit;
use infiniservice::internals::commands::outcome::Outcome;
use infiniservice::internals::commands::reply::Outbound;
use infiniservice::internals::commands::request::{
    RawCommand, Request, RequestKind, Script, Shell,
};
use infiniservice::internals::commands::request_log::{
    CUT, CUT_SCRIPT, Claim, Continued, LATE, NAMES, NOT_RUN, Owner, Recovery, RequestLog, SIZE,
};
use infiniservice::internals::files::StateFolder;
use infiniservice::internals::record_file::Storage;
use infiniservice::model::Rng;
use infiniservice::sinks::Rotation;
use infiniservice::wire::envelope::Refused;
use tokio::time::{Instant, timeout};

#[path = "doubles/mod.rs"]
mod doubles;
use doubles::faulty_disk::{Faults, FaultyDisk};

const NOW: i64 = 1_700_000_000_000;

fn request(id: &str, is_script: bool) -> Request {
    let (shell, run_as) = (Shell::Sh, None);
    let what = match is_script {
        true => RequestKind::Script(Script {
            name: "s".to_owned(),
            content: "true".to_owned(),
            shell,
            inputs: BTreeMap::new(),
            run_as,
        }),
        false => RequestKind::Raw(RawCommand {
            command: "true".to_owned(),
            shell,
            working_dir: None,
            environment: BTreeMap::new(),
            run_as,
        }),
    };
    // Longer than any test takes: what had not begun when its time was over is told as that.
    Request::new(id.to_owned(), what, Duration::from_secs(3_600), Instant::now())
}

fn owner(boot: &str) -> Owner {
    Owner { machine: "m".to_owned(), boot: boot.to_owned() }
}

fn begin(disk: &FaultyDisk, boot: &str, now_ms: i64) -> RequestLog {
    RequestLog::begin(Box::new(disk.clone()), owner(boot), now_ms)
}

fn completed(id: &str, is_script: bool, code: i32) -> Outbound {
    let outcome = Outcome { success: code == 0, exit_code: Some(code), ..Outcome::text("said") };
    match is_script {
        true => Outbound::ScriptCompletion { execution_id: id.to_owned(), outcome },
        false => {
            Outbound::Response { id: id.to_owned(), action: "UnsafeCommand".to_owned(), outcome }
        }
    }
}

fn outcome(told: &Outbound) -> (&str, &Outcome) {
    match told {
        Outbound::Response { id, outcome, .. }
        | Outbound::ScriptCompletion { execution_id: id, outcome } => (id, outcome),
        other => panic!("{other:?}"),
    }
}

async fn recovered(log: &RequestLog) -> BTreeMap<String, Outcome> {
    let recovery = Recovery { log: log.clone(), audit: None, waiting: Vec::new(), hosts: None };
    let told: Vec<Outbound> = recovery.replies().collect().await;
    let all: BTreeMap<_, _> =
        told.iter().map(outcome).map(|(id, said)| (id.to_owned(), said.clone())).collect();
    assert_eq!(all.len(), told.len(), "each once");
    all
}

/// As simple as can be: what became of each id, and which envelopes were taken.
#[derive(Debug, Clone, Default)]
struct Model {
    requests: BTreeMap<String, (bool, Is)>,
    numbers: BTreeMap<String, u32>,
    taken: Vec<(i64, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Is {
    Accepted,
    Started,
    Ended(i32),
    Outbound(Option<i32>),
}

/// Something happens to one of a few requests.
async fn step(log: &RequestLog, model: &mut Model, chance: &mut Rng) {
    let number = chance.below(12);
    let (id, is_script) = (format!("r{number}"), number.is_multiple_of(3));
    let asked = request(&id, is_script);
    let now = model.requests.get(&id).map(|(_, is)| *is);
    match (chance.below(6), now) {
        (0, _) => {
            let (ts, nonce) = (NOW + model.taken.len() as i64, format!("n{}", model.taken.len()));
            log.envelope((Instant::now(), NOW), ts, &nonce, false).unwrap();
            model.taken.push((ts, nonce));
        }
        (_, None) => {
            log.accept(&asked);
            model.requests.insert(id, (is_script, Is::Accepted));
        }
        (1, Some(Is::Accepted | Is::Started)) => {
            log.withdraw(&id);
            model.requests.remove(&id);
        }
        (_, Some(Is::Accepted)) => {
            assert_eq!(log.claim(&asked), Claim::New);
            assert_eq!(log.claim(&asked), Claim::InProgress);
            log.start(&id, true).await.unwrap();
            model.requests.insert(id, (is_script, Is::Started));
        }
        (_, Some(Is::Started)) => {
            let code = i32::try_from(chance.below(3)).unwrap();
            let mut told = completed(&id, is_script, code);
            log.finish(&mut told);
            model.numbers.insert(id.clone(), outcome(&told).1.request);
            model.requests.insert(id, (is_script, Is::Ended(code)));
        }
        (_, Some(Is::Ended(code))) => {
            log.acknowledge(&[model.numbers[&id]]);
            model.requests.insert(id, (is_script, Is::Outbound(Some(code))));
        }
        (_, Some(Is::Outbound(_))) => {
            let Claim::Answered(told) = log.claim(&asked) else { panic!("{id} would run again") };
            assert_eq!(outcome(&told).1.stdout, "said");
        }
    }
}

/// A log that was just opened says what `model` does; what was cut off in the middle of a write never was.
async fn agrees(log: &RequestLog, model: &Model, is_whole: bool, now_ms: i64) {
    let told = recovered(log).await;
    let open = model.requests.iter().filter(|(_, (_, is))| !matches!(is, Is::Outbound(_)));
    assert_eq!(told.keys().collect::<Vec<_>>(), open.map(|(id, _)| id).collect::<Vec<_>>());
    for (id, (is_script, is)) in &model.requests {
        let again = match log.claim(&request(id, *is_script)) {
            Claim::New => None,
            Claim::InProgress => panic!("{id} is under way for ever"),
            Claim::Answered(told) => Some(outcome(&told).1.clone()),
            Claim::OtherPayload => panic!("{id} asks for what it asked before"),
        };
        let said = told.get(id);
        let cut = if *is_script { CUT_SCRIPT } else { CUT };
        match is {
            Is::Accepted => {
                assert_eq!(said.unwrap().error.as_deref(), Some(NOT_RUN));
                assert!(said.unwrap().refused && again.is_none(), "it may be asked for again");
            }
            Is::Started | Is::Outbound(None) => {
                assert_eq!(again.unwrap().error.as_deref(), Some(cut));
            }
            Is::Ended(code) | Is::Outbound(Some(code)) => {
                let again = again.unwrap();
                assert_eq!((again.exit_code, again.success), (Some(*code), *code == 0));
            }
        }
    }
    assert_eq!(log.claim(&request("never", true)), Claim::New);
    for (ts, nonce) in &model.taken {
        assert!(log.envelope((Instant::now(), now_ms), *ts, nonce, false).is_err(), "{nonce}");
    }
    // Where nothing is lost what came late is taken; else only what is signed from now on.
    let late = log.envelope((Instant::now(), now_ms), NOW + 500, "late", false);
    assert_eq!(late.is_ok(), is_whole);
    assert_eq!(log.envelope((Instant::now(), now_ms), now_ms, "next", false), Ok(()));
}

/// As when a machine starts for the first time with a clock that is hours ahead, and then learns the time: while the agent
/// runs, or while it does not.
#[tokio::test]
async fn a_clock_that_is_set_back_below_the_start_costs_no_command() {
    for is_seen in [true, false] {
        let disk = FaultyDisk::new(1);
        let mut log = begin(&disk, "b", NOW);
        let (then, now_ms) = (Instant::now(), NOW - 7_200_000);
        match is_seen {
            true => log.look_at_clocks(then, now_ms),
            false => log = begin(&disk, "b", now_ms),
        }
        // Signed after that, and a little before it arrives.
        let arrives = (then + Duration::from_millis(40), now_ms + 40);
        assert_eq!(log.envelope(arrives, now_ms + 35, "first", false), Ok(()), "{is_seen}");
        assert_eq!(log.envelope(arrives, now_ms - 1, "before", false), Err(Refused::Stale));
    }
}

#[tokio::test]
async fn a_crash_at_every_byte_leaves_what_a_naive_model_says() {
    for seed in 1..=12 {
        let (disk, mut chance) = (FaultyDisk::new(seed), Rng(seed));
        let log = begin(&disk, "b", NOW);
        let (mut model, mut history) = (Model::default(), Vec::new());
        for _ in 0..60 {
            history.push((disk.bytes().len(), model.clone()));
            step(&log, &mut model, &mut chance).await;
        }
        history.push((disk.bytes().len(), model));
        let bytes = disk.bytes();
        let from = history[history.len() - 14].0;
        for cut in from..=bytes.len() {
            let (length, model) = history.iter().rev().find(|(length, _)| *length <= cut).unwrap();
            let disk = FaultyDisk::with(seed, &bytes[..cut]);
            let log = begin(&disk, "b", NOW + 1_000);
            agrees(&log, model, *length == cut, NOW + 1_000).await;
            // And once more, from what that has left.
            drop(log);
            let told = recovered(&begin(&disk, "b", NOW + 1_000)).await;
            let open = model.requests.values().filter(|(_, is)| !matches!(is, Is::Outbound(_)));
            assert!(told.len() <= open.count() + 1, "{told:?}"); // "never" is asked for now
        }
    }
}

#[tokio::test]
async fn a_power_cut_at_every_step_lets_nothing_start_twice() {
    for seed in 0..4 {
        for at in 1..60 {
            let disk = FaultyDisk::new(seed * 1_000 + at);
            disk.set(Faults { cut_at: Some(at), ..Faults::default() });
            let log = begin(&disk, "b", NOW);
            let mut started = Vec::new();
            for number in 0..30 {
                let id = format!("r{number}");
                let asked = request(&id, number % 2 == 0);
                if log.claim(&asked) == Claim::New && log.start(&id, true).await.is_ok() {
                    started.push(asked);
                    log.finish(&mut completed(&id, number % 2 == 0, 0));
                }
            }
            drop(log);
            disk.power_cut();
            let log = begin(&disk, "c", NOW + 1_000);
            for asked in &started {
                assert_ne!(
                    log.claim(asked),
                    Claim::New,
                    "{} of {} at {at}",
                    asked.id,
                    started.len()
                );
            }
            let envelope = log.envelope((Instant::now(), NOW + 1_000), NOW + 999, "n", false);
            assert!(envelope.is_err(), "what a power cut took may have been taken");
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_what_must_be_written_down_and_nothing_is_lost_by_it() {
    let disk = FaultyDisk::new(1);
    let log = begin(&disk, "b", NOW);
    disk.set(Faults { space: Some(disk.bytes().len() as u64 + 60), ..Faults::default() });
    let (read, script) = (request("read", false), request("script", true));
    assert_eq!((log.claim(&read), log.claim(&script)), (Claim::New, Claim::New));
    assert!(log.start("read", false).await.is_ok(), "what only reads waits for no disk");
    assert!(log.start("script", true).await.is_err());
    log.withdraw("script");
    log.finish(&mut completed("read", false, 0));
    disk.set(Faults::default());
    assert_eq!(log.claim(&script), Claim::New);
    log.start("script", true).await.unwrap();
    drop(log);
    let log = begin(&disk, "b", NOW);
    let told = recovered(&log).await;
    assert_eq!(told.keys().collect::<Vec<_>>(), ["read", "script"]);
    assert_eq!(told["script"].error.as_deref(), Some(CUT_SCRIPT));
}

/// Only so many records wait for a disk that fails; the file is then written from memory.
#[tokio::test]
async fn all_that_happened_while_the_disk_failed_is_in_the_file_when_it_works_again() {
    let disk = FaultyDisk::new(1);
    let log = begin(&disk, "b", NOW);
    disk.set(Faults { write_fails: true, ..Faults::default() });
    let take = |log: &RequestLog, number: i64| {
        log.envelope((Instant::now(), NOW), NOW + number, &number.to_string(), false)
    };
    let all = (256 << 10) / 56 + 50; // a little more than wait
    assert!((0..all).all(|number| take(&log, number).is_ok()));
    assert!(log.sync().await.is_err());
    disk.set(Faults::default());
    log.sync().await.unwrap();
    drop(log);
    let log = begin(&disk, "b", NOW);
    assert!((0..all).all(|number| take(&log, number) == Err(Refused::Replayed)));
    assert_eq!(take(&log, all), Ok(()));
}

#[tokio::test]
async fn the_file_is_bounded_and_a_start_with_a_full_one_is_short() {
    let disk = FaultyDisk::new(1);
    let log = begin(&disk, "b", NOW);
    let mut longest = 0;
    for number in 0..30_000_i64 {
        let id = format!("{number:036}");
        let _ = log.envelope((Instant::now(), NOW + number), NOW + number, &id, false);
        log.claim(&request(&id, false));
        log.start(&id, false).await.unwrap();
        let mut told = completed(&id, false, 0);
        log.finish(&mut told);
        log.acknowledge(&[outcome(&told).1.request]);
        longest = longest.max(disk.clone().length().unwrap());
    }
    assert!(longest <= SIZE && longest > SIZE - 1_000, "{longest}");
    // The largest there can be.
    let mut full = FaultyDisk::new(1);
    for number in 30_000_i64.. {
        if disk.clone().length().unwrap() > SIZE - 500 {
            full = FaultyDisk::with(1, &disk.bytes());
            break;
        }
        let _ =
            log.envelope((Instant::now(), NOW + number), NOW + number, &number.to_string(), false);
    }
    let began = Clock::now();
    let log = begin(&full, "b", NOW + 60_000);
    let took = began.elapsed();
    println!("a start with {} bytes took {took:?}", full.bytes().len());
    // The bench `commands` says what an optimised build takes; a debug build on a busy machine says nothing.
    assert!(cfg!(debug_assertions) || took < Duration::from_millis(50), "{took:?}");
    let last = request(&format!("{:036}", 29_999), false);
    assert!(matches!(log.claim(&last), Claim::Answered(_)));
}

#[tokio::test]
async fn damage_costs_what_it_hits_and_no_trust() {
    let disk = FaultyDisk::new(1);
    let log = begin(&disk, "b", NOW);
    for number in 0..20 {
        let id = format!("r{number}");
        log.claim(&request(&id, true));
        log.start(&id, true).await.unwrap();
    }
    let bytes = disk.bytes();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let log = begin(&FaultyDisk::with(1, &damaged), "b", NOW + 1_000);
        let told = recovered(&log).await;
        assert!((19..=20).contains(&told.len()), "byte {at}: {} are left of 20", told.len());
        // Where it is lost that a script started it must not be offered as one that did not.
        assert!(told.values().all(|said| said.error.as_deref() == Some(CUT_SCRIPT)), "byte {at}");
        let before = log.envelope((Instant::now(), NOW + 1_000), NOW + 999, "n", false);
        assert!(before.is_err(), "byte {at}");
        assert_eq!(log.envelope((Instant::now(), NOW + 1_000), NOW + 1_000, "m", false), Ok(()));
    }
    for foreign in
        [&b"#!/bin/sh\nexit 1\n"[..], &[0; 9_000], b"IBREQLG\x02 of another version", b"x"]
    {
        let disk = FaultyDisk::with(1, foreign);
        let log = begin(&disk, "b", NOW);
        assert_eq!(disk.aside().as_deref(), Some(foreign), "kept for a person");
        assert_eq!(log.claim(&request("a", true)), Claim::New);
        log.start("a", true).await.unwrap();
        drop(log);
        assert_eq!(recovered(&begin(&disk, "b", NOW)).await.len(), 1);
    }
}

/// Opens the log of a folder. A write that nobody waits for may hold it for a moment after it was dropped.
async fn open(folder: &Path) -> RequestLog {
    loop {
        match RequestLog::open(folder, &folder.join("audit.jsonl"), owner("b"), NOW) {
            Ok(log) => return log,
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

#[tokio::test]
async fn what_is_no_file_of_ours_is_left_alone_and_no_script_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAMES.name);
    let lock = folder.path().join(NAMES.lock.unwrap());
    let other = folder.path().join("other");
    fs::write(&other, "mine").unwrap();
    type Put<'a> = Box<dyn Fn() + 'a>;
    let puts: [Put<'_>; 4] = [
        Box::new(|| std::os::unix::fs::symlink(&other, &path).unwrap()),
        Box::new(|| fs::create_dir(&path).unwrap()),
        Box::new(|| fs::hard_link(&other, &path).unwrap()),
        // Whoever has that file open could hold its lock for ever.
        Box::new(|| fs::hard_link(&other, &lock).unwrap()),
    ];
    for put in puts {
        put();
        let log = open(folder.path()).await;
        assert_eq!(log.claim(&request("a", true)), Claim::New);
        log.start("a", false).await.unwrap();
        let error = log.start("a", true).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains("remove") || error.contains("directory"), "{error}");
        assert_eq!(fs::read_to_string(&other).unwrap(), "mine");
        drop(log);
        for file in [&path, &lock] {
            let _ = fs::remove_file(file).or_else(|_| fs::remove_dir(file));
        }
    }
    let log = open(folder.path()).await;
    let other = RequestLog::open(folder.path(), &path, owner("b"), NOW);
    assert_eq!(other.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "one agent at a time");
    drop(log);
    open(folder.path()).await;
}

#[tokio::test]
async fn what_an_older_agent_has_left_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let scripts = [
        r#"{"machine":"m"}"#,
        r#"{"id":"done"}"#,
        r#"{"id":"done","code":3,"but":"untold"}"#,
        r#"{"id":"done","code":3}"#,
        r#"{"id":"untold","code":0,"but":"untold"}"#,
        r#"{"id":"cut"}"#,
        r#"{"id":"known"}"#,
        r#"{"id":"known","but":"told"}"#,
        r#"{"id":"never"}"#,
        r#"{"id":"never","but":"never"}"#,
        r#"{"id":"torn"#,
    ];
    fs::write(at("scripts.jsonl"), scripts.join("\n")).unwrap();
    let line = |event: &str, id: &str| {
        format!("{{\"time\":\"t\",\"event\":\"{event}\",\"id\":\"{id}\",\"action\":\"A\"}}\n")
    };
    fs::write(at("audit.jsonl.1"), line("begin", "command") + &line("begin", "ended")).unwrap();
    fs::write(at("audit.jsonl"), line("end", "ended") + &line("refused", "no")).unwrap();
    fs::create_dir_all(at("scripts/of-one")).unwrap();
    for text in ["scripts/done", "scripts/of-one/cut"] {
        fs::write(at(text), "echo secret").unwrap();
    }
    let log = open(folder.path()).await;
    let told = recovered(&log).await;
    assert_eq!(told.keys().collect::<Vec<_>>(), ["command", "cut", "untold"]);
    assert_eq!(told["command"].error.as_deref(), Some(CUT));
    assert_eq!(told["cut"].error.as_deref(), Some(CUT_SCRIPT));
    for (id, code) in [("done", Some(3)), ("untold", Some(0)), ("cut", None), ("known", None)] {
        let Claim::Answered(told) = log.claim(&request(id, true)) else {
            panic!("{id} runs twice")
        };
        assert_eq!(outcome(&told).1.exit_code, code, "{id}");
    }
    assert_eq!(log.claim(&request("never", true)), Claim::New);
    assert!(!at("scripts.jsonl").exists() && !at("scripts").exists(), "no text stays on the disk");
    drop(log);
    let log = open(folder.path()).await;
    assert!(matches!(log.claim(&request("done", true)), Claim::Answered(_)), "from the log now");
}

#[tokio::test]
async fn a_copy_of_a_machine_does_not_speak_for_the_original() {
    let disk = FaultyDisk::new(1);
    let log = begin(&disk, "b", NOW);
    log.claim(&request("a", true));
    log.start("a", true).await.unwrap();
    drop(log);
    let copy = || {
        let owner = Owner { machine: "copy".to_owned(), boot: "b".to_owned() };
        RequestLog::begin(Box::new(disk.clone()), owner, NOW)
    };
    let log = copy();
    assert!(log.is_copy() && recovered(&log).await.is_empty());
    assert!(matches!(log.claim(&request("a", true)), Claim::Answered(_)), "nor runs it");
    drop(log);
    assert!(recovered(&copy()).await.is_empty());
}

#[tokio::test]
async fn what_waits_in_the_spool_is_not_told_by_the_log_too() {
    let disk = FaultyDisk::new(1);
    let log = begin(&disk, "b", NOW);
    let mut numbers = Vec::new();
    for id in ["kept", "lost"] {
        log.claim(&request(id, false));
        log.start(id, true).await.unwrap();
        let mut told = completed(id, false, 0);
        log.finish(&mut told);
        numbers.push(outcome(&told).1.request);
    }
    drop(log);
    let log = begin(&disk, "b", NOW);
    log.claim(&request("cut", true));
    log.start("cut", true).await.unwrap();
    log.accept(&request("not run", false));
    drop(log);
    let log = begin(&disk, "b", NOW);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let audit = Audit::new(&path, Rotation { max_bytes: 1 << 20, keep: 1 }, true);
    let waiting = vec![numbers[0]];
    let recovery = Recovery { log: log.clone(), audit: Some(audit.clone()), waiting, hosts: None };
    let told: Vec<Outbound> = recovery.replies().collect().await;
    let ids: Vec<_> = told.iter().map(|told| outcome(told).0).collect();
    assert_eq!(ids, ["lost", "cut", "not run"]);
    let last =
        Recovery { log: log.clone(), audit: Some(audit.clone()), waiting: vec![], hosts: None };
    assert!(last.replies().collect::<Vec<_>>().await.is_empty(), "once in a run");
    // What had ended has its line already.
    let (other, rule) = (request("behind", false), "r");
    audit.refused(&other, rule, true, "no").await;
    let lines = fs::read_to_string(&path).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap().to_owned();
    let lines: Vec<_> = lines.map(|line| [text(&line, "event"), text(&line, "id")]).collect();
    assert_eq!(lines, [["lost", "cut"], ["refused", "not run"], ["refused", "behind"]]);
    told.iter().for_each(|told| numbers.push(outcome(told).1.request));
    log.acknowledge(&numbers);
    drop(log);
    assert!(recovered(&begin(&disk, "b", NOW)).await.is_empty());
}

/// What a power cut took of the log it did not take of the spool, which is synced sooner.
#[tokio::test]
async fn the_reply_to_a_lost_request_closes_no_other_one_when_it_is_acknowledged() {
    let disk = FaultyDisk::new(1);
    let log = begin(&disk, "b", NOW);
    let waiting = [1, 2, 3]; // of a log that is gone
    log.number_after(&waiting);
    log.claim(&request("new", false));
    log.start("new", true).await.unwrap();
    log.acknowledge(&waiting);
    drop(log);
    let told = recovered(&begin(&disk, "b", NOW)).await;
    assert_eq!(told.into_keys().collect::<Vec<_>>(), ["new"]);
}

/// On a real disk: many that start at once share their syncs, and whoever opens it next knows all.
#[tokio::test]
async fn many_that_start_at_once_are_all_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).await;
    let all = (0..200).map(|number| {
        let log = log.clone();
        async move {
            let id = format!("r{number}");
            assert_eq!(log.claim(&request(&id, true)), Claim::New);
            log.start(&id, true).await
        }
    });
    let began = Clock::now();
    assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    println!("200 scripts were on the disk after {:?}", began.elapsed());
    drop(log);
    assert_eq!(recovered(&open(folder.path()).await).await.len(), 200);
}

fn changed(
    id: &str,
    is_script: bool,
    change: impl FnOnce(&mut String, &mut BTreeMap<String, String>),
) -> Request {
    let mut asked = request(id, is_script);
    match &mut asked.kind {
        RequestKind::Raw(raw) => change(&mut raw.command, &mut raw.environment),
        RequestKind::Script(script) => change(&mut script.content, &mut script.inputs),
        RequestKind::Action(_) => unreachable!(),
    }
    asked
}

#[tokio::test(start_paused = true)]
async fn a_repeated_id_with_another_payload_neither_runs_nor_gets_the_reply_of_the_other() {
    let disk = FaultyDisk::new(7);
    let with = |value: &str| {
        let value = value.to_owned();
        changed("c", false, |_, variables| drop(variables.insert("A".to_owned(), value)))
    };
    let other = |id: &str, is_script| changed(id, is_script, |text, _| text.push_str(" x"));
    let log = begin(&disk, "b", NOW);
    for (asked, is_script) in [(with("1"), false), (request("s", true), true)] {
        let id = asked.id.clone();
        log.accept(&asked);
        // Before it starts, and while it runs. An execution has one completion, which follows.
        let meanwhile = if is_script { Claim::InProgress } else { Claim::OtherPayload };
        assert_eq!(log.claim(&other(&id, is_script)), meanwhile);
        assert_eq!(log.claim(&other(&id, !is_script)), Claim::OtherPayload);
        assert_eq!(log.claim(&asked), Claim::New);
        log.start(&id, true).await.unwrap();
        assert_eq!(log.claim(&other(&id, is_script)), meanwhile);
        log.finish(&mut completed(&id, is_script, 0));
        assert_eq!(log.claim(&other(&id, is_script)), Claim::OtherPayload);
        assert!(matches!(log.claim(&asked), Claim::Answered(_)));
    }
    assert_eq!(log.claim(&with("2")), Claim::OtherPayload, "another value");
    log.sync().await.unwrap();
    drop(log);

    let log = begin(&disk, "b", NOW);
    assert_eq!(log.claim(&other("c", false)), Claim::OtherPayload, "over a restart");
    assert_eq!(log.claim(&with("12")), Claim::OtherPayload, "a value of another length");
    assert!(matches!(log.claim(&with("1")), Claim::Answered(_)));
    assert_eq!(log.claim(&other("s", true)), Claim::OtherPayload);
    assert!(matches!(log.claim(&request("s", true)), Claim::Answered(_)));
}

#[test]
fn fewer_nonces_are_remembered_where_memory_is_short_and_none_passes_again() {
    let log = RequestLog::in_memory();
    let take = |ts: i64| log.envelope((Instant::now(), NOW), NOW + ts, &format!("n{ts}"), false);
    (0..100).for_each(|ts| take(ts).unwrap());
    log.keep_nonces(10);
    assert!((0..100).all(|ts| take(ts).is_err()));
    let old = log.envelope((Instant::now(), NOW), NOW + 50, "new", false);
    assert_eq!(old, Err(Refused::Crowded), "it may have been taken");
    assert_eq!(take(100), Ok(()));
}

/// A record as every version of the format has it: what is written here must stay readable.
fn record(code: u8, number: u64, body: &str) -> Vec<u8> {
    let mut head = vec![code, 0, 0, 0];
    head.extend((body.len() as u32).to_le_bytes());
    head.extend(crc32fast::hash(body.as_bytes()).to_le_bytes());
    head.extend(number.to_le_bytes());
    head.extend((NOW as u64).to_le_bytes());
    head.extend([0; 8]);
    [&crc32fast::hash(&head).to_le_bytes()[..], &head, body.as_bytes()].concat()
}

fn file(records: &[Vec<u8>]) -> FaultyDisk {
    FaultyDisk::with(1, &[&b"IBREQLG\x01"[..], &records.concat()].concat())
}

const SESSION: &str = r#"{"machine":"m","boot":"b","floor":0}"#;

/// As agents wrote it that recorded neither the deadline nor a digest of the payload.
#[tokio::test]
async fn an_older_log_is_read_and_a_request_without_digest_is_known_by_its_id() {
    let script = |id: &str| format!(r#"{{"id":"{id}","action":"Script"}}"#);
    let disk = file(&[
        record(64, 0, SESSION),
        record(66, 1, r#"{"id":"waited","action":"UnsafeCommand"}"#),
        record(66, 2, &script("ran")),
        record(67, 2, ""),
        record(66, 3, &script("done")),
        record(67, 3, ""),
        record(68, 3, r#"{"success":true,"exit":0}"#),
        record(70, 3, ""),
    ]);
    let log = begin(&disk, "b", NOW);
    assert_eq!(disk.aside(), None);
    let told = recovered(&log).await;
    assert_eq!(told.keys().collect::<Vec<_>>(), ["ran", "waited"]);
    assert_eq!(told["waited"].error.as_deref(), Some(NOT_RUN), "no deadline that is over");
    assert_eq!(told["ran"].error.as_deref(), Some(CUT_SCRIPT));
    for id in ["ran", "done"] {
        let other = changed(id, true, |text, _| text.push_str(" x"));
        for asked in [request(id, true), other] {
            assert!(matches!(log.claim(&asked), Claim::Answered(_)), "{id} runs twice");
        }
    }
    assert_eq!(log.claim(&request("waited", false)), Claim::New, "it may be asked for again");
    assert_eq!(log.envelope((Instant::now(), NOW), NOW - 500, "n", false), Ok(()), "all is whole");
}

#[tokio::test]
async fn a_request_whose_time_is_over_at_the_restart_is_told_as_that() {
    let at = |deadline: u64| {
        format!(
            r#"{{"id":"{deadline}","action":"UnsafeCommand","deadline_ms":{deadline},"digest":1}}"#
        )
    };
    let [over, later] = [1_700_000_000_000, 4_000_000_000_000];
    let disk = file(&[record(64, 0, SESSION), record(66, 1, &at(over)), record(66, 2, &at(later))]);
    let told = recovered(&begin(&disk, "b", NOW)).await;
    let [over, later] = [over, later].map(|id| &told[&id.to_string()]);
    assert_eq!((over.error.as_deref(), over.exit_code), (Some(LATE), Some(124)));
    assert_eq!((later.error.as_deref(), later.exit_code), (Some(NOT_RUN), None));
    assert!(over.refused && later.refused);
}

/// A unit of its own goes on with a request, as its file says; the next agent waits for it and answers once.
#[tokio::test(start_paused = true)]
async fn a_request_that_goes_on_without_its_agent_is_answered_by_the_next_one_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::at(folder.path());
    let continued = Continued::of(&state);
    let log = open(folder.path()).await;
    let all = [("goes on", false), ("killed", true), ("ended", false), ("elsewhere", false)];
    for (id, is_script) in all {
        assert_eq!(log.claim(&request(id, is_script)), Claim::New);
        log.start(id, true).await.unwrap();
    }
    let running = continued.create(&Continued::key("goes on")).unwrap();
    drop(continued.create(&Continued::key("killed")).unwrap());
    let end =
        |code| ActionOutcome::from(Outcome { exit_code: Some(code), ..Outcome::text("said") });
    let mut file = continued.create(&Continued::key("ended")).unwrap();
    serde_json::to_writer(&mut file, &end(0)).unwrap();
    drop((file, continued.create("of nobody").unwrap(), log));

    let log = open(folder.path()).await;
    assert_eq!(log.claim(&request("goes on", false)), Claim::InProgress);
    let recovery = Recovery { log: log.clone(), audit: None, waiting: Vec::new(), hosts: None };
    let mut replies = std::pin::pin!(recovery.replies());
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(replies.next().await.unwrap());
    }
    assert!(timeout(Duration::from_secs(1), replies.next()).await.is_err(), "one runs");
    let told: Vec<_> = told.iter().map(outcome).collect();
    let said = |told: &Outcome| (told.exit_code, told.error.clone(), told.stdout.clone());
    assert_eq!(told[0].0, "elsewhere");
    assert_eq!(said(told[0].1), (None, Some(CUT.to_owned()), String::new()));
    assert_eq!((told[1].0, said(told[1].1).1), ("killed", Some(CUT_SCRIPT.to_owned())));
    assert_eq!((told[2].0, said(told[2].1)), ("ended", (Some(0), None, "said".to_owned())));

    // A flow that replaces another takes what has not ended.
    let recovery = Recovery { log: log.clone(), audit: None, waiting: Vec::new(), hosts: None };
    let mut after_reload = std::pin::pin!(recovery.replies());
    assert!(timeout(Duration::from_secs(60), after_reload.next()).await.is_err(), "it runs");
    serde_json::to_writer(&running, &end(3)).unwrap();
    drop(running);
    let last = after_reload.next().await.unwrap();
    assert_eq!((outcome(&last).0, outcome(&last).1.exit_code), ("goes on", Some(3)));
    let its_end = folder.path().join("runs").join(Continued::key("goes on"));
    assert!(
        its_end.exists(),
        "an agent that ends before the reply is handed on leaves it to the next one"
    );
    assert!(after_reload.next().await.is_none());
    let Claim::Answered(again) = log.claim(&request("goes on", false)) else { panic!("answered") };
    assert_eq!(outcome(&again).1.stdout, "said");
    assert_eq!(fs::read_dir(folder.path().join("runs")).unwrap().count(), 0, "nothing is left");
}
