//! Writes each line as a syslog message, RFC 5424, to a syslog server or the local log socket.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::Deserializer;
use tokio::net::{UdpSocket, UnixDatagram, lookup_host};
use tokio::time::Instant;

use super::blocking::same;
use super::network::Tcp;
use super::tcp::{count_octets, lines};
use super::{Options, PathUse, UsedPath, io_reason};
use crate::files::identity::of_this_machine;
use crate::model::{Frame, Iso8601};
use crate::pipeline::{BoxSink, LogLimit, Sink, StageError};
use crate::values::address::{check_address, check_socket};
use crate::values::value::text;
use crate::values::words::NONE;
use crate::values::{Manual, Problem, Section, key};

pub(super) const MANUAL: Manual = Manual {
    key: key(
        "syslog",
        "table, see below",
        NONE,
        "{ server = \"unix:/dev/log\" }",
        "a syslog server, or the log socket of this machine: each line is a message (RFC 5424)",
        ),
    options: Some(Section {
        header: "`syslog = { … }` in `[write]`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[write.syslog]\n{}",
        keys: &[
            key(
                "server",
                "`unix:PATH`, `tcp:ADDRESS` or `udp:ADDRESS`",
                "\"unix:/dev/log\"",
                "\"udp:logs.example:514\"",
                "where messages go; a datagram (unix, udp) carries at most 65,507 bytes, and a longer line is dropped with a warning",
            ),
            key(
                "facility",
                "`\"user\"`, `\"daemon\"`, `\"local0\"`, `\"local1\"`, `\"local2\"`, `\"local3\"`, `\"local4\"`, `\"local5\"`, `\"local6\"` or `\"local7\"`",
                "\"daemon\"",
                "\"local3\"",
                "the facility of each message",
            ),
            key(
                "severity",
                "`\"emergency\"`, `\"alert\"`, `\"critical\"`, `\"error\"`, `\"warning\"`, `\"notice\"`, `\"info\"` or `\"debug\"`",
                "\"info\"",
                "\"notice\"",
                "the severity of each message",
            ),
            key(
                "app_name",
                "text, at most 48 characters",
                "\"infiniservice\"",
                "\"web\"",
                "the application name of each message",
            ),
        ],
    }),
};

/// Options of `syslog`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogOptions {
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

impl SyslogOptions {
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

impl fmt::Display for SyslogOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "syslog {}", self.server)
    }
}

impl Options for SyslogOptions {
    fn build(&self) -> BoxSink<Frame> {
        let hostname = of_this_machine(None).host;
        let header = Header::new(self.priority(), &hostname, &self.app_name);
        BoxSink::new(Syslog::new(self.server.clone(), header))
    }

    fn path(&self) -> Option<UsedPath<'_>> {
        match &self.server {
            Server::Unix(path) => Some(UsedPath { path, key: None, how: PathUse::Socket }),
            Server::Tcp(_) | Server::Udp(_) => None,
        }
    }
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

/// The most bytes of one message in a datagram: what UDP over IPv4 carries is 65,507 (RFC 768, RFC 791).
pub const MAX_DATAGRAM: usize = 65_507;

/// Where the messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// A stream, each message with its length before it (RFC 6587, 3.4.1).
    Tcp(String),
    /// One datagram for each message (RFC 5426): what is lost on the way is lost.
    Udp(String),
    /// A datagram socket of this machine, such as `/dev/log`.
    Unix(PathBuf),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What stands in the header of each message (RFC 5424, 6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Eight times the facility plus the severity.
    pub priority: u8,
    /// The name of the machine; `-` where it is not known.
    pub hostname: String,
    /// The name of what speaks, at most 48 printable ASCII characters.
    pub app_name: String,
}

impl Header {
    /// A header; of `hostname` what the standard takes: at most 255 printable ASCII characters.
    pub fn new(priority: u8, hostname: &str, app_name: &str) -> Self {
        let graphic = |character: &char| character.is_ascii_graphic();
        let mut hostname: String = hostname.chars().filter(graphic).take(255).collect();
        if hostname.is_empty() {
            hostname.push('-');
        }
        Self { priority, hostname, app_name: app_name.to_owned() }
    }

    /// Writes the message of `line` in the place of what is in `message`.
    fn write(&self, now: &Iso8601, line: &[u8], message: &mut Vec<u8>) {
        let Self { priority, hostname, app_name } = self;
        message.clear();
        let head = format!("<{priority}>1 {} {hostname} {app_name} - - - ", now.as_str());
        message.extend_from_slice(head.as_bytes());
        message.extend_from_slice(line);
    }
}

/// Writes each line of a frame as the text of one message; its time is that of writing.
///
/// A message longer than [`MAX_DATAGRAM`] cannot be sent in a datagram: it is dropped, with a warning. Over TCP any
/// length goes. A frame that failed in the middle is sent again from the first line that was not written.
///
/// # Faults
/// Always from outside: the server cannot be reached.
#[derive(Debug)]
pub struct Syslog {
    server: Server,
    connection: Connection,
    header: Header,
    /// One message, and all of a frame with their lengths; kept between frames.
    message: Vec<u8>,
    counted: Vec<u8>,
    /// The frame that was not written whole, and how many of its lines are written: a datagram must not go twice.
    unfinished: Option<(Bytes, usize)>,
    too_long: LogLimit,
}

#[derive(Debug)]
enum Connection {
    Stream(Tcp),
    /// Taken while a datagram is under way.
    Datagrams(Option<Socket>),
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Syslog {
    /// Writes to `server`.
    pub fn new(server: Server, header: Header) -> Self {
        let connection = match &server {
            Server::Tcp(address) => Connection::Stream(Tcp::new(address)),
            Server::Udp(_) | Server::Unix(_) => Connection::Datagrams(None),
        };
        let (message, counted, unfinished, too_long) = Default::default();
        Self { server, connection, header, message, counted, unfinished, too_long }
    }
}

impl Sink for Syslog {
    type In = Frame;

