//! A disk that cannot be read: that is no corruption.

use crate::doubles::faulty_disk::{Faults, FaultyDisk};
use infiniservice::internals::spool::{MessageKind, SIZE_MIN, Spool, State, scan};
use tokio::time::Instant;

use super::rig::{NOW, message, settings, text};

/// A disk with a spool of three answers, synced.
fn disk() -> FaultyDisk {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &settings(SIZE_MIN), NOW);
    for number in 1..=3 {
        spool.put(message(MessageKind::Response, text(number, 2_000)), 0, NOW);
    }
    spool.flush(NOW);
    spool.sync(NOW);
    disk
}

fn waiting(disk: &FaultyDisk) -> Vec<u64> {
    let found = scan(&mut disk.clone(), u64::MAX);
    assert!(found.corruptions.is_empty() && found.unreadable.is_none(), "{found:?}");
    found.waiting.iter().map(|entry| entry.seq).collect()
}

#[test]
fn a_file_that_cannot_be_read_at_the_start_is_left_for_the_next_one() {
    let broken = [
        Faults { read_fails: true, ..Faults::default() },
        Faults { unreadable_from: Some(0), ..Faults::default() },
        Faults { unreadable_from: Some(3_000), ..Faults::default() },
    ];
    for faults in broken {
        let disk = disk();
        let before = disk.bytes();
        disk.set(faults);
        let (mut spool, opened) = Spool::open(disk.clone(), &settings(SIZE_MIN), NOW);
        let trouble = opened.trouble.unwrap();
        assert!(trouble.starts_with("it cannot be read from byte "), "{trouble}");
        assert!(trouble.contains("for the next start"), "{trouble}");
        assert_eq!((opened.waiting, opened.corruptions), (0, vec![]));
        assert_eq!(spool.state(), State::Memory);

        spool.put(message(MessageKind::Response, "new"), 0, NOW);
        spool.flush(NOW);
        spool.sync(NOW);
        spool.retry(NOW);
        spool.tidy(NOW);
        let stored = spool.next(0, 10, 1 << 20, Instant::now());
        assert_eq!(
            stored.iter().map(|stored| &stored.frame.bytes[..]).collect::<Vec<_>>(),
            [b"new"]
        );
        assert_eq!(disk.bytes(), before, "nobody has touched it");
        drop(spool);

        disk.set(Faults::default());
        let (spool, opened) = Spool::open(disk.clone(), &settings(SIZE_MIN), NOW);
        assert_eq!((opened.trouble, opened.waiting), (None, 3));
        assert_eq!(spool.state(), State::Ok);
    }
}

#[test]
fn a_file_is_not_written_anew_without_the_items_that_cannot_be_read_now() {
    let disk = disk();
    let (mut spool, _) = Spool::open(disk.clone(), &settings(SIZE_MIN), NOW);
    disk.set(Faults { read_fails: true, ..Faults::default() });
    assert!(spool.compact(NOW).is_err());
    disk.set(Faults::default());
    assert_eq!(waiting(&disk), [1, 2, 3]);

    let old = disk.bytes();
    spool.compact(NOW).unwrap();
    assert_eq!((spool.losses(), waiting(&disk)), (vec![], vec![1, 2, 3]));
    assert_ne!(disk.bytes(), old, "that was a new file");
}

#[test]
fn a_spool_that_cannot_be_read_is_not_edited() {
    let disk = disk();
    disk.set(Faults { unreadable_from: Some(3_000), ..Faults::default() });
    let (_, found) = Spool::edit(disk.clone());
    assert!(found.unreadable.unwrap().contains("it cannot be read"));
    assert!(found.corruptions.is_empty());
}
