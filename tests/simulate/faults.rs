//! What goes wrong in a run, and when: drawn from the seed before it begins. Makes nothing go wrong.

use infiniservice::model::Rng;

use super::doubles::faulty_disk::Faults;
use super::machine::Behaviour;

/// How long things go wrong, in milliseconds.
pub const TROUBLE_MS: u64 = 45_000;

/// From this seed on hosts are as today's.
pub const QUIET: u64 = 1 << 32;

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub enum StageError {
    /// The host leaves.
    Leave,
    /// A host comes.
    Connect,
    /// The host leaves in the middle of a line of its own.
    Crash,
    /// Another host is there, unseen.
    Swap,
    /// The host reads no more.
    StopReading,
    /// It reads on.
    ReadOn,
    /// It answers so late from now on; never where there is no time.
    AckTracker(Option<u64>),
    /// It asks for something.
    Command(Behaviour),
    /// It asks for many things at once.
    Burst(Vec<Behaviour>),
    /// It has scripts.
    Scripts(Vec<Behaviour>),
    /// It asks for something again, under the same id.
    SameId,
    /// A line of it comes again, byte for byte.
    Replay,
    /// Somebody who does not know the secret asks.
    Forged,
    /// A line that was signed long ago.
    Stale,
    /// Half a line, and then a whole one.
    HalfLine,
    /// Bytes.
    Garbage(u64),
    /// It asks for a sign of life.
    KeepAlive,
    /// The port is taken out.
    Unplug,
    /// It is put in again.
    Plug,
    /// Another process has the port, or closes it.
    Hold(bool),
    /// Writes that return 0.
    ZeroWrites(u32),
    /// A fault of the device.
    DeviceError,
    /// Writes take at most so many bytes.
    Split(usize),
    /// The wall clock is set by so many milliseconds.
    WallStep(i64),
    /// Everything stands still for so long.
    Suspend(u64),
    /// The disk.
    Disk(Faults),
    /// The power goes after so many steps of the disk.
    CutAtStep(u64),
    /// The agent is killed, or its power is cut, at the next but so many step of the request log.
    LogStep(u64, bool),
    /// All that was ever sent is sent again.
    ReplayAll,
    /// The power is cut now.
    PowerCut,
    /// The agent is killed.
    Kill,
    /// It is killed at its next but so many write.
    KillAtWrite(u64),
    /// It is stopped, and starts again.
    Stop,
    /// So many readings a second.
    Pace(u32),
    /// The files say something else from now on.
    Reload(Files),
    /// The first half of a command; its rest comes before whatever the host says next.
    HalfCommand(Behaviour),
    /// The rest of it.
    Rest,
}

impl StageError {
    /// Whether it comes between a host and the agent.
    pub fn disturbs(&self) -> bool {
        let port = matches!(self, Self::Unplug | Self::Plug | Self::Hold(_) | Self::DeviceError);
        port || matches!(self, Self::WallStep(_) | Self::Stop)
    }

    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Leave => "leave",
            Self::Connect => "connect",
            Self::Crash => "crash",
            Self::Swap => "swap",
            Self::StopReading => "stop reading",
            Self::ReadOn => "read on",
            Self::AckTracker(_) => "answers",
            Self::Command(_) => "command",
            Self::Burst(_) => "burst",
            Self::Scripts(_) => "scripts",
            Self::SameId => "same id",
            Self::Replay => "replay",
            Self::Forged => "forged",
            Self::Stale => "stale",
            Self::HalfLine => "half line",
            Self::Garbage(_) => "garbage",
            Self::KeepAlive => "keep alive",
            Self::Unplug => "unplug",
            Self::Plug => "plug",
            Self::Hold(_) => "hold",
            Self::ZeroWrites(_) => "zero writes",
            Self::DeviceError => "device error",
            Self::Split(_) => "split",
            Self::WallStep(_) => "wall step",
            Self::Suspend(_) => "suspend",
            Self::Disk(_) => "disk",
            Self::CutAtStep(_) => "cut at step",
            Self::LogStep(..) => "log step",
            Self::ReplayAll => "replay all",
            Self::PowerCut => "power cut",
            Self::Kill => "kill",
            Self::KillAtWrite(_) => "kill at write",
            Self::Stop => "stop",
            Self::Pace(_) => "pace",
            Self::Reload(_) => "reload",
            Self::HalfCommand(_) => "half a command",
            Self::Rest => "rest of it",
        }
    }
}

/// What the files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files {
    /// Readings in a batch.
    pub batch: usize,
    /// Frames that are kept for a host that is away.
    pub keep: usize,
    /// Commands at once.
    pub parallel: usize,
}

