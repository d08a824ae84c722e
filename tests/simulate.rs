//! The whole agent in a simulated world, over many seeds: `tests/simulate` says what goes wrong in it and
//! what must hold all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

#[path = "simulate/mod.rs"]
mod sim;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sim::{Report, run, shrink};

/// Every run of the tests has the same ones: what CI finds once it finds again.
const SEEDS: u64 = 2_000;

#[test]
fn whatever_goes_wrong_nothing_is_lost_unsaid_torn_doubled_or_stuck() {
    let (next, failed) = (AtomicU64::new(1), Mutex::new(None::<Report>));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed > SEEDS || failed.lock().unwrap().is_some() {
                        return;
                    }
                    let report = run(seed);
                    if report.broken.is_some() {
                        failed.lock().unwrap().get_or_insert(report);
                    }
                }
            });
        }
    });
    if let Some(report) = failed.into_inner().unwrap() {
        let (plan, shorter) = shrink(report.seed, &report);
        let last: Vec<_> = shorter.last.iter().map(ToString::to_string).collect();
        panic!(
            "seed {} ({:?}): cargo run --release --example simulate -- --seed {} -v\n{:#?}\n{}",
            report.seed,
            report.broken,
            report.seed,
            plan.faults,
            last.join("\n")
        );
    }
}

#[test]
fn a_seed_is_the_same_history_every_time() {
    for seed in [1, 7, 95, 566] {
        let (first, other) = (run(seed), run(seed + 1));
        let again = std::thread::spawn(move || run(seed)).join().unwrap();
        assert_eq!((first.digest, first.events), (again.digest, again.events), "seed {seed}");
        assert_ne!(first.digest, other.digest);
        assert!(first.events > 100 && first.got.0 > 0, "{first:?}");
    }
}
