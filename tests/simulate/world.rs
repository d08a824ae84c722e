//! One run: an agent, a host, a port, a disk and a clock; what the plan says goes wrong, and then all is well
//! and everything must come to rest. Decides nothing: the plan does, and [`Known`](super::known) judges.

mod fate;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use infiniservice::internals::spool::State;
use tokio::sync::{Notify, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, advance, sleep_until};

use super::agent::{Agent, Surroundings};
use super::disk::Disk;
use super::doubles::faulty_disk::{Faults, FaultyDisk};
use super::faults::{Plan, StageError, TROUBLE_MS};
use super::host::Host;
use super::known::{ExitStatus, Id, Known, Shared};
use super::line;
use super::machine::Behaviour;

/// How long everything has to come to rest: longer than the longest wait of the product, which is a minute for
/// a host that has stopped to answer.
const REST: Duration = Duration::from_secs(260);
/// At the end of it nothing must move for so long.
const QUIET: Duration = Duration::from_secs(60);
/// How often everything is looked at where nothing is written, and once all is well.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AT_REST: Duration = Duration::from_secs(5);
/// The first of the commands that are sent once all is well.
const AFTERWARDS: u64 = 900_000;
/// Room that any request of a run needs in the memory budget.
const REQUEST_BYTES: usize = 16 << 10;

/// What is there beside the plan.
pub struct World {
    /// What is known.
    pub known: Shared,
    host: Host,
    around: Surroundings,
    changed: Arc<Notify>,
    pace: watch::Sender<u32>,
    agent: Option<Agent>,
    is_stopping: bool,
    /// When it must have stopped.
    stops_at: Option<Instant>,
    starts_at: Option<Instant>,
    /// The power is cut when the disk has made so many steps.
    cut_at: Option<u64>,
    /// The agent is killed, or its power is cut, when the request log has made so many steps: all after them fail.
    ends_at: Option<(u64, ExitStatus)>,
    /// What hosts have sent was sent again.
    is_replayed: bool,
    /// When a host went in the middle of a line of its own.
    crashed: Instant,
    leaked: usize,
    shed: u64,
    looked: (Instant, u64, u64),
}

impl World {
    /// Everything is there, and nothing runs.
    pub fn new(seed: u64, plan: &Plan, whole: bool) -> Self {
        let known = Known::shared(plan.spool, whole);
        let (port, end, changed) = line::pair(&known);
        let (pace, at) = watch::channel(0);
        let around = Surroundings {
            known: Arc::clone(&known),
            port,
            disk: Disk::new(seed, &known),
            pace: at,
            readings: fate::readings(plan.pads),
            requests: FaultyDisk::new(seed),
            boot: 0,
            spool: plan.spool,
            ceiling: plan.ceiling,
            is_quiet: plan.is_quiet,
            files: watch::Sender::new(plan.files),
        };
        known.lock().is_quiet = plan.is_quiet;
        let host = Host::new(end, &known, seed, plan.is_quiet);
        let now = Instant::now();
        Self {
            known,
            host,
            around,
            changed,
            pace,
            agent: None,
            is_stopping: false,
            stops_at: None,
            starts_at: Some(now),
            cut_at: None,
            ends_at: None,
            is_replayed: false,
            crashed: now,
            leaked: 0,
            shed: 0,
            looked: (now, 0, 0),
        }
    }

    /// Runs the plan, heals everything, and waits for the rest.
    pub async fn run(&mut self, plan: &Plan) {
        let mut faults: VecDeque<_> = plan.faults.iter().collect();
        let mut began = Instant::now();
        let at = |began: Instant, ms: u64| began + Duration::from_millis(ms);
        loop {
            let next = faults.front().map_or(TROUBLE_MS, |(at, _)| *at);
            if Instant::now() >= at(began, next) {
                let Some((_, fault)) = faults.pop_front() else { break };
                self.known.lock().note(fault.name(), 0, 0);
                if let StageError::Suspend(ms) = fault {
                    let pause = Duration::from_millis(*ms);
                    self.known.lock().disturbed();
                    began += pause;
                    advance(pause).await;
                }
                self.apply(fault).await;
            } else {
                self.wait(at(began, next), LOOK).await;
            }
            self.step().await;
            if self.is_broken() {
                return;
            }
        }
        self.heal(plan);
        self.rest().await;
        if !self.is_broken() {
            self.finish().await;
        }
    }

    fn is_broken(&self) -> bool {
        self.known.lock().broken.is_some()
    }

    /// Waits for something to happen, `most` at most.
    async fn wait(&self, until: Instant, most: Duration) {
        let until = until.min(Instant::now() + most);
        let until =
            [self.host.next(), self.starts_at].into_iter().flatten().fold(until, Instant::min);
        tokio::select! {
            biased;
            () = self.changed.notified() => {}
            () = sleep_until(until) => {}
        }
    }