/// Everything that happens in a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// When what happens, in order, in milliseconds.
    pub faults: Vec<(u64, StageError)>,
    /// The size of the spool.
    pub spool: u64,
    /// The ceiling of the ledger.
    pub ceiling: usize,
    /// What the files say at first.
    pub files: Files,
    /// How much longer than it must be a reading is.
    pub pads: usize,
    /// Whether the host is another one once all is well.
    pub heals_with_another: bool,
    /// Whether hosts are as today's (`host = "infinibay"`): they ask for a sign of life every two minutes, and the agent
    /// asks for one only behind that, or where something durable waits.
    pub is_quiet: bool,
}

impl Plan {
    /// The plan of a seed. Each has some kinds of trouble and not others, so that each kind is also seen
    /// alone: all of them at once hide each other.
    pub fn of(seed: u64) -> Self {
        let mut chance = Rng(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5151);
        let mut kinds: Vec<fn(&mut Rng, &mut u64) -> StageError> = vec![command];
        for kind in [host, host, asks, lines, port, clock, disk, life, load, reload] {
            if chance.below(2) == 0 {
                kinds.push(kind);
            }
        }
        let many = [6, 12, 24, 48][chance.below(4) as usize];
        let mut number = 0;
        let mut faults = vec![(1, StageError::Connect), (2, StageError::Pace(1))];
        for _ in 0..many {
            let at = 10 + chance.below(TROUBLE_MS);
            let kind = kinds[chance.below(kinds.len() as u64) as usize];
            faults.push((at, kind(&mut chance, &mut number)));
            // What goes often comes again, so that not all of a run is silence.
            let back = at + [5, 200, 3_000, 9_000][chance.below(4) as usize];
            match faults.last() {
                Some((_, StageError::Leave | StageError::Crash)) => {
                    faults.push((back, StageError::Connect))
                }
                Some((_, StageError::Unplug)) => faults.push((back, StageError::Plug)),
                Some((_, StageError::Hold(true))) => faults.push((back, StageError::Hold(false))),
                Some((_, StageError::StopReading)) => faults.push((back, StageError::ReadOn)),
                Some((_, StageError::Disk(_))) => {
                    faults.push((back, StageError::Disk(Faults::default())))
                }
                Some((_, StageError::Pace(pace))) if *pace > 10 => {
                    faults.push((back, StageError::Pace(1)))
                }
                Some((_, StageError::Split(_))) => faults.push((back, StageError::Split(32_768))),
                _ => {}
            }
            match chance.below(128) {
                0..4 => cut(&mut chance, &mut number, at, &mut faults),
                4 => flood(&mut chance, at, &mut faults),
                _ => {}
            }
            if let Some((_, StageError::HalfCommand(_))) = faults.last() {
                faults.push((at + 1 + chance.below(2), reload(&mut chance, &mut number)));
                faults.push((at + 1 + chance.below(4), StageError::Rest));
            }
        }
        faults.sort_by_key(|(at, _)| *at);
        Self {
            faults,
            spool: [64 << 10, 1 << 20, 4 << 20][chance.below(3) as usize],
            ceiling: [512 << 10, 4 << 20, 16 << 20][chance.below(3) as usize],
            files: files(&mut chance),
            pads: [0, 0, 0, 1_200, 1_200, 6_000][chance.below(6) as usize],
            heals_with_another: chance.below(2) == 0,
            is_quiet: seed >= QUIET,
        }
    }
}

/// A write that is taken in pieces, and a host that goes before the last of them, or an agent that does.
fn cut(chance: &mut Rng, number: &mut u64, at: u64, faults: &mut Vec<(u64, StageError)>) {
    let pieces = [7, 7, 100][chance.below(3) as usize];
    let answer = Behaviour { says: 5_000, ..Behaviour::quick(number) };
    faults.push((at, StageError::Split(pieces)));
    faults.push((at, StageError::Pace([1, 20, 20][chance.below(3) as usize])));
    faults.push((at + chance.below(600), StageError::StopReading));
    faults.push((at + chance.below(900), StageError::Command(answer)));
    let goes = [
        StageError::Leave,
        StageError::Leave,
        StageError::Swap,
        StageError::Unplug,
        StageError::Kill,
    ];
    faults.push((at + 3_000, goes[chance.below(5) as usize].clone()));
    faults.push((at + 3_000, StageError::Pace(1)));
    faults.push((at + 3_500, StageError::Plug));
    faults.push((at + 3_500, StageError::Connect));
    faults.push((at + 3_500, StageError::ReadOn));
    faults.push((at + 3_600, StageError::Split(32_768)));
}

/// More readings than there is room for, and nobody who reads them.
fn flood(chance: &mut Rng, at: u64, faults: &mut Vec<(u64, StageError)>) {
    let is_away = chance.below(2) == 0;
    faults.push((at, StageError::Pace(60)));
    faults.push((at, if is_away { StageError::Leave } else { StageError::StopReading }));
    faults.push((at + 4_500, StageError::Pace(1)));
    faults.push((at + 4_500, if is_away { StageError::Connect } else { StageError::ReadOn }));
    faults.push((at + 4_501, StageError::KeepAlive)); // its echo does not wait for all of that
}

