//! Serves the newest reading to Prometheus: a listener at a loopback address or a Unix socket that answers `GET /metrics`
//! (HTTP/1.0, one request for each connection). Knows nothing of metrics but where a reading ends.
//!
//! # Bounds
//! 8 connections at once, the next one waits; 4 KiB and 5 s for a request, 5 s for the answer, 1 MiB for a reading.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde::de::Deserializer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{Options, PathUse, Backlog, UsedPath, io_reason};
use crate::model::Frame;
use crate::pipeline::{BoxSink, Sink, StageError};
use crate::tasks::spawn;
use crate::values::address::SocketPath;
use crate::values::value::text;
use crate::values::words::NONE;
use crate::values::{Manual, Problem, Section, key};
use crate::wire::{Format, MAX_LINE, PROMETHEUS_END};

pub(super) const MANUAL: Manual = Manual {
    key: key(
        "prometheus",
        "table, see below",
        NONE,
        "{ address = \"127.0.0.1:9464\" }",
        "served to Prometheus at `/metrics`: the newest values of `cpu`, `load`, `memory`, `disk`, `network`, `pressure` and `agent`",
        ),
    options: Some(Section {
        header: "`prometheus = { … }` in `[write]`",
        about: "One of the two. Names are those of OpenTelemetry's semantic conventions; HTTP/1.0, eight connections at once.",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[write]\nprometheus.{}",
        keys: &[
            key(
                "address",
                "loopback IP address, with a port",
                NONE,
                "\"127.0.0.1:9464\"",
                "an address that only programs of this machine reach",
            ),
            key(
                "unix",
                "path, at most 107 bytes",
                NONE,
                "\"/run/infiniservice/metrics.sock\"",
                "a Unix socket, made with mode 0660",
            ),
        ],
    }),
};

/// Options of `prometheus`: where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusOptions(pub Listen);

impl<'de> Deserialize<'de> for PrometheusOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = PrometheusKeys::deserialize(deserializer)?;
        match (keys.address, keys.unix) {
            (Some(address), None) => Ok(Self(Listen::Address(address))),
            (None, Some(path)) => Ok(Self(Listen::Unix(path.0))),
            _ => Err(Problem::new(
                "does not say where it is served",
                "give it one of address = \"127.0.0.1:9464\" and unix = \"/run/infiniservice/metrics.sock\"",
            )
            .pack()),
        }
    }
}

impl fmt::Display for PrometheusOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prometheus at {}", self.0)
    }
}

impl Options for PrometheusOptions {
    fn build(&self) -> BoxSink<Frame> {
        BoxSink::new(Prometheus::new(self.0.clone()))
    }

    fn path(&self) -> Option<UsedPath<'_>> {
        match &self.0 {
            Listen::Unix(path) => Some(UsedPath { path, key: None, how: PathUse::Socket }),
            Listen::Address(_) => None,
        }
    }

    fn format(&self) -> Option<Format> {
        Some(Format::Prometheus)
    }

    fn backlog(&self) -> Backlog {
        Backlog::Newest
    }
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrometheusKeys {
    #[serde(default, deserialize_with = "loopback")]
    address: Option<SocketAddr>,
    unix: Option<SocketPath>,
}

/// An address that only programs of this machine reach.
fn loopback<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let help = "write one of this machine, as in \"127.0.0.1:9464\" or \"[::1]:9464\": what is served is not encrypted, and \
                anybody who reaches it reads it";
    match text(deserializer)?.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() && address.port() > 0 => Ok(Some(address)),
        Ok(_) => Err(Problem::new("is not a loopback address with a port", help).pack()),
        Err(_) => Err(Problem::new("is not an IP address with a port", help).pack()),
    }
}

/// Connections at once.
const CONNECTIONS_MAX: usize = 8;
/// The longest request head.
const REQUEST_BYTES_MAX: usize = 4096;
/// How long a request may take, and its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a connection could not be taken: out of descriptors, at once it would fail again.
const REST: Duration = Duration::from_secs(1);

/// Where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A Unix socket, made with mode 0660; one without a listener is replaced.
    Unix(PathBuf),
    /// A loopback address.
    Address(SocketAddr),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Listens from the first reading on, and answers with the newest one.
///
/// # Faults
/// From outside: the place cannot be listened at.
#[derive(Debug)]
pub struct Prometheus {
    at: Listen,
    newest: watch::Sender<Bytes>,
    /// A reading whose end has not come yet.
    unfinished: Vec<u8>,
    server: Option<Server>,
}

impl Prometheus {
    /// Serves at `at`.
    pub fn new(at: Listen) -> Self {
        let newest = watch::Sender::new(Bytes::new());
        Self { at, newest, unfinished: Vec::new(), server: None }
    }

