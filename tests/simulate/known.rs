//! What is known of a run, and what must hold in it. Everything that happens at an edge of the agent is told
//! here, and the first thing that must not happen ends the run. Makes nothing happen.
//!
//! # The rules
//! - A line that a host got whole is one of ours. One that is none ends at the bare newline of an agent that
//!   began anew, or is the first one of a host that came unseen.
//! - An answer bears `"redelivered":true`, unless it comes for the first time.
//! - Between two beginnings of the agent, answers come in the order in which they were made.
//! - Readings come in the order in which they were taken, none twice.
//! - A command or script is carried out once, over all lives of the agent, whatever is sent again.
//! - What was cut by the end of an agent is answered by a later one.
//! - Whatever was taken is answered, where the agent lived on until the answer was made; and an answer that
//!   was made comes, unless what had it in hand was killed in that very millisecond, or could not write it
//!   and was killed, or was cut off from power before the sync (50 ms later at most); or was on its way when
//!   a host came unseen, and neither host answers, or (of today's hosts) in the middle of the line; or was written 30 s ago to
//!   a host that answered nothing; or the disk could not be read when the agent began; or it was shed, and
//!   is in the books; or the host is today's, and the connection that had asked for it has ended.
//! - No more than the window is written and not read by a host that answers; one that does not gets as much
//!   each second, and one that has stopped to, each minute. A frame longer than the window goes alone.
//! - An echo goes out ahead of readings: no more than a window and a write of them pass it.
//! - What a host asks for is taken within 5 s, where the host stays and nothing is wrong between the two; and in
//!   one life not more often than it was asked for.
//! - In the last life each reading that was made was written whole, or is in the books as lost; and every loss
//!   in the books was told to a host, by node, reason and number.

mod accounts;
mod asked;
mod facts;
mod heard;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use infiniservice::internals::port::{WINDOW_BYTES, WRITE_BYTES_MAX};
use tokio::time::Instant;

use self::accounts::{Outbound, Written, is_told};
use self::facts::{Answer, Asked, Connection, Parsed};
pub use self::facts::{ExitStatus, Id, Line, Locked, Shared};
use super::disk;
use super::history::History;

/// Looks at the port in a millisecond: a long line in writes of seven bytes is far below.
const LOOKS_MAX: u64 = 1_000_000;
/// After so long what was written to a host that answers nothing counts as read.
const SILENT: Duration = Duration::from_secs(30);

/// All that is known.
#[derive(Debug)]
pub struct Known {
    /// What happened.
    pub history: History,
    /// The first rule that was broken.
    pub broken: Option<String>,
    /// The disk.
    pub disk: disk::StatsRegistry,
    /// Which life of the agent it is.
    pub life: u32,
    /// Writes after which the agent is killed, in the middle of whatever it does.
    pub kill_after: Option<u64>,
    /// Things that moved: what a wake-up may be for.
    pub moves: u64,
    /// Bytes of answers that were made in this millisecond.
    pub just_made: (u64, usize),
    /// Commands and scripts by their ids.
    asked: BTreeMap<Id, Asked>,
    /// Bytes of what was taken and not answered.
    pub under_way: usize,
    /// Asked for and not taken yet, since when.
    untaken: Vec<(Id, Instant)>,
    /// When a host or the port last came or went.
    begun: Instant,
    /// How often something came between host and agent.
    pub disturbances: u64,
    told: Outbound,
    written: Written,
    connection: Connection,
    /// A millisecond, and how often the port was looked at in it.
    looks: (u64, u64),
    /// The agent has the port open.
    pub is_open: bool,
    /// It was told to stop, and does nothing any more that a host asks for.
    pub is_closing: bool,
    /// Bytes of the last write that were not accepted, as long as they may still come.
    left_over: usize,
    /// The spool could not be read when the agent began, so it is in memory until the next one begins.
    pub in_memory: bool,
    /// What was accepted last does not end a line.
    is_mid_line: bool,
    spool: u64,
    order: u64,
    sequence: u64,
    last_reading: Option<u64>,
    readings_bytes: u64,
    echoes: BTreeMap<u64, u64>,
    longest: usize,
    /// Answers that hosts got, and readings.
    pub answers: u64,
    /// Readings that hosts got.
    pub readings: u64,
    /// Hosts are as today's: they understand no agent event.
    pub is_quiet: bool,
}

impl Known {
    /// Nothing yet.
    pub fn shared(spool: u64, whole: bool) -> Shared {
        Arc::new(Locked(Mutex::new(Self {
            history: History::new(whole),
            broken: None,
            disk: disk::StatsRegistry::default(),
            life: 0,
            kill_after: None,
            moves: 0,
            just_made: (0, 0),
            asked: BTreeMap::new(),
            under_way: 0,
            untaken: Vec::new(),
            begun: Instant::now(),
            disturbances: 0,
            told: Outbound::default(),
            written: Written::default(),
            connection: Connection::new(false),
            looks: (0, 0),
            is_open: false,
            is_closing: false,
            left_over: 0,
            in_memory: false,
            is_mid_line: false,
            spool,
            order: 0,
            sequence: 0,
            last_reading: None,
            readings_bytes: 0,
            echoes: BTreeMap::new(),
            longest: 0,
            answers: 0,
            readings: 0,
            is_quiet: false,
        })))
    }

