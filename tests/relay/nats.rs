//! Lines of guests in a stream of a real NATS server, which is killed, stopped and slow.

use std::collections::HashSet;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};

use async_nats::jetstream;
use async_nats::jetstream::stream::StorageType;
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::commands::{RULES, ask_soon, command, system_info};
use super::*;

/// A NATS server behind a port that stays while it is killed and started again.
pub struct Nats {
    folder: TempDir,
    /// More of its configuration.
    more: String,
    server: Option<support::nats::Server>,
    /// Where it listens now.
    target: Arc<Mutex<Option<String>>>,
    pub port: u16,
}

impl Nats {
    /// `None`, and a line that says so, where there is no server to run.
    pub async fn start(more: &str) -> Option<Self> {
        if !support::nats::is_there() {
            return None;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(Mutex::new(None::<String>));
        let to = Arc::clone(&target);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let Some(to) = to.lock().unwrap().clone() else { continue };
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let mut nats = Self { folder, more: more.to_owned(), server: None, target, port };
        nats.again().await;
        Some(nats)
    }

    /// Starts the server, on what it has stored.
    pub async fn again(&mut self) {
        let server = support::nats::start(self.folder.path(), &self.more).await;
        *self.target.lock().unwrap() = Some(server.address.clone());
        self.server = Some(server);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        *self.target.lock().unwrap() = None;
        self.server = None;
    }

    fn signal(&self, signal: Signal) {
        self.server.as_ref().unwrap().process.signal(signal);
    }

    /// The `[nats]` of a relay.
    pub fn output(&self, more: &str) -> String {
        format!("[nats]\nservers = \"nats://127.0.0.1:{}\"\n{more}", self.port)
    }

    pub async fn stream(&self, options: async_nats::ConnectOptions) -> Stream {
        let server = format!("nats://127.0.0.1:{}", self.port);
        let client = soon("NATS answers", || options.clone().connect(server.clone())).await;
        // A disk that others use, too, may take long to answer.
        let context = jetstream::ContextBuilder::new().timeout(2 * PATIENCE).build(client);
        Stream(soon("the relay makes a stream", || context.get_stream("infini")).await)
    }
}

pub struct Stream(jetstream::stream::Stream);

/// A message of the stream.
pub struct Stored {
    pub subject: String,
    pub id: String,
    pub line: Value,
}

impl Stream {
    async fn count(&mut self) -> u64 {
        self.0.info().await.unwrap().state.messages
    }

    /// All messages, in their order.
    pub async fn all(&mut self) -> Vec<Stored> {
        let last = self.0.info().await.unwrap().state.last_sequence;
        let (mut all, stream) = (Vec::new(), &self.0);
        for sequence in 1..=last {
            // nats-server 2.9 was seen to say for a moment that it has no message that it has just acknowledged.
            let message =
                soon("what is stored can be read", || stream.get_raw_message(sequence)).await;
            let id = message.headers.get("Nats-Msg-Id").expect("a message id").to_string();
            let line = serde_json::from_slice(&message.payload).expect("a whole line");
            all.push(Stored { subject: message.subject.to_string(), id, line });
        }
        all
    }

