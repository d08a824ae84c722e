//! A pipeline from a file is the one that code would build: the same picture, the same bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use infiniservice::internals::agent::Ports;
use infiniservice::internals::agent::assemble;
use infiniservice::internals::config::{Loaded, load};
use infiniservice::metrics::batch::{Batcher, Limits};
use infiniservice::metrics::collect::{
    Collector, CpuCollector, DiskCollector, DiskOptions, IntervalSource, LoadCollector,
    MemoryCollector, NetworkCollector, NetworkOptions,
};
use infiniservice::metrics::enrich::{Join, Rates, Tags};
use infiniservice::metrics::latest::{Latest, Remember};
use infiniservice::metrics::serialize::Serialize;
use infiniservice::metrics::synthetic::Generator;
use infiniservice::metrics::{Stages, collect, through};
use infiniservice::model::Group;
use infiniservice::pipeline::topology::Edge;
use infiniservice::pipeline::{Context, ExitStatus, Restart, Ring, StatsRegistry};
use infiniservice::sinks::{File, Rotation};
use infiniservice::wire::Format;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const FILE: &str = r#"
[[collect]]
every = "1s"
from = ["cpu", "memory", "load"]

[[collect]]
every = "30s"
from = ["disk", { network = { exclude = ["lo"] } }]

[[enrich]]
tags = { site = "lab-1" }

[[enrich]]
rates = {}

[batch]
max_items = 8
max_bytes = "64KiB"
max_delay = "2s"

[serialize]
format = "infinibay"

[write]
port = "unix:/run/host.sock"
keep = 16
"#;

fn loaded(folder: &TempDir, name: &str, text: &str) -> Loaded {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    load(&[path], &|_| None).unwrap_or_else(|errors| panic!("{}", errors[0]))
}

#[tokio::test]
async fn a_file_builds_what_code_builds() {
    let folder = TempDir::new().unwrap();
    let (health, stop) = (StatsRegistry::default(), CancellationToken::new());
    let mut ports = Ports::new(None, &health, &stop);
    let from_file =
        assemble(&loaded(&folder, "lab.toml", FILE), &mut ports, &health, &stop).unwrap();
    let file_nodes: Vec<String> = health.counts().into_iter().map(|count| count.node).collect();

    let health = StatsRegistry::default();
    let latest = Latest::default();
    let quick: Vec<Box<dyn Collector>> = vec![
        Box::new(CpuCollector::new()),
        Box::new(MemoryCollector::new()),
        Box::new(LoadCollector::new()),
    ];
    let slow: Vec<Box<dyn Collector>> = vec![
        Box::new(DiskCollector::new(DiskOptions::default())),
        Box::new(NetworkCollector::new(NetworkOptions { exclude: vec!["lo".into()] })),
    ];
    let second = Duration::from_secs(1);
    let needed = [Group::Cpu, Group::Memory, Group::Disk, Group::Network];
    let stages = Stages {
        enrichers: vec![
            Box::new(Remember::new(latest.clone(), health.node("lab/troubles".into()))),
            Box::new(Tags::new([("site".to_owned(), "lab-1".to_owned())].into())),
            Box::new(Rates::default()),
            Box::new(Join::new(&needed, second)),
        ],
        batcher: Batcher::new(Limits { max_items: 8, max_bytes: 64 << 10, max_delay: second * 2 }),
        serialize: Serialize::new(Format::Infinibay),
    };
    let cadences = vec![IntervalSource::new(second, quick), IntervalSource::new(second * 30, slow)];
    let frames = through(collect(&Context::new("lab", &health, &stop), cadences), stages);
    let mut published = frames.publish(&Ring::new(16));
    let _lane = published.subscribe("port", "unix:/run/host.sock".to_owned());
    let graph = published.graph();
    let _port = health.node("port unix:/run/host.sock".into());
    let _keeper = health.node("spool unix:/run/host.sock".into());

    assert_eq!(from_file.topologies, std::slice::from_ref(&graph.topology));
    assert_eq!(from_file.tasks.len(), graph.into_tasks().len());
    let mut code_nodes: Vec<String> = health.counts().into_iter().map(|count| count.node).collect();
    let mut file_nodes = file_nodes;
    code_nodes.sort();
    file_nodes.sort();
    assert_eq!(file_nodes, code_nodes);
    assert!(from_file.topologies[0].edges.iter().any(|(_, edge, _)| *edge == Edge::Ring(16)));
}

/// Takes the same made-up readings through the stages of `text` and into a file.
async fn written(folder: &TempDir, name: &str, text: &str) -> String {
    let loaded = loaded(folder, name, text);
    let stages = infiniservice::internals::agent::stages(&loaded.pipelines[0].file, None);
    into_file(&folder.path().join(format!("{name}.out")), stages).await
}