    async fn step(&mut self) {
        self.host.step();
        if self.known.lock().kill_after == Some(0) {
            self.kill(ExitStatus::Killed).await;
        }
        if self.cut_at.is_some_and(|at| self.around.disk.faulty.steps() >= at) {
            self.cut_power().await;
        }
        if let Some((at, end)) = self.ends_at
            && self.around.requests.steps() >= at
        {
            self.ends_at = None;
            match end {
                ExitStatus::PowerCut => self.cut_power().await,
                end => self.kill(end).await,
            }
            self.around.requests.set(Faults::default());
        }
        if self.agent.as_ref().is_some_and(|agent| agent.running.is_finished()) {
            self.ended().await;
        }
        if self.agent.is_none() && self.starts_at.is_some_and(|at| at <= Instant::now()) {
            self.start();
        }
        self.check().await;
    }

    fn start(&mut self) {
        self.known.lock().begins();
        self.agent = Some(Agent::start(&self.around));
        (self.starts_at, self.stops_at, self.is_stopping) = (None, None, false);
        self.looked = (Instant::now(), 0, self.known.lock().moves);
    }

    /// The agent came to its end by itself.
    async fn ended(&mut self) {
        let Some(mut agent) = self.agent.take() else { return };
        let outcome = (&mut agent.running).await;
        self.buries(&agent);
        let mut known = self.known.lock();
        match outcome {
            Ok(outcome) if self.is_stopping => {
                let end = if outcome.drained { ExitStatus::Drained } else { ExitStatus::Killed };
                known.ended(end, true, self.shed);
            }
            outcome => known.breaks(|| format!("the agent ended by itself: {outcome:?}")),
        }
        drop(known);
        self.starts_at = Some(Instant::now() + Duration::from_millis(700));
    }

    async fn kill(&mut self, end: ExitStatus) {
        self.known.lock().kill_after = None;
        let agent = self.agent.take();
        let was_alive = agent.is_some();
        if let Some(mut agent) = agent {
            agent.running.abort();
            let _ = (&mut agent.running).await; // it was cancelled
            self.buries(&agent);
            self.starts_at = Some(Instant::now() + Duration::from_millis(1_300));
        }
        if was_alive || end == ExitStatus::PowerCut {
            self.known.lock().ended(end, was_alive, self.shed);
        }
    }

    async fn cut_power(&mut self) {
        self.cut_at = None;
        self.kill(ExitStatus::PowerCut).await;
        self.around.disk.faulty.power_cut();
        self.around.requests.power_cut();
        self.around.boot += 1;
    }

    /// Adds up what the books of a life say of what was shed.
    fn buries(&mut self, agent: &Agent) {
        self.shed += self.shed_by(agent);
    }

    fn shed_by(&self, agent: &Agent) -> u64 {
        let reads_failed = self.known.lock().disk.reads_failed;
        let told = |reason: &str| {
            matches!(reason, "spool full" | "long") || (reason == "damaged" && reads_failed)
        };
        let books = agent.health.counts();
        let spooled = books.iter().filter(|node| node.node == "spool");
        spooled.flat_map(|node| &node.dropped).filter(|lost| told(lost.0)).map(|lost| lost.1).sum()
    }

    /// What must hold at every step.
    async fn check(&mut self) {
        let Some(agent) = &self.agent else { return };
        // Tasks that were woken in the same millisecond may not have had their turn.
        for _ in 0..200 {
            if agent.health.unbalanced().is_none() {
                break;
            }
            yield_now().await;
        }
        let mut known = self.known.lock();
        // A reply that no host acknowledges may fill the smallest budget; then a request is refused.
        if agent.ledger.used() + REQUEST_BYTES > self.around.ceiling {
            known.refused_for_memory();
        }
        known.overdue();
        // At the end of its drain what is left is cut off in the middle of a step.
        let is_cut_off = self.stops_at.is_some_and(|at| at <= Instant::now());
        if let Some(wrong) = agent.health.unbalanced().filter(|_| !is_cut_off) {
            known.breaks(|| format!("books do not add up: {wrong:?}"));
        }
        let just_made = match known.just_made {
            (at, bytes) if at == super::clock::elapsed_ms() => bytes,
            _ => 0,
        };
        let waiting = agent.backlog.now();
        let must = waiting.bytes as usize + 400 * waiting.items as usize + just_made;
        let ceiling = self.around.ceiling;
        // Readings have half of it, and requests are taken up to the whole.
        let queued = (ceiling / 2 + known.under_way).min(ceiling);
        let (used, allowed) = (agent.ledger.used(), queued + (192 << 10) + must);
        if used > allowed {
            known.breaks(|| format!("{used} bytes are queued, and {allowed} may be"));
        }
        let leaked = self.host.end.leaked();
        // A host that never answered is given more with time, whether it reads or not.
        let is_new = leaked > std::mem::replace(&mut self.leaked, leaked);
        if is_new && known.has_answered() && !known.was_long() && !self.host.end.splits {
            known.breaks(|| format!("the port has lost {leaked} buffers for ever"));
        }
        let (at, wakeups, moves) = self.looked;
        if at.elapsed() >= Duration::from_secs(1) {
            let seen = agent.counters.wakeups.load(std::sync::atomic::Ordering::Relaxed);
            let (woken, moved) = (seen - wakeups, known.moves - moves);
            let allowed = 40 + 2 * at.elapsed().as_secs().min(100) + 8 * moved;
            if woken > allowed {
                known.breaks(|| {
                    format!("{woken} wake-ups in {:?}, and {moved} moves", at.elapsed())
                });
            }
            self.looked = (Instant::now(), seen, known.moves);
        }
    }