    /// Keeps the last whole reading of `bytes`, which may begin in the middle of one.
    fn take(&mut self, bytes: &[u8]) {
        self.unfinished.extend_from_slice(bytes);
        let end = PROMETHEUS_END.as_bytes();
        let Some(last) = memchr::memmem::rfind(&self.unfinished, end) else {
            // Its end was lost: what comes next begins anew.
            if self.unfinished.len() > MAX_LINE {
                self.unfinished = Vec::new();
            }
            return;
        };
        let rest = self.unfinished.split_off(last + end.len());
        let whole = std::mem::replace(&mut self.unfinished, rest);
        let start =
            memchr::memmem::rfind(&whole[..last], end).map_or(0, |before| before + end.len());
        self.newest.send_replace(Bytes::copy_from_slice(&whole[start..]));
    }

    async fn listen(&mut self) -> io::Result<()> {
        if self.server.as_ref().is_some_and(|server| !server.task.is_finished()) {
            return Ok(());
        }
        let newest = self.newest.subscribe();
        let body = move || std::future::ready(newest.borrow().clone()).boxed();
        self.server = Some(Server::start(self.at.clone(), Arc::new(body)).await?);
        Ok(())
    }
}

/// Makes what a scrape gets.
pub(crate) type Body = Arc<dyn Fn() -> BoxFuture<'static, Bytes> + Send + Sync>;

/// A listener that answers scrapes, until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    at: Listen,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens at `at`, and answers each scrape with a `body` of its own.
    pub(crate) async fn start(at: Listen, body: Body) -> io::Result<Self> {
        let listener = match &at {
            Listen::Address(address) => Listener::Tcp(TcpListener::bind(address).await?),
            Listen::Unix(path) => Listener::Unix(bind(path).await?),
        };
        Ok(Self { at, task: spawn(serve(body, listener)) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        if let Listen::Unix(path) = &self.at {
            let _ = std::fs::remove_file(path); // it is stale then, and the next one takes its place
        }
    }
}

impl Sink for Prometheus {
    type In = Frame;

    fn detail(&self) -> String {
        match &self.at {
            Listen::Unix(path) => path.display().to_string(),
            Listen::Address(address) => address.to_string(),
        }
    }

    async fn write(&mut self, frame: &Frame) -> Result<(), StageError> {
        self.listen().await.map_err(|error| {
            StageError::outside(format_args!("cannot listen at {}: {}", self.detail(), io_reason(&error)))
        })?;
        self.take(&frame.bytes);
        Ok(())
    }
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
type Client = Box<dyn Stream>;

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Client> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Makes the socket, replacing one without a listener.
async fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let refused = UnixStream::connect(path).await.map_err(|error| error.kind());
            if refused.err() != Some(io::ErrorKind::ConnectionRefused) {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        listener => listener?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

async fn serve(body: Body, listener: Listener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(client) => {
                let body = Arc::clone(&body);
                spawn(async move {
                    // A client that has gone needs no answer.
                    let _ = answer(client, &body).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a scrape could not be taken");
                sleep(REST).await;
            }
        }
    }
}

/// Reads a request to the blank line, and answers.
async fn answer(mut client: Client, body: &Body) -> io::Result<()> {
    let mut head = Vec::with_capacity(512);
    let read = async {
        let mut piece = [0; 1024];
        while !is_whole(&head) && head.len() < REQUEST_BYTES_MAX {
            match client.read(&mut piece).await? {
                0 => break,
                count => head.extend_from_slice(&piece[..count]),
            }
        }
        io::Result::Ok(())
    };
    timeout(PATIENCE, read).await??;
    let (status, body) = match (is_whole(&head), request(&head)) {
        (true, Some(("GET" | "HEAD", "/metrics"))) => ("200 OK", body().await),
        (true, Some(("GET" | "HEAD", _))) => {
            ("404 Not Found", Bytes::from_static(b"metrics are at /metrics\n"))
        }
        (true, Some(_)) => {
            ("405 Method Not Allowed", Bytes::from_static(b"only GET is answered\n"))
        }
        _ => ("400 Bad Request", Bytes::from_static(b"this is no request\n")),
    };
    let is_head = head.starts_with(b"HEAD ");
    let answer = format!(
        "HTTP/1.0 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    let write = async {
        client.write_all(answer.as_bytes()).await?;
        if !is_head {
            client.write_all(&body).await?;
        }
        client.shutdown().await
    };
    timeout(PATIENCE, write).await?
}

fn is_whole(head: &[u8]) -> bool {
    memchr::memmem::find(head, b"\r\n\r\n").is_some()
        || memchr::memmem::find(head, b"\n\n").is_some()
}

/// The method and the path, without its query.
fn request(head: &[u8]) -> Option<(&str, &str)> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\n').next()?).ok()?;
    let mut words = line.split_ascii_whitespace();
    let (method, path, version) = (words.next()?, words.next()?, words.next()?);
    let path = path.split('?').next().unwrap_or(path);
    version.starts_with("HTTP/").then_some((method, path))
}