    fn detail(&self) -> String {
        self.server.to_string()
    }

    async fn write(&mut self, frame: &Frame) -> Result<(), StageError> {
        let Self { server, connection, header, message, counted, unfinished, too_long } = self;
        let now = Iso8601::new(SystemTime::now());
        let socket = match connection {
            Connection::Datagrams(socket) => socket,
            Connection::Stream(tcp) => {
                counted.clear();
                for line in lines(&frame.bytes) {
                    header.write(&now, line, message);
                    count_octets(message, counted);
                }
                return tcp.write(counted).await;
            }
        };
        let done = match unfinished {
            Some((before, done)) if same(before, &frame.bytes) => *done,
            _ => 0,
        };
        for (index, line) in lines(&frame.bytes).enumerate().skip(done) {
            *unfinished = Some((frame.bytes.clone(), index));
            header.write(&now, line, message);
            if message.len() <= MAX_DATAGRAM {
                send(server, socket, message).await.map_err(|error| {
                    let why = io_reason(&error);
                    StageError::outside(format_args!("cannot send to syslog at {server}: {why}"))
                })?;
            } else if too_long.happened(Instant::now()).is_some() {
                let bytes = message.len();
                tracing::warn!(bytes, "a line is too long for a datagram of syslog and is dropped");
            }
        }
        *unfinished = None;
        Ok(())
    }
}

/// Sends one datagram over `socket`, which is made first where there is none.
async fn send(server: &Server, socket: &mut Option<Socket>, message: &[u8]) -> io::Result<()> {
    let mut connected = match socket.take() {
        Some(connected) => connected,
        None => Socket::connect(server).await?,
    };
    connected.send(message).await?;
    *socket = Some(connected);
    Ok(())
}

impl Socket {
    async fn connect(server: &Server) -> io::Result<Self> {
        match server {
            Server::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Self::Unix(socket))
            }
            Server::Udp(address) | Server::Tcp(address) => {
                let missing = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                let peer = lookup_host(address).await?.next().ok_or_else(missing)?;
                let any: SocketAddr = match peer {
                    SocketAddr::V4(_) => ([0_u8; 4], 0).into(),
                    SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
                };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(peer).await?;
                Ok(Self::Udp(socket))
            }
        }
    }

    async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.send(message).await?,
            // A port without a listener is reported at the next message (ICMP); that one is sent once more.
            Self::Udp(socket) => match socket.send(message).await {
                Ok(sent) => sent,
                Err(_) => socket.send(message).await?,
            },
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn frame(text: &str) -> Frame {
        Frame::new(text.to_owned(), 1, Instant::now())
    }

    fn header() -> Header {
        Header::new(30, "vm-1", "infiniservice")
    }

    /// The text of a message after its time.
    fn after_time(message: &[u8]) -> String {
        let text = String::from_utf8(message.to_vec()).unwrap();
        let (head, rest) = text.split_at("<30>1 2026-07-14T10:00:00.250Z".len());
        assert!(head.starts_with("<30>1 20") && head.ends_with('Z'), "{head}");
        rest.to_owned()
    }

    #[tokio::test]
    async fn each_line_is_one_datagram_and_one_that_is_too_long_costs_no_other() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let mut sink = Syslog::new(Server::Udp(address), header());
        let text = format!("{{\"a\":1}}\n{}\nlast\n", "x".repeat(MAX_DATAGRAM));
        sink.write(&frame(&text)).await.unwrap();
        let mut message = vec![0; 1_000];
        for expected in ["{\"a\":1}", "last"] {
            let length = server.recv(&mut message).await.unwrap();
            assert_eq!(
                after_time(&message[..length]),
                format!(" vm-1 infiniservice - - - {expected}")
            );
        }
    }

    #[tokio::test]
    async fn a_frame_that_failed_goes_on_with_the_line_that_was_not_sent() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut sink = Syslog::new(Server::Unix(path.clone()), header());
        let lines = frame("one\ntwo\n");
        sink.unfinished = Some((lines.bytes.clone(), 1));
        sink.write(&lines).await.unwrap();
        drop(server);
        std::fs::remove_file(&path).unwrap();
        let error = sink.write(&lines).await.unwrap_err();
        assert!(error.to_string().contains("cannot send to syslog"), "{error}");
        let server = UnixDatagram::bind(&path).unwrap();
        sink.write(&lines).await.unwrap();
        let mut message = vec![0; 1_000];
        for expected in ["one", "two"] {
            let length = server.recv(&mut message).await.unwrap();
            assert!(after_time(&message[..length]).ends_with(&format!(" - - - {expected}")));
        }
    }

    #[tokio::test]
    async fn over_a_stream_each_message_has_its_length_before_it() {
        use tokio::io::AsyncReadExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut sink = Syslog::new(Server::Tcp(address), header());
        sink.write(&frame("one\ntwo\n")).await.unwrap();
        drop(sink);
        let mut all = Vec::new();
        listener.accept().await.unwrap().0.read_to_end(&mut all).await.unwrap();
        for expected in ["one", "two"] {
            let length = all.iter().position(|byte| *byte == b' ').unwrap();
            let count: usize = std::str::from_utf8(&all[..length]).unwrap().parse().unwrap();
            let rest = all.split_off(length + 1 + count);
            assert!(after_time(&all[length + 1..]).ends_with(&format!(" - - - {expected}")));
            all = rest;
        }
        assert!(all.is_empty());
    }
}
