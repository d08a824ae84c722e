//! Full and failing disks, and a full spool: what is evicted, and what never is.

use crate::doubles::faulty_disk::{Faults, FaultyDisk};
use infiniservice::internals::spool::{MEMORY_MAX, MessageKind, SIZE_MIN, Spool, State, scan};

use super::rig::{NOW, all, message, settings, small, text, texts};

#[test]
fn a_full_disk_is_a_state_that_ends_and_nothing_is_lost() {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &settings(4 << 20), NOW);
    disk.set(Faults { space: Some(4_000), ..Faults::default() });
    for number in 0..20 {
        spool.put(message(MessageKind::Response, text(number, 500)), 0, NOW);
        spool.flush(NOW);
    }
    assert!(matches!(spool.state(), State::Failing(why) if why.contains("no space")));
    spool.retry(NOW);
    assert!(matches!(spool.state(), State::Failing(_)), "still full");
    // Those that fitted are whole, whatever comes now.
    let (mut other, opened) = Spool::open(FaultyDisk::with(1, &disk.bytes()), &small(), NOW);
    assert_eq!((opened.corruptions.len(), texts(&mut other).len()), (0, 7));

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
fn a_disk_that_takes_not_a_byte_is_not_well_again_because_nothing_waits() {
    let disk = FaultyDisk::new(1);
    let (spool, _) = Spool::open(disk.clone(), &small(), NOW);
    drop(spool);
    let before = disk.bytes();
    disk.set(Faults { space: Some(before.len() as u64), ..Faults::default() });
    let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
    assert!(matches!(spool.state(), State::Failing(_)));
    spool.retry(NOW);
    assert!(matches!(spool.state(), State::Failing(_)), "still full");
    assert_eq!(disk.bytes(), before);

    disk.set(Faults::default());
    spool.retry(NOW);
    assert_eq!(spool.state(), State::Ok);
    disk.power_cut();
    let run = |bytes: &[u8]| scan(&mut FaultyDisk::with(1, bytes), u64::MAX).session.unwrap().run;
    assert!(run(&disk.bytes()) > run(&before), "this run is on record");
}

#[test]
fn a_spool_is_emptied_on_a_disk_that_takes_not_a_byte() {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &settings(4 << 20), NOW);
    for number in 0..20 {
        spool.put(message(MessageKind::Response, text(number, 500)), 0, NOW);
    }
    spool.flush(NOW);
    drop(spool);
    for faults in [
        Faults { space: Some(disk.bytes().len() as u64), ..Faults::default() },
        Faults { write_fails: true, ..Faults::default() },
    ] {
        let (mut spool, _) = Spool::edit(disk.clone());
        disk.set(faults);
        spool.drop_all("dropped");
        assert!(spool.compact(NOW).is_err());
        spool.empty(NOW).unwrap();
        disk.power_cut();
        let (spool, opened) = Spool::open(disk.clone(), &small(), NOW);
        assert_eq!((opened.waiting, opened.corruptions, opened.trouble), (0, vec![], None));
        assert_eq!(spool.state(), State::Ok);
    }
}

#[test]
fn while_the_disk_fails_memory_is_bounded_and_as_little_as_possible_is_evicted() {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &settings(64 << 20), NOW);
    disk.set(Faults { write_fails: true, ..Faults::default() });
    spool.put(message(MessageKind::Completion, "first"), 0, NOW);
    for number in 0..200 {
        let kind = if number % 2 == 0 { MessageKind::Event } else { MessageKind::Response };
        spool.put(message(kind, text(number, 40 << 10)), 0, NOW);
        spool.flush(NOW);
    }
    assert!(spool.bytes() <= MEMORY_MAX && spool.bytes() > MEMORY_MAX / 8 * 7);
    let stored: Vec<MessageKind> = spool.waiting().iter().map(|item| item.kind).collect();
    assert_eq!(stored[0], MessageKind::Completion);
    assert!(
        stored.iter().filter(|kind| **kind == MessageKind::Response).count() >= 99,
        "{stored:?}"
    );
    let lost: u64 = spool
        .losses()
        .iter()
        .map(|(reason, weight)| (*reason, *weight))
        .map(|(reason, weight)| {
            assert_eq!(reason, "spool full");
            weight
        })
        .sum();
    assert_eq!(lost + stored.len() as u64, 201);
}

