//! Tombstones of replies that a full spool evicts.

use crate::doubles::faulty_disk::{Faults, FaultyDisk};
use std::time::SystemTime;

use infiniservice::internals::spool::{
    ITEMS_MAX, MessageKind, SIZE, SIZE_MIN, Settings, Spool, State, TOMBSTONE_MAX, scan,
};
use tokio::time::Instant;

use super::rig::{NOW, message, settings, text};

/// `lost N` for an answer that begins with `N `.
fn tombstone(line: &[u8], _: SystemTime) -> Option<Vec<u8>> {
    let number = String::from_utf8_lossy(line).split(' ').next()?.to_owned();
    Some(format!("lost {number}").into_bytes())
}

fn spool(disk: &FaultyDisk) -> Spool<FaultyDisk> {
    of_size(SIZE_MIN, disk)
}

fn of_size(size: u64, disk: &FaultyDisk) -> Spool<FaultyDisk> {
    let settings = Settings { tombstone: Some(tombstone), ..settings(size) };
    Spool::open(disk.clone(), &settings, NOW).0
}

fn shown(spool: &mut Spool<FaultyDisk>) -> Vec<String> {
    let items = spool.next(0, usize::MAX, u64::MAX, Instant::now());
    let short = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if text.starts_with("lost ") { text } else { text.split(' ').take(1).collect() }
    };
    items.iter().map(|stored| short(&stored.frame.bytes)).collect()
}

#[test]
fn an_evicted_long_reply_leaves_a_tombstone_and_is_counted() {
    let disk = FaultyDisk::new(1);
    let mut spool = spool(&disk);
    for number in 0..6 {
        spool.put(message(MessageKind::Response, text(number, 10_000)), 0, NOW);
        spool.flush(NOW);
    }
    // 48 KiB are for waiting records: four replies, and a tombstone for each of the others.
    assert_eq!(shown(&mut spool), ["2", "3", "lost 0", "4", "lost 1", "5"]);
    assert_eq!(spool.losses(), [("spool full", 1), ("spool full", 1)]);
    assert_eq!((spool.weight(), spool.state()), (4, State::Full), "a word weighs nothing");
    assert!(spool.waiting().iter().is_sorted_by_key(|entry| entry.seq));

    // And they are on disk like all that waits.
    drop(spool);
    let (mut again, opened) = Spool::open(disk.clone(), &settings(SIZE_MIN), NOW);
    assert_eq!((opened.waiting, opened.corruptions), (6, vec![]));
    assert_eq!(shown(&mut again), ["2", "3", "lost 0", "4", "lost 1", "5"]);
}

#[test]
fn refusals_go_before_answers_and_short_answers_after_long_ones() {
    let disk = FaultyDisk::new(1);
    let mut spool = spool(&disk);
    spool.put(message(MessageKind::Response, text(1, 2 * TOMBSTONE_MAX)), 0, NOW);
    spool.put(message(MessageKind::Response, text(2, 20_000)), 0, NOW);
    spool.put(message(MessageKind::Refusal, text(3, 20_000)), 0, NOW);
    spool.flush(NOW);
    spool.put(message(MessageKind::Response, text(4, 20_000)), 0, NOW);
    assert_eq!(shown(&mut spool), ["1", "2", "4"], "of a refusal no word stays");
    spool.put(message(MessageKind::Response, text(5, 20_000)), 0, NOW);
    assert_eq!(shown(&mut spool), ["1", "4", "lost 2", "5"]);
}

#[test]
fn a_spool_that_is_full_of_short_answers_goes_on_with_the_newest() {
    let disk = FaultyDisk::new(1);
    let mut spool = spool(&disk);
    for number in 0..2_000 {
        let length = if number % 3 == 0 { 3_000 } else { 300 };
        spool.put(message(MessageKind::Response, text(number, length)), 0, NOW);
        spool.flush(NOW);
        let (bytes, most) = (spool.bytes(), SIZE_MIN / 4 * 3);
        assert!(bytes <= most && bytes > most / 2 || number < 50, "{number}: {bytes}");
    }
    assert_eq!(shown(&mut spool).last().unwrap(), "1999");
    assert!(scan(&mut disk.clone(), u64::MAX).corruptions.is_empty());
    assert!(spool.waiting().len() < ITEMS_MAX);
}

