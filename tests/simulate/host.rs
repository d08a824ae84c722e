//! A simulated host: takes what comes, cuts it into lines, answers as today's host does or as badly as it is
//! told, and signs what it asks. Does not judge what it gets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use infiniservice::host::Shell;
use infiniservice::host::payload::{self, RawCommand, Script, pending_scripts, unsafe_command};
use infiniservice::model::Rng;
use infiniservice::wire::envelope::seal;
use tokio::time::Instant;

use super::agent::KEY;
use super::clock;
use super::known::{Id, Line, Shared};
use super::line::HostEnd;
use super::machine::Behaviour;

/// Scripts that are handed out at once, and how long a command may take.
const TIMEOUT_SECS: u64 = 10;

/// How often today's host asks for a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// How far a stamp may be from the agent's clock, in milliseconds.
const STALE_MS: u64 = infiniservice::wire::envelope::WINDOW_MS;

/// The host, one after the other.
pub struct Host {
    /// Its end of the port.
    pub end: HostEnd,
    /// How late it answers; never where there is no time.
    pub answers: Option<u64>,
    known: Shared,
    reads: bool,
    offset: u64,
    line: Vec<u8>,
    /// Answers, and the barrier that each of them is for.
    due: VecDeque<(Instant, String, Option<u64>)>,
    /// By how much it takes the guest's clock to be ahead.
    stepped: i64,
    nonce: u64,
    number: u64,
    chance: Rng,
    /// All lines that ask for scripts.
    pushed: Vec<String>,
    /// The commands, as they were sent and as they were meant.
    sent: Vec<(String, Behaviour)>,
    handed_out: Vec<Behaviour>,
    /// A command that is half said.
    begun: Option<(String, Behaviour, Option<u64>)>,
    /// When the last host left.
    left: Option<Instant>,
    /// When a quiet one asks for a sign of life next.
    asks_at: Option<Instant>,
    /// The number of its connection; today's host has none.
    connection: Option<u64>,
}

impl Host {
    /// Nobody is there yet.
    pub fn new(end: HostEnd, known: &Shared, seed: u64, is_quiet: bool) -> Self {
        Self {
            end,
            answers: Some(1),
            known: Arc::clone(known),
            reads: true,
            offset: 0,
            line: Vec::new(),
            due: VecDeque::new(),
            stepped: 0,
            nonce: 0,
            number: 10_000_000,
            chance: Rng(seed),
            pushed: Vec::new(),
            sent: Vec::new(),
            handed_out: Vec::new(),
            begun: None,
            left: None,
            asks_at: is_quiet.then(Instant::now),
            connection: (!is_quiet).then_some(0),
        }
    }

    /// One comes, if none is there.
    pub fn connect(&mut self) {
        if !self.end.is_connected {
            self.end.connect();
            // In the moment in which the last one left: the guest may not have seen it.
            self.begin(self.left == Some(Instant::now()));
        }
    }

    /// It leaves.
    pub fn leave(&mut self) {
        self.step();
        self.end.leave();
        self.due.clear();
        self.begun = None;
        self.left = Some(Instant::now());
        self.known.lock().left(self.offset);
    }

    /// Another one is there, unseen.
    pub fn swap(&mut self) {
        if self.end.is_connected {
            self.step();
            self.end.swap();
            self.begin(true);
        }
    }

    fn begin(&mut self, is_swapped: bool) {
        self.known.lock().connected(is_swapped);
        self.line.clear();
        self.due.clear();
        self.begun = None;
        (self.reads, self.offset, self.stepped) = (true, 0, 0);
        self.connection = self.connection.map(|last| last + 1);
        self.asks_at = self.asks_at.map(|_| Instant::now() + KEEP_ALIVE);
    }

    /// Reads no more.
    pub fn stop_reading(&mut self) {
        self.step();
        self.end.stop_reading();
        self.reads = false;
        self.known.lock().stopped_reading();
    }

    /// Reads on.
    pub fn read_on(&mut self) {
        self.end.read_on();
        self.reads = true;
        self.step();
    }