fn files(chance: &mut Rng) -> Files {
    Files {
        batch: [1, 16, 16][chance.below(3) as usize],
        keep: [4, 64, 256][chance.below(3) as usize],
        parallel: [1, 5, 5][chance.below(3) as usize],
    }
}

fn reload(chance: &mut Rng, _: &mut u64) -> StageError {
    StageError::Reload(files(chance))
}

fn behaviour(chance: &mut Rng, number: &mut u64) -> Behaviour {
    *number += 1;
    Behaviour {
        number: *number,
        takes_ms: [0, 5, 400, 5_000, 20_000][chance.below(5) as usize],
        says: match chance.below(200) {
            0 => 1_000_000,
            1..4 => 70_000,
            4..12 => 40_000,
            12..40 => 5_000,
            _ => chance.below(200) as usize,
        },
        pads: 0,
        panics: chance.below(12) == 0,
        is_stubborn: chance.below(12) == 0,
    }
}

fn command(chance: &mut Rng, number: &mut u64) -> StageError {
    StageError::Command(behaviour(chance, number))
}

fn host(chance: &mut Rng, _: &mut u64) -> StageError {
    match chance.below(10) {
        0 | 1 => StageError::Leave,
        2 => StageError::Crash,
        3 | 4 => StageError::Swap,
        5 | 6 => StageError::StopReading,
        7 => StageError::AckTracker(None),
        8 => StageError::AckTracker(Some([1, 300, 4_000, 15_000][chance.below(4) as usize])),
        _ => StageError::Connect,
    }
}

fn asks(chance: &mut Rng, number: &mut u64) -> StageError {
    let many = [2, 10, 90][chance.below(3) as usize];
    match chance.below(7) {
        6 => StageError::HalfCommand(behaviour(chance, number)),
        0 => {
            let mut burst: Vec<_> = (0..many).map(|_| behaviour(chance, number)).collect();
            // A hundred answers of a megabyte are no other trouble than ten of them.
            burst.iter_mut().skip(10).for_each(|one| one.says = one.says.min(5_000));
            if chance.below(6) == 0 {
                burst.iter_mut().for_each(|one| one.pads = 20_000);
            }
            StageError::Burst(burst)
        }
        1 | 2 => {
            StageError::Scripts((0..1 + many / 10).map(|_| behaviour(chance, number)).collect())
        }
        3 => StageError::SameId,
        _ => command(chance, number),
    }
}

fn lines(chance: &mut Rng, _: &mut u64) -> StageError {
    match chance.below(6) {
        0 => StageError::Replay,
        1 => StageError::Forged,
        2 => StageError::Stale,
        3 => StageError::HalfLine,
        4 => StageError::KeepAlive,
        _ => StageError::Garbage(chance.draw()),
    }
}

fn port(chance: &mut Rng, _: &mut u64) -> StageError {
    match chance.below(6) {
        0 | 1 => StageError::Unplug,
        2 => StageError::Hold(true),
        3 => StageError::ZeroWrites(1 + chance.below(4) as u32),
        4 => StageError::DeviceError,
        _ => StageError::Split([7, 100, 4_096, 32_768][chance.below(4) as usize]),
    }
}

fn clock(chance: &mut Rng, _: &mut u64) -> StageError {
    let far = [50, 2_000, 100_000, 4_000_000][chance.below(4) as usize];
    match chance.below(3) {
        0 => StageError::WallStep(far),
        1 => StageError::WallStep(-far),
        _ => StageError::Suspend([500, 20_000, 3_600_000][chance.below(3) as usize]),
    }
}

fn disk(chance: &mut Rng, _: &mut u64) -> StageError {
    let ok = Faults::default();
    match chance.below(8) {
        0 => StageError::Disk(Faults { space: Some(chance.below(40_000)), ..ok }),
        1 => StageError::Disk(Faults { write_fails: true, ..ok }),
        2 => StageError::Disk(Faults { sync_fails: true, ..ok }),
        3 => StageError::Disk(Faults { folder_sync_fails: true, ..ok }),
        4 => StageError::Disk(Faults { short_writes: true, ..ok }),
        5 => StageError::CutAtStep(chance.below(12)),
        6 if chance.below(4) == 0 => StageError::Disk(Faults { read_fails: true, ..ok }),
        _ => StageError::PowerCut,
    }
}

fn life(chance: &mut Rng, _: &mut u64) -> StageError {
    match chance.below(8) {
        5 | 6 => StageError::LogStep(chance.below(30), chance.below(3) == 0),
        7 => StageError::ReplayAll,
        0 => StageError::Stop,
        1 | 2 => StageError::KillAtWrite(chance.below(6)),
        _ => StageError::Kill,
    }
}

fn load(chance: &mut Rng, _: &mut u64) -> StageError {
    StageError::Pace([0, 1, 5, 100][chance.below(4) as usize])
}