    /// The numbers of a guest's lines, in their order; each message has an id of its own, and the subject of its line.
    async fn numbers(&mut self, vm: &str) -> Vec<u64> {
        let all = self.all().await;
        let ids: HashSet<&str> = all.iter().map(|stored| stored.id.as_str()).collect();
        assert_eq!(ids.len(), all.len(), "each is stored once");
        let of_vm = all.iter().filter(|stored| stored.line["vm"] == vm);
        of_vm
            .map(|stored| {
                let subject = format!("infini.lab.{}.events", vm.replace('.', "%2E"));
                assert_eq!((&stored.subject, &stored.line["site"]), (&subject, &"lab".into()));
                stored.line["line"]["number"].as_u64().unwrap()
            })
            .collect()
    }
}

fn event(number: u64) -> String {
    format!(r#"{{"type":"agent_event","number":{number}}}"#)
}

#[tokio::test]
async fn a_stream_has_each_line_once_and_in_order_though_nats_is_killed_in_the_middle() {
    let Some(mut nats) = Nats::start("").await else { return };
    let place = Place::new();
    let names = ["web", "db.prod", "old"];
    let sockets = names.map(|vm| place.guest(vm));
    let _relay = place.relay("", &nats.output(""));
    let mut guests = Vec::new();
    for socket in &sockets {
        guests.push(accept(socket).await);
    }
    const LINES: u64 = 150;
    for number in 0..3 * LINES {
        if number == LINES {
            // What is acknowledged is stored.
            for guest in &mut guests {
                acknowledged(guest, 1000).await;
            }
            let mut stream = nats.stream(Default::default()).await;
            assert_eq!(stream.count().await, 3 * LINES);
        }
        for guest in &mut guests {
            guest.say(event(number)).await;
        }
        // Lines are on their way when it is killed, and come while it is away.
        match number {
            _ if number == LINES + 50 => nats.kill(),
            _ if number == 2 * LINES => {
                guests[0].say(r#"{"type":"keep_alive","sequence_number":2000}"#).await;
                let answer = timeout(Duration::from_millis(300), guests[0].line()).await;
                assert!(answer.is_err(), "nothing is acknowledged meanwhile: {answer:?}");
                nats.again().await;
            }
            _ => {}
        }
    }
    for guest in &mut guests {
        acknowledged(guest, 3000).await;
    }
    let mut stream = nats.stream(Default::default()).await;
    for vm in names {
        assert_eq!(stream.numbers(vm).await, (0..3 * LINES).collect::<Vec<_>>(), "{vm}");
    }
}

#[tokio::test]
async fn what_comes_again_after_the_relay_was_killed_is_stored_once() {
    let Some(nats) = Nats::start("").await else { return };
    let place = Place::new();
    let socket = place.guest("web");
    let relay = place.relay("", &nats.output(""));
    let mut guest = accept(&socket).await;
    for number in 0..200 {
        guest.say(event(number)).await;
    }
    let mut stream = nats.stream(Default::default()).await;
    let late = Instant::now() + PATIENCE;
    while stream.count().await < 100 {
        assert!(Instant::now() < late, "lines are stored");
    }
    drop(relay); // kill -9
    drop(guest);
    let _relay = place.relay("", &nats.output(""));
    let mut guest = accept(&socket).await;
    for number in 0..250 {
        match number {
            0..200 => guest.say(event(number).replacen('{', r#"{"redelivered":true,"#, 1)).await,
            _ => guest.say(event(number)).await,
        }
    }
    acknowledged(&mut guest, 1000).await;
    assert_eq!(stream.numbers("web").await, (0..250).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_of_one_site_that_is_there_takes_its_lines_and_those_of_no_other_site() {
    let Some(nats) = Nats::start("").await else { return };
    let context = jetstream::new(nats.client().await);
    for (name, site) in [("part-0", "lab"), ("part-1", "other")] {
        let subjects =
            ["metrics", "events", "records"].map(|kind| format!("infini.{site}.*.{kind}"));
        let config = jetstream::stream::Config {
            name: name.into(),
            subjects: subjects.into(),
            ..Default::default()
        };
        context.create_stream(config).await.unwrap();
    }
    let place = Place::new();
    let socket = place.guest("web");
    let _relay = place.relay("", &nats.output("stream = \"part-0\"\n"));
    let mut guest = accept(&socket).await;
    guest.say(event(7)).await;
    acknowledged(&mut guest, 1000).await;
    for (name, count) in [("part-0", 1), ("part-1", 0)] {
        let mut stream = Stream(context.get_stream(name).await.unwrap());
        assert_eq!(stream.count().await, count, "{name}");
    }
}

/// Kibibytes of memory that a process has now.
fn memory_of(process: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn while_nats_does_not_answer_readings_are_dropped_and_the_rest_waits_in_the_guests() {
    let Some(nats) = Nats::start("").await else { return };
    let place = Place::new();
    let names = ["a", "b", "c", "d"];
    let sockets = names.map(|vm| place.guest(vm));
    let metrics = place.at("metrics");
    let relay = place.relay(
        "rate = \"64MiB\"\nqueue = \"256KiB\"",
        &format!("[[write]]\nprometheus = {{ unix = {metrics:?} }}\n{}", nats.output("")),
    );
    let mut stream = nats.stream(Default::default()).await;
    nats.signal(Signal::STOP);
    const LINES: u64 = 1500;
    let mut guests = Vec::new();
    for socket in &sockets {
        let mut guest = accept(socket).await;
        guests.push(tokio::spawn(async move {
            let reading = format!(r#"{{"type":"metrics","padding":"{}"}}"#, "x".repeat(2000));
            for _ in 0..500 {
                guest.say(&reading).await;
            }
            let padding = "x".repeat(2000);
            for number in 0..LINES {
                let line = format!(r#"{{"type":"agent_event","number":{number},"p":"{padding}"}}"#);
                guest.say(line).await;
            }
            acknowledged(&mut guest, 1000).await;
        }));
    }
    let expected = names.map(|vm| {
        let of = |name, reason| {
            format!(
                "infiniservice_guest_{name}_total{{site=\"lab\",vm=\"{vm}\",reason=\"{reason}\"}}"
            )
        };
        [of("dropped", "output_full"), of("throttled", "output")]
    });
    let expected: Vec<&str> = expected.iter().flatten().map(String::as_str).collect();
    place.scraped(&expected).await;
    let memory = memory_of(&relay);
    assert!(memory < 64 << 10, "{memory} KiB");
    assert!(guests.iter().all(|guest| !guest.is_finished()), "nothing is acknowledged");
    nats.signal(Signal::CONT);
    for guest in guests {
        timeout(2 * PATIENCE, guest).await.expect("everything arrives").unwrap();
    }
    let all = stream.all().await;
    for vm in names {
        let of_vm = all.iter().filter(|stored| stored.line["vm"] == vm);
        let events = of_vm.filter(|stored| stored.line["kind"] == "event");
        let numbers: Vec<_> =
            events.map(|stored| stored.line["line"]["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..LINES).collect::<Vec<_>>(), "{vm}");
    }
    let memory = memory_of(&relay);
    assert!(memory < 64 << 10, "{memory} KiB");
}

/// A certificate authority and a certificate of it for 127.0.0.1 in `folder`; `false` where openssl is missing.
pub fn certify(folder: &Path) -> bool {
    let steps = [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca",
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout leaf.key -out leaf.csr -subj /CN=127.0.0.1",
        "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -days 2 -extfile names",
    ];
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    steps.iter().all(|step| {
        let mut command = Command::new("openssl");
        command.args(step.split(' ')).current_dir(folder).stderr(Stdio::null());
        match command.status() {
            Err(_) => false,
            Ok(status) => {
                assert!(status.success(), "openssl {step}");
                true
            }
        }
    })
}

pub fn secret_file(path: &Path, secret: &str, mode: u32) {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    file.unwrap().write_all(format!("{secret}\n").as_bytes()).unwrap();
}

/// Signs what `subject` may, as tools of NATS do (a JWT by an Ed25519 key).
fn token(issuer: &KeyPair, subject: &KeyPair, name: &str, may: Value) -> String {
    let part = |value: &[u8]| BASE64URL_NOPAD.encode(value);
    let head = part(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let claims = json!({
        "jti": name, "iat": 0, "name": name, "nats": may,
        "iss": issuer.public_key(), "sub": subject.public_key(),
    });
    let text = format!("{head}.{}", part(claims.to_string().as_bytes()));
    format!("{text}.{}", part(&issuer.sign(text.as_bytes()).unwrap()))
}

/// A server that takes what an operator has signed, with the leave that docs/relay.md says a relay of the site `lab` needs.
#[tokio::test]
async fn with_a_credentials_file_and_no_more_leave_than_it_needs_lines_and_commands_pass() {
    let [operator, system, account, user] = [
        KeyPair::new_operator(),
        KeyPair::new_account(),
        KeyPair::new_account(),
        KeyPair::new_user(),
    ];
    let any = |more: Value| {
        let mut limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        });
        limits.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "type": "account", "version": 2, "limits": limits })
    };
    let storage = json!({ "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1 });
    let itself =
        token(&operator, &operator, "operator", json!({ "type": "operator", "version": 2 }));
    let [of_system, of_account] = [(&system, json!({})), (&account, storage)]
        .map(|(key, more)| token(&operator, key, "account", any(more)));
    let more = format!(
        "operator: {itself}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {of_system}, {}: {of_account} }}\n",
        system.public_key(),
        system.public_key(),
        account.public_key()
    );
    let Some(nats) = Nats::start(&more).await else { return };
    let api = |what: &str, stream: &str| format!("$JS.API.STREAM.{what}.{stream}");
    let publishes = [
        "infini.lab.*.metrics",
        "infini.lab.*.events",
        "infini.lab.*.records",
        "infini.lab.*.claims.*",
        "_INBOX.>",
        &api("INFO", "infini"),
        &api("CREATE", "infini"),
        &api("INFO", "infini-commands"),
        &api("CREATE", "infini-commands"),
    ];
    let credentials = |name: &str, publishes: Value, subscribes: Value| {
        let leave = json!({
            "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
            "pub": publishes, "sub": subscribes,
        });
        let (token, seed) = (token(&account, &user, name, leave), user.seed().unwrap());
        format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------"
        )
    };
    let place = Place::new();
    let of_relay = credentials(
        "relay",
        json!({ "allow": publishes }),
        json!({ "allow": ["infini.lab.*.command", "_INBOX.>"] }),
    );
    secret_file(&place.at("relay.creds"), &of_relay, 0o600);
    let output = nats.output(&format!("credentials = {:?}\n", place.at("relay.creds")));
    let socket = place.guest("web");
    let _relay = place.relay("", &format!("{output}{RULES}"));
    let mut guest = accept(&socket).await;
    guest.say(event(7)).await;
    acknowledged(&mut guest, 1000).await;
    let options = || {
        let text = credentials("reader", json!({}), json!({})) + "\n";
        async_nats::ConnectOptions::with_credentials(&text).unwrap()
    };
    assert_eq!(nats.stream(options()).await.numbers("web").await, [7]);
    let server = format!("nats://127.0.0.1:{}", nats.port);
    let client = options().request_timeout(Some(PATIENCE)).connect(server).await.unwrap();
    let (reply, ()) = tokio::join!(ask_soon(&client, "web", system_info("a")), async {
        let heard = command(&mut guest).await;
        guest.answer(&heard, r#""success":true"#).await;
    });
    assert_eq!(reply["line"]["id"], "a", "{reply}");
}

// The log is read by calls that block, and the port in front of the server goes on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_proves_who_it_is_and_the_relay_who_it_is_with_a_password_that_others_cannot_read()
 {
    let place = Place::new();
    if !certify(place.0.path()) {
        eprintln!("NOT RUN: openssl is missing");
        return;
    }
    let (cert, key, ca) = (place.at("leaf.pem"), place.at("leaf.key"), place.at("ca.pem"));
    let more = format!(
        "tls {{ cert_file: {cert:?}, key_file: {key:?} }}\nauthorization {{ user: relay, password: hunter2 }}\n"
    );
    let Some(nats) = Nats::start(&more).await else { return };
    secret_file(&place.at("open"), "hunter2", 0o644);
    secret_file(&place.at("closed"), "hunter2", 0o600);
    let login = |secret: &str| {
        let secret = format!("file:{}", place.at(secret).display());
        nats.output(&format!("ca = {ca:?}\nuser = \"relay\"\nsecret = {secret:?}\n"))
            .replace("nats://", "tls://")
    };
    for (output, said) in [
        (login("open"), "so others can read or change it"),
        (login("closed").replace(&format!("ca = {ca:?}\n"), ""), "check ca in [nats]"),
        (nats.output(&format!("ca = {ca:?}\n")), "check user, secret and credentials in [nats]"),
    ] {
        let mut relay = place.relay_with("", &output, Stdio::piped());
        let mut log = String::new();
        let mut lines = relay.log();
        while !log.contains(said) {
            assert!(std::io::BufRead::read_line(&mut lines, &mut log).unwrap() > 0, "{log}");
            assert!(log.lines().count() < 6 && !log.contains("hunter2"), "{log}");
        }
    }
    let socket = place.guest("web");
    let _relay = place.relay("", &login("closed"));
    let mut guest = accept(&socket).await;
    guest.say(event(7)).await;
    acknowledged(&mut guest, 1000).await;
    let options = async_nats::ConnectOptions::new()
        .add_root_certificates(ca.clone())
        .require_tls(true)
        .user_and_password("relay".into(), "hunter2".into());
    let mut stream = nats.stream(options).await;
    assert_eq!(stream.numbers("web").await, [7]);
    let config = &stream.0.cached_info().config;
    assert_eq!((config.max_bytes, config.storage), (1 << 30, StorageType::File));
}