    /// When it has something to say.
    pub fn next(&self) -> Option<Instant> {
        let due = self.due.front().map(|(at, ..)| *at);
        let asks_at = self.asks_at.filter(|_| self.end.is_connected);
        due.into_iter().chain(asks_at).min()
    }

    /// Takes what has come, and says what is due.
    pub fn step(&mut self) {
        if !self.end.is_connected {
            return;
        }
        let came = if self.reads { self.end.take() } else { Vec::new() };
        if !came.is_empty() {
            self.known.lock().consumed(came.len());
            self.read(&came);
        }
        let now = Instant::now();
        while let Some((_, payload, barrier)) = self.due.pop_front_if(|(at, ..)| *at <= now) {
            // Whose stamps are stale is not heard.
            let is_heard = self.stepped.abs_diff(clock::stepped()) < STALE_MS;
            if let Some(number) = barrier.filter(|_| is_heard) {
                self.known.lock().host_answered(number);
            }
            self.say(&payload);
        }
        if let Some(asks_at) = self.asks_at.filter(|at| *at <= now) {
            self.asks_at = Some(asks_at.max(now) + KEEP_ALIVE);
            self.keep_alive();
        }
    }

    fn read(&mut self, came: &[u8]) {
        let mut rest = came;
        while let Some(newline) = memchr::memchr(b'\n', rest) {
            self.offset += newline as u64 + 1;
            let kind = if self.line.is_empty() {
                self.known.lock().line(&rest[..newline], self.offset - 1)
            } else {
                self.line.extend_from_slice(&rest[..newline]);
                self.known.lock().line(&self.line, self.offset - 1)
            };
            if newline + self.line.len() > 0 {
                self.stepped = clock::stepped();
            }
            self.line.clear();
            rest = &rest[newline + 1..];
            let answer = match kind {
                Line::KeepAlive(number) => {
                    payload::keep_alive_response(number, "", self.connection)
                }
                Line::RequestPendingScripts => pending_scripts(&[], ""),
                Line::Other => continue,
            };
            if let Some(late) = self.answers {
                let barrier = if let Line::KeepAlive(number) = kind { Some(number) } else { None };
                self.due.push_back((Instant::now() + Duration::from_millis(late), answer, barrier));
            }
        }
        self.offset += rest.len() as u64;
        self.line.extend_from_slice(rest);
    }

    /// Signs and sends.
    pub fn say(&mut self, payload: &str) {
        let line = self.sealed(KEY, 0, payload);
        self.send(line.as_bytes());
    }

    fn sealed(&mut self, key: &[u8], ago_ms: i64, payload: &str) -> String {
        self.nonce += 1;
        let ts = clock::now_ms() - clock::stepped() + self.stepped - ago_ms;
        format!("{}\n", seal(key, ts, &self.nonce.to_string(), payload))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.rest();
        if self.end.is_connected {
            let mut known = self.known.lock();
            known.moves += 1 + bytes.len() as u64 / 4_096;
            known.note("sent", bytes.len() as u64, 0);
            known.says_something();
            drop(known);
            self.end.send(bytes);
        }
    }

    /// Asks for something.
    pub fn command(&mut self, behaviour: Behaviour) {
        let line = self.spelled(behaviour);
        self.send(line.as_bytes());
        self.asks(behaviour.number, line.len(), false);
        self.sent.push((line, behaviour));
    }

    /// Asks for something, and stops in the middle.
    pub fn half_command(&mut self, behaviour: Behaviour) {
        if self.end.is_connected {
            let line = self.spelled(behaviour);
            self.send(&line.as_bytes()[..line.len() / 2]);
            let is_clear = self.stepped == clock::stepped();
            let before = self.known.lock().disturbances;
            self.begun = Some((line, behaviour, is_clear.then_some(before)));
        }
    }

    /// Says the rest of that.
    pub fn rest(&mut self) {
        let Some((line, behaviour, before)) = self.begun.take() else { return };
        self.send(&line.as_bytes()[line.len() / 2..]);
        self.asks(behaviour.number, line.len(), false);
        let mut known = self.known.lock();
        if before != Some(known.disturbances) {
            known.disturbed(); // the first half may be gone, or its stamp stale
        }
        self.sent.push((line, behaviour));
    }