    /// Something happened.
    pub fn note(&mut self, what: &'static str, a: u64, b: u64) {
        self.history.note(what, a, b);
    }

    /// A rule is broken.
    pub fn breaks(&mut self, what: impl FnOnce() -> String) {
        if self.broken.is_none() {
            self.broken = Some(what());
            self.note("BROKEN", 0, 0);
        }
    }

    /// The number of a new reading.
    pub fn reading(&mut self) -> u64 {
        self.moves += 1;
        self.sequence += 1;
        self.written.made += 1;
        self.sequence
    }

    /// The device accepted so much of a write of `length` bytes.
    pub fn accepted(&mut self, bytes: &[u8], length: usize) {
        self.note("accepted", bytes.len() as u64, length as u64);
        self.moves += 1;
        if let Some(writes) = &mut self.kill_after {
            *writes = writes.saturating_sub(1);
        }
        // A newline by itself, and not the last byte of a line that was taken but for that.
        let is_bare = bytes == b"\n" && length == 1 && self.left_over != 1;
        self.left_over = length - bytes.len();
        self.written.accepted(bytes, is_bare);
        let connection = &mut self.connection;
        if is_bare {
            connection.bare.push_back(connection.accepted);
            connection.begun += 1;
            connection.answers = None;
            connection.barriers.clear();
        }
        self.is_mid_line = !bytes.ends_with(b"\n");
        connection.accepted += bytes.len() as u64;
        let unread = connection.accepted - connection.consumed;
        let (now, since) = (Instant::now(), connection.consumed_at);
        let answers = connection.answers.map_or(now, |answers| answers.max(since));
        let times = (answers - since).as_secs() + (now - answers).as_secs() / 60;
        // To one as today's, which is rarely asked, two windows more go at once; and whatever it says is a proof.
        let credit = if self.is_quiet { 2 + connection.said } else { 0 };
        let times = 1 + connection.begun + times + credit;
        // What has not been read may count as read by its age, or was another life's; then a long frame goes behind.
        let long = if self.was_long() { self.longest as u64 + 512 } else { 0 };
        let allowed = (WINDOW_BYTES as u64 + long) * times;
        if unread > allowed {
            self.breaks(|| {
                format!("{unread} bytes are written and not read, and {allowed} may be")
            });
        }
    }

    /// The port is looked at; `true` where that never ends, and time would stand still for ever.
    pub fn looks(&mut self) -> bool {
        let now = super::clock::elapsed_ms();
        self.looks = if self.looks.0 == now { (now, self.looks.1 + 1) } else { (now, 1) };
        let spins = self.looks.1 > LOOKS_MAX;
        if spins {
            self.breaks(|| format!("the port is looked at {LOOKS_MAX} times in a millisecond"));
        }
        spins
    }

    /// Whether there was a frame longer than the window: a host that leaves in its middle may find the port full.
    pub fn was_long(&self) -> bool {
        self.longest > WINDOW_BYTES - 512
    }

    /// Whether the host has answered a barrier since the agent began.
    pub fn has_answered(&self) -> bool {
        self.connection.answers.is_some()
    }

    /// The host says something.
    pub fn says_something(&mut self) {
        self.connection.said += 1;
    }

    /// The host took so many bytes.
    pub fn consumed(&mut self, bytes: usize) {
        let connection = &mut self.connection;
        connection.consumed += bytes as u64;
        (connection.consumed_at, connection.begun, connection.said) = (Instant::now(), 0, 0);
    }

    /// A host came; `is_swapped`: before the guest could see that the last one went.
    pub fn connected(&mut self, is_swapped: bool) {
        let is_cut = self.is_mid_line || self.left_over > 0;
        self.begins_anew();
        self.was_silent();
        if is_swapped && is_cut && self.is_quiet {
            // Half a line, or of what goes in one write at a real port, went to each of them, and the second one
            // answers for the whole. One's own host says that it is another one.
            self.gives_up(|_| true);
        }
        self.note("connected", u64::from(is_swapped), 0);
        self.written.is_believed |= is_swapped;
        self.connection = Connection::new(is_swapped);
        self.echoes.clear();
    }

    /// The guest could not see that the last host went.
    pub fn unseen(&mut self) {
        self.connection.is_swapped = true;
    }

    /// A host that answers nothing counts as having read after 30 s; when it went unseen, who came in its
    /// place would have to answer in that time.
    pub fn swapped(&mut self, hears: bool) {
        if !hears {
            self.gives_up(|_| true);
        }
    }

    /// The disk could not be read when the agent began.
    pub fn unreadable(&mut self) {
        self.gives_up(|_| true);
    }

    /// What was written 30 s ago to a host that answered nothing counted as read.
    fn was_silent(&mut self) {
        if self.connection.answers.is_none() {
            self.gives_up(|one| one.made.first().is_some_and(|made| made.at.elapsed() >= SILENT));
        }
    }

