//! A receiver of OTLP behind a relay, which decodes by the official messages and answers as a test wants.
//!
//! With `INFINISERVICE_OTLP_PYTHON` each message is decoded by Python's `opentelemetry-proto`, too: see `docs/relay.md`.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::nats::{certify, secret_file};
use super::*;

/// A request that waits for its answer.
struct Asked {
    /// The request line and the headers, in lower case.
    head: String,
    body: Vec<u8>,
    answer: oneshot::Sender<Vec<u8>>,
}

impl Asked {
    fn answer(self, status: &str, headers: &str, body: &[u8]) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n");
        self.answer.send([head.as_bytes(), body].concat()).unwrap();
    }

    fn take(self) {
        self.answer("200 OK", "", &[]);
    }

    fn logs(&self) -> ExportLogsServiceRequest {
        assert!(self.head.starts_with("post /in/v1/logs http/1.1\r\n"), "{}", self.head);
        self.check_with_python("logs");
        ExportLogsServiceRequest::decode(&*self.body).unwrap()
    }

    fn metrics(&self) -> ExportMetricsServiceRequest {
        assert!(self.head.starts_with("post /in/v1/metrics http/1.1\r\n"), "{}", self.head);
        self.check_with_python("metrics");
        ExportMetricsServiceRequest::decode(&*self.body).unwrap()
    }

    /// The bodies of the log records, as JSON.
    fn lines(&self) -> Vec<Value> {
        let logs = self.logs();
        let scopes = logs.resource_logs.into_iter().flat_map(|one| one.scope_logs);
        let bodies = scopes.flat_map(|scope| scope.log_records).map(|record| record.body);
        bodies.map(|body| serde_json::from_str(&text(body.unwrap().value)).unwrap()).collect()
    }

    /// The official classes know every field, and make the same bytes of what they have read.
    fn check_with_python(&self, signal: &str) {
        let Some(python) = std::env::var_os("INFINISERVICE_OTLP_PYTHON") else { return };
        let class = format!("Export{}ServiceRequest", signal[..1].to_uppercase() + &signal[1..]);
        let script = format!(
            "import sys\nfrom opentelemetry.proto.collector.{signal}.v1.{signal}_service_pb2 import {class}\n\
             body = sys.stdin.buffer.read()\nmessage = {class}.FromString(body)\n\
             again = message.SerializeToString()\nmessage.DiscardUnknownFields()\n\
             assert message.SerializeToString() == again, 'a field is not known'\n\
             assert len(again) == len(body), (len(again), len(body))\nprint(message)\n"
        );
        let mut python = Command::new(python);
        python.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut python = python.spawn().unwrap();
        std::io::Write::write_all(&mut python.stdin.take().unwrap(), &self.body).unwrap();
        let done = python.wait_with_output().unwrap();
        assert!(done.status.success());
        println!("{}", String::from_utf8(done.stdout).unwrap());
    }
}

fn text(value: Option<Any>) -> String {
    match value {
        Some(Any::StringValue(text)) => text,
        other => panic!("{other:?} is no text"),
    }
}

fn attributes(all: &[KeyValue]) -> BTreeMap<String, String> {
    let pair = |one: &KeyValue| (one.key.clone(), text(one.value.clone().unwrap().value));
    all.iter().map(pair).collect()
}

fn who(resource: &Option<Resource>) -> BTreeMap<String, String> {
    attributes(&resource.as_ref().unwrap().attributes)
}

/// A receiver, at a port of its own.
struct Receiver {
    at: std::net::SocketAddr,
    asked: mpsc::Receiver<Asked>,
}

impl Receiver {
    async fn start(tls: Option<TlsAcceptor>) -> Self {
        Self::start_at("127.0.0.1:0", tls).await
    }

    async fn start_at(at: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = soon("the port is free", || TcpListener::bind(at)).await;
        let (at, (asks, asked)) = (listener.local_addr().unwrap(), mpsc::channel(1));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let asks = asks.clone();
                match &tls {
                    Some(tls) => {
                        // A client that does not trust us leaves.
                        let Ok(stream) = tls.accept(stream).await else { continue };
                        tokio::spawn(serve(stream, asks));
                    }
                    None => drop(tokio::spawn(serve(stream, asks))),
                }
            }
        });
        Self { at, asked }
    }

    async fn next(&mut self) -> Asked {
        timeout(PATIENCE, self.asked.recv()).await.expect("a request").unwrap()
    }

    fn output(&self, scheme: &str, more: &str) -> String {
        format!("[otlp]\nendpoint = \"{scheme}://{}/in/\"\n{more}", self.at)
    }
}

