//! Scripts of operations for the model and a real port: one line for each operation, and one observed result.
//!
//! [`GuestEnd`] runs the guest's operations over any [`Opener`], also the real one. The owner of the other end runs
//! the host's: [`play`] for the model.

use std::fmt;
use std::future::poll_fn;
use std::str::FromStr;
use std::time::Duration;

use super::ModelHost;
use infiniservice::internals::port::{Device, HostPresence, NotOpen, Opener, Received, Sent};

/// One operation. Written and sent bytes are numbered, so that their origin shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// The guest opens the port, even if it is open.
    Open,
    /// The guest closes it.
    Close,
    /// The guest reads until nothing is left.
    Read,
    /// The guest makes this many writes of this length, or as many as are accepted.
    Write {
        /// Bytes of each.
        bytes: usize,
        /// How many.
        times: usize,
    },
    /// The guest polls.
    Poll,
    /// A host connects; it reads nothing by itself.
    Connect,
    /// A second host connects behind the first.
    Behind,
    /// The host sends this many bytes.
    Send(usize),
    /// The host reads everything, also what arrives meanwhile.
    Take,
    /// The host reads this many bytes at once.
    TakeSome(usize),
    /// The host disconnects.
    Leave,
    /// The port is unplugged.
    Unplug,
    /// The port is plugged in.
    Plug,
    /// The machine is stopped: the guest does nothing until it continues.
    Stop,
    /// The machine continues.
    Cont,
}

impl Op {
    /// Whether the guest runs it.
    pub fn is_guests(self) -> bool {
        matches!(self, Self::Open | Self::Close | Self::Read | Self::Write { .. } | Self::Poll)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Close => f.write_str("close"),
            Self::Read => f.write_str("read"),
            Self::Write { bytes, times } => write!(f, "write {bytes} {times}"),
            Self::Poll => f.write_str("poll"),
            Self::Connect => f.write_str("connect"),
            Self::Behind => f.write_str("behind"),
            Self::Send(bytes) => write!(f, "send {bytes}"),
            Self::Take => f.write_str("take"),
            Self::TakeSome(bytes) => write!(f, "take {bytes}"),
            Self::Leave => f.write_str("leave"),
            Self::Unplug => f.write_str("unplug"),
            Self::Plug => f.write_str("plug"),
            Self::Stop => f.write_str("stop"),
            Self::Cont => f.write_str("cont"),
        }
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let unknown = || format!("{line:?} is no operation of a port's script");
        let mut words = line.split_ascii_whitespace();
        let name = words.next().ok_or_else(unknown)?;
        let numbers = words.map(str::parse).collect::<Result<Vec<usize>, _>>();
        let op = match (name, numbers.map_err(|_| unknown())?.as_slice()) {
            ("open", []) => Self::Open,
            ("close", []) => Self::Close,
            ("read", []) => Self::Read,
            ("write", &[bytes, times]) if bytes > 0 => Self::Write { bytes, times },
            ("poll", []) => Self::Poll,
            ("connect", []) => Self::Connect,
            ("behind", []) => Self::Behind,
            ("send", &[bytes]) => Self::Send(bytes),
            ("take", []) => Self::Take,
            ("take", &[bytes]) => Self::TakeSome(bytes),
            ("leave", []) => Self::Leave,
            ("unplug", []) => Self::Unplug,
            ("plug", []) => Self::Plug,
            ("stop", []) => Self::Stop,
            ("cont", []) => Self::Cont,
            _ => return Err(unknown()),
        };
        Ok(op)
    }
}

/// The content of one end's stream: bytes that show their position, so that losses show.
#[derive(Debug, Clone, Default)]
pub struct Numbered(u64);

impl Numbered {
    /// The next `bytes` bytes.
    pub fn next(&mut self, bytes: usize) -> Vec<u8> {
        let from = self.0;
        self.0 += bytes as u64;
        // 251 is prime: no power of two lines up with it.
        (from..self.0).map(|at| (at % 251) as u8).collect()
    }
}

