//! What each fault does to the world, and what the machine has to tell. Decides nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use infiniservice::delivery::Faults;
use infiniservice::metrics::generate::Generator;
use infiniservice::model::{Group, SystemMetrics};
use tokio::time::Instant;

use super::super::agent::KEY;
use super::super::clock;
use super::super::faults::Fault;
use super::super::flows::DRAIN;
use super::super::known::End;
use super::World;

impl World {
    /// Makes it happen.
    pub(super) async fn apply(&mut self, fault: &Fault) {
        if fault.disturbs() {
            self.known.lock().disturbed();
        }
        let host = &mut self.host;
        match fault {
            Fault::Leave => host.leave(),
            Fault::Connect => {
                let is_unseen = self.crashed == Instant::now();
                host.connect();
                if is_unseen {
                    self.known.lock().unseen();
                }
            }
            Fault::Crash => {
                // Where nobody has the port open, what it said goes with it.
                if self.known.lock().is_open {
                    host.half_line(false);
                }
                host.leave();
                self.crashed = Instant::now();
            }
            Fault::Swap => {
                let hears = host.answers.is_some_and(|late| late < 1_000);
                host.swap();
                self.known.lock().swapped(hears);
            }
            Fault::StopReading => host.stop_reading(),
            Fault::ReadOn => host.read_on(),
            Fault::Answers(late) => host.answers = *late,
            Fault::Command(behaviour) => host.command(*behaviour),
            Fault::Burst(many) => many.iter().for_each(|one| host.command(*one)),
            Fault::Scripts(scripts) => host.scripts(scripts),
            Fault::SameId => host.same_id(),
            Fault::Replay => host.replay(),
            Fault::Forged => host.forged(b"another secret", 0),
            Fault::Stale => host.forged(KEY, 400_000),
            Fault::HalfLine => host.half_line(true),
            Fault::Garbage(seed) => host.garbage(*seed),
            Fault::KeepAlive => host.keep_alive(),
            Fault::Unplug => {
                host.step();
                host.end.unplug();
                self.known.lock().discarded(host.end.underway());
            }
            Fault::Plug => host.end.plug(),
            Fault::Hold(is_held) => host.end.hold(*is_held),
            Fault::ZeroWrites(times) => host.end.write_zero(*times),
            Fault::DeviceError => host.end.fail_once(),
            Fault::Split(bytes) => host.end.take_at_most(*bytes),
            Fault::WallStep(ms) => clock::step(*ms),
            Fault::Suspend(_) => {}
            Fault::Disk(faults) => self.around.disk.faulty.set(faults.clone()),
            Fault::CutAtStep(steps) => {
                let at = self.around.disk.faulty.steps() + steps + 1;
                self.around.disk.faulty.set(Faults { cut_at: Some(at), ..Faults::default() });
                self.cut_at = Some(at);
            }
            Fault::LogStep(steps, is_power) => {
                let at = self.around.requests.steps() + 1 + steps;
                self.around.requests.set(Faults { cut_at: Some(at), ..Faults::default() });
                let end = if *is_power { End::PowerCut } else { End::Killed };
                self.ends_at = Some((at, end));
            }
            Fault::ReplayAll => host.replay_all(),
            Fault::PowerCut => self.cut_power().await,
            Fault::Kill => self.kill(End::Killed).await,
            Fault::KillAtWrite(writes) => self.known.lock().kill_after = Some(*writes + 1),
            Fault::Stop => {
                if let Some(agent) = &self.agent {
                    agent.stop.cancel();
                    self.is_stopping = true;
                    self.stops_at.get_or_insert(Instant::now() + DRAIN);
                    self.known.lock().is_closing = true;
                }
            }
            Fault::Pace(pace) => drop(self.pace.send_replace(*pace)),
            Fault::Reload(files) => drop(self.around.files.send_replace(*files)),
            Fault::HalfCommand(behaviour) => host.half_command(*behaviour),
            Fault::Rest => host.rest(),
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