    fn spelled(&mut self, behaviour: Behaviour) -> String {
        let payload = unsafe_command(
            &format!("c{}", behaviour.number),
            &RawCommand {
                raw_command: behaviour.text(),
                shell: None,
                working_dir: None,
                env_vars: Default::default(),
                run_as: None,
            },
            Duration::from_secs(TIMEOUT_SECS),
        );
        self.sealed(KEY, 0, &payload)
    }

    fn asks(&self, number: u64, bytes: usize, is_script: bool) {
        // Whose stamps are stale is not listened to.
        let is_clear = self.end.is_connected && self.stepped == clock::stepped();
        self.known.lock().asks(Id { number, is_script }, bytes, is_clear);
    }

    /// Hands out scripts.
    pub fn scripts(&mut self, behaviours: &[Behaviour]) {
        let script = |behaviour: &Behaviour| Script {
            execution_id: format!("s{}", behaviour.number),
            script_id: "s".to_owned(),
            script_name: "simulated".to_owned(),
            script_content: behaviour.text(),
            shell: Shell::Sh,
            execution_type: "ON_DEMAND".to_owned(),
            input_values: Default::default(),
            timeout_seconds: TIMEOUT_SECS,
            run_as: None,
        };
        let scripts: Vec<_> = behaviours.iter().map(script).collect();
        let line = self.sealed(KEY, 0, &pending_scripts(&scripts, ""));
        self.send(line.as_bytes());
        self.pushed.push(line);
        behaviours.iter().for_each(|behaviour| self.asks(behaviour.number, 1_000, true));
        self.handed_out = behaviours.to_vec();
    }

    /// Asks for something once more, under the same id, or hands out the same scripts.
    pub fn same_id(&mut self) {
        if self.chance.below(2) == 0 && !self.handed_out.is_empty() {
            let again = self.handed_out.clone();
            return self.scripts(&again);
        }
        if let Some((_, behaviour)) = self.one_sent() {
            self.command(behaviour);
        }
    }

    /// Sends a line once more.
    pub fn replay(&mut self) {
        if let Some((line, _)) = self.one_sent() {
            self.send(line.as_bytes());
        }
    }

    /// Sends all that was ever sent once more: nothing of it is done again.
    pub fn replay_all(&mut self) {
        let lines = self.sent.iter().map(|(line, _)| line).chain(&self.pushed);
        for line in lines.cloned().collect::<Vec<_>>() {
            self.send(line.as_bytes());
        }
    }

    fn one_sent(&mut self) -> Option<(String, Behaviour)> {
        let index = self.chance.below(self.sent.len() as u64) as usize;
        self.sent.get(index).cloned()
    }

    /// Says what it does not sign as it should.
    pub fn forged(&mut self, key: &[u8], ago_ms: i64) {
        self.number += 1;
        let number = self.number;
        let payload = format!(
            r#"{{"type":"UnsafeCommand","id":"c{number}","raw_command":"{number} 0 0 0 0"}}"#
        );
        let line = self.sealed(key, ago_ms, &payload);
        self.send(line.as_bytes());
        let id = Id { number, is_script: false };
        if key == KEY {
            self.known.lock().asks_late(id);
        }
        if key == KEY && self.stepped != clock::stepped() {
            self.asks(number, 0, false); // to a clock that was set it may be fresh
        }
    }

    /// Half a line; with `goes_on` the next one is behind it.
    pub fn half_line(&mut self, goes_on: bool) {
        let line = self.sealed(KEY, 0, r#"{"type":"keep_alive_request","sequence_number":1}"#);
        self.send(&line.as_bytes()[..line.len() / 2]);
        if goes_on {
            self.send(b"\n");
        }
    }

    /// Bytes without sense.
    pub fn garbage(&mut self, seed: u64) {
        let mut chance = Rng(seed);
        let bytes: Vec<u8> = (0..chance.below(9_000)).map(|_| chance.draw() as u8).collect();
        self.send(&bytes);
        self.send(b"\n");
    }

    /// Asks for a sign of life.
    pub fn keep_alive(&mut self) {
        self.number += 1;
        let number = self.number;
        self.say(&format!(r#"{{"type":"keep_alive_request","sequence_number":{number}}}"#));
    }
}
