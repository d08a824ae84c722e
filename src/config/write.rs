//! The `[write]` section: one target, and how many frames are kept while it is not read.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::Deserializer;

use super::table::some_table;
use super::units::{Count, Size};
use super::value::{Problem, Raw, text};
use crate::sinks::{Framing, Listen, Server};
use crate::wire::Format;

/// One `[write]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where frames go.
    pub target: Target,
    /// The format of what is written here; `None` is that of `[serialize]`.
    pub format: Option<Format>,
    /// The newest frames that are kept while the port is not read; for other targets, the frames that may wait
    /// (of records at most [`FRAMES_WAITING`](crate::records::FRAMES_WAITING)).
    pub keep: Count,
    /// The delivery guarantee of a frame.
    pub delivery: Delivery,
}

/// The delivery guarantee of a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// Best effort: the oldest frames are overwritten and counted, and the host gets the count.
    #[default]
    Latest,
    /// Each is kept, on disk, until a host is known to have read it.
    Durable,
}

impl Write {
    /// The default of `keep`.
    pub const KEEP: u32 = 64;
}

/// Where frames go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A virtio-serial port by name, a device by path, `unix:PATH`, `vsock:CID:PORT`, or `stdio`.
    Port(String),
    /// A file that is rotated by size.
    File(FileTarget),
    /// A Unix socket, connected to.
    Unix(PathBuf),
    /// A TCP server.
    Tcp(TcpTarget),
    /// A syslog server, or the log socket of this machine.
    Syslog(SyslogTarget),
    /// Served to Prometheus.
    Prometheus(Listen),
    /// Standard output.
    Stdout,
    /// Nowhere; counted all the same.
    Null,
}

/// `file = { path = … }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileTarget {
    /// The file.
    #[serde(deserialize_with = "file_path")]
    pub path: PathBuf,
    /// A new file is begun before the old one would grow past this.
    #[serde(default = "sixteen_mib")]
    pub max_size: Size,
    /// How many full files are kept beside the one that grows.
    #[serde(default = "three")]
    pub keep: Count,
}

impl FileTarget {
    /// The file at `path`, with the defaults of the rest: 16 MiB, and three kept beside it.
    pub fn new(path: PathBuf) -> Self {
        Self { path, max_size: sixteen_mib(), keep: three() }
    }
}

/// `tcp = { address = … }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpTarget {
    /// The server, as a name or an IP address with a port.
    #[serde(deserialize_with = "address")]
    pub address: String,
    /// How lines are delimited.
    #[serde(default)]
    pub framing: Framing,
}

/// `syslog = { server = … }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogTarget {
    /// Where the messages go.
    #[serde(default = "log_socket", deserialize_with = "syslog_server")]
    pub server: Server,
    /// What kind of program speaks.
    #[serde(default)]
    pub facility: Facility,
    /// How grave each message is.
    #[serde(default)]
    pub severity: Severity,
    /// The name of what speaks.
    #[serde(default = "own_name", deserialize_with = "app_name")]
    pub app_name: String,
}

impl SyslogTarget {
    /// The number in front of each message.
    pub fn priority(&self) -> u8 {
        self.facility as u8 * 8 + self.severity as u8
    }
}

/// The facilities of RFC 5424, table 1, that a program may choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the words of the standard
pub enum Facility {
    User = 1,
    #[default]
    Daemon = 3,
    Local0 = 16,
    Local1,
    Local2,
    Local3,
    Local4,
    Local5,
    Local6,
    Local7,
}

/// The severities of RFC 5424, table 2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the words of the standard
pub enum Severity {
    Emergency,
    Alert,
    Critical,
    Error,
    Warning,
    Notice,
    #[default]
    Info,
    Debug,
}

impl<'de> Deserialize<'de> for Write {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Section::deserialize(deserializer)?.into_write().map_err(Problem::pack)
    }
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    port: Option<PortName>,
    #[serde(default, deserialize_with = "some_table")]
    file: Option<FileTarget>,
    unix: Option<SocketPath>,
    #[serde(default, deserialize_with = "some_table")]
    tcp: Option<TcpTarget>,
    #[serde(default, deserialize_with = "some_table")]
    syslog: Option<SyslogTarget>,
    #[serde(default, deserialize_with = "some_table")]
    prometheus: Option<PrometheusTarget>,
    stdout: Option<On>,
    null: Option<On>,
    format: Option<Format>,
    keep: Option<Count>,
    delivery: Option<Delivery>,
}

impl Section {
    fn into_write(self) -> Result<Write, Problem> {
        let targets = [
            ("port", self.port.map(|name| Target::Port(name.0))),
            ("file", self.file.map(Target::File)),
            ("unix", self.unix.map(|path| Target::Unix(path.0))),
            ("tcp", self.tcp.map(Target::Tcp)),
            ("syslog", self.syslog.map(Target::Syslog)),
            (
                "prometheus",
                self.prometheus.map(PrometheusTarget::listen).transpose()?.map(Target::Prometheus),
            ),
            ("stdout", self.stdout.map(|_| Target::Stdout)),
            ("null", self.null.map(|_| Target::Null)),
        ];
        let mut named = targets.into_iter().filter_map(|(name, target)| Some((name, target?)));
        match (named.next(), named.next()) {
            (Some((_, target)), None) => {
                let delivery = self.delivery.unwrap_or_default();
                if delivery == Delivery::Durable && !matches!(target, Target::Port(_)) {
                    return Err(Problem::new(
                        "has delivery = \"durable\", and only at a port does a host acknowledge",
                        "leave delivery out: any other output gets every frame anyway",
                    ));
                }
                let keep = self.keep.unwrap_or(Count::fixed(Write::KEEP));
                let format = match (&target, self.format) {
                    (Target::Prometheus(_), Some(_)) => {
                        return Err(Problem::new(
                            "has a format, and what Prometheus reads has one only",
                            "leave format out",
                        ));
                    }
                    (Target::Prometheus(_), None) => Some(Format::Prometheus),
                    (_, format) => format,
                };
                Ok(Write { target, format, keep, delivery })
            }
            (Some((first, _)), Some((second, _))) => Err(Problem::new(
                format!("names two targets, {first} and {second}"),
                "keep one of them, and give the other a [[write]] section of its own",
            )),
            _ => Err(Problem::new("names no target", ONE_TARGET)),
        }
    }
}