/// Takes one request after the other, until the client leaves.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, asks: mpsc::Sender<Asked>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if !matches!(stream.read_line(&mut head).await, Ok(1..)) {
                return;
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let mut packed = vec![0; length.parse().unwrap()];
        if stream.read_exact(&mut packed).await.is_err() {
            return;
        }
        assert!(head.contains("\r\ncontent-encoding: gzip\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/x-protobuf\r\n"), "{head}");
        let mut body = Vec::new();
        GzDecoder::new(&*packed).read_to_end(&mut body).unwrap();
        let (answer, answered) = oneshot::channel();
        if asks.send(Asked { head, body, answer }).await.is_err() {
            return;
        }
        let Ok(answer) = answered.await else { return };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn lines_are_log_records_and_a_guest_is_acknowledged_once_the_receiver_has_them() {
    let place = Place::new();
    let (listener, metrics) = (place.guest("web"), place.at("metrics"));
    let mut receiver = Receiver::start(None).await;
    secret_file(&place.at("token"), "hunter2", 0o600);
    let token = format!("token = \"file:{}\"\n", place.at("token").display());
    let prometheus = format!("[[write]]\nprometheus = {{ unix = {metrics:?} }}\n");
    let output = prometheus + &receiver.output("http", &token);
    let _relay = place.relay("", &output);
    let mut guest = accept(&listener).await;
    guest
        .say(r#"{"type":"agent_event","severity":"warn","number":1,"context":{"version":"0.1.0"}}"#)
        .await;
    guest.say(r#"{"type":"keep_alive","sequence_number":1000}"#).await;

    // Whatever is no 2xx: the same comes again, and nothing is acknowledged before it is taken.
    let mut first = None;
    for (status, headers) in
        [("503 Busy", "Retry-After: 1\r\n"), ("401 Who", ""), ("302 There", "Location: /\r\n")]
    {
        let asked = receiver.next().await;
        assert!(asked.head.contains("\r\nauthorization: bearer hunter2\r\n"), "{}", asked.head);
        assert_eq!(first.get_or_insert(asked.body.clone()), &asked.body);
        asked.answer(status, headers, b"<html>");
    }
    // One that hangs up in the middle.
    drop(receiver.next().await.answer);
    let asked = receiver.next().await;
    let answer = timeout(Duration::from_millis(300), guest.line()).await;
    assert!(answer.is_err(), "nothing is acknowledged yet: {answer:?}");
    let logs = asked.logs();
    let [of_web] = &logs.resource_logs[..] else { panic!("{logs:?}") };
    let expected = [
        ("host.id", "lab/web"),
        ("host.name", "web"),
        ("service.name", "infiniservice"),
        ("service.version", "0.1.0"),
        ("site", "lab"),
        ("vm.id", "web"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(who(&of_web.resource), BTreeMap::from(expected));
    let record = &of_web.scope_logs[0].log_records[0];
    assert_eq!((record.severity_number, record.severity_text.as_str()), (13, "warn"));
    assert!(record.time_unix_nano > 1_700_000_000_000_000_000);
    let known = attributes(&record.attributes);
    assert!(known["infiniservice.kind"] == "event" && known["log.record.uid"].len() == 32);
    assert_eq!(asked.lines()[0]["number"], 1);
    asked.take();
    assert_eq!(guest.hear().await.body["sequence_number"], 1000);

    // What is too large together is taken in parts; what is too large alone, or rejected, is counted. While the receiver has
    // not answered, two requests are made ready at most, so that one of these lines is not alone.
    guest.say(r#"{"number":2}"#).await;
    let held = receiver.next().await;
    for number in 3..=10 {
        guest.say(format!(r#"{{"number":{number}}}"#)).await;
    }
    guest.say(r#"{"type":"keep_alive","sequence_number":2000}"#).await;
    place
        .scraped(&[r#"infiniservice_guest_lines_total{site="lab",vm="web",kind="keep_alive"} 2"#])
        .await;
    held.take();
    let (mut settled, mut splits) = (Vec::new(), 0);
    while settled.last() != Some(&10) {
        let asked = receiver.next().await;
        let lines = asked.lines();
        let [line] = &lines[..] else {
            splits += 1;
            asked.answer("413 Too large", "", &[]);
            continue;
        };
        let number = line["number"].as_u64().unwrap();
        settled.push(number);
        match number {
            3 => asked.answer("413 Too large", "", &[]),
            10 => {
                let (rejected_log_records, error_message) = (1, "no".into());
                let partial = ExportLogsPartialSuccess { rejected_log_records, error_message };
                let answer = ExportLogsServiceResponse { partial_success: Some(partial) };
                asked.answer("200 OK", "", &answer.encode_to_vec());
            }
            _ => asked.take(),
        }
    }
    assert_eq!(settled, (3..=10).collect::<Vec<_>>(), "each once, and in order");
    assert!(splits > 0);
    assert_eq!(guest.hear().await.body["sequence_number"], 2000);
    place
        .scraped(&[r#"infiniservice_relay_otlp_rejected_total{site="lab",signal="logs"} 2"#])
        .await;
}

#[tokio::test]
async fn readings_are_metrics_by_the_names_of_the_conventions() {
    let place = Place::new();
    let (listener, metrics) = (place.guest("web"), place.at("metrics"));
    let mut receiver = Receiver::start(None).await;
    let prometheus = format!("[[write]]\nprometheus = {{ unix = {metrics:?} }}\n");
    let _relay = place.relay("", &(prometheus + &receiver.output("http", "")));
    let mut guest = accept(&listener).await;
    guest.say(r#"{"type":"metrics","data":{"system":{"cpu":{"usage_percent":12.5},"memory":{"total_kb":8,"used_kb":2},"disk":{"usage_stats":[{"mount_point":"/","filesystem":"ext4","total_gb":4.0,"used_gb":1.0,"available_gb":2.0}]},"network":{"interfaces":[{"name":"eth0","bytes_received":7,"bytes_sent":1}]},"uptime_seconds":3600,"load_average":{"load_1min":0.5}}}}"#).await;
    let asked = receiver.next().await;
    let message = asked.metrics();
    let [of_web] = &message.resource_metrics[..] else { panic!("{message:?}") };
    assert_eq!(who(&of_web.resource)["host.id"], "lab/web");
    let metrics: BTreeMap<&str, &Metric> =
        of_web.scope_metrics[0].metrics.iter().map(|one| (one.name.as_str(), one)).collect();
    let points = |name: &str| match metrics[name].data.as_ref().unwrap() {
        Data::Gauge(gauge) => (false, gauge.data_points.clone()),
        Data::Sum(sum) => {
            assert_eq!(sum.aggregation_temporality, 2, "cumulative");
            (sum.is_monotonic, sum.data_points.clone())
        }
        other => panic!("{other:?}"),
    };
    for (name, unit, is_counter, labels, expected) in [
        ("system.cpu.utilization", "1", false, &[][..], 0.125),
        ("system.cpu.load_average.1m", "{thread}", false, &[], 0.5),
        ("system.uptime", "s", false, &[], 3600.0),
        ("system.memory.usage", "By", false, &[("system.memory.state", "used")], 2048.0),
        ("system.memory.limit", "By", false, &[], 8192.0),
        (
            "system.filesystem.usage",
            "By",
            false,
            &[
                ("system.filesystem.mountpoint", "/"),
                ("system.filesystem.state", "reserved"),
                ("system.filesystem.type", "ext4"),
            ],
            1_073_741_824.0,
        ),
        (
            "system.network.io",
            "By",
            true,
            &[("network.interface.name", "eth0"), ("network.io.direction", "receive")],
            7.0,
        ),
    ] {
        let labels = labels.iter().map(|(key, value)| (String::from(*key), String::from(*value)));
        let labels = labels.collect::<BTreeMap<_, _>>();
        let (is_monotonic, points) = points(name);
        assert_eq!((metrics[name].unit.as_str(), is_monotonic), (unit, is_counter), "{name}");
        let point = points.iter().find(|point| attributes(&point.attributes) == labels).unwrap();
        assert_eq!(point.value, Some(number_data_point::Value::AsDouble(expected)), "{name}");
        let age = point.time_unix_nano - point.start_time_unix_nano;
        assert_eq!(age == 3_600_000_000_000, is_counter, "{name} begins with the machine");
    }
    let partial = ExportMetricsPartialSuccess { rejected_data_points: 3, ..Default::default() };
    let answer = ExportMetricsServiceResponse { partial_success: Some(partial) };
    asked.answer("200 OK", "", &answer.encode_to_vec());
    guest.say(r#"{"type":"metrics","data":{"system":{"cpu":7}}}"#).await;
    guest.say(r#"{"type":"metrics","data":{"system":{"uptime_seconds":7,"cpu":{"usage_percent":1.0}}}}"#).await;
    receiver.next().await.answer("400 Bad", "", &[]);
    // One data point of the processor, and what is counted goes on.
    let seen = place
        .scraped(&[
            r#"infiniservice_relay_otlp_rejected_total{site="lab",signal="metrics"} 4"#,
            r#"infiniservice_guest_dropped_total{site="lab",vm="web",reason="unreadable"} 2"#,
        ])
        .await;
    assert!(!seen.contains("signal=\"logs\""), "{seen}");
}

// The log is read by calls that block, and the receiver goes on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_receiver_proves_who_it_is() {
    let place = Place::new();
    if !certify(place.0.path()) {
        eprintln!("NOT RUN: openssl is missing");
        return;
    }
    let certificate = CertificateDer::from_pem_file(place.at("leaf.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(place.at("leaf.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let mut receiver = Receiver::start(Some(TlsAcceptor::from(Arc::new(config)))).await;
    let listener = place.guest("web");

    let mut relay = place.relay_with("", &receiver.output("https", ""), Stdio::piped());
    let mut guest = accept(&listener).await;
    guest.say(r#"{"number":1}"#).await;
    let mut log = String::new();
    let mut lines = relay.log();
    while !log.contains("cannot connect to https://127.0.0.1") {
        assert!(std::io::BufRead::read_line(&mut lines, &mut log).unwrap() > 0, "{log}");
    }
    assert!(log.contains("certificate"), "{log}");
    drop((relay, guest));

    let ca = format!("ca = {:?}\n", place.at("ca.pem"));
    let _relay = place.relay("", &receiver.output("https", &ca));
    let mut guest = accept(&listener).await;
    guest.say(r#"{"number":2}"#).await;
    let asked = receiver.next().await;
    assert_eq!(asked.lines()[0]["number"], 2);
    asked.take();
    acknowledged(&mut guest, 1000).await;
}

/// A log record that a receiver has stored.
pub struct Stored {
    pub vm: String,
    /// That of its line.
    pub number: u64,
    pub uid: String,
}

/// A receiver in a process of its own, which stores each request in a file before it answers, and can be killed.
pub struct StoringReceiver {
    at: std::net::SocketAddr,
    file: PathBuf,
    process: Option<Running>,
    /// Bytes of the file that were read, and what they hold.
    read: usize,
    stored: Vec<Stored>,
}

/// Where the process listens, and the file that it stores in.
const STORE_AT: &str = "INFINISERVICE_TEST_OTLP_AT";
const STORE_FILE: &str = "INFINISERVICE_TEST_OTLP_FILE";

/// The process of [`StoringReceiver`]: this test, run alone.
#[tokio::test]
async fn a_receiver_that_stores() {
    let (Ok(at), Ok(file)) = (std::env::var(STORE_AT), std::env::var(STORE_FILE)) else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
    let mut receiver = Receiver::start_at(&at, None).await;
    while let Some(asked) = receiver.asked.recv().await {
        let length = (asked.body.len() as u64).to_be_bytes();
        std::io::Write::write_all(&mut file, &[&length, &*asked.body].concat()).unwrap();
        asked.take();
    }
}

impl StoringReceiver {
    pub fn start(place: &Place) -> Self {
        let [at] = support::prometheus::free();
        let (file, stored) = (place.at("requests"), Vec::new());
        let mut receiver = Self { at, file, process: None, read: 0, stored };
        receiver.again();
        receiver
    }

    pub fn output(&self) -> String {
        format!("[otlp]\nendpoint = \"http://{}/in\"\n", self.at)
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn again(&mut self) {
        // What it was writing when it was killed was not answered.
        self.look();
        let mut file = std::fs::OpenOptions::new();
        file.write(true).create(true).truncate(false);
        file.open(&self.file).unwrap().set_len(self.read as u64).unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "otlp::a_receiver_that_stores"]);
        process.env(STORE_AT, self.at.to_string()).env(STORE_FILE, &self.file);
        process.stdin(Stdio::null()).stdout(Stdio::null());
        self.process = Some(Running(process.spawn().unwrap()));
    }

    /// All that it has stored, as of the last look.
    pub fn stored(&self) -> &[Stored] {
        &self.stored
    }

    /// Waits until what it has stored is enough.
    pub async fn until(&mut self, is_enough: impl Fn(&[Stored]) -> bool) {
        let late = Instant::now() + 4 * PATIENCE;
        loop {
            self.look();
            if is_enough(&self.stored) {
                return;
            }
            assert!(Instant::now() < late, "{} log records are stored", self.stored.len());
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn look(&mut self) {
        let all = std::fs::read(&self.file).unwrap_or_default();
        let mut rest = &all[self.read..];
        // The last one may be on its way.
        while let Some((length, after)) = rest.split_first_chunk::<8>()
            && let Some(body) = after.get(..u64::from_be_bytes(*length) as usize)
        {
            self.keep(&ExportLogsServiceRequest::decode(body).unwrap());
            self.read += 8 + body.len();
            rest = &after[body.len()..];
        }
    }

    fn keep(&mut self, logs: &ExportLogsServiceRequest) {
        for of_vm in &logs.resource_logs {
            let vm = &who(&of_vm.resource)["vm.id"];
            for record in of_vm.scope_logs.iter().flat_map(|scope| &scope.log_records) {
                let line = text(record.body.clone().unwrap().value);
                let line: Value = serde_json::from_str(&line).unwrap();
                // Others are events of the agent.
                let Some(number) = line["number"].as_u64() else { continue };
                let uid = attributes(&record.attributes)["log.record.uid"].clone();
                self.stored.push(Stored { vm: vm.clone(), number, uid });
            }
        }
    }
}