#[test]
fn tombstones_stay_in_memory_while_the_disk_fails() {
    let disk = FaultyDisk::new(1);
    let mut spool = spool(&disk);
    disk.set(Faults { write_fails: true, ..Faults::default() });
    for number in 0..8 {
        spool.put(message(MessageKind::Response, text(number, 10_000)), 0, NOW);
        spool.flush(NOW);
    }
    let stored = shown(&mut spool);
    assert!(
        stored.contains(&"lost 0".to_owned()) && stored.contains(&"7".to_owned()),
        "{stored:?}"
    );
    assert!(spool.bytes() <= SIZE_MIN);
}

#[test]
fn a_spool_that_was_made_smaller_evicts_as_a_full_one() {
    let disk = FaultyDisk::new(1);
    let mut large = of_size(SIZE, &disk);
    for (number, length) in [(0, 20_000), (1, 100_000), (2, 20_000), (3, 20_000), (4, 100)] {
        large.put(message(MessageKind::Response, text(number, length)), 0, NOW);
    }
    large.put(message(MessageKind::Completion, text(5, 20_000)), 0, NOW);
    large.flush(NOW);
    drop(large);

    let mut small = of_size(SIZE_MIN, &disk);
    assert_eq!(small.losses(), [("spool full", 1); 3]);
    small.put_tombstones(Instant::now(), NOW);
    small.flush(NOW);
    let left = ["3", "4", "5", "lost 1", "lost 0", "lost 2"];
    assert_eq!(shown(&mut small), left);
    // And it takes what comes, as if it had never been larger.
    small.put(message(MessageKind::Completion, text(6, 20_000)), 0, NOW);
    assert_eq!(small.losses(), [("spool full", 1)]);
    small.flush(NOW);
    drop(small);
    let left = ["4", "5", "lost 1", "lost 0", "lost 2", "lost 3", "6"];
    assert_eq!(shown(&mut of_size(SIZE_MIN, &disk)), left);
}

#[test]
fn a_reply_that_finds_no_room_when_it_comes_leaves_a_tombstone() {
    let disk = FaultyDisk::new(1);
    let mut spool = spool(&disk);
    for number in 1..=20 {
        spool.put(message(MessageKind::Response, text(number, 30_000)), 1, NOW);
        spool.flush(NOW);
    }
    // The port has the first in hand; beside it there is no room for another.
    let words: Vec<String> = (2..=20).map(|number| format!("lost {number}")).collect();
    assert_eq!(shown(&mut spool), [vec!["1".to_owned()], words].concat());
    assert_eq!((spool.losses().len(), spool.state()), (19, State::Full));
    assert!(scan(&mut disk.clone(), u64::MAX).corruptions.is_empty());

    // One that is too long for any spool is no different.
    spool.put(message(MessageKind::Response, text(21, 3 << 20)), 1, NOW);
    assert_eq!(shown(&mut spool).last().unwrap(), "lost 21");
    assert_eq!(spool.losses(), [("long", 1)]);
}

#[test]
fn nothing_is_evicted_for_a_message_that_would_not_fit_anyway() {
    let disk = FaultyDisk::new(1);
    let mut spool = spool(&disk);
    spool.put(message(MessageKind::Response, text(1, 30_000)), 0, NOW);
    for number in 2..=6 {
        spool.put(message(MessageKind::Response, text(number, 800)), 1, NOW);
    }
    spool.put(message(MessageKind::Response, text(7, 30_000)), 1, NOW);
    assert_eq!(shown(&mut spool), ["1", "2", "3", "4", "5", "6", "lost 7"]);
    assert_eq!(spool.losses(), [("spool full", 1)]);
}
