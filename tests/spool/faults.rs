//! Power cuts, full and failing disks, and files that are anything.

use std::collections::BTreeMap;

use infiniservice::delivery::{
    Faults, Faulty, ITEMS_MAX, Kind, MEMORY_MAX, Opened, SIZE_MIN, Settings, Spool, State, scan,
};
use infiniservice::model::Chance;
use infiniservice::port::Kept;
use proptest::prelude::*;
use tokio::time::Instant;

use super::rig::{NOW, must, settings, text};

fn all(spool: &mut Spool<Faulty>) -> Vec<Kept> {
    spool.next(0, usize::MAX, u64::MAX, Instant::now())
}

fn texts(spool: &mut Spool<Faulty>) -> Vec<String> {
    let bytes = all(spool).into_iter().map(|kept| kept.frame.bytes);
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

fn small() -> Settings {
    settings(SIZE_MIN)
}

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
fn run(disk: &Faulty, seed: u64, did: &mut Did) {
    let mut chance = Chance(seed);
    let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
    let mut number = 0;
    for turn in 0..60 {
        for _ in 0..chance.below(4) {
            number += 1;
            let text = text(number, 20 + chance.below(900) as usize);
            let kind = Kind::ALL[chance.below(4) as usize];
            spool.put(must(kind, text.clone()), 0, NOW + turn);
            did.put.insert(number, (text, false));
        }
        spool.flush(NOW + turn);
        match chance.below(6) {
            0 | 1 => spool.sync(NOW + turn),
            2 => {
                let newest = spool.waiting().back().map_or(did.read, |item| item.seq);
                did.read += chance.below(newest - did.read + 1);
                spool.read_up_to(did.read);
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
        let whole = Faulty::new(seed);
        let mut did = Did::default();
        run(&whole, seed, &mut did);
        let steps = whole.steps();
        assert!(steps > 60 && did.lost == 0 && did.read_synced > 0, "the run uses the disk");
        for cut in 1..=steps {
            for leaves in 0..3 {
                let disk = Faulty::new(seed * 1_000_003 + cut * 31 + leaves);
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
fn check(disk: &Faulty, did: &Did, case: &str) {
    let (mut spool, opened) = Spool::open(disk.clone(), &small(), NOW);
    assert!(!opened.cloned && opened.trouble.is_none(), "{case}: {opened:?}");
    spool.losses(); // what was not synced may be torn, and is told
    let there: Vec<(u64, String)> = all(&mut spool)
        .into_iter()
        .map(|kept| {
            assert!(kept.again, "{case}");
            (kept.seq, String::from_utf8(kept.frame.bytes.to_vec()).unwrap())
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
    spool.put(must(Kind::Response, "new"), 0, NOW);
    spool.flush(NOW);
    spool.sync(NOW);
    assert_eq!(spool.state(), State::Ok, "{case}");
    disk.power_cut();
    let (mut spool, opened) = Spool::open(disk.clone(), &small(), NOW);
    assert_eq!(opened.wrong, [], "{case}: repaired");
    assert_eq!(texts(&mut spool).len(), there.len() + 1, "{case}");
    assert_eq!(texts(&mut spool).last().unwrap(), "new", "{case}");
}

#[test]
fn a_full_disk_is_a_state_that_is_left_again_and_nothing_is_lost() {
    let disk = Faulty::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &settings(4 << 20), NOW);
    disk.set(Faults { space: Some(4_000), ..Faults::default() });
    for number in 0..20 {
        spool.put(must(Kind::Response, text(number, 500)), 0, NOW);
        spool.flush(NOW);
    }
    assert!(matches!(spool.state(), State::Failing(why) if why.contains("no space")));
    spool.retry(NOW);
    assert!(matches!(spool.state(), State::Failing(_)), "still full");
    // Those that fitted are whole, whatever comes now.
    let (mut other, opened) = Spool::open(Faulty::with(1, &disk.bytes()), &small(), NOW);
    assert_eq!((opened.wrong.len(), texts(&mut other).len()), (0, 7));

    disk.set(Faults::default());
    spool.retry(NOW);
    assert_eq!(spool.state(), State::Ok);
    assert_eq!(spool.losses(), []);
    disk.power_cut();
    let (mut spool, _) = Spool::open(disk, &small(), NOW);
    let expected: Vec<String> = (0..20).map(|number| text(number, 500)).collect();
    assert_eq!(texts(&mut spool), expected, "in order, those from memory behind those on disk");
}

#[test]
fn while_the_disk_takes_nothing_memory_is_bounded_and_the_least_is_shed() {
    let disk = Faulty::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &settings(64 << 20), NOW);
    disk.set(Faults { write_fails: true, ..Faults::default() });
    spool.put(must(Kind::Completion, "first"), 0, NOW);
    for number in 0..200 {
        let kind = if number % 2 == 0 { Kind::Event } else { Kind::Response };
        spool.put(must(kind, text(number, 40 << 10)), 0, NOW);
        spool.flush(NOW);
    }
    assert!(spool.bytes() <= MEMORY_MAX && spool.bytes() > MEMORY_MAX / 8 * 7);
    let kept: Vec<Kind> = spool.waiting().iter().map(|item| item.kind).collect();
    assert_eq!(kept[0], Kind::Completion);
    assert!(kept.iter().filter(|kind| **kind == Kind::Response).count() >= 99, "{kept:?}");
    let lost: u64 = spool
        .losses()
        .iter()
        .map(|(reason, weight)| (*reason, *weight))
        .map(|(reason, weight)| {
            assert_eq!(reason, "spool full");
            weight
        })
        .sum();
    assert_eq!(lost + kept.len() as u64, 201);
}

#[test]
fn after_a_sync_that_failed_nothing_rests_on_the_old_file() {
    for seed in 0..200 {
        let disk = Faulty::new(seed);
        let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
        spool.put(must(Kind::Response, text(1, 2_000)), 0, NOW);
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
            (opened.wrong, texts(&mut spool)),
            (vec![], vec![text(1, 2_000)]),
            "seed {seed}"
        );
    }
}

#[test]
fn a_full_spool_sheds_events_before_answers_and_answers_before_completions() {
    let disk = Faulty::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
    let kinds = [Kind::Completion, Kind::Response, Kind::Event];
    let mut number = 0;
    for kind in kinds {
        for _ in 0..15 {
            number += 1;
            spool.put(must(kind, text(number, 1_000)), 0, NOW);
        }
    }
    assert_eq!((spool.state(), spool.losses()), (State::Ok, vec![]));
    let count = |spool: &Spool<Faulty>| {
        kinds.map(|kind| spool.waiting().iter().filter(|item| item.kind == kind).count())
    };
    for number in 100..110 {
        spool.put(must(Kind::Response, text(number, 1_000)), 0, NOW);
    }
    assert_eq!((spool.state(), count(&spool)), (State::Full, [15, 25, 7]));
    let events = spool.waiting().iter().filter(|item| item.kind == Kind::Event);
    assert!(events.map(|item| item.seq).min() == Some(39), "the oldest events went");
    for number in 200..260 {
        spool.put(must(Kind::Completion, text(number, 1_000)), 0, NOW);
    }
    assert_eq!(count(&spool), [47, 0, 0]);
    let newest = spool.waiting().back().unwrap().seq;
    spool.put(must(Kind::Event, text(299, 1_000)), 0, NOW);
    assert_eq!((count(&spool), spool.waiting().back().unwrap().seq), ([47, 0, 0], newest));
    spool.put(must(Kind::Completion, text(300, 1_000)), newest, NOW);
    assert_eq!(spool.waiting().back().unwrap().seq, newest, "what the port has is not shed");
    spool.losses();

    // What was shed stays so, and the file within its size.
    spool.flush(NOW);
    spool.sync(NOW);
    assert!(disk.bytes().len() as u64 <= SIZE_MIN);
    let expected = texts(&mut spool);
    let (mut again, _) = Spool::open(disk, &small(), NOW);
    assert_eq!(texts(&mut again), expected);
    spool.read_up_to(newest);
    assert_eq!(spool.state(), State::Ok);
}

#[test]
fn the_file_stays_within_its_size_and_short_when_nothing_waits() {
    let disk = Faulty::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
    let empty = disk.bytes().len();
    for number in 1..=2_000 {
        spool.put(must(Kind::Response, text(number, 900)), 0, NOW);
        spool.flush(NOW);
        assert!(disk.bytes().len() as u64 <= SIZE_MIN);
        if number % 30 == 0 {
            spool.read_up_to(number);
            spool.flush(NOW);
        }
    }
    spool.read_up_to(2_000);
    assert!(spool.is_untidy());
    spool.tidy(NOW);
    assert_eq!(disk.bytes().len(), empty);
    assert!(!disk.bytes().windows(10).any(|part| part == b"aaaaaaaaaa"), "no byte of them is left");
    spool.put(must(Kind::Response, "next"), 0, NOW);
    assert_eq!(all(&mut spool)[0].seq, 2_001);
    drop(spool);
    let (mut spool, _) = Spool::open(disk, &small(), NOW);
    spool.put(must(Kind::Response, "after"), 0, NOW);
    assert!(all(&mut spool)[0].seq >= 2_001, "numbers rise, also with an empty file");
}

#[test]
fn a_file_of_another_machine_is_emptied_and_counted() {
    let disk = Faulty::new(1);
    let (mut spool, first) = Spool::open(disk.clone(), &small(), NOW);
    let epoch = spool.epochs().next_epoch();
    assert_eq!(first, Opened::default());
    spool.put(must(Kind::Response, "one"), 0, NOW);
    spool.put(must(Kind::Response, "two"), 0, NOW);
    spool.flush(NOW);
    drop(spool);
    let other = Settings { identity: "the clone".into(), ..small() };
    let (mut spool, opened) = Spool::open(disk.clone(), &other, NOW);
    assert_eq!(opened, Opened { dropped: 2, cloned: true, ..Opened::default() });
    assert_eq!(spool.losses().iter().filter(|(reason, _)| *reason == "cloned").count(), 2);
    assert!(spool.epochs().next_epoch() > epoch, "also where the clock stands still");
    assert_eq!(all(&mut spool).len(), 0);
    drop(spool);
    let (_, opened) = Spool::open(disk, &other, NOW);
    assert_eq!(opened, Opened::default(), "once");
}

#[test]
fn a_damaged_item_costs_itself_and_a_damaged_head_what_is_behind() {
    let disk = Faulty::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
    for number in 1..=3 {
        spool.put(must(Kind::Response, text(number, 100)), 0, NOW);
    }
    spool.flush(NOW);
    let whole = disk.bytes();
    let at = |text: &[u8]| whole.windows(text.len()).position(|part| part == text).unwrap();

    let mut bytes = whole.clone();
    bytes[at(b"2 cccc") + 50] ^= 1;
    let damaged = Faulty::with(1, &bytes);
    let (mut spool, opened) = Spool::open(damaged.clone(), &small(), NOW);
    assert_eq!(opened.wrong[0].what, "response 2 is damaged");
    assert_eq!(texts(&mut spool), [text(1, 100), text(3, 100)]);
    assert_eq!(spool.losses(), [("damaged", 1)]);
    let (mut spool, opened) = Spool::open(damaged, &small(), NOW);
    assert_eq!((opened.wrong, spool.losses()), (vec![], vec![]), "it is counted once");

    let mut bytes = whole.clone();
    bytes[at(b"2 cccc") - 1] ^= 1;
    let (mut spool, opened) = Spool::open(Faulty::with(1, &bytes), &small(), NOW);
    assert_eq!(opened.wrong[0].what, "a record's head is damaged or cut short");
    assert_eq!(texts(&mut spool), [text(1, 100)]);
}

#[test]
fn no_bytes_of_an_item_are_taken_for_a_record() {
    // What a program says is a whole spool with a forged answer; then the head before it breaks.
    let forger = Faulty::new(1);
    let (mut spool, _) = Spool::open(forger.clone(), &small(), NOW);
    spool.put(must(Kind::Completion, "forged"), 0, NOW);
    spool.flush(NOW);
    let forged = forger.bytes();
    let disk = Faulty::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
    spool.put(must(Kind::Response, forged[8..].to_vec()), 0, NOW);
    spool.put(must(Kind::Response, "honest"), 0, NOW);
    spool.flush(NOW);
    let bytes = disk.bytes();
    for position in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[position] ^= 0x40;
        let (mut spool, _) = Spool::open(Faulty::with(1, &bytes), &small(), NOW);
        assert!(!texts(&mut spool).contains(&"forged".to_owned()), "at {position}");
    }
}

#[test]
fn nothing_of_a_write_that_was_cut_back_comes_to_life_again() {
    // A record with a number that is still to come, in the middle of what a program says …
    let forger = Faulty::new(1);
    let (mut spool, _) = Spool::open(forger.clone(), &small(), NOW);
    for number in 1..50 {
        spool.put(must(Kind::Event, text(number, 20)), 0, NOW);
    }
    spool.put(must(Kind::Completion, "forged"), 0, NOW);
    spool.flush(NOW);
    let bytes = forger.bytes();
    let forged = &bytes[bytes.len() - 46..];
    let said = [text(1, 2_000).as_bytes(), forged, &[b'x'; 2_000]].concat();
    for seed in 0..300 {
        let disk = Faulty::new(seed);
        let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
        let before = disk.bytes().len() as u64;
        disk.set(Faults { space: Some(before + 3_000), ..Faults::default() });
        spool.put(must(Kind::Response, said.clone()), 0, NOW);
        spool.flush(NOW);
        assert!(matches!(spool.state(), State::Failing(_)));
        // … and a record that ends just where that one begins, when the disk has room again. The power
        // goes before that is synced.
        spool.drop_items(&[1]);
        spool.put(must(Kind::Response, text(2, 2_000)), 0, NOW);
        disk.set(Faults { cut_at: Some(disk.steps() + 2), ..Faults::default() });
        spool.retry(NOW);
        disk.power_cut();
        let (mut spool, _) = Spool::open(disk, &small(), NOW);
        let there = texts(&mut spool);
        assert!(there.is_empty() || there == [text(2, 2_000)], "seed {seed}: {there:?}");
    }
}

#[test]
fn a_rename_counts_when_the_folder_is_synced() {
    for seed in 0..50 {
        let disk = Faulty::new(seed);
        let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
        spool.put(must(Kind::Response, "one"), 0, NOW);
        disk.set(Faults { folder_sync_fails: true, ..Faults::default() });
        assert!(spool.renew(NOW).is_err());
        disk.set(Faults::default());
        spool.sync(NOW);
        assert!(spool.state() == State::Ok && !spool.is_dirty());
        disk.power_cut();
        let (mut spool, _) = Spool::open(disk, &small(), NOW);
        assert_eq!(texts(&mut spool), ["one"], "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_are_read_without_a_panic_and_with_bounded_memory(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..3_000),
        begins_well in any::<bool>(),
    ) {
        if begins_well {
            let disk = Faulty::new(1);
            let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
            spool.put(must(Kind::Event, "whole"), 0, NOW);
            spool.flush(NOW);
            let mut whole = disk.bytes();
            whole.append(&mut bytes);
            bytes = whole;
        }
        let mut disk = Faulty::with(1, &bytes);
        let found = scan(&mut disk, u64::MAX);
        prop_assert!(found.waiting.len() <= 2 * ITEMS_MAX && found.wrong.len() <= 100);
        let (mut spool, _) = Spool::open(disk, &small(), NOW);
        prop_assert_eq!(all(&mut spool).len(), usize::from(begins_well));
        prop_assert_eq!(spool.state(), State::Ok);
    }

    #[test]
    fn any_changes_to_a_good_file_leave_only_what_was_there(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let disk = Faulty::new(1);
        let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
        for number in 0..12 {
            spool.put(must(Kind::Response, text(number, 60)), 0, NOW);
            spool.flush(NOW);
        }
        spool.read_up_to(3);
        spool.flush(NOW);
        let mut bytes = disk.bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        let (mut spool, _) = Spool::open(Faulty::with(1, &bytes), &small(), NOW);
        let before: Vec<String> = (0..12).map(|number| text(number, 60)).collect();
        let after = texts(&mut spool);
        prop_assert!(after.iter().all(|text| before.contains(text)));
        prop_assert!(after.is_sorted_by_key(|text| before.iter().position(|other| other == text)));
    }
}

#[test]
fn an_item_too_long_for_the_file_takes_no_place_of_one_that_fits() {
    let disk = Faulty::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
    spool.put(must(Kind::Response, text(1, 1_000_000)), 0, NOW);
    spool.flush(NOW);
    spool.put(must(Kind::Event, text(2, 500)), 1, NOW);
    spool.flush(NOW);
    assert_eq!((spool.losses(), spool.waiting().len()), (vec![], 2), "the port has the long one");
    let (mut next, _) = Spool::open(Faulty::with(1, &disk.bytes()), &small(), NOW);
    assert_eq!(texts(&mut next), [text(2, 500)], "and the other is on the disk");
}
