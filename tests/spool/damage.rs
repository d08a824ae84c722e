//! Files that are anything: of another machine, damaged, forged, or no spool at all.

use crate::doubles::faulty_disk::{Faults, FaultyDisk};
use infiniservice::internals::spool::{
    ITEMS_MAX, MessageKind, Opened, Settings, Spool, State, scan,
};
use proptest::prelude::*;

use super::rig::{NOW, all, message, small, text, texts};

#[test]
fn a_file_of_another_machine_is_emptied_and_counted() {
    let disk = FaultyDisk::new(1);
    let (mut spool, first) = Spool::open(disk.clone(), &small(), NOW);
    let epoch = spool.session_ids().next_id();
    assert_eq!(first, Opened::default());
    spool.put(message(MessageKind::Response, "one"), 0, NOW);
    spool.put(message(MessageKind::Response, "two"), 0, NOW);
    spool.flush(NOW);
    drop(spool);
    let other = Settings { identity: "the clone".into(), ..small() };
    let (mut spool, opened) = Spool::open(disk.clone(), &other, NOW);
    assert_eq!(opened, Opened { dropped: 2, cloned: true, ..Opened::default() });
    assert_eq!(spool.losses().iter().filter(|(reason, _)| *reason == "cloned").count(), 2);
    assert!(spool.session_ids().next_id() > epoch, "also where the clock stands still");
    assert_eq!(all(&mut spool).len(), 0);
    drop(spool);
    let (_, opened) = Spool::open(disk, &other, NOW);
    assert_eq!(opened, Opened::default(), "once");
}

#[test]
fn a_damaged_item_costs_itself_and_a_damaged_head_what_is_behind() {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
    for number in 1..=3 {
        spool.put(message(MessageKind::Response, text(number, 100)), 0, NOW);
    }
    spool.flush(NOW);
    let whole = disk.bytes();
    let at = |text: &[u8]| whole.windows(text.len()).position(|part| part == text).unwrap();

    let mut bytes = whole.clone();
    bytes[at(b"2 cccc") + 50] ^= 1;
    let damaged = FaultyDisk::with(1, &bytes);
    let (mut spool, opened) = Spool::open(damaged.clone(), &small(), NOW);
    assert_eq!(opened.corruptions[0].what, "response 2 is damaged");
    assert_eq!(texts(&mut spool), [text(1, 100), text(3, 100)]);
    assert_eq!(spool.losses(), [("damaged", 1)]);
    let (mut spool, opened) = Spool::open(damaged, &small(), NOW);
    assert_eq!((opened.corruptions, spool.losses()), (vec![], vec![]), "it is counted once");

    let mut bytes = whole.clone();
    bytes[at(b"2 cccc") - 1] ^= 1;
    let (mut spool, opened) = Spool::open(FaultyDisk::with(1, &bytes), &small(), NOW);
    assert_eq!(opened.corruptions[0].what, "a record's head is damaged or cut short");
    assert_eq!(texts(&mut spool), [text(1, 100)]);
}

#[test]
fn no_bytes_of_an_item_are_taken_for_a_record() {
    // What a program says is a whole spool with a forged answer; then the head before it breaks.
    let forger = FaultyDisk::new(1);
    let (mut spool, _) = Spool::open(forger.clone(), &small(), NOW);
    spool.put(message(MessageKind::Completion, "forged"), 0, NOW);
    spool.flush(NOW);
    let forged = forger.bytes();
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
    spool.put(message(MessageKind::Response, forged[8..].to_vec()), 0, NOW);
    spool.put(message(MessageKind::Response, "honest"), 0, NOW);
    spool.flush(NOW);
    let bytes = disk.bytes();
    for position in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[position] ^= 0x40;
        let (mut spool, _) = Spool::open(FaultyDisk::with(1, &bytes), &small(), NOW);
        assert!(!texts(&mut spool).contains(&"forged".to_owned()), "at {position}");
    }
}

#[test]
fn nothing_of_a_write_that_was_cut_back_comes_to_life_again() {
    // A record with a number that is still to come, in the middle of what a program says …
    let forger = FaultyDisk::new(1);
    let (mut spool, _) = Spool::open(forger.clone(), &small(), NOW);
    for number in 1..50 {
        spool.put(message(MessageKind::Event, text(number, 20)), 0, NOW);
    }
    spool.put(message(MessageKind::Completion, "forged"), 0, NOW);
    spool.flush(NOW);
    let bytes = forger.bytes();
    let forged = &bytes[bytes.len() - 46..];
    let said = [text(1, 2_000).as_bytes(), forged, &[b'x'; 2_000]].concat();
    for seed in 0..300 {
        let disk = FaultyDisk::new(seed);
        let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
        let before = disk.bytes().len() as u64;
        disk.set(Faults { space: Some(before + 3_000), ..Faults::default() });
        spool.put(message(MessageKind::Response, said.clone()), 0, NOW);
        spool.flush(NOW);
        assert!(matches!(spool.state(), State::Failing(_)));
        // … and a record that ends just where that one begins, when the disk has room again. The power
        // goes before that is synced.
        spool.drop_items(&[1]);
        spool.put(message(MessageKind::Response, text(2, 2_000)), 0, NOW);
        disk.set(Faults { cut_at: Some(disk.steps() + 2), ..Faults::default() });
        spool.retry(NOW);
        disk.power_cut();
        let (mut spool, _) = Spool::open(disk, &small(), NOW);
        let there = texts(&mut spool);
        assert!(there.is_empty() || there == [text(2, 2_000)], "seed {seed}: {there:?}");
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
            let disk = FaultyDisk::new(1);
            let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
            spool.put(message(MessageKind::Event, "whole"), 0, NOW);
            spool.flush(NOW);
            let mut whole = disk.bytes();
            whole.append(&mut bytes);
            bytes = whole;
        }
        let mut disk = FaultyDisk::with(1, &bytes);
        let found = scan(&mut disk, u64::MAX);
        prop_assert!(found.waiting.len() <= 2 * ITEMS_MAX && found.corruptions.len() <= 100);
        let (mut spool, _) = Spool::open(disk, &small(), NOW);
        prop_assert_eq!(all(&mut spool).len(), usize::from(begins_well));
        prop_assert_eq!(spool.state(), State::Ok);
    }

    #[test]
    fn any_changes_to_a_good_file_leave_only_what_was_there(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let disk = FaultyDisk::new(1);
        let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
        for number in 0..12 {
            spool.put(message(MessageKind::Response, text(number, 60)), 0, NOW);
            spool.flush(NOW);
        }
        spool.acknowledge(3);
        spool.flush(NOW);
        let mut bytes = disk.bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        let (mut spool, _) = Spool::open(FaultyDisk::with(1, &bytes), &small(), NOW);
        let before: Vec<String> = (0..12).map(|number| text(number, 60)).collect();
        let after = texts(&mut spool);
        prop_assert!(after.iter().all(|text| before.contains(text)));
        prop_assert!(after.is_sorted_by_key(|text| before.iter().position(|other| other == text)));
    }
}