/// Describes received bytes.
pub fn seen(bytes: &[u8]) -> String {
    format!("{} bytes {:08x}", bytes.len(), crc32fast::hash(bytes))
}

/// The guest's end of a script.
pub struct GuestEnd<O> {
    opener: O,
    device: Option<Box<dyn Device>>,
    content: Numbered,
    patience: Duration,
}

impl<O: Opener> GuestEnd<O> {
    /// Opens through `opener`. A port that accepts nothing for `patience` counts as full.
    pub fn new(opener: O, patience: Duration) -> Self {
        Self { opener, device: None, content: Numbered::default(), patience }
    }

    /// Runs one of the guest's operations. Returns the observed result.
    pub async fn perform(&mut self, op: Op) -> String {
        let observed = match op {
            Op::Open => self.open().await,
            Op::Close => self.device.take().map(|_| "closed".to_owned()),
            Op::Read => self.read(),
            Op::Write { bytes, times } => self.write(bytes, times).await,
            Op::Poll => self.poll(),
            _ => Some("is not the guest's".to_owned()),
        };
        format!("{op}: {}", observed.as_deref().unwrap_or("not open")).trim_end().to_owned()
    }

    async fn open(&mut self) -> Option<String> {
        let observed = match self.opener.open().await {
            Ok(device) => {
                self.device = Some(device);
                "ok"
            }
            Err(NotOpen::Busy(_)) => "busy",
            Err(NotOpen::Absent(_)) => "absent",
            Err(NotOpen::Refused(_)) => "refused",
        };
        Some(observed.to_owned())
    }

