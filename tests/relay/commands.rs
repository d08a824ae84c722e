//! Commands over a real NATS server to guests, of which some are real agents: one answer for each, whoever is killed meanwhile.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_nats::{Client, ConnectOptions, RequestErrorKind};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::nats::{Nats, secret_file};
use super::*;

/// The rules of the relays here.
pub const RULES: &str = "commands = true\n[commands]\nallow = [\"SystemInfo\", { action = \"ServiceControl\", service = \"nginx\" }, \"UnsafeCommand\"]\nraw_shell = true\n";

impl Nats {
    pub async fn client(&self) -> Client {
        let options = ConnectOptions::new().request_timeout(Some(PATIENCE));
        let server = format!("nats://127.0.0.1:{}", self.port);
        soon("NATS answers", || options.clone().connect(server.clone())).await
    }
}

pub fn system_info(id: &str) -> String {
    format!(
        r#"{{"type":"SafeCommand","id":"{id}","command_type":{{"action":"SystemInfo"}},"timeout":30}}"#
    )
}

/// The reply to a command for `vm`.
async fn ask(client: &Client, vm: &str, command: impl Into<String>) -> Value {
    let subject = format!("infini.lab.{vm}.command");
    let asked = client.request(subject, command.into().into()).await;
    serde_json::from_slice(&asked.expect("a reply").payload).expect("an object")
}

