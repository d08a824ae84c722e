//! The guest's end of the socket, word by word.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use infiniservice::host::Secret;
use infiniservice::host::Settings;
use infiniservice::wire::envelope;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

pub const SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
const PATIENCE: Duration = Duration::from_secs(60);

pub fn settings() -> Settings {
    Settings { secret: Secret::new(SECRET.into()), keep_alive: None }
}

/// A socket in QEMU's place.
pub struct Socket {
    pub dir: TempDir,
    listener: UnixListener,
}

impl Socket {
    pub fn bind() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("vm.sock")).unwrap();
        Self { dir, listener }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("vm.sock")
    }

    pub async fn accept(&self) -> Peer {
        Peer::over(self.stream().await)
    }

    pub async fn stream(&self) -> UnixStream {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        accepted.expect("the host connects").unwrap().0
    }
}

/// A guest that says and hears whole lines.
pub struct Peer {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// What the host sent.
#[derive(Debug)]
pub struct Heard {
    /// When it was signed, in milliseconds since 1970.
    pub ts: i64,
    /// The payload as text and as a value.
    pub text: String,
    pub body: Value,
}

impl Peer {
    pub fn over(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer }
    }

    /// The next line that is not blank, which must be signed with the secret.
    pub async fn hear(&mut self) -> Heard {
        let line = loop {
            let line = self.line().await.expect("the host says something");
            if !line.is_empty() {
                break line;
            }
        };
        let signed: Value = serde_json::from_str(&line).unwrap();
        let ts = signed["ts"].as_i64().expect("a signed envelope");
        // Whether it is the time it should be is for the test to say.
        let opened = envelope::open(SECRET.as_bytes(), line.as_bytes(), ts).ok();
        let text = opened.expect("signed with the secret").payload;
        let body = serde_json::from_str(&text).unwrap_or_default();
        Heard { ts, text, body }
    }

    /// The next line as it came; none when the host has left.
    pub async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.reader.read_line(&mut line)).await;
        read.expect("a line or the end").unwrap();
        line.pop().map(|_| line)
    }

    pub async fn say(&mut self, line: impl AsRef<str>) {
        self.bytes(format!("{}\n", line.as_ref()).as_bytes()).await;
    }

    pub async fn bytes(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
    }

    /// Says bytes that the host may not take to the end.
    pub async fn try_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.writer.write_all(bytes).await
    }

    /// Answers the command that was heard, with `more` fields.
    pub async fn answer(&mut self, heard: &Heard, more: &str) {
        let id = heard.body["id"].as_str().expect("a command");
        self.say(format!(r#"{{"type":"response","id":"{id}",{more}}}"#)).await;
    }

    /// Everything until the host has left.
    pub async fn rest(mut self) -> String {
        let mut rest = String::new();
        let read = tokio::time::timeout(PATIENCE, self.reader.read_to_string(&mut rest)).await;
        read.expect("the host leaves").unwrap();
        rest
    }
}

/// Runs `infiniservice-host SOCKET ARGUMENTS…` to its end, with the secret in the environment.
pub async fn host(socket: &Path, arguments: &[&str], input: &str) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice-host"));
    command.arg(socket).args(arguments).env("INFINISERVICE_SHARED_SECRET", SECRET);
    run(command, input).await
}

/// Runs a command to its end.
pub async fn run(mut command: Command, input: &str) -> Done {
    let input = input.to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        // A command that has ended already does not read.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
        child.wait_with_output().unwrap()
    });
    let output = tokio::time::timeout(PATIENCE, ran).await.expect("it ends").unwrap();
    Done::from(output)
}

/// What a command came to.
#[derive(Debug, PartialEq)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
