//! Power cuts, and syncs that fail: what was synced is there afterwards.

use std::collections::BTreeMap;

use crate::doubles::faulty_disk::{Faults, FaultyDisk};
use infiniservice::internals::spool::{MessageKind, Spool, State};
use infiniservice::model::Rng;

use super::rig::{NOW, all, message, small, text, texts};

/// What a run has done when the power went.
#[derive(Default)]
struct Did {
    /// By its text: each item, and whether a sync has succeeded since it was written.
    put: BTreeMap<u64, (String, bool)>,
    /// Read up to here, and that is synced up to there.
    read: u64,
    read_synced: u64,
    /// Shed or given up for some other reason than being read.
    lost: u64,
}

/// A run over `disk` that uses everything the spool does; stops mattering when the power goes.
fn run(disk: &FaultyDisk, seed: u64, did: &mut Did) {
    let mut chance = Rng(seed);
    let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
    let mut number = 0;
    for turn in 0..60 {
        for _ in 0..chance.below(4) {
            number += 1;
            let text = text(number, 20 + chance.below(900) as usize);
            let kind = MessageKind::ALL[chance.below(4) as usize];
            spool.put(message(kind, text.clone()), 0, NOW + turn);
            did.put.insert(number, (text, false));
        }
        spool.flush(NOW + turn);
        match chance.below(6) {
            0 | 1 => spool.sync(NOW + turn),
            2 => {
                let newest = spool.waiting().back().map_or(did.read, |item| item.seq);
                did.read += chance.below(newest - did.read + 1);
                spool.acknowledge(did.read);
                spool.flush(NOW + turn);
            }
            3 => spool.tidy(NOW + turn),
            4 => spool.retry(NOW + turn),
            _ => {}
        }
        did.lost += spool.losses().iter().map(|(_, weight)| weight).sum::<u64>();
        if spool.state() == State::Ok && !spool.is_dirty() {
            did.put.values_mut().for_each(|(_, synced)| *synced = true);
            did.read_synced = did.read;
        }
    }
}

#[test]
fn after_a_power_cut_at_any_step_all_that_was_synced_is_there_whole_and_in_order() {
    for seed in 0..6 {
        let whole = FaultyDisk::new(seed);
        let mut did = Did::default();
        run(&whole, seed, &mut did);
        let steps = whole.steps();
        assert!(steps > 60 && did.lost == 0 && did.read_synced > 0, "the run uses the disk");
        for cut in 1..=steps {
            for leaves in 0..3 {
                let disk = FaultyDisk::new(seed * 1_000_003 + cut * 31 + leaves);
                disk.set(Faults {
                    cut_at: Some(cut),
                    short_writes: leaves == 1,
                    ..Faults::default()
                });
                let mut did = Did::default();
                run(&disk, seed, &mut did);
                disk.power_cut();
                check(&disk, &did, &format!("seed {seed} cut {cut} leaves {leaves}"));
            }
        }
    }
}

/// Opens what a cut has left, twice: once as it is, and once more after that.
fn check(disk: &FaultyDisk, did: &Did, case: &str) {
    let (mut spool, opened) = Spool::open(disk.clone(), &small(), NOW);
    assert!(!opened.cloned && opened.trouble.is_none(), "{case}: {opened:?}");
    spool.losses(); // what was not synced may be torn, and is told
    let there: Vec<(u64, String)> = all(&mut spool)
        .into_iter()
        .map(|stored| {
            assert!(stored.redelivered, "{case}");
            (stored.seq, String::from_utf8(stored.frame.bytes.to_vec()).unwrap())
        })
        .collect();
    assert!(spool.losses().is_empty(), "{case}: a body that was scanned can be read");
    assert!(there.is_sorted_by_key(|(seq, _)| *seq), "{case}: in order");
    for (seq, text) in &there {
        let put = did.put.get(seq).map(|(text, _)| text);
        assert_eq!(put, Some(text), "{case}: nothing torn, nothing made up");
        assert!(*seq > did.read_synced, "{case}: {seq} was read, and that was synced");
    }
    for (seq, _) in did.put.iter().filter(|(seq, (_, synced))| *synced && **seq > did.read) {
        assert!(there.iter().any(|(there, _)| there == seq), "{case}: {seq} was synced");
    }
    spool.put(message(MessageKind::Response, "new"), 0, NOW);
    spool.flush(NOW);
    spool.sync(NOW);
    assert_eq!(spool.state(), State::Ok, "{case}");
    disk.power_cut();
    let (mut spool, opened) = Spool::open(disk.clone(), &small(), NOW);
    assert_eq!(opened.corruptions, [], "{case}: repaired");
    assert_eq!(texts(&mut spool).len(), there.len() + 1, "{case}");
    assert_eq!(texts(&mut spool).last().unwrap(), "new", "{case}");
}

#[test]
fn after_a_sync_that_failed_nothing_rests_on_the_old_file() {
    for seed in 0..200 {
        let disk = FaultyDisk::new(seed);
        let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
        spool.put(message(MessageKind::Response, text(1, 2_000)), 0, NOW);
        spool.flush(NOW);
        disk.set(Faults { sync_fails: true, ..Faults::default() });
        spool.sync(NOW);
        assert!(matches!(spool.state(), State::Failing(_)));
        disk.set(Faults::default());
        spool.retry(NOW);
        assert_eq!(spool.state(), State::Ok);
        disk.power_cut();
        let (mut spool, opened) = Spool::open(disk, &small(), NOW);
        assert_eq!(
            (opened.corruptions, texts(&mut spool)),
            (vec![], vec![text(1, 2_000)]),
            "seed {seed}"
        );
    }
}

#[test]
fn a_rename_counts_when_the_folder_is_synced() {
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
        spool.put(message(MessageKind::Response, "one"), 0, NOW);
        disk.set(Faults { folder_sync_fails: true, ..Faults::default() });
        assert!(spool.compact(NOW).is_err());
        disk.set(Faults::default());
        spool.sync(NOW);
        assert!(spool.state() == State::Ok && !spool.is_dirty());
        disk.power_cut();
        let (mut spool, _) = Spool::open(disk, &small(), NOW);
        assert_eq!(texts(&mut spool), ["one"], "seed {seed}");
    }
}