    fn heal(&mut self, plan: &Plan) {
        self.known.lock().note("healed", 0, 0);
        let host = &mut self.host;
        host.end.plug();
        host.end.hold(false);
        host.end.write_zero(0);
        host.end.take_at_most(usize::MAX);
        self.around.disk.faulty.set(Faults::default());
        self.around.requests.set(Faults::default());
        self.ends_at = None;
        (self.cut_at, self.known.lock().kill_after) = (None, None);
        host.answers = Some(1);
        if plan.heals_with_another {
            host.swap();
        }
        host.connect();
        host.read_on();
        if self.agent.is_none() && self.starts_at.is_none() {
            self.starts_at = Some(Instant::now());
        }
        self.pace.send_replace(1);
    }

    /// Some readings more, some commands, and then nothing.
    async fn rest(&mut self) {
        let healed = Instant::now();
        let mut asked = 0;
        while healed.elapsed() < REST && !self.is_broken() {
            let next = match healed.elapsed().as_secs() {
                ..40 => healed + Duration::from_secs(40),
                40..150 => healed + Duration::from_secs(150),
                _ => healed + REST,
            };
            self.wait(next, LOOK_AT_REST).await;
            if healed.elapsed() >= Duration::from_secs(40) {
                self.pace.send_if_modified(|pace| std::mem::take(pace) > 0);
            }
            if healed.elapsed() >= Duration::from_secs(40)
                && !std::mem::replace(&mut self.is_replayed, true)
            {
                self.host.replay_all();
            }
            while asked < 3 && healed.elapsed() >= Duration::from_secs(150) {
                let (number, takes_ms, says) = (AFTERWARDS + asked, 100, 50);
                self.host.command(Behaviour { number, takes_ms, says, ..Behaviour::quick(&mut 0) });
                asked += 1;
            }
            self.step().await;
        }
    }

    /// What must hold in the end.
    async fn finish(&mut self) {
        let Some(agent) = &self.agent else {
            return self.known.lock().breaks(|| "there is no agent in the end".to_owned());
        };
        let wakeups = || agent.counters.wakeups.load(std::sync::atomic::Ordering::Relaxed);
        let before = wakeups();
        tokio::time::sleep(QUIET).await;
        self.judge(agent, wakeups() - before);
        agent.stop.cancel();
        let Some(agent) = self.agent.take() else { return };
        let ended = agent.running.await;
        if !ended.as_ref().is_ok_and(|outcome| outcome.drained) {
            self.known.lock().breaks(|| format!("it did not come to its end: {ended:?}"));
        }
    }

    fn judge(&self, agent: &Agent, woken: u64) {
        let waits = agent.backlog.now();
        let used = agent.ledger.used();
        let shed = self.shed + self.shed_by(agent);
        let mut known = self.known.lock();
        if woken > 4 {
            known.breaks(|| format!("{woken} wake-ups while nothing moved for {QUIET:?}"));
        }
        // A host that was never asked, because none before it ever answered, is believed in minutes.
        let waits_long = waits.items > 0 && !known.has_answered();
        if waits.items > 0 && !waits_long {
            known.breaks(|| format!("all is well, and this waits: {waits:?}"));
        }
        if waits.state != State::Ok && !(waits.state == State::Memory && known.in_memory) {
            known.breaks(|| format!("all is well, and the spool is not: {:?}", waits.state));
        }
        if used > 0 && !waits_long {
            known.breaks(|| format!("nothing is queued, and {used} bytes are charged"));
        }
        for number in AFTERWARDS..AFTERWARDS + 3 {
            if !known.came(Id { number, is_script: false }) {
                known.breaks(|| format!("all is well, and {number} was not answered"));
            }
        }
        known.finish(shed);
        known.adds_up(&agent.health.counts());
    }
}
