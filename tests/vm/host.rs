//! The host's end of the agent's port: a client of the socket that QEMU listens on.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use infiniservice::host::{connection_number, payload};
use infiniservice::wire::envelope;
use serde_json::{Value, json};

use super::shape;
use super::talk::SECRET;
use super::wait::{Lines, NoLine};

/// How long the next line of a running flow may take.
const NEXT: Duration = Duration::from_secs(20);

/// How the lines begin that are said to a host unasked, for the first time or again.
const UNASKED: [&[u8]; 4] = [
    b"{\"type\":\"agent_event\"",
    b"{\"redelivered\":true,\"type\":\"agent_event\"",
    b"{\"type\":\"request_pending_scripts\"",
    b"{\"type\":\"circuit_breaker_state\"",
];

/// A connected host. Dropping it closes the connection at once, whatever has not been read.
#[derive(Debug)]
pub struct Host {
    lines: Lines,
    /// What it has signed.
    sent: u32,
    /// Keep-alives that were passed over, and are not answered.
    passed: Vec<Value>,
    /// Its number, which its answers have.
    connection: Option<u64>,
}

impl Host {
    pub fn connect(socket: &Path) -> Self {
        Self::over(UnixStream::connect(socket).expect("QEMU listens on the port's socket"))
    }

    /// The host's end of a connection that is already there.
    pub fn over(stream: UnixStream) -> Self {
        let connection = connection_number().ok();
        Self { lines: Lines::new(stream), sent: 0, passed: Vec::new(), connection }
    }

    /// The next line, the bare ones included; none within `limit`.
    pub fn line(&mut self, limit: Duration) -> Option<Vec<u8>> {
        match self.lines.next(Instant::now() + limit) {
            Ok(line) => Some(line),
            Err(NoLine::Late) => None,
            Err(NoLine::Closed) => panic!("QEMU closed the port's socket"),
        }
    }

    /// The next metrics line within `limit`, held to the wire's shape. An agent that takes commands
    /// greets first, and tells what happens to it; those lines are passed over. Keep-alives are answered.
    ///
    /// # Panics
    /// Where there is none, or it is not whole, or not of that shape.
    pub fn metrics(&mut self, limit: Duration) -> Value {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.line(left).unwrap_or_else(|| {
                panic!("no metrics line within {limit:?}, {} bytes of one", self.lines.rest().len())
            });
            if line.starts_with(b"{\"type\":\"keep_alive\"") {
                self.answers(&serde_json::from_slice(&line).expect("whole lines"));
            } else if !line.is_empty() && !UNASKED.iter().any(|kind| line.starts_with(kind)) {
                return shape::metrics(&line);
            }
        }
    }

    /// The next `count` metrics lines.
    pub fn take(&mut self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.metrics(NEXT)).collect()
    }

    /// The next line that `wanted` accepts; the ones before it are gone.
    ///
    /// # Panics
    /// Where it does not come within `limit`.
    #[track_caller]
    pub fn until(&mut self, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Some(line) = self.line(left) else { panic!("it does not come in {limit:?}") };
            match serde_json::from_slice(&line) {
                Ok(value) if wanted(&value) => return value,
                Ok(value) if value["type"] == "keep_alive" => self.passed.push(value),
                _ => {}
            }
        }
    }

    /// Signs a payload and says it; gives the line.
    pub fn says(&mut self, payload: &str) -> String {
        self.sent += 1;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let nonce = format!("{}-{}", now.as_nanos(), self.sent);
        let stamp = i64::try_from(now.as_millis()).expect("a time of this century");
        let line = envelope::seal(SECRET.as_bytes(), stamp, &nonce, payload);
        self.repeats(&line);
        line
    }

    /// Says a line as it is.
    pub fn repeats(&mut self, line: &str) {
        writeln!(self.lines.stream, "{line}").expect("the port stays");
    }

    /// Asks for something quick; `id` is the answer's, too.
    pub fn asks(&mut self, id: &str) {
        let action = json!({ "action": "OsInfo" });
        self.says(&payload::safe_command(id, &action, NEXT));
    }

    /// Answers the keep-alives up to the next one, which today's host does with each: everything before it was read.
    pub fn acknowledges(&mut self) {
        let asked = self.until(NEXT, |line| line["type"] == "keep_alive");
        for asked in std::mem::take(&mut self.passed).into_iter().chain([asked]) {
            self.answers(&asked);
        }
    }

    /// Answers this keep-alive.
    pub fn answers(&mut self, asked: &Value) {
        let number = asked["sequence_number"].as_u64().expect("a keep-alive has a number");
        let now = "2026-01-01T00:00:00.000Z";
        self.says(&payload::keep_alive_response(number, now, self.connection));
    }

    /// Reads until the present, that is until two whole metrics lines came after a wait; gives the lines
    /// that were not whole.
    pub fn cut_lines(&mut self, limit: Duration) -> Vec<String> {
        let (mut cut, mut waited) = (Vec::new(), 0);
        while waited < 2 {
            let line = match self.line(Duration::from_millis(20)) {
                Some(line) => line,
                None => {
                    waited += 1;
                    self.line(limit).expect("the flow goes on")
                }
            };
            if !line.is_empty() && serde_json::from_slice::<Value>(&line).is_err() {
                cut.push(String::from_utf8_lossy(&line).into_owned());
            }
        }
        cut
    }

    /// Reads on until the agent `has_ended` and nothing more comes; gives the beginnings of what was not whole.
    ///
    /// # Panics
    /// Where it has not ended within `limit`.
    pub fn cut_at_the_end(
        &mut self,
        limit: Duration,
        mut has_ended: impl FnMut() -> bool,
    ) -> Vec<String> {
        let (until, mut cut) = (Instant::now() + limit, Vec::new());
        let mut look = |line: &[u8]| {
            if !line.is_empty() && serde_json::from_slice::<Value>(line).is_err() {
                cut.push(String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned());
            }
        };
        loop {
            let is_last = has_ended();
            while let Some(line) = self.line(Duration::from_millis(100)) {
                look(&line);
            }
            if is_last {
                break;
            }
            assert!(Instant::now() < until, "the agent does not end within {limit:?}");
        }
        look(self.lines.rest());
        cut
    }

    /// Sends `bytes` from a thread of its own, which ends when they are taken or the port is.
    pub fn send(&self, bytes: Vec<u8>) {
        let mut stream = self.lines.stream.try_clone().expect("a socket can be shared");
        // The guest may end first; then nobody takes the rest.
        std::thread::spawn(move || drop(stream.write_all(&bytes)));
    }

    /// Reads a little of the next line, then leaves.
    pub fn leave_in_mid_line(mut self) {
        while self.lines.rest().is_empty() {
            self.lines.fill(100, Instant::now() + NEXT).expect("the flow goes on");
            while self.lines.rest().contains(&b'\n') {
                self.lines.next(Instant::now()).expect("there is a whole line");
            }
        }
    }
}

/// Whether a line is the answer to `id`.
pub fn is_answer(id: &str) -> impl Fn(&Value) -> bool {
    move |line| line["type"] == "response" && line["id"] == id
}

/// Whether a line opens a session.
pub fn is_session(line: &Value) -> bool {
    line["type"] == "agent_event" && line["context"]["session"].is_u64()
}