    fn gives_up(&mut self, which: impl Fn(&Asked) -> bool) {
        let lost = |one: &&mut Asked| one.unmarked + one.marked == 0 && which(one);
        self.asked.values_mut().filter(lost).for_each(|one| one.may_be_lost = true);
    }

    /// The host stopped to read.
    pub fn stopped_reading(&mut self) {
        self.connection.was_stopped = true;
    }

    /// What was on its way to the host is gone, but for so many bytes that its kernel has; and the host is not.
    pub fn discarded(&mut self, but: usize) {
        self.believes();
        let connection = &mut self.connection;
        connection.accepted = connection.consumed + but as u64;
        connection.bare.retain(|at| *at < connection.accepted);
    }

    /// A barrier was answered. One that was written before the last beginning says nothing to the agent.
    pub fn host_answered(&mut self, number: u64) {
        self.was_silent();
        if self.connection.barriers.contains(&number) {
            self.believes();
            self.connection.answers.get_or_insert(Instant::now());
        }
    }

    /// A life of the agent begins; which one.
    pub fn begins(&mut self) -> u32 {
        self.disturbed();
        self.begun = Instant::now();
        self.asked.values_mut().for_each(|asked| asked.under_way = 0);
        self.under_way = 0;
        (self.told, self.written) = (self.told.next(), Written::after(self.sequence));
        (self.life, self.is_closing) = (self.life + 1, false);
        self.note("starts", self.life.into(), 0);
        self.life
    }

    /// An answer was made.
    pub fn made(&mut self, id: Id, said: usize) {
        self.note("made", id.number, said as u64);
        self.moves += 1;
        self.order += 1;
        self.longest = self.longest.max(said + 1_024);
        let now = super::clock::elapsed_ms();
        if self.just_made.0 != now {
            self.just_made = (now, 0);
        }
        self.just_made.1 += said + 2_048;
        let (order, life, at) = (self.order, self.life, Instant::now());
        let asked = self.asked.entry(id).or_default();
        self.under_way -= std::mem::take(&mut asked.under_way);
        asked.made.push(Answer { order, at, life, said });
    }

    /// An echo was made.
    pub fn echoes(&mut self, number: u64) {
        self.moves += 1;
        self.echoes.insert(number, self.readings_bytes);
    }

    /// A life of the agent ended; `shed`: how many the books have as lost until now.
    pub fn ended(&mut self, end: ExitStatus, was_alive: bool, shed: u64) {
        self.disturbed();
        self.note("ended", self.life.into(), end as u64);
        let (now, spool, life) = (Instant::now(), self.spool as usize, self.life);
        let disk = &self.disk;
        let is_failing = disk.failed.is_some_and(|failed| Some(failed) >= disk.synced);
        let mut late = None;
        for (id, asked) in &mut self.asked {
            if asked.unmarked + asked.marked > 0 || asked.may_be_lost {
                continue;
            }
            let Some(answer) = asked.made.first() else { continue };
            let is_unwritten = is_failing && Some(answer.at) >= disk.synced;
            let is_long = answer.said + 1_024 > spool / 4 * 3;
            let is_unsynced = Some(answer.at) >= disk.synced || disk.is_broken;
            asked.may_be_lost |= match end {
                // What is told while it stops may find nobody to take it.
                ExitStatus::Drained => {
                    is_unwritten || is_long || (answer.at == now && is_told(*id))
                }
                ExitStatus::Killed => answer.at == now || is_unwritten || is_long,
                ExitStatus::PowerCut => answer.at == now || is_unwritten || is_long || is_unsynced,
            };
            let was_healthy = !is_failing && disk.failed.is_none_or(|failed| failed < answer.at);
            if end == ExitStatus::PowerCut
                && (was_alive && was_healthy && answer.life == life)
                && Some(answer.at) > disk.synced
                && !is_long
                && shed == 0
                && now - answer.at > Duration::from_millis(60)
            {
                late = Some(*id);
            }
        }
        if let Some(id) = late {
            self.breaks(|| format!("{id:?} was not synced after 60 ms"));
        }
    }

    /// All has come that will come; `shed`: how many the books have as lost.
    pub fn finish(&mut self, shed: u64) {
        let life = self.life;
        if let Some(id) = self.untold() {
            return self.breaks(|| format!("{id:?} was cut by a kill, and no later agent told it"));
        }
        let unanswered =
            self.asked.iter().find(|(_, one)| one.taken == Some(life) && one.made.is_empty());
        if let Some((id, _)) = unanswered {
            let id = *id;
            return self.breaks(|| format!("{id:?} was taken and never answered"));
        }
        let missing = |one: &Asked| {
            !one.made.is_empty() && one.unmarked + one.marked == 0 && !one.may_be_lost
        };
        let missing: Vec<_> =
            self.asked.iter().filter(|(_, one)| missing(one)).map(|(id, _)| *id).collect();
        if missing.len() as u64 > shed {
            self.breaks(|| format!("never came, and {shed} are told lost: {missing:?}"));
        }
    }

    /// Whether the answer to this one came.
    pub fn came(&self, id: Id) -> bool {
        self.asked.get(&id).is_some_and(|asked| asked.unmarked + asked.marked > 0)
    }
}
