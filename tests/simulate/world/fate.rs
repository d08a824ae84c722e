//! What each fault does to the world, and what the machine has to tell. Decides nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use infiniservice::metrics::synthetic::Generator;
use infiniservice::model::{Group, SystemMetrics};

use tokio::time::Instant;

use super::super::agent::KEY;
use super::super::clock;
use super::super::doubles::faulty_disk::Faults;
use super::super::faults::StageError;
use super::super::flows::DRAIN;
use super::super::known::ExitStatus;
use super::World;

impl World {
    /// Makes it happen.
    pub(super) async fn apply(&mut self, fault: &StageError) {
        if fault.disturbs() {
            self.known.lock().disturbed();
        }
        let host = &mut self.host;
        match fault {
            StageError::Leave => host.leave(),
            StageError::Connect => {
                let is_unseen = self.crashed == Instant::now();
                host.connect();
                if is_unseen {
                    self.known.lock().unseen();
                }
            }
            StageError::Crash => {
                // Where nobody has the port open, what it said goes with it.
                if self.known.lock().is_open {
                    host.half_line(false);
                }
                host.leave();
                self.crashed = Instant::now();
            }
            StageError::Swap => {
                let hears = host.answers.is_some_and(|late| late < 1_000);
                host.swap();
                self.known.lock().swapped(hears);
            }
            StageError::StopReading => host.stop_reading(),
            StageError::ReadOn => host.read_on(),
            StageError::AckTracker(late) => host.answers = *late,
            StageError::Command(behaviour) => host.command(*behaviour),
            StageError::Burst(many) => many.iter().for_each(|one| host.command(*one)),
            StageError::Scripts(scripts) => host.scripts(scripts),
            StageError::SameId => host.same_id(),
            StageError::Replay => host.replay(),
            StageError::Forged => host.forged(b"another secret", 0),
            StageError::Stale => host.forged(KEY, 400_000),
            StageError::HalfLine => host.half_line(true),
            StageError::Garbage(seed) => host.garbage(*seed),
            StageError::KeepAlive => host.keep_alive(),
            StageError::Unplug => {
                host.step();
                host.end.unplug();
                self.known.lock().discarded(host.end.underway());
            }
            StageError::Plug => host.end.plug(),
            StageError::Hold(is_held) => host.end.hold(*is_held),
            StageError::ZeroWrites(times) => host.end.write_zero(*times),
            StageError::DeviceError => host.end.fail_once(),
            StageError::Split(bytes) => host.end.take_at_most(*bytes),
            StageError::WallStep(ms) => {
                clock::step(*ms);
                // As the daemon does, which watches the clocks.
                if let Some(agent) = &self.agent {
                    agent.log.look_at_clocks(Instant::now(), clock::now_ms());
                }
            }
            StageError::Suspend(_) => {}
            StageError::Disk(faults) => self.around.disk.faulty.set(faults.clone()),
            StageError::CutAtStep(steps) => {
                let at = self.around.disk.faulty.steps() + steps + 1;
                self.around.disk.faulty.set(Faults { cut_at: Some(at), ..Faults::default() });
                self.cut_at = Some(at);
            }
            StageError::LogStep(steps, is_power) => {
                let at = self.around.requests.steps() + 1 + steps;
                self.around.requests.set(Faults { cut_at: Some(at), ..Faults::default() });
                let end = if *is_power { ExitStatus::PowerCut } else { ExitStatus::Killed };
                self.ends_at = Some((at, end));
            }
            StageError::ReplayAll => host.replay_all(),
            StageError::PowerCut => self.cut_power().await,
            StageError::Kill => self.kill(ExitStatus::Killed).await,
            StageError::KillAtWrite(writes) => self.known.lock().kill_after = Some(*writes + 1),
            StageError::Stop => {
                if let Some(agent) = &self.agent {
                    agent.stop.cancel();
                    self.is_stopping = true;
                    self.stops_at.get_or_insert(Instant::now() + DRAIN);
                    self.known.lock().is_closing = true;
                }
            }
            StageError::Pace(pace) => drop(self.pace.send_replace(*pace)),
            StageError::Reload(files) => drop(self.around.files.send_replace(*files)),
            StageError::HalfCommand(behaviour) => host.half_command(*behaviour),
            StageError::Rest => host.rest(),
        }
    }
}

/// Readings that are so much longer than they must be. Text costs little to write, so a run can have many of them.
pub(super) fn readings(pads: usize) -> Arc<Vec<SystemMetrics>> {
    static MADE: [OnceLock<Arc<Vec<SystemMetrics>>>; 3] =
        [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    let made = match pads {
        0 => &MADE[0],
        1..4_000 => &MADE[1],
        _ => &MADE[2],
    };
    let make = || {
        let tags = Arc::new(BTreeMap::from([("pads".to_owned(), "x".repeat(pads))]));
        let mut generator = Generator::new(&[Group::Load], 0, 1);
        let mut made: Vec<SystemMetrics> =
            (0..16).filter_map(|_| generator.next(Instant::now())).collect();
        for reading in made.iter_mut().filter(|_| pads > 0) {
            reading.tags = Some(Arc::clone(&tags));
        }
        Arc::new(made)
    };
    Arc::clone(made.get_or_init(make))
}
