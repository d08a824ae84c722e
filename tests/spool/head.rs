//! A file whose beginning is corrupt, or of another version: valid items are kept, losses are counted, and nothing
//! that a person could still read is overwritten.

use crate::doubles::faulty_disk::{Faults, FaultyDisk};
use std::fs;

use infiniservice::internals::spool::{
    MessageKind, NAMES, SIZE_MIN, Settings, Spool, State, open, scan,
};
use tempfile::TempDir;

use super::rig::{NOW, message, settings, small, text, texts};

/// A file of five answers.
fn five() -> Vec<u8> {
    let disk = FaultyDisk::new(1);
    let (mut spool, _) = Spool::open(disk.clone(), &small(), NOW);
    for number in 1..=5 {
        spool.put(message(MessageKind::Response, text(number, 100)), 0, NOW);
    }
    spool.flush(NOW);
    disk.bytes()
}

fn answers() -> Vec<String> {
    (1..=5).map(|number| text(number, 100)).collect()
}

#[test]
fn no_single_byte_before_the_first_item_costs_an_item() {
    let whole = five();
    let first = whole.windows(2).position(|part| part == b"1 ").unwrap() - 40;
    assert!(first > 2 * 80, "two records say whose the file is");
    for position in 0..first {
        let mut bytes = whole.clone();
        bytes[position] ^= 1;
        let disk = FaultyDisk::with(1, &bytes);
        let (mut spool, opened) = Spool::open(disk.clone(), &small(), NOW);
        // That checksum distinguishes the body of the second record from a program's output.
        let second = 8 + (first - 8) / 2;
        if (second + 12..second + 16).contains(&position) {
            assert_eq!(spool.losses(), [("damaged", 1)], "at {position}");
            continue;
        }
        assert_eq!(texts(&mut spool), answers(), "at {position}");
        assert_eq!((spool.losses(), opened.corruptions.len()), (vec![], 1), "at {position}");
        assert!(!opened.aside && !opened.cloned);
        drop(spool);
        let (mut spool, opened) = Spool::open(disk, &small(), NOW);
        assert_eq!(
            (opened.corruptions, texts(&mut spool)),
            (vec![], answers()),
            "it is whole again"
        );
    }
}

#[test]
fn an_unusable_file_is_set_aside_and_counted_as_a_loss() {
    let mut newer = five();
    newer[7] = 2;
    for byte in &mut newer[8..] {
        *byte ^= 0x55;
    }
    for bytes in [newer, b"something else".to_vec(), vec![0; 4_096]] {
        let disk = FaultyDisk::with(1, &bytes);
        let (mut spool, opened) = Spool::open(disk.clone(), &small(), NOW);
        assert!(opened.aside && opened.trouble.is_none(), "{opened:?}");
        assert_eq!(disk.aside(), Some(bytes));
        assert_eq!((spool.losses(), spool.state()), (vec![("damaged", 1)], State::Ok));
        spool.put(message(MessageKind::Event, "new"), 0, NOW);
        spool.flush(NOW);
        assert!(scan(&mut disk.clone(), u64::MAX).corruptions.is_empty());
    }
}

#[test]
fn what_cannot_be_set_aside_is_left_as_it_is() {
    let disk = FaultyDisk::with(1, b"something else");
    disk.set(Faults { write_fails: true, ..Faults::default() });
    let (spool, opened) = Spool::open(disk.clone(), &small(), NOW);
    assert_eq!(spool.state(), State::Memory);
    assert!(opened.trouble.unwrap().contains("nor be given another name"));
    assert_eq!(disk.bytes(), b"something else");
}

#[test]
fn one_file_is_kept_aside_and_only_its_owner_reads_it() {
    let folder = TempDir::new().unwrap();
    let aside = folder.path().join(NAMES.aside);
    for said in ["the first", "the second"] {
        fs::write(folder.path().join(NAMES.name), said).unwrap();
        let (spool, opened) = open(folder.path(), &settings(SIZE_MIN), NOW);
        assert!(opened.aside && spool.state() == State::Ok);
        assert_eq!(fs::read(&aside).unwrap(), said.as_bytes());
    }
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&aside).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_torn_end_is_a_loss_and_counts_as_unsynced_only_after_a_power_cut() {
    let whole = five();
    let lost = |bytes: &[u8], boot_id: &str| {
        let settings = Settings { boot_id: boot_id.into(), ..small() };
        let (mut spool, opened) = Spool::open(FaultyDisk::with(1, bytes), &settings, NOW);
        assert_eq!(opened.corruptions.len(), 1);
        (texts(&mut spool).len(), spool.losses())
    };
    let short = &whole[..whole.len() - 70];
    assert_eq!(lost(short, "boot"), (4, vec![("damaged", 1)]));
    assert_eq!(lost(short, "the next boot"), (4, vec![("not synced", 1)]));
    let shorter = &whole[..whole.len() - 120];
    assert_eq!(lost(shorter, "boot"), (4, vec![("damaged", 1)]), "not even a head is left");
    let zeros = [&whole[..], &[0; 2_000]].concat();
    assert_eq!(lost(&zeros, "the next boot"), (5, vec![("not synced", 1)]));
    let mut flipped = whole.clone();
    let at = whole.windows(2).position(|part| part == b"2 ").unwrap();
    flipped[at - 1] ^= 1;
    assert_eq!(lost(&flipped, "the next boot"), (1, vec![("damaged", 1)]), "no power cut did that");
}