#[test]
fn a_full_spool_evicts_events_before_replies_and_replies_before_completions() {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
    let kinds = [MessageKind::Completion, MessageKind::Response, MessageKind::Event];
    let mut number = 0;
    for kind in kinds {
        for _ in 0..15 {
            number += 1;
            spool.put(message(kind, text(number, 1_000)), 0, NOW);
        }
    }
    assert_eq!((spool.state(), spool.losses()), (State::Ok, vec![]));
    let count = |spool: &Spool<FaultyDisk>| {
        kinds.map(|kind| spool.waiting().iter().filter(|item| item.kind == kind).count())
    };
    for number in 100..110 {
        spool.put(message(MessageKind::Response, text(number, 1_000)), 0, NOW);
    }
    assert_eq!((spool.state(), count(&spool)), (State::Full, [15, 25, 7]));
    let events = spool.waiting().iter().filter(|item| item.kind == MessageKind::Event);
    assert!(events.map(|item| item.seq).min() == Some(39), "the oldest events went");
    for number in 200..260 {
        spool.put(message(MessageKind::Completion, text(number, 1_000)), 0, NOW);
    }
    assert_eq!(count(&spool), [47, 0, 0]);
    let newest = spool.waiting().back().unwrap().seq;
    spool.put(message(MessageKind::Event, text(299, 1_000)), 0, NOW);
    assert_eq!((count(&spool), spool.waiting().back().unwrap().seq), ([47, 0, 0], newest));
    spool.put(message(MessageKind::Completion, text(300, 1_000)), newest, NOW);
    assert_eq!(spool.waiting().back().unwrap().seq, newest, "what the port has is not shed");
    spool.losses();

    // Evicted items stay evicted, and the file stays within its size.
    spool.flush(NOW);
    spool.sync(NOW);
    assert!(disk.bytes().len() as u64 <= SIZE_MIN);
    let expected = texts(&mut spool);
    let (mut again, _) = Spool::open(disk, &small(), NOW);
    assert_eq!(texts(&mut again), expected);
    spool.acknowledge(newest);
    assert_eq!(spool.state(), State::Ok);
}

#[test]
fn the_file_stays_within_its_size_and_short_when_nothing_waits() {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
    let empty = disk.bytes().len();
    for number in 1..=2_000 {
        spool.put(message(MessageKind::Response, text(number, 900)), 0, NOW);
        spool.flush(NOW);
        assert!(disk.bytes().len() as u64 <= SIZE_MIN);
        if number % 30 == 0 {
            spool.acknowledge(number);
            spool.flush(NOW);
        }
    }
    spool.acknowledge(2_000);
    assert!(spool.is_untidy());
    spool.tidy(NOW);
    assert_eq!(disk.bytes().len(), empty);
    assert!(!disk.bytes().windows(10).any(|part| part == b"aaaaaaaaaa"), "no byte of them is left");
    spool.put(message(MessageKind::Response, "next"), 0, NOW);
    assert_eq!(all(&mut spool)[0].seq, 2_001);
    drop(spool);
    let (mut spool, _) = Spool::open(disk, &small(), NOW);
    spool.put(message(MessageKind::Response, "after"), 0, NOW);
    assert!(all(&mut spool)[0].seq >= 2_001, "numbers rise, also with an empty file");
}

#[test]
fn an_item_too_long_for_the_file_takes_no_place_of_one_that_fits() {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
    spool.put(message(MessageKind::Response, text(1, 1_000_000)), 0, NOW);
    spool.flush(NOW);
    spool.put(message(MessageKind::Event, text(2, 500)), 1, NOW);
    spool.flush(NOW);
    assert_eq!((spool.losses(), spool.waiting().len()), (vec![], 2), "the port has the long one");
    let (mut next, _) = Spool::open(FaultyDisk::with(1, &disk.bytes()), &small(), NOW);
    assert_eq!(texts(&mut next), [text(2, 500)], "and the other is on the disk");
}