/// What `[write]` may name.
pub(super) const ONE_TARGET: &str = "give it one of port = \"org.infinibay.agent\", \
     file = { path = \"/var/log/metrics.jsonl\" }, unix = \"/run/metrics.sock\", \
     tcp = { address = \"metrics.example:5170\" }, syslog = { server = \"unix:/dev/log\" }, prometheus = { address = \"127.0.0.1:9464\" }, stdout = true or null = true";

/// `prometheus = { address = … }` or `{ unix = … }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrometheusTarget {
    #[serde(default, deserialize_with = "loopback")]
    address: Option<SocketAddr>,
    unix: Option<SocketPath>,
}

impl PrometheusTarget {
    fn listen(self) -> Result<Listen, Problem> {
        match (self.address, self.unix) {
            (Some(address), None) => Ok(Listen::Address(address)),
            (None, Some(path)) => Ok(Listen::Unix(path.0)),
            _ => Err(Problem::new(
                "does not say where it is served",
                "give it one of address = \"127.0.0.1:9464\" and unix = \"/run/infiniservice/metrics.sock\"",
            )),
        }
    }
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

/// A target without options: `true` or an empty table.
struct On;

impl<'de> Deserialize<'de> for On {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let problem = match Raw::deserialize(deserializer)? {
            Raw::Bool(true) | Raw::Table { keys: 0 } => return Ok(Self),
            Raw::Bool(false) => Problem::new("is not a target", "leave the line out instead"),
            Raw::Table { .. } => {
                Problem::new("has options, and there are none", "write true instead")
            }
            _ => Problem::new("is not true or an empty table", "write true instead"),
        };
        Err(problem.pack())
    }
}

struct PortName(String);

impl<'de> Deserialize<'de> for PortName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        port_name(deserializer).map(Self)
    }
}

/// The name of a port.
pub(super) fn port_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = text(deserializer)?;
    if let Some(path) = name.strip_prefix("unix:") {
        check_socket(path).map_err(Problem::pack)?;
    }
    Ok(name)
}

struct SocketPath(PathBuf);

impl<'de> Deserialize<'de> for SocketPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = text(deserializer)?;
        check_socket(&path).map_err(Problem::pack)?;
        Ok(Self(path.into()))
    }
}

/// `sun_path` of unix(7) has 108 bytes, the last of them a NUL.
fn check_socket(path: &str) -> Result<(), Problem> {
    match path.len() {
        0 => {
            Err(Problem::new("names no socket", "write its path, as in \"unix:/run/metrics.sock\""))
        }
        1..=107 => Ok(()),
        _ => Err(Problem::new("is too long for a socket", "the kernel takes 107 bytes at most")),
    }
}

/// A name or an IP address with a port; an IPv6 address stands in brackets.
pub(super) fn check_address(address: &str) -> Result<(), Problem> {
    let help = "write name:port, as in \"metrics.example:5170\" or \"[2001:db8::1]:5170\"";
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err(Problem::new("names no port", help));
    };
    let is_bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || is_bare_v6 || host.contains(char::is_whitespace) {
        return Err(Problem::new("is not a name or an IP address with a port", help));
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(Problem::new("has no port from 1 to 65535 after the colon", help)),
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let address = text(deserializer)?;
    check_address(&address).map_err(Problem::pack)?;
    Ok(address)
}

fn syslog_server<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Server, D::Error> {
    let server = text(deserializer)?;
    let parsed = match server.split_once(':') {
        Some(("unix", path)) => check_socket(path).map(|()| Server::Unix(path.into())),
        Some(("tcp", address)) => check_address(address).map(|()| Server::Tcp(address.into())),
        Some(("udp", address)) => check_address(address).map(|()| Server::Udp(address.into())),
        _ => Err(Problem::new(
            "is not unix:PATH, tcp:ADDRESS or udp:ADDRESS",
            "write one of them, as in \"udp:logs.example:514\"",
        )),
    };
    parsed.map_err(Problem::pack)
}

/// RFC 5424, 6.2.5: at most 48 printable ASCII characters.
fn app_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = text(deserializer)?;
    if (1..=48).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(name);
    }
    let help = "take 1 to 48 printable ASCII characters without spaces";
    Err(Problem::new("is not a name that syslog takes", help).pack())
}

fn log_socket() -> Server {
    Server::Unix("/dev/log".into())
}

fn own_name() -> String {
    "infiniservice".into()
}

fn file_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = text(deserializer)?;
    if path.ends_with('/') {
        let help = "add a file name, as in \"/var/log/metrics.jsonl\"";
        return Err(Problem::new("is a folder, not a file", help).pack());
    }
    Ok(path.into())
}

fn sixteen_mib() -> Size {
    Size::kib(16 * 1024)
}

fn three() -> Count {
    Count::fixed(3)
}
