//! Restarts, crashes, copies of the machine, and files that go.

use std::fs;

use super::*;

#[test]
fn a_script_begins_once_also_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("a/state");
    let mut journal = Journal::open(&state).unwrap();
    assert_eq!(journal.begin("a").unwrap(), Before::Never);
    assert_eq!(journal.begin("b").unwrap(), Before::Never);
    journal.end("a", 7).unwrap();
    drop(journal);
    let mut journal = Journal::open(&state).unwrap();
    assert_eq!(journal.begin("a").unwrap(), Before::Ended(7));
    assert_eq!(journal.begin("b").unwrap(), Before::Begun);
    assert_eq!(journal.begin("c").unwrap(), Before::Never);
}

#[test]
fn whatever_a_crash_leaves_of_the_last_line_the_lines_before_it_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scripts.jsonl");
    let mut journal = Journal::open(folder.path()).unwrap();
    journal.begin("first").unwrap();
    journal.end("first", 0).unwrap();
    journal.begin("second").unwrap();
    drop(journal);
    let whole = fs::read(&path).unwrap();
    let second = whole.iter().rposition(|byte| *byte == b'{').unwrap();
    for cut in second..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.begin("first").unwrap(), Before::Ended(0));
        let known = if cut >= whole.len() - 1 { Before::Begun } else { Before::Never };
        assert_eq!(journal.begin("second").unwrap(), known, "cut at {cut}");
        drop(journal);
        assert_eq!(Journal::open(folder.path()).unwrap().begin("second").unwrap(), Before::Begun);
    }
}

#[test]
fn the_file_stays_small_and_the_last_scripts_stay_known() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    // Without its syncs this would be quick; the file is what matters.
    for number in 0..LINES_MAX + 10 {
        journal.note(Entry { id: number.to_string(), code: Some(0), but: None });
        journal.lines += 1;
    }
    journal.begin("last").unwrap();
    assert!(journal.lines <= SCRIPTS_KEPT + 2, "{} lines", journal.lines);
    drop(journal);
    let mut journal = Journal::open(folder.path()).unwrap();
    assert_eq!(journal.begin("last").unwrap(), Before::Begun);
    assert_eq!(journal.begin(&(LINES_MAX + 9).to_string()).unwrap(), Before::Ended(0));
    assert_eq!(journal.begin("0").unwrap(), Before::Never, "long ago");
}

#[test]
fn two_do_not_have_it_also_after_it_was_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    let is_held = || {
        Journal::open(folder.path()).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    };
    assert!(is_held());
    journal.begin("a").unwrap();
    journal.renew().unwrap();
    assert!(is_held());
    drop(journal);
    assert_eq!(Journal::open(folder.path()).unwrap().begin("a").unwrap(), Before::Begun);
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("scripts.jsonl"), folder.path().join("other"));
    std::os::unix::fs::symlink(&other, &path).unwrap();
    assert!(Journal::open(folder.path()).is_err());
    assert!(!other.exists());
}

#[test]
fn a_script_that_was_cut_is_told_of_once_and_by_its_own_machine() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open_on(folder.path(), "one").unwrap();
    for id in ["a", "b", "c", "d"] {
        journal.begin(id).unwrap();
    }
    journal.end("b", 5).unwrap();
    journal.forget("d").unwrap();
    assert!(journal.take_cut().is_empty(), "they run");
    drop(journal);
    for _ in 0..2 {
        let mut journal = Journal::open_on(folder.path(), "one").unwrap();
        let cut = [("a", Before::Begun), ("b", Before::Ended(5)), ("c", Before::Begun)];
        assert_eq!(journal.take_cut(), cut.map(|(id, before)| (id.to_owned(), before)));
        assert!(!journal.is_copy());
        assert!(journal.take_cut().is_empty(), "not again at a reload");
    }
    let mut journal = Journal::open_on(folder.path(), "one").unwrap();
    journal.told("a").unwrap();
    journal.told("b").unwrap();
    journal.renew().unwrap();
    drop(journal);
    let mut copy = Journal::open_on(folder.path(), "two").unwrap();
    assert_eq!((copy.take_cut(), copy.is_copy()), (vec![("c".to_owned(), Before::Begun)], true));
    assert_eq!(copy.begin("a").unwrap(), Before::Begun);
    assert_eq!(copy.begin("b").unwrap(), Before::Ended(5));
    assert_eq!(copy.begin("d").unwrap(), Before::Never, "it never ran");
}

#[test]
fn a_file_that_is_removed_is_made_again_with_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let path = state.join("scripts.jsonl");
    let mut journal = Journal::open(&state).unwrap();
    journal.begin("a").unwrap();
    fs::remove_dir_all(&state).unwrap();
    journal.end("a", 7).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(journal.begin("b").unwrap(), Before::Never);
    assert!(Journal::open(&state).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock));
    drop(journal);
    let mut journal = Journal::open(&state).unwrap();
    assert_eq!(journal.begin("a").unwrap(), Before::Ended(7));
    assert_eq!(journal.begin("b").unwrap(), Before::Begun);

    // Where that cannot be, nothing begins.
    fs::remove_dir_all(&state).unwrap();
    fs::write(&state, "a file").unwrap();
    assert!(journal.begin("c").is_err());
    fs::remove_file(&state).unwrap();
    let other = Journal::open(&state).unwrap();
    let error = journal.begin("c").unwrap_err();
    assert!(error.to_string().starts_with("another agent"), "{error}");
    drop(other);
    assert_eq!(journal.begin("c").unwrap(), Before::Never);
}