    fn read(&mut self) -> Option<String> {
        let device = self.device.as_mut()?;
        let (mut all, mut chunk) = (Vec::new(), [0; 64 * 1024]);
        let end = loop {
            match device.read(&mut chunk) {
                Ok(Received::Bytes(bytes)) if bytes > 4096 => {
                    break "a read above a page".to_owned();
                }
                Ok(Received::Bytes(bytes)) => all.extend_from_slice(&chunk[..bytes]),
                Ok(Received::Idle) => break "idle".to_owned(),
                Ok(Received::Away) => break "away".to_owned(),
                Ok(Received::Gone) => break "gone".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        Some(format!("{}, then {end}", seen(&all)))
    }

    async fn write(&mut self, bytes: usize, times: usize) -> Option<String> {
        let device = self.device.as_mut()?;
        let (mut taken, mut writes) = (0, 0);
        let end = loop {
            if writes == times {
                break "done".to_owned();
            }
            let before = self.content.clone();
            let data = self.content.next(bytes);
            let sent = device.write(&data);
            if let Ok(Sent::Took(bytes)) = sent {
                (taken, writes) = (taken + bytes, writes + 1);
                if bytes < data.len() {
                    self.content = before;
                    let _ = self.content.next(bytes);
                }
                continue;
            }
            self.content = before;
            match sent {
                Ok(Sent::Full) => {
                    let change = poll_fn(|cx| device.poll_changed(cx));
                    if tokio::time::timeout(self.patience, change).await.is_err() {
                        break "full".to_owned();
                    }
                }
                Ok(Sent::Away) => break "away".to_owned(),
                Ok(Sent::Gone) => break "gone".to_owned(),
                Ok(other) => break format!("{other:?}"),
                Err(error) => break error.to_string(),
            }
        };
        Some(format!("{writes} writes, {taken} bytes, then {end}"))
    }

    fn poll(&mut self) -> Option<String> {
        let level = self.device.as_ref()?.level();
        let observed = match level {
            Ok(Some(HostPresence { readable, writable, hung_up })) => {
                [(readable, "in "), (writable, "out "), (hung_up, "hup ")]
                    .into_iter()
                    .filter_map(|(is, word)| is.then_some(word))
                    .collect()
            }
            Ok(None) => "has no level".to_owned(),
            Err(error) => error.to_string(),
        };
        Some(observed.trim_end().to_owned())
    }
}

/// Runs a script on the model. Returns one observation for each operation. At its end the hosts disconnect, the
/// guest closes, and the port is plugged in; buffers that leaked stay lost. Needs a runtime with its clock.
pub async fn play(script: &[Op], opener: impl Opener, host: &ModelHost) -> Vec<String> {
    let mut guest = GuestEnd::new(opener, Duration::from_millis(100));
    let (mut content, mut observed) = (Numbered::default(), Vec::new());
    for op in script {
        observed.push(match *op {
            op if op.is_guests() => guest.perform(op).await,
            op => format!("{op}: {}", of_host(op, host, &mut content)),
        });
    }
    while host.is_connected() {
        host.leave();
    }
    drop(guest);
    host.plug();
    observed
}

fn of_host(op: Op, host: &ModelHost, content: &mut Numbered) -> String {
    match op {
        Op::Connect => {
            host.connect();
            host.stop_reading();
        }
        Op::Behind => host.connect_behind(),
        Op::Send(bytes) => host.send(&content.next(bytes)),
        Op::Take => return seen(&host.take(usize::MAX)),
        Op::TakeSome(bytes) => return seen(&host.take(bytes)),
        Op::Leave => host.leave(),
        Op::Unplug => host.unplug(),
        Op::Plug => host.plug(),
        Op::Stop => host.stop(),
        Op::Cont => host.cont(),
        _ => return "is not the host's".to_owned(),
    }
    "done".to_owned()
}

/// A script of `length` valid operations; the same for the same seed.
pub fn random(seed: u64, length: usize) -> Vec<Op> {
    let mut dice = Dice(seed);
    let mut at = Standing { is_plugged: true, ..Standing::default() };
    let mut script = vec![Op::Open];
    at.follow(Op::Open);
    while script.len() < length {
        if let Some(op) = at.next(&mut dice) {
            at.follow(op);
            script.push(op);
        }
    }
    if at.is_stopped {
        script.push(Op::Cont);
    }
    script
}

/// The state that a random script keeps track of.
#[derive(Default)]
struct Standing {
    is_open: bool,
    is_connected: bool,
    is_behind: bool,
    is_plugged: bool,
    is_stopped: bool,
}

impl Standing {
    /// A valid operation, or none for this roll.
    fn next(&self, dice: &mut Dice) -> Option<Op> {
        if !self.is_plugged && !self.is_stopped && dice.roll(3) == 0 {
            return Some(Op::Plug);
        }
        if !self.is_open && self.is_plugged && !self.is_stopped && dice.roll(3) == 0 {
            return Some(Op::Open);
        }
        let op = match dice.roll(16) {
            0 => Op::Open,
            1 if dice.roll(3) == 0 => Op::Close,
            2 | 3 => Op::Read,
            4..=7 => Op::Write {
                bytes: [1, 200, 1_000, 4_096, 32_768, 40_000][dice.roll(6)],
                times: [1, 5, 60, 400][dice.roll(4)],
            },
            8 => Op::Poll,
            9 if self.is_stopped => Op::Cont,
            9 if dice.roll(3) == 0 => Op::Stop,
            10 | 11 if !self.is_connected => Op::Connect,
            10 if !self.is_behind && dice.roll(3) == 0 => Op::Behind,
            11 => Op::Send([1, 700, 4_096, 10_000][dice.roll(4)]),
            12 | 13 if self.is_connected => Op::Take,
            14 if self.is_connected => Op::Leave,
            15 if dice.roll(3) == 0 && self.is_plugged && !self.is_stopped => Op::Unplug,
            _ => return None,
        };
        (!(self.is_stopped && op.is_guests())).then_some(op)
    }

    fn follow(&mut self, op: Op) {
        match op {
            Op::Open => self.is_open = self.is_plugged,
            Op::Close => self.is_open = false,
            Op::Connect => self.is_connected = true,
            Op::Behind => self.is_behind = true,
            Op::Leave if self.is_behind => self.is_behind = false,
            Op::Leave => self.is_connected = false,
            Op::Unplug => (self.is_open, self.is_plugged) = (false, false),
            Op::Plug => self.is_plugged = true,
            Op::Stop => self.is_stopped = true,
            Op::Cont => self.is_stopped = false,
            _ => {}
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }
}
