//! What hosts ask for, and what the agent does of it: taken, and carried out. Makes nothing happen.

use super::super::clock;
use super::*;

/// After so long what was asked for has been taken.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);
/// Requests that the agent remembers.
const REQUESTS: u64 = infiniservice::internals::commands::request_log::REQUESTS_KEPT as u64;

impl Known {
    /// A host asked for it, with an envelope of its own; `is_clear`: nothing is wrong between it and the agent.
    pub fn asks(&mut self, id: Id, bytes: usize, is_clear: bool) {
        let asked = self.asked.entry(id).or_default();
        (asked.times, asked.bytes) = (asked.times + 1, bytes);
        asked.at = Some(Instant::now());
        if is_clear && self.is_open && !self.is_closing && !self.connection.is_swapped {
            self.untaken.push((id, Instant::now()));
        }
    }

    /// A host asked for it with a stamp that is too old.
    pub fn asks_late(&mut self, id: Id) {
        self.asked.entry(id).or_default().stale = Some(clock::stepped());
    }

    /// A host or the port came or went: the agent begins to write anew.
    pub fn begins_anew(&mut self) {
        self.disturbed();
        self.begun = Instant::now();
        self.left_over = 0;
    }

    /// Something came between host and agent: what was asked for may be gone.
    pub fn disturbed(&mut self) {
        self.disturbances += 1;
        self.untaken.clear();
    }

    /// The agent takes nothing now: its memory budget is used up.
    pub fn refused_for_memory(&mut self) {
        self.untaken.clear();
    }

    /// A command was let through.
    pub fn taken(&mut self, id: Id) {
        self.note("taken", id.number, u64::from(id.is_script));
        if let Some(at) = self.untaken.iter().position(|(asked, _)| *asked == id) {
            self.untaken.remove(at);
        }
        let life = self.life;
        let asked = self.asked.entry(id).or_default();
        asked.taken_times = if asked.taken == Some(life) { asked.taken_times + 1 } else { 1 };
        asked.taken = Some(life);
        self.under_way += asked.bytes - std::mem::replace(&mut asked.under_way, asked.bytes);
        let (taken, times) = (asked.taken_times, asked.times);
        // To a clock that was set back an envelope is fresh that was too old when it was sent.
        let is_fresh = asked.stale.is_some_and(|stepped| clock::stepped() < stepped);
        if taken > times && !is_fresh {
            self.breaks(|| format!("{id:?} was asked for {times} times, and taken {taken} times"));
        }
    }

    /// Whether something was asked for long ago and not taken.
    pub fn overdue(&mut self) {
        let overdue = self.untaken.iter().find(|(_, at)| at.elapsed() >= TAKEN_WITHIN);
        if let Some((id, _)) = overdue.copied() {
            self.breaks(|| format!("{id:?} was asked for, and not taken in {TAKEN_WITHIN:?}"));
        }
    }

    /// A command or script that the end of an agent has cut, and that no later one answered.
    pub(super) fn untold(&self) -> Option<Id> {
        let is_cut = |(_, one): &(&Id, &Asked)| {
            one.made.is_empty() && one.began.iter().any(|began| *began < self.life)
        };
        self.asked.iter().find(is_cut).map(|(id, _)| *id)
    }

    /// A command is carried out.
    pub fn began(&mut self, number: u64, is_script: bool) {
        self.note("began", number, u64::from(is_script));
        let (life, order) = (self.life, self.order);
        let asked = self.asked.entry(Id { number, is_script }).or_default();
        asked.began.push(life);
        let times = asked.began.len();
        // So many answers later the agent has forgotten that it did it.
        let is_forgotten = asked.made.last().is_some_and(|last| order - last.order >= REQUESTS);
        if times > 1 && (is_script || !is_forgotten) {
            self.breaks(|| format!("{number} is carried out {times} times (script: {is_script})"));
        }
    }
}