async fn into_file(path: &Path, stages: Stages) -> String {
    let (health, stop) = (StatsRegistry::default(), CancellationToken::new());
    let groups = [Group::Cpu, Group::Memory, Group::Load, Group::Disk, Group::Network];
    let generator = Generator::new(&groups, 0, 7).take(500);
    let sink = File::new(path, Rotation { max_bytes: 1 << 30, keep: 1 });
    let graph = through(collect(&Context::new("same", &health, &stop), vec![generator]), stages)
        .write(sink, 4);
    let outcome = graph.run(&Restart::default(), &stop, Duration::from_secs(60)).await;
    assert_eq!((outcome.end, outcome.drained), (ExitStatus::Done, true));
    for count in health.counts() {
        let lost = count.not_sent_total();
        assert_eq!(count.received, count.sent + lost + count.buffered, "{count:?}");
    }
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_file_and_code_give_the_same_bytes_however_they_are_batched() {
    let folder = TempDir::new().unwrap();
    let second = Duration::from_secs(1);
    let needed = [Group::Cpu, Group::Memory, Group::Disk, Group::Network];
    let in_code = Stages {
        enrichers: vec![
            Box::new(Tags::new([("site".to_owned(), "lab-1".to_owned())].into())),
            Box::new(Rates::default()),
            Box::new(Join::new(&needed, second)),
        ],
        batcher: Batcher::new(Limits { max_items: 1, max_bytes: 1, max_delay: second }),
        serialize: Serialize::new(Format::Infinibay),
    };
    let path: PathBuf = folder.path().join("code.out");
    let by_code = into_file(&path, in_code).await;
    let by_file = written(&folder, "lab.toml", FILE).await;
    assert_eq!(by_code.lines().count(), 500);
    assert!(by_code == by_file, "the same bytes");
    let json_lines = FILE.replace("\"infinibay\"", "\"json-lines\"");
    let others = written(&folder, "lines.toml", &json_lines).await;
    assert!(others.lines().all(|line| line.contains("\"site\":\"lab-1\"")));
}

/// A server that reads what one client sends, up to `bytes`.
async fn received(listener: tokio::net::TcpListener, bytes: usize) -> String {
    use tokio::io::AsyncReadExt;
    let (mut client, _) = listener.accept().await.unwrap();
    let mut text = vec![0; bytes];
    client.read_exact(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn each_output_of_a_flow_has_a_format_of_its_own() {
    let folder = TempDir::new().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = format!(
        r#"
        [[collect]]
        every = "20ms"
        from = ["memory"]
        [batch]
        max_items = 1
        [[write]]
        file = {{ path = "{}/lines" }}
        format = "json-lines"
        [[write]]
        tcp = {{ address = "{}", framing = "octets" }}
        format = "influx"
        [[write]]
        file = {{ path = "{}/same" }}
        format = "json-lines"
        "#,
        folder.path().display(),
        listener.local_addr().unwrap(),
        folder.path().display(),
    );
    let (health, stop) = (StatsRegistry::default(), CancellationToken::new());
    let mut ports = Ports::new(None, &health, &stop);
    let loaded = loaded(&folder, "both.toml", &text);
    let built = assemble(&loaded, &mut ports, &health, &stop).unwrap();
    let picture = built.topologies[0].to_string();
    let [lines, influx] = ["json-lines\n", "influx\n"].map(|branch| picture.find(branch).unwrap());
    assert!(lines < picture.find("/lines").unwrap() && picture.find("/same").unwrap() < influx);
    assert!(influx < picture.find("tcp").unwrap(), "{picture}");

    let restart = Restart::default();
    let flow = infiniservice::pipeline::run(built.tasks, &restart, &stop, Duration::from_secs(30));
    let (outcome, by_tcp) = tokio::join!(flow, async {
        let text = tokio::time::timeout(Duration::from_secs(60), received(listener, 1_000)).await;
        stop.cancel();
        text.unwrap()
    });
    assert_eq!((outcome.end, outcome.drained), (ExitStatus::Done, true));
    let (length, rest) = by_tcp.split_once(' ').unwrap();
    assert!(rest.starts_with("infiniservice_memory"), "{by_tcp}");
    assert!(
        rest[length.parse::<usize>().unwrap()..].starts_with(|next: char| next.is_ascii_digit())
    );
    let [lines, same] =
        ["lines", "same"].map(|name| std::fs::read_to_string(folder.path().join(name)).unwrap());
    assert!(!lines.is_empty() && lines == same);
    for line in lines.lines() {
        let reading: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(reading["memory"]["total_bytes"].as_u64() > Some(0), "{line}");
    }
}

#[test]
fn the_example_of_logs_is_valid_as_it_is_shipped() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/logs.toml");
    let loaded = load(&[path], &|_| None).unwrap_or_else(|errors| panic!("{}", errors[0]));
    assert_eq!((loaded.records.len(), loaded.warnings.len()), (1, 0), "{:?}", loaded.warnings);
}
