//! Runs the simulator over many seeds, or shows one.
//!
//! ```sh
//! cargo run --release --example simulate -- --seeds 100000 [--from 1] [--threads 2]
//! cargo run --release --example simulate -- --seed 4711 [-v]
//! ```
//! Seeds from 4294967296 (2^32) on have hosts as today's (`host = "infinibay"`).
//! A seed that breaks a rule is shown with a plan that is as short as can be, and its last events; exit 1 then.
//! The rules are in `tests/simulate/known.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../simulate/mod.rs"]
mod sim;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use clap::Parser;

use sim::faults::Plan;
use sim::{Report, history, run, run_plan, shrink};

/// Failing seeds after which no more are tried.
const FAILURES_MAX: usize = 10;
/// Events that are shown of a failing run.
const EVENTS_SHOWN: usize = 80;

#[derive(Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Threads; each runs seeds of its own.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
    /// This seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// All events of it; of many, their digests.
    #[arg(short, long)]
    verbose: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let is_well = match arguments.seed {
        Some(seed) => one(seed, arguments.verbose),
        None => many(&arguments),
    };
    std::process::exit(i32::from(!is_well));
}

fn one(seed: u64, verbose: bool) -> bool {
    let report = run_plan(seed, &Plan::of(seed), verbose);
    if verbose {
        Plan::of(seed).faults.iter().for_each(|fault| println!("plan {fault:?}"));
        report.last.iter().for_each(|event| println!("{event}"));
    }
    if report.broken.is_some() {
        show(&report);
    }
    println!("seed {seed}: {:?}, digest {:016x}", report.broken, report.digest);
    report.broken.is_none()
}

/// Tells what broke, and a shorter way to it.
fn show(report: &Report) {
    let (plan, shorter) = shrink(report.seed, report);
    println!("\nseed {}: {}", report.seed, report.broken.as_deref().unwrap_or_default());
    println!("  shortest plan: {}", shorter.broken.as_deref().unwrap_or_default());
    plan.faults.iter().for_each(|(at, fault)| println!("  {at:>6} ms  {fault:?}"));
    let whole = run_plan(report.seed, &plan, true).last;
    let matters = |event: &&history::Event| !matches!(event.what, "reading" | "accepted");
    let events: Vec<_> = whole.iter().filter(matters).collect();
    let left_out = events.len().saturating_sub(EVENTS_SHOWN);
    println!("    ({left_out} events before, and readings, are left out)");
    events.iter().skip(left_out).for_each(|event| println!("    {event}"));
}

/// The next seed before `end`.
fn take(next: &AtomicU64, end: u64) -> Option<u64> {
    next.fetch_update(Relaxed, Relaxed, |seed| (seed < end).then(|| seed + 1)).ok()
}

fn many(arguments: &Arguments) -> bool {
    let Some(end) = arguments.from.checked_add(arguments.seeds) else {
        let most = u64::MAX - arguments.from;
        println!("there are {most} seeds from {}; ask for as many at most", arguments.from);
        return false;
    };
    let next = AtomicU64::new(arguments.from);
    let (failures, started) = (Mutex::new(Vec::<Report>::new()), Instant::now());
    let sums: [AtomicU64; 5] = Default::default();
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                loop {
                    if failures.lock().unwrap().len() >= FAILURES_MAX {
                        return;
                    }
                    let Some(seed) = take(&next, end) else { return };
                    let report = run(seed);
                    if arguments.verbose {
                        println!("seed {seed}: {:?}, digest {:016x}", report.broken, report.digest);
                    }
                    let Report { got, events, lives, ended_ms, .. } = report;
                    let parts = [got.0, got.1, events, lives.into(), ended_ms];
                    for (sum, part) in sums.iter().zip(parts) {
                        sum.fetch_add(part, Relaxed);
                    }
                    if report.broken.is_some() {
                        println!("seed {seed}: {}", report.broken.as_deref().unwrap_or_default());
                        failures.lock().unwrap().push(report);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    if let Some(first) = failures.first() {
        show(first);
    }
    let seeds = next.load(Relaxed).min(end) - arguments.from;
    let took = started.elapsed().as_secs_f64();
    let [readings, answers, events, lives, ms] = sums.map(|sum| sum.load(Relaxed));
    println!(
        "{seeds} seeds in {took:.1} s, {:.0}/s on {} threads: {} broke a rule; {lives} lives of the agent, \
         {readings} readings and {answers} answers got, {events} events, {} days simulated",
        seeds as f64 / took,
        arguments.threads,
        failures.len(),
        ms / 86_400_000
    );
    failures.is_empty()
}
