//! Prometheus' own programs, of Debian's package `prometheus`.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, Running, has, soon, within};

/// Holds what is served to Prometheus against its own checker, where there is one.
pub fn check_metrics(text: &str) {
    if has("promtool") {
        promtool(&["check", "metrics"], text);
    }
}

/// `promtool` with these words and `input`; it must find nothing wrong.
pub fn promtool(words: &[&str], input: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(words);
    let pipes = promtool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = pipes.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = promtool.wait_with_output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{}\n{input}", String::from_utf8_lossy(&said));
}

/// A server that scrapes, killed when dropped.
pub struct Server {
    at: SocketAddr,
    _process: Running,
}

impl Server {
    /// Starts one that listens at `at`, with its files in `folder`.
    pub fn start(folder: &Path, at: SocketAddr, config: &Value) -> Self {
        let file = folder.join("prometheus.yml");
        // JSON is YAML.
        std::fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("series").display()));
        command.arg(format!("--web.listen-address={at}")).arg("--log.level=error");
        Self { at, _process: Running(command.stdin(Stdio::null()).spawn().unwrap()) }
    }

    /// What `expression` gives, as soon as that is something.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        self.query_within(4 * PATIENCE, expression).await
    }

    /// The same where it may take longer.
    pub async fn query_within(&self, limit: Duration, expression: &str) -> Vec<Value> {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02x}"),
        };
        let path =
            format!("/api/v1/query?query={}", expression.bytes().map(byte).collect::<String>());
        within(limit, expression, || async {
            let result = self.ask(&path).await?["data"]["result"].take();
            result.as_array().filter(|series| !series.is_empty()).cloned().ok_or(())
        })
        .await
    }

    /// The answer at `path` of its API.
    pub async fn ask(&self, path: &str) -> Result<Value, ()> {
        serde_json::from_str(&get(self.at, path).await?).map_err(drop)
    }
}

/// What scrapes `target`, in `scrape_configs`.
pub fn scrape(job: &str, target: SocketAddr, labels: Value) -> Value {
    let targets = json!([{ "targets": [target.to_string()], "labels": labels }]);
    json!({ "job_name": job, "static_configs": targets })
}

/// The body of the answer of `at`.
pub async fn get(at: SocketAddr, path: &str) -> Result<String, ()> {
    let mut stream = TcpStream::connect(at).await.map_err(drop)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(drop)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(drop)?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).ok_or(())
}

/// What is served at `at`, once it `has` all it should.
pub async fn served(at: SocketAddr, has: &[&str]) -> String {
    soon(&format!("{at} serves {has:?}"), || async {
        let text = get(at, "/metrics").await?;
        if has.iter().all(|part| text.contains(part)) { Ok(text) } else { Err(()) }
    })
    .await
}

/// Free now, and most likely still when somebody takes them.
pub fn free<const COUNT: usize>() -> [SocketAddr; COUNT] {
    let held = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}
