//! The simulator: the whole agent on a paused clock, over the model of the port, with a disk that breaks, a clock
//! that jumps and a host that does what it likes; all of it drawn from one number. The same number is the same
//! run, event by event.
//!
//! | file | what it is |
//! |---|---|
//! | `faults` | what goes wrong, and when |
//! | `world`, `world/fate` | the run: the plan, then all is well, then rest; what each fault does |
//! | `known` and its folder | the rules, and what is known to judge by them |
//! | `agent`, `flows` | the agent as the daemon assembles it, and changes it while it runs |
//! | `host` | the other end |
//! | `line`, `disk`, `machine`, `clock` | port, disk, programs and wall clock, each with a tap |
//! | `history` | what happened, and a digest of it |
//!
//! It does not read the machine, start a program or touch a disk, and knows no thread.

pub mod agent;
pub mod clock;
#[path = "../doubles/mod.rs"]
pub mod doubles;
pub mod disk;
pub mod faults;
pub mod flows;
pub mod history;
pub mod host;
pub mod known;
pub mod line;
pub mod machine;
pub mod world;

use std::panic;
use std::sync::Once;

use tokio::runtime::Builder;

use self::faults::Plan;
use self::history::Event;
use self::world::World;

/// How a run went.
#[derive(Debug, Clone)]
pub struct Report {
    /// Which run.
    pub seed: u64,
    /// The rule that was broken, if one was.
    pub broken: Option<String>,
    /// When the run ended, in its milliseconds.
    pub ended_ms: u64,
    /// The same for the same history.
    pub digest: u64,
    /// How many events there were.
    pub events: u64,
    /// Readings and answers that hosts got.
    pub got: (u64, u64),
    /// Lives of the agent.
    pub lives: u32,
    /// The last events, or all.
    pub last: Vec<Event>,
}

/// Runs a seed.
pub fn run(seed: u64) -> Report {
    run_plan(seed, &Plan::of(seed), false)
}

/// Runs a plan; with `whole` all events are kept.
pub fn run_plan(seed: u64, plan: &Plan, whole: bool) -> Report {
    quiet_panics();
    agent::policy();
    fastrand::seed(seed); // the jitter of back-offs
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        clock::begin();
        let mut world = World::new(seed, plan, whole);
        world.run(plan).await;
        let known = world.known.lock();
        Report {
            seed,
            broken: known.broken.clone(),
            ended_ms: clock::elapsed_ms(),
            digest: known.history.digest(),
            events: known.history.events,
            got: (known.readings, known.answers),
            lives: known.life,
            last: known.history.last.iter().copied().collect(),
        }
    })
}

/// A shorter plan that breaks the same rule: without what comes later, and without whatever is not needed.
pub fn shrink(seed: u64, report: &Report) -> (Plan, Report) {
    let (mut plan, mut best) = (Plan::of(seed), report.clone());
    let rule = |report: &Report| -> Option<String> {
        let mut words = report.broken.as_deref()?.rsplit(|c: char| c.is_ascii_digit());
        words.next().map(|last| last.chars().take(24).collect())
    };
    let wanted = rule(report);
    let mut size = plan.faults.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < plan.faults.len() {
            let mut shorter = plan.clone();
            shorter.faults.drain(at..(at + size).min(plan.faults.len()));
            let report = run_plan(seed, &shorter, false);
            if rule(&report) == wanted {
                (plan, best) = (shorter, report);
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    (plan, best)
}

/// Panics that a run makes on purpose are not told.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if info.payload_as_str() != Some(machine::PANIC) {
                tell(info);
            }
        }));
    });
}