/// The same, once a relay has subscribed.
pub async fn ask_soon(client: &Client, vm: &str, command: impl Into<String>) -> Value {
    let command = command.into();
    let late = Instant::now() + PATIENCE;
    loop {
        let subject = format!("infini.lab.{vm}.command");
        match client.request(subject, command.clone().into()).await {
            Ok(reply) => return serde_json::from_slice(&reply.payload).unwrap(),
            Err(error) => assert_eq!(error.kind(), RequestErrorKind::NoResponders),
        }
        assert!(Instant::now() < late, "a relay subscribes");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The next command that a guest hears, whatever else it hears before.
pub async fn command(guest: &mut Peer) -> peer::Heard {
    loop {
        let heard = guest.hear().await;
        if heard.body["type"] == "SafeCommand" || heard.body["type"] == "UnsafeCommand" {
            return heard;
        }
    }
}

/// A guest that has said that it is there.
pub async fn there(listener: &UnixListener) -> Peer {
    let mut guest = accept(listener).await;
    guest.say(r#"{"type":"agent_event"}"#).await;
    guest
}

/// A relay that has subscribed, and the socket of its guest `web`.
struct Relayed {
    _relay: Running,
    listener: UnixListener,
    _place: Place,
}

/// The same, with one who asks, and the guest.
async fn relayed(nats: &Nats) -> (Relayed, Client, Peer) {
    let place = Place::new();
    let listener = place.guest("web");
    let relay = place.relay("", &format!("{}{RULES}", nats.output("")));
    let client = nats.client().await;
    let guest = there(&listener).await;
    ask_soon(&client, "nobody", system_info("0")).await;
    (Relayed { _relay: relay, listener, _place: place }, client, guest)
}

#[tokio::test]
async fn a_command_is_signed_and_answered_and_whatever_else_is_an_error_with_its_reason() {
    let Some(nats) = Nats::start("").await else { return };
    let place = Place::new();
    let (listener, _silent) = (place.guest("web.1"), place.guest("silent"));
    let metrics = place.at("metrics");
    let output =
        format!("[[write]]\nprometheus = {{ unix = {metrics:?} }}\n{}{RULES}", nats.output(""));
    let _relay = place.relay("", &output);
    let client = nats.client().await;
    let mut guest = there(&listener).await;
    // The first one may come before the guest's line is read.
    let guest = tokio::spawn(async move {
        for _ in 0..2 {
            let heard = command(&mut guest).await;
            guest.answer(&heard, r#""success":true,"stdout":"hello""#).await;
        }
        guest
    });
    let mut reply = ask_soon(&client, "web%2E1", system_info("a")).await;
    while reply["error"]["code"] == "not_connected" {
        reply = ask(&client, "web%2E1", system_info("a")).await;
    }
    assert_eq!(reply["line"]["stdout"], "hello", "{reply}");
    assert_eq!(
        (&reply["site"], &reply["vm"], &reply["kind"]),
        (&"lab".into(), &"web.1".into(), &"response".into())
    );
    let nginx = r#"{"type":"SafeCommand","id":"n","command_type":{"action":"ServiceControl","params":{"operation":"restart","service":"nginx"}},"timeout":30}"#;
    assert_eq!(ask(&client, "web%2E1", nginx).await["line"]["id"], "n");
    let mut guest = guest.await.unwrap();

    let long =
        format!(r#"{{"type":"UnsafeCommand","id":"l","raw_command":"{}"}}"#, "x".repeat(256 << 10));
    for (vm, command, code, said) in [
        (
            "web%2E1",
            nginx.replace("nginx", "ssh"),
            "denied",
            "no rule of relay.toml allows this ServiceControl",
        ),
        (
            "web%2E1",
            r#"{"type":"SafeCommand","id":"r","command_type":{"action":"RebootSystem"}}"#
                .to_owned(),
            "denied",
            "RebootSystem",
        ),
        ("web%2E1", system_info("t").replace("30", "3000"), "denied", "longer than the 300s"),
        (
            "web%2E1",
            system_info("u").replace("SystemInfo", "Dance"),
            "not_understood",
            "is not known",
        ),
        (
            "web%2E1",
            r#"{"type":"keep_alive_request","sequence_number":7}"#.to_owned(),
            "not_understood",
            "a SafeCommand or an UnsafeCommand",
        ),
        (
            "web%2E1",
            r#"{"type":"pending_scripts_response","scripts":[]}"#.to_owned(),
            "not_understood",
            "a SafeCommand",
        ),
        ("web%2E1", "nonsense".to_owned(), "not_understood", "no JSON object"),
        ("web%2E1", long, "too_long", "takes 262144 bytes"),
        ("silent", system_info("s"), "not_connected", "not connected"),
        ("nobody", system_info("n"), "unknown_guest", "no relay of this site has"),
    ] {
        let reply = ask(&client, vm, command).await;
        assert_eq!(reply["error"]["code"], code, "{reply}");
        assert!(reply["error"]["message"].as_str().unwrap().contains(said), "{reply}");
    }
    // An answer goes to an inbox only, and a command without one is not asked.
    client.publish("infini.lab.web%2E1.command", system_info("x").into()).await.unwrap();
    let to = "infini.lab.web%2E1.events";
    client
        .publish_with_reply("infini.lab.web%2E1.command", to, system_info("y").into())
        .await
        .unwrap();
    let last = {
        let asked = ask(&client, "web%2E1", system_info("z"));
        let (reply, ()) = tokio::join!(asked, async {
            let heard = command(&mut guest).await;
            assert_eq!(heard.body["id"], "z", "nothing of the others has come to the guest");
            guest.answer(&heard, r#""success":true"#).await;
        });
        reply
    };
    assert_eq!(last["line"]["success"], true);
    let outcome = |outcome, count| {
        format!(
            "infiniservice_relay_commands_total{{site=\"lab\",outcome=\"{outcome}\"}} {count}\n"
        )
    };
    place
        .scraped(&[
            &outcome("answered", 3),
            &outcome("denied", 3),
            &outcome("no_inbox", 2),
            &outcome("too_long", 1),
        ])
        .await;
}

/// Its log is read by calls that block.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_a_late_answer_one_that_is_too_large_and_the_stop_of_the_relay_are_errors() {
    let Some(nats) = Nats::start("max_payload: 65536\n").await else { return };
    let place = Place::new();
    let (web, keyless) = (place.guest("web"), place.guest("keyless"));
    std::fs::create_dir(place.at("keys")).unwrap();
    secret_file(&place.at("keys/web"), SECRET, 0o600);
    let secret = format!("secret = \"file:{}\"", place.at("keys/{vm}").display());
    let outputs = format!("{}{RULES}", nats.output(""));
    let mut relay = place.run(&place.relay_file(&secret, &outputs), Stdio::piped());
    let mut log = relay.log();
    let log = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut log, &mut text).map(|_| text)
    });
    let client = nats.client().await;
    let (mut guest, _keyless) = (there(&web).await, there(&keyless).await);
    acknowledged(&mut guest, 1000).await; // so it is known to be there
    // The first one may come before the guest's line is read.
    let late = Instant::now() + PATIENCE;
    let mut reply = ask_soon(&client, "keyless", system_info("k")).await;
    while reply["error"]["code"] == "not_connected" {
        assert!(Instant::now() < late, "the guest is connected");
        reply = ask(&client, "keyless", system_info("k")).await;
    }
    let is = |reply: &Value, code: &str, said: &str| {
        assert_eq!(reply["error"]["code"], code, "{reply}");
        assert!(reply["error"]["message"].as_str().unwrap().contains(said), "{reply}");
    };
    is(&reply, "no_key", "has no key for this guest");

    // The guest's answer is larger than a message of this server may be.
    let (reply, ()) = tokio::join!(ask(&client, "web", system_info("large")), async {
        let heard = command(&mut guest).await;
        let long = "x".repeat(70_000);
        guest.answer(&heard, &format!(r#""success":true,"stdout":"{long}""#)).await;
    });
    is(&reply, "answer_too_large", "the command did run");

    let (reply, heard) = tokio::join!(
        ask(&client, "web", system_info("late").replace(":30}", ":1}")),
        command(&mut guest)
    );
    is(&reply, "late", "ask again with the same id");
    // What it says now is for nobody.
    guest.answer(&heard, r#""success":true"#).await;

    // One who has gone, and one who waits while the relay stops.
    let to = "_INBOX.gone";
    let gone = system_info("gone").into();
    client.publish_with_reply("infini.lab.web.command", to, gone).await.unwrap();
    let heard = command(&mut guest).await;
    assert_eq!(heard.body["id"], "gone");
    guest.answer(&heard, r#""success":true"#).await;
    let (reply, ()) = tokio::join!(ask(&client, "web", system_info("stop")), async {
        assert_eq!(command(&mut guest).await.body["id"], "stop");
        relay.signal(Signal::TERM);
    });
    is(&reply, "stopping", "ask again with the same id");
    assert_eq!(next_end(relay).await, Some(0));
    let log = log.await.unwrap().unwrap();
    for (id, outcome) in [
        ("k", "no_key"),
        ("large", "answer_too_large"),
        ("late", "late"),
        ("gone", "undelivered"),
        ("stop", "stopping"),
    ] {
        let told = format!("id=\"{id}\" action=\"SystemInfo\" outcome=\"{outcome}\"");
        assert!(log.contains(&told), "{told}: {log}");
    }
}

#[tokio::test]
async fn a_guest_over_vsock_is_asked_and_answers() {
    let Some(nats) = Nats::start("").await else { return };
    let place = Place::new();
    let (sockets, at) = (place.at("guests/{vm}.vsock"), place.at("guests/web.vsock_8460"));
    let _machine = UnixListener::bind(place.at("guests/web.vsock")).unwrap();
    let vsock = format!("[guests.vsock]\nsockets = {sockets:?}\n");
    let _relay = place.relay("", &format!("{vsock}{}{RULES}", nats.output("")));
    let client = nats.client().await;
    ask_soon(&client, "nobody", system_info("0")).await;
    // Again on the next connection, as any other guest.
    for id in ["first", "second"] {
        let stream = soon("the relay listens", || UnixStream::connect(at.clone())).await;
        let mut guest = Peer::over(stream);
        guest.say(r#"{"type":"agent_event"}"#).await;
        acknowledged(&mut guest, 1000).await; // so it is known to be there
        let (reply, ()) = tokio::join!(ask(&client, "web", system_info(id)), async {
            let heard = command(&mut guest).await;
            guest.answer(&heard, r#""success":true,"stdout":"over vsock""#).await;
        });
        assert_eq!((&reply["vm"], &reply["line"]["id"]), (&"web".into(), &id.into()), "{reply}");
        assert_eq!(reply["line"]["stdout"], "over vsock", "{reply}");
    }
}

#[tokio::test]
async fn a_command_that_was_cut_off_is_asked_again_on_the_next_connection_and_answered_once() {
    let Some(nats) = Nats::start("").await else { return };
    let (relayed, client, mut guest) = relayed(&nats).await;
    let mut replies = client.subscribe("_INBOX.test").await.unwrap();
    client
        .publish_with_reply("infini.lab.web.command", "_INBOX.test", system_info("a").into())
        .await
        .unwrap();
    let first = command(&mut guest).await;
    drop(guest);
    // It is asked of no guest that has not said that it is there.
    let mut guest = accept(&relayed.listener).await;
    let early = timeout(Duration::from_millis(300), command(&mut guest)).await;
    assert!(early.is_err(), "{early:?}");
    guest.say(r#"{"type":"agent_event"}"#).await;
    let again = command(&mut guest).await;
    assert_eq!((&again.text, again.ts >= first.ts), (&first.text, true), "the same command");
    // Its answer went to the connection before; the guest answers what is asked once more.
    let again = command(&mut guest).await;
    assert_eq!(again.text, first.text);
    guest.answer(&again, r#""success":true"#).await;
    guest.answer(&again, r#""success":true"#).await;
    let reply = timeout(PATIENCE, replies.next()).await.expect("a reply").unwrap();
    let reply: Value = serde_json::from_slice(&reply.payload).unwrap();
    assert_eq!(reply["line"]["id"], "a", "{reply}");
    let second = timeout(Duration::from_millis(500), replies.next()).await;
    assert!(second.is_err(), "{second:?}");
}

#[tokio::test]
async fn an_answer_waits_for_nats_and_for_the_one_who_asked() {
    let Some(mut nats) = Nats::start("").await else { return };
    let (_relayed, client, mut guest) = relayed(&nats).await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { ask(&client, "web", system_info("a")).await }
    });
    let heard = command(&mut guest).await;
    nats.kill();
    guest.answer(&heard, r#""success":true,"stdout":"kept""#).await;
    acknowledged_by_nobody(&mut guest).await;
    nats.again().await;
    let reply = timeout(PATIENCE, asking).await.expect("a reply").unwrap();
    assert_eq!(reply["line"]["stdout"], "kept", "{reply}");

    // One who comes back later than the relay.
    let late = nats.client().await;
    late.publish_with_reply("infini.lab.web.command", "_INBOX.late", system_info("b").into())
        .await
        .unwrap();
    let heard = command(&mut guest).await;
    guest.answer(&heard, r#""success":true,"stdout":"waits""#).await;
    // When the next one is answered, the reply to this one was there before.
    let (next, ()) = tokio::join!(ask(&client, "web", system_info("c")), async {
        let heard = command(&mut guest).await;
        guest.answer(&heard, r#""success":true"#).await;
    });
    assert_eq!(next["line"]["id"], "c");
    let mut replies = late.subscribe("_INBOX.late").await.unwrap();
    let reply = timeout(PATIENCE, replies.next()).await.expect("a reply").unwrap();
    assert!(std::str::from_utf8(&reply.payload).unwrap().contains("waits"));
}

/// The relay has read what the guest said before, and NATS does not take it.
async fn acknowledged_by_nobody(guest: &mut Peer) {
    guest.say(r#"{"type":"keep_alive","sequence_number":5}"#).await;
    let answer = timeout(Duration::from_millis(300), guest.line()).await;
    assert!(answer.is_err(), "{answer:?}");
}

#[tokio::test]
async fn more_commands_than_a_guest_may_have_in_flight_are_refused() {
    let Some(nats) = Nats::start("").await else { return };
    let (_relayed, client, mut guest) = relayed(&nats).await;
    let mut asking: FuturesUnordered<_> =
        (0..20).map(|number| ask(&client, "web", system_info(&format!("c{number}")))).collect();
    // Those that find no room are told so before one of the others is answered.
    for _ in 0..4 {
        let reply = asking.next().await.unwrap();
        assert_eq!(reply["error"]["code"], "too_many", "{reply}");
    }
    let mut heard = Vec::new();
    for _ in 0..16 {
        heard.push(command(&mut guest).await);
    }
    let ids: HashSet<String> = heard.iter().map(|heard| heard.body["id"].to_string()).collect();
    assert_eq!(ids.len(), 16, "each is said once");
    for heard in &heard {
        guest.answer(heard, r#""success":true"#).await;
    }
    while let Some(reply) = asking.next().await {
        assert!(reply["error"].is_null(), "{reply}");
    }
}

/// QEMU's part, for one program at a time: what an agent says at one socket comes out of the other. Everybody else waits.
pub fn one_at_a_time(agents: UnixListener, programs: UnixListener) {
    tokio::spawn(async move {
        while let Ok((mut program, _)) = programs.accept().await {
            let Ok((mut agent, _)) = agents.accept().await else { return };
            let _ = tokio::io::copy_bidirectional(&mut agent, &mut program).await;
        }
    });
}

#[tokio::test]
async fn of_two_relays_one_asks_and_when_it_is_killed_the_other_goes_on() {
    let Some(nats) = Nats::start("").await else { return };
    let place = Place::new();
    let (programs, agents) = (place.guest("web"), UnixListener::bind(place.at("port")).unwrap());
    one_at_a_time(agents, programs);
    let relays = [(); 2].map(|()| place.relay("", &format!("{}{RULES}", nats.output(""))));
    let client = nats.client().await;
    // A guest that counts what it is asked, over all its connections.
    let (port, seen) = (place.at("port"), Arc::new(Mutex::new(Vec::<String>::new())));
    let heard = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let Ok(stream) = UnixStream::connect(&port).await else { continue };
            let mut guest = Peer::over(stream);
            let _ = guest.try_bytes(b"{\"type\":\"agent_event\"}\n").await;
            while let Some(line) = guest.line().await {
                let line: Value = serde_json::from_str(&line).unwrap();
                let body: Value = serde_json::from_str(line["payload"].as_str().unwrap()).unwrap();
                if let Some(id) = body["id"].as_str() {
                    heard.lock().unwrap().push(id.to_owned());
                    let answer =
                        format!("{{\"type\":\"response\",\"id\":\"{id}\",\"success\":true}}\n");
                    let _ = guest.try_bytes(answer.as_bytes()).await;
                }
            }
        }
    });
    let mut relays = relays.into_iter();
    for round in 0..2 {
        let late = Instant::now() + PATIENCE;
        let mut tries = 0;
        while ask_soon(&client, "web", system_info(&format!("first-{round}-{tries}"))).await["error"]
            ["code"]
            == "not_connected"
        {
            assert!(Instant::now() < late, "a relay has the guest");
            tries += 1;
        }
        seen.lock().unwrap().clear();
        let asking: Vec<_> = (0..10)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move {
                    let mut replies =
                        client.subscribe(format!("_INBOX.{round}-{number}")).await.unwrap();
                    let to = format!("_INBOX.{round}-{number}");
                    let command = system_info(&format!("{round}-{number}"));
                    client
                        .publish_with_reply("infini.lab.web.command", to, command.into())
                        .await
                        .unwrap();
                    let reply = timeout(PATIENCE, replies.next()).await.expect("a reply").unwrap();
                    let second = timeout(Duration::from_secs(1), replies.next()).await;
                    assert!(second.is_err(), "one reply only: {second:?}");
                    serde_json::from_slice::<Value>(&reply.payload).unwrap()
                })
            })
            .collect();
        for asking in asking {
            let reply = asking.await.unwrap();
            assert_eq!(reply["line"]["success"], true, "{reply}");
        }
        // What both relays refuse is refused by one of them.
        let mut replies = client.subscribe(format!("_INBOX.none-{round}")).await.unwrap();
        let to = format!("_INBOX.none-{round}");
        client
            .publish_with_reply("infini.lab.none.command", to, system_info("q").into())
            .await
            .unwrap();
        assert!(timeout(PATIENCE, replies.next()).await.is_ok());
        assert!(timeout(Duration::from_secs(1), replies.next()).await.is_err(), "one reply only");
        let mut ids = seen.lock().unwrap().clone();
        ids.sort();
        assert_eq!(
            ids,
            (0..10).map(|number| format!("{round}-{number}")).collect::<Vec<_>>(),
            "each once"
        );
        // Whichever has the guest: after the first round one of them is gone.
        drop(relays.next());
    }
}

/// A real agent behind the socket of `vm`, whose port is served to one program after another.
pub fn agent(place: &Place, vm: &str, key: &str) -> Running {
    let (programs, agents) = (place.guest(vm), UnixListener::bind(place.at("port")).unwrap());
    one_at_a_time(agents, programs);
    let commands = "[receive]\nport = \"org.infinibay.agent\"\n[verify]\nsecret = \"env:INFINISERVICE_SHARED_SECRET\"\n[enforce]\nallow = [\"*\"]\nraw_shell = true\n";
    std::fs::write(place.at("commands.toml"), commands).unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    agent.args(["run", "--pipelines"]).arg(place.at("commands.toml"));
    agent.arg("--port").arg(format!("unix:{}", place.at("port").display()));
    agent.arg("--state").arg(place.at("state")).env("INFINISERVICE_SHARED_SECRET", key);
    Running(agent.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

#[tokio::test]
async fn a_real_agent_runs_a_command_once_though_the_relay_is_killed_while_it_runs() {
    let Some(nats) = Nats::start("").await else { return };
    let place = Place::new();
    secret_file(&place.at("master"), SECRET, 0o600);
    let master = format!("file:{}", place.at("master").display());
    // The key that the program prints is the one that it signs with.
    let outputs = format!("{}{RULES}", nats.output(""));
    let file = place.relay_file(&format!("master = {master:?}"), &outputs);
    std::fs::write(place.at("relay.toml"), file).unwrap();
    let printed = host()
        .args(["relay", "--config"])
        .arg(place.at("relay.toml"))
        .args(["--key", "web"])
        .output()
        .unwrap();
    let key = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(key.trim().len(), 64, "{}", String::from_utf8_lossy(&printed.stderr));
    let _agent = agent(&place, "web", key.trim());
    let start = || {
        let mut command = host();
        command.args(["relay", "--config"]).arg(place.at("relay.toml"));
        Running(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    };
    let relay = start();
    let client = nats.client().await;
    let late = Instant::now() + PATIENCE;
    let mut number = 0;
    let reply = loop {
        let reply = ask_soon(&client, "web", system_info(&format!("i{number}"))).await;
        if reply["error"].is_null() {
            break reply;
        }
        assert_eq!(reply["error"]["code"], "not_connected", "{reply}");
        assert!(Instant::now() < late, "the agent comes");
        number += 1;
    };
    assert_eq!((&reply["line"]["success"], &reply["vm"]), (&true.into(), &"web".into()), "{reply}");

    let (count, go) = (place.at("count"), place.at("go"));
    let line = format!(
        "echo ran >> {}; while [ ! -e {} ]; do sleep 0.1; done; echo out",
        count.display(),
        go.display()
    );
    let command = serde_json::json!({ "type": "UnsafeCommand", "id": "once", "raw_command": line, "timeout": 60 }).to_string();
    let asking = tokio::spawn({
        let (client, command) = (client.clone(), command.clone());
        async move { client.request("infini.lab.web.command", command.into()).await }
    });
    let runs = || std::fs::read_to_string(&count).unwrap_or_default().lines().count();
    let late = Instant::now() + PATIENCE;
    while runs() == 0 {
        assert!(Instant::now() < late, "the command runs");
        sleep(Duration::from_millis(20)).await;
    }
    drop(relay); // kill -9
    asking.abort();
    let _relay = start();
    let again = tokio::spawn({
        let (client, command) = (client.clone(), command.clone());
        async move {
            loop {
                // One that is asked before NATS knows that the first relay is gone has no reply.
                let asked = ask_soon(&client, "web", command.clone());
                let Ok(reply) = timeout(Duration::from_secs(2), asked).await else { continue };
                if reply["error"]["code"] != "not_connected" {
                    return reply;
                }
            }
        }
    });
    let audit = || std::fs::read_to_string(place.at("state/audit.jsonl")).unwrap_or_default();
    let late = Instant::now() + PATIENCE;
    while !audit().contains("is under way") {
        assert!(Instant::now() < late, "it is asked again while it runs");
        sleep(Duration::from_millis(20)).await;
    }
    std::fs::write(&go, "").unwrap();
    let reply = timeout(PATIENCE, again).await.expect("an answer").unwrap();
    assert_eq!(
        (&reply["line"]["id"], &reply["line"]["success"]),
        (&"once".into(), &true.into()),
        "{reply}"
    );
    assert_eq!(reply["line"]["stdout"], "out\n", "{reply}");
    assert_eq!(runs(), 1);
    let known = ask(&client, "web", command).await;
    assert_eq!(known["line"]["success"], true, "{known}");
    assert_eq!(runs(), 1, "it is answered from the record");
}
