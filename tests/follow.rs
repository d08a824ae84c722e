//! How files are followed: each case changes files as writers and log rotation do, and looks at the lines that come.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use infiniservice::internals::files::StateFolder;
use infiniservice::internals::records::buffers::Buffers;
use infiniservice::internals::records::read::follow::{
    Follower, From, Options, Pattern, Positions,
};
use infiniservice::model::Receipt;
use tempfile::TempDir;
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(61);

/// A folder of logs, and a follower of it.
struct Rig {
    folder: TempDir,
    state: TempDir,
    options: Options,
    positions: Positions,
    follower: Option<Follower>,
    now: Instant,
    unacknowledged: Vec<Receipt>,
    is_acknowledging: bool,
    too_long: u64,
}

impl Rig {
    fn new(pattern: &str) -> Self {
        Self::with(pattern, From::Start, false)
    }

    fn with(pattern: &str, from: From, until_end: bool) -> Self {
        let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let pattern = Pattern::new(folder.path().join(pattern).to_str().unwrap()).unwrap();
        let options =
            Options { pattern, from, until_end, max_line: 1 << 20, buffers: Buffers::default() };
        let positions = Positions::default();
        let (follower, now, unacknowledged) = (None, Instant::now(), Vec::new());
        let (is_acknowledging, too_long) = (true, 0);
        Self {
            folder,
            state,
            options,
            positions,
            follower,
            now,
            unacknowledged,
            is_acknowledging,
            too_long,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    fn truncate(&self, name: &str) {
        OpenOptions::new().write(true).truncate(true).open(self.path(name)).unwrap();
    }

    fn copy(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn follower(&mut self) -> &mut Follower {
        let folder = StateFolder::at(self.state.path());
        let (options, positions) = (&self.options, &mut self.positions);
        self.follower.get_or_insert_with(|| {
            *positions = Positions::kept(&folder, "test", options.pattern.as_path());
            Follower::new(options.clone(), positions.clone())
        })
    }

    /// What comes after a look, until there is nothing; without the newlines.
    fn lines(&mut self) -> Vec<String> {
        let now = self.now;
        self.follower().look(now);
        self.more()
    }

    /// What comes without a look.
    fn more(&mut self) -> Vec<String> {
        let (now, mut lines) = (self.now, Vec::new());
        while let Some(given) = self.follower().read(now) {
            let text = std::str::from_utf8(given.bytes()).unwrap();
            assert!(text.is_empty() || text.ends_with('\n'));
            lines.extend(text.lines().map(str::to_owned));
            self.too_long += given.too_long();
            match self.is_acknowledging {
                true => given.receipt.acknowledge(),
                false => self.unacknowledged.push(given.receipt),
            }
        }
        self.follower().tidy(now);
        lines
    }

    /// The agent ends, with what it has saved, and starts again.
    fn restart(&mut self) {
        self.positions.save();
        self.kill();
    }

    /// The agent is killed: nothing is saved.
    fn kill(&mut self) {
        self.follower = None;
        self.unacknowledged.clear();
        self.positions = Positions::default();
    }
}

#[track_caller]
fn gives(rig: &mut Rig, lines: &str) {
    assert_eq!(rig.lines(), lines.split_whitespace().collect::<Vec<_>>());
}

// What is there, and what comes.

#[test]
fn a_file_that_is_there_is_read_from_its_start_and_as_it_grows() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "1\n2\n");
    gives(&mut rig, "1 2");
    gives(&mut rig, "");
    rig.append("a.log", "3\n");
    gives(&mut rig, "3");
}

#[test]
fn a_file_that_comes_later_is_read_from_its_start_even_from_the_end() {
    let mut rig = Rig::with("*.log", From::End, false);
    rig.append("old.log", "1\n2\n");
    gives(&mut rig, "");
    rig.append("new.log", "3\n");
    rig.append("old.log", "4\n");
    let mut lines = rig.lines();
    lines.sort();
    assert_eq!(lines, ["3", "4"]);
}

#[test]
fn from_the_end_the_line_that_has_begun_is_read_whole() {
    let mut rig = Rig::with("a.log", From::End, false);
    rig.append("a.log", "1\n2\nthi");
    gives(&mut rig, "");
    rig.append("a.log", "s\n4\n");
    gives(&mut rig, "this 4");
}

#[test]
fn from_the_end_a_restart_reads_what_came_meanwhile() {
    let mut rig = Rig::with("*.log", From::End, false);
    rig.append("a.log", "1\n");
    gives(&mut rig, "");
    rig.restart();
    rig.append("a.log", "2\n");
    rig.append("b.log", "3\n");
    let mut lines = rig.lines();
    lines.sort();
    assert_eq!(lines, ["2", "3"]);
}

#[test]
fn a_line_without_its_newline_waits_for_it() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "1\nhal");
    gives(&mut rig, "1");
    rig.append("a.log", "f");
    gives(&mut rig, "");
    rig.append("a.log", "\n");
    gives(&mut rig, "half");
}

#[test]
fn a_restart_in_the_middle_of_a_line_reads_it_whole() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "1\nhal");
    gives(&mut rig, "1");
    rig.restart();
    rig.append("a.log", "f\n");
    gives(&mut rig, "half");
}

#[test]
fn an_empty_file_and_empty_lines_are_what_they_are() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "");
    gives(&mut rig, "");
    rig.append("a.log", "\n\n1\n\n");
    assert_eq!(rig.lines(), ["", "", "1", ""]);
}

#[test]
fn lines_longer_than_a_read_are_whole_and_longer_than_allowed_are_counted() {
    let mut rig = Rig::new("a.log");
    let (long, too_long) = ("x".repeat(1 << 20), "y".repeat((1 << 20) + 1));
    rig.append("a.log", &format!("1\n{long}\n{too_long}\n2\n"));
    assert_eq!(rig.lines(), ["1".to_owned(), long, "2".to_owned()]);
    assert_eq!(rig.too_long, 1);
}

#[test]
fn a_line_that_is_too_long_before_its_end_has_come_is_counted_once_and_skipped_over_a_restart() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", &format!("1\n{}", "y".repeat(3 << 20)));
    gives(&mut rig, "1");
    assert_eq!(rig.too_long, 1);
    rig.append("a.log", "still");
    gives(&mut rig, "");
    assert_eq!(rig.too_long, 1);
    rig.restart();
    rig.append("a.log", " the same\n2\n");
    gives(&mut rig, "2");
}

#[test]
fn bytes_that_are_no_text_go_through() {
    let mut rig = Rig::new("a.log");
    fs::write(rig.path("a.log"), b"\xff\x00\xfe\n").unwrap();
    let now = rig.now;
    rig.follower().look(now);
    assert_eq!(rig.follower().read(now).unwrap().bytes(), b"\xff\x00\xfe\n");
}

#[test]
fn the_last_line_needs_no_newline_where_the_run_ends_at_the_end() {
    let mut rig = Rig::with("*.log", From::Start, true);
    rig.append("a.log", "1\n2");
    rig.append("b.log", "3\n");
    let mut lines = rig.lines();
    lines.sort();
    assert_eq!(lines, ["1", "2", "3"]);
    assert!(rig.follower().has_ended());
}

#[test]
fn a_run_that_ends_at_the_end_ends_where_there_is_no_file() {
    let mut rig = Rig::with("*.log", From::Start, true);
    assert!(!rig.follower().has_ended(), "it has not looked yet");
    gives(&mut rig, "");
    assert!(rig.follower().has_ended());
}

// Rotation.

#[test]
fn a_file_that_is_renamed_away_is_read_to_its_end_before_the_new_one() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "1\n");
    gives(&mut rig, "1");
    rig.append("a.log", "2\n");
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "3\n");
    gives(&mut rig, "2 3");
}

#[test]
fn a_writer_that_still_has_the_renamed_file_open_is_read_for_a_minute_after_its_last_line() {
    let mut rig = Rig::new("a.log");
    let mut writer = File::create(rig.path("a.log")).unwrap();
    gives(&mut rig, "");
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "new1\n");
    gives(&mut rig, "new1");
    for number in 0..3 {
        rig.pass(MINUTE / 2);
        writeln!(writer, "old{number}").unwrap();
        gives(&mut rig, &format!("old{number}"));
    }
    rig.pass(MINUTE);
    gives(&mut rig, "");
    writeln!(writer, "too late").unwrap();
    gives(&mut rig, "");
}

#[test]
fn what_a_gone_file_had_without_a_newline_is_a_line_when_it_is_given_up() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "1\nrest");
    gives(&mut rig, "1");
    rig.rename("a.log", "a.log.1");
    gives(&mut rig, "");
    rig.pass(MINUTE);
    gives(&mut rig, "rest");
}

#[test]
fn a_removed_file_is_read_to_its_end() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "1\n");
    gives(&mut rig, "1");
    rig.append("a.log", "2\n");
    rig.remove("a.log");
    gives(&mut rig, "2");
    rig.append("a.log", "3\n");
    gives(&mut rig, "3");
}

#[test]
fn rotated_files_that_match_too_are_not_read_again() {
    let mut rig = Rig::new("a.log*");
    for turn in 0..20 {
        rig.append("a.log", &format!("{turn}a\n"));
        gives(&mut rig, &format!("{turn}a"));
        rig.append("a.log", &format!("{turn}b\n"));
        for number in (1..5).rev() {
            let from = rig.path(&format!("a.log.{number}"));
            if from.exists() {
                fs::rename(from, rig.path(&format!("a.log.{}", number + 1))).unwrap();
            }
        }
        rig.rename("a.log", "a.log.1");
        gives(&mut rig, &format!("{turn}b"));
    }
}

#[test]
fn several_rotations_between_two_looks_are_read_oldest_first() {
    let mut rig = Rig::new("a.log*");
    rig.append("a.log", "1\n");
    gives(&mut rig, "1");
    rig.append("a.log", "2\n");
    rig.rename("a.log", "a.log.3");
    rig.append("a.log.2", "3\n");
    rig.append("a.log.1", "4\n");
    rig.append("a.log", "5\n");
    gives(&mut rig, "2 3 4 5");
}

#[test]
fn files_that_are_there_at_the_start_are_read_oldest_first() {
    let mut rig = Rig::new("a.log*");
    for (name, line) in [("a.log.10", 1), ("a.log.9", 2), ("a.log.1", 3), ("a.log", 4)] {
        rig.append(name, &format!("{line}\n"));
    }
    gives(&mut rig, "1 2 3 4");
}

#[test]
fn a_rotation_while_the_agent_is_down_loses_nothing() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "1\n");
    gives(&mut rig, "1");
    rig.restart();
    rig.append("a.log", "2\n");
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "3\n");
    gives(&mut rig, "2 3");
}

#[test]
fn a_link_that_is_switched_to_another_file_is_followed() {
    let mut rig = Rig::new("now.log");
    rig.append("one", "1\n");
    symlink(rig.path("one"), rig.path("now.log")).unwrap();
    gives(&mut rig, "1");
    rig.append("one", "2\n");
    rig.append("two", "3\n");
    symlink(rig.path("two"), rig.path("next")).unwrap();
    rig.rename("next", "now.log");
    gives(&mut rig, "2 3");
    rig.append("two", "4\n");
    gives(&mut rig, "4");
}

#[test]
fn two_names_of_one_file_are_one_file() {
    let mut rig = Rig::new("*.log");
    rig.append("a.log", "1\n");
    fs::hard_link(rig.path("a.log"), rig.path("b.log")).unwrap();
    symlink(rig.path("a.log"), rig.path("c.log")).unwrap();
    gives(&mut rig, "1");
    rig.remove("a.log");
    rig.append("b.log", "2\n");
    gives(&mut rig, "2");
}

#[test]
fn a_folder_that_comes_later_is_found() {
    let mut rig = Rig::new("app/*/x.log");
    gives(&mut rig, "");
    fs::create_dir_all(rig.path("app/one")).unwrap();
    rig.append("app/one/x.log", "1\n");
    gives(&mut rig, "1");
}

#[test]
fn a_folder_that_is_replaced_is_followed() {
    let mut rig = Rig::new("app/x.log");
    fs::create_dir(rig.path("app")).unwrap();
    rig.append("app/x.log", "1\n");
    gives(&mut rig, "1");
    rig.append("app/x.log", "2\n");
    rig.rename("app", "old");
    fs::create_dir(rig.path("app")).unwrap();
    rig.append("app/x.log", "3\n");
    gives(&mut rig, "2 3");
}

// Truncation.

#[test]
fn a_truncated_file_is_read_from_its_start() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "1\n2\n");
    gives(&mut rig, "1 2");
    rig.truncate("a.log");
    gives(&mut rig, "");
    rig.append("a.log", "3\n");
    gives(&mut rig, "3");
}

#[test]
fn a_truncation_is_noticed_when_the_file_is_longer_again() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "1\n2\n");
    gives(&mut rig, "1 2");
    rig.truncate("a.log");
    rig.append("a.log", "3\n4\n5\n");
    gives(&mut rig, "3 4 5");
}

#[test]
fn a_truncation_while_the_agent_is_down_is_noticed() {
    for text in ["3\n", "3\n4\n5\n6\n"] {
        let mut rig = Rig::new("a.log");
        rig.append("a.log", "1\n2\n");
        gives(&mut rig, "1 2");
        rig.restart();
        rig.truncate("a.log");
        rig.append("a.log", text);
        gives(&mut rig, text);
    }
}

#[test]
fn what_a_copy_has_more_than_was_read_is_read_from_it() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "1\n");
    gives(&mut rig, "1");
    rig.append("a.log", "2\n3\n");
    rig.copy("a.log", "a.log.1");
    rig.truncate("a.log");
    rig.append("a.log", "4\n");
    gives(&mut rig, "2 3 4");
    rig.append("a.log", "5\n");
    gives(&mut rig, "5");
}

#[test]
fn a_copy_that_matches_too_is_not_read_twice() {
    let mut rig = Rig::new("a.log*");
    rig.append("a.log", "1\n2\n");
    gives(&mut rig, "1 2");
    rig.append("a.log", "3\n");
    rig.copy("a.log", "a.log.1");
    gives(&mut rig, "3");
    rig.append("a.log", "4\n");
    gives(&mut rig, "4");
    rig.truncate("a.log");
    rig.append("a.log", "5\n");
    gives(&mut rig, "5");
    rig.pass(MINUTE);
    gives(&mut rig, "");
}

#[test]
fn lines_that_are_always_the_same_are_neither_lost_nor_doubled() {
    for pattern in ["a.log", "a.log*"] {
        let mut rig = Rig::new(pattern);
        for turn in 0..30 {
            rig.append("a.log", "same\n");
            gives(&mut rig, "same");
            if turn % 3 == 0 {
                rig.append("a.log", "same\nsame\n");
                rig.rename("a.log", &format!("a.log.{turn}"));
                gives(&mut rig, "same same");
            }
        }
    }
}

#[test]
fn a_file_that_begins_like_the_one_before_is_read_whole() {
    let mut rig = Rig::new("a.log*");
    rig.append("a.log", "header\n1\n");
    gives(&mut rig, "header 1");
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "header\n");
    gives(&mut rig, "header");
    rig.append("a.log", "2\n");
    gives(&mut rig, "2");
    rig.append("a.log.old", "header\n");
    gives(&mut rig, "");
    rig.append("a.log.old", "3\n");
    gives(&mut rig, "header 3");
    rig.append("a.log.older", "header\n");
    gives(&mut rig, "");
    rig.pass(MINUTE);
    gives(&mut rig, "header");
}

#[test]
fn an_older_copy_of_a_log_that_begins_the_same_is_not_taken_for_the_new_one() {
    let header =
        "# the same header in each file, longer than what is compared of its start ".repeat(4);
    let mut rig = Rig::new("a.log");
    rig.append("a.log.2", &format!("{header}\nold1\nold2\nold3\nold4\n"));
    rig.append("a.log", &format!("{header}\n1\n"));
    assert_eq!(rig.lines().len(), 2);
    rig.append("a.log", "2\n");
    rig.copy("a.log", "a.log.1");
    rig.truncate("a.log");
    rig.append("a.log", "3\n");
    gives(&mut rig, "2 3");
}

#[test]
fn a_writer_that_goes_on_at_its_old_place_after_a_truncation_leaves_a_hole_that_is_skipped() {
    let mut rig = Rig::new("a.log");
    let file = File::create(rig.path("a.log")).unwrap();
    let old = format!("{}\n", "x".repeat(299_999));
    file.write_all_at(old.as_bytes(), 0).unwrap();
    assert_eq!(rig.lines().len(), 1);
    file.set_len(0).unwrap();
    file.write_all_at(b"1\n", 300_000).unwrap();
    gives(&mut rig, "1");
    file.write_all_at(b"2\n", 300_002).unwrap();
    gives(&mut rig, "2");
}

#[test]
fn a_file_that_is_written_anew_in_place_is_read_from_its_start() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "1\n2\n");
    gives(&mut rig, "1 2");
    fs::write(rig.path("a.log"), "3\n4\n").unwrap();
    gives(&mut rig, "3 4");
}

// The inode of a file that is gone.

#[test]
fn another_file_of_the_same_inode_is_read_from_its_start() {
    let mut rig = Rig::new("a.log");
    for turn in 0..20 {
        rig.append("a.log", &format!("{turn}\n"));
        gives(&mut rig, &turn.to_string());
        rig.restart();
        rig.remove("a.log");
    }
}

#[test]
fn the_inode_of_a_followed_file_is_not_given_away() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "1\n");
    gives(&mut rig, "1");
    let inode = fs::metadata(rig.path("a.log")).unwrap().ino();
    rig.remove("a.log");
    rig.append("a.log", "2\n");
    assert_ne!(inode, fs::metadata(rig.path("a.log")).unwrap().ino());
    gives(&mut rig, "2");
}

// Positions.

#[test]
fn a_restart_goes_on_where_everything_was_acknowledged() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "1\n2\n");
    gives(&mut rig, "1 2");
    rig.restart();
    gives(&mut rig, "");
    rig.append("a.log", "3\n");
    gives(&mut rig, "3");
}

#[test]
fn what_was_not_acknowledged_is_read_again_in_order() {
    let mut rig = Rig::new("*.log");
    rig.append("a.log", "1\n");
    gives(&mut rig, "1");
    rig.is_acknowledging = false;
    rig.append("a.log", "2\n");
    gives(&mut rig, "2");
    rig.append("a.log", "3\n");
    gives(&mut rig, "3");
    rig.unacknowledged[1].acknowledge();
    rig.restart();
    gives(&mut rig, "2 3");
    rig.kill();
    gives(&mut rig, "2 3");
    rig.unacknowledged.drain(..).for_each(|receipt| receipt.acknowledge());
    rig.restart();
    gives(&mut rig, "");
}

#[test]
fn a_file_that_was_read_but_not_acknowledged_is_found_after_it_was_renamed_and_given_up() {
    let mut rig = Rig::new("a.log");
    rig.is_acknowledging = false;
    rig.append("a.log", "1\n2\n");
    gives(&mut rig, "1 2");
    rig.rename("a.log", "a.log.1");
    gives(&mut rig, "");
    rig.pass(MINUTE);
    gives(&mut rig, "");
    rig.restart();
    gives(&mut rig, "1 2");
}

#[test]
fn positions_that_cannot_be_read_are_none() {
    for text in ["", "{", "{\"version\":2,\"source\":\"\",\"files\":[]}", "[1]", "null"] {
        let mut rig = Rig::new("a.log");
        rig.append("a.log", "1\n");
        gives(&mut rig, "1");
        rig.restart();
        let kept: Vec<_> = fs::read_dir(rig.state.path()).unwrap().collect();
        assert_eq!(kept.len(), 1);
        fs::write(kept[0].as_ref().unwrap().path(), text).unwrap();
        gives(&mut rig, "1");
    }
}

#[test]
fn without_a_state_folder_files_are_read_nevertheless() {
    let mut rig = Rig::new("a.log");
    let no_folder = rig.path("file");
    fs::write(&no_folder, "").unwrap();
    rig.append("a.log", "1\n");
    let positions =
        Positions::kept(&StateFolder::at(no_folder), "test", rig.path("a.log").as_path());
    rig.follower = Some(Follower::new(rig.options.clone(), positions.clone()));
    gives(&mut rig, "1");
    positions.save();
    rig.append("a.log", "2\n");
    gives(&mut rig, "2");
}

#[test]
fn two_flows_keep_a_position_each_of_the_same_file() {
    let mut rig = Rig::new("a.log");
    rig.append("a.log", "1\n");
    gives(&mut rig, "1");
    rig.restart();
    let folder = StateFolder::at(rig.state.path());
    let other = Positions::kept(&folder, "other", rig.options.pattern.as_path());
    rig.follower = Some(Follower::new(rig.options.clone(), other));
    gives(&mut rig, "1");
}

// What is no file, and too many of them.

#[test]
fn what_is_no_regular_file_is_left_alone() {
    let mut rig = Rig::new("*");
    fs::create_dir(rig.path("folder")).unwrap();
    let fifo = rig.path("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    symlink("nowhere", rig.path("link")).unwrap();
    symlink("loop", rig.path("loop")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(rig.path("socket")).unwrap();
    rig.append("a.log", "1\n");
    gives(&mut rig, "1");
}

#[test]
fn more_files_than_may_be_open_are_read_all_the_same() {
    let mut rig = Rig::new("*.log");
    let names: Vec<String> = (0..300).map(|number| format!("{number:03}.log")).collect();
    for turn in 0..3 {
        names.iter().for_each(|name| rig.append(name, &format!("{name}-{turn}\n")));
        let mut lines = rig.lines();
        lines.sort();
        let all: Vec<String> = names.iter().map(|name| format!("{name}-{turn}")).collect();
        assert_eq!(lines, all);
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten().filter(|fd| {
            fs::read_link(fd.path()).is_ok_and(|path| path.starts_with(rig.folder.path()))
        });
        assert!(open.count() <= 64);
    }
    // One of those that are closed is rotated.
    for name in &names {
        rig.append(name, "last\n");
        rig.rename(name, &format!("{name}.1"));
    }
    assert_eq!(rig.lines().len(), 300);
}

#[test]
fn more_files_than_are_followed_are_left_and_the_rest_is_read() {
    let mut rig = Rig::new("*.log");
    (0..1100).for_each(|number| rig.append(&format!("{number}.log"), "1\n"));
    assert_eq!(rig.lines().len(), 1024);
}

#[test]
fn a_busy_file_does_not_keep_others_from_being_read() {
    let mut rig = Rig::new("*.log");
    rig.append("a.log", &"busy\n".repeat(400_000));
    rig.append("b.log", "quiet\n");
    let now = rig.now;
    rig.follower().look(now);
    let first: Vec<_> = (0..2).map(|_| rig.follower().read(now).unwrap()).collect();
    assert!(first.iter().any(|given| given.bytes() == b"quiet\n"));
}

/// A log that is written, rotated in every way and read, in an order that a seed decides: each line comes once and in order.
#[test]
fn ten_thousand_rotations_lose_and_double_nothing() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(26);
    let mut rotations = 0;
    for seed in 0..seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let matches_all = random.bool();
        let mut rig = Rig::new(if matches_all { "a.log*" } else { "a.log" });
        let inode = |rig: &Rig| fs::metadata(rig.path("a.log")).ok().map(|found| found.ino());
        let (written, mut read, mut generation) = (Cell::new(0_u32), Vec::new(), 99_999);
        let mut seen = None;
        let mut trace = Vec::new();
        for _ in 0..500 {
            let line = |random: &mut fastrand::Rng| {
                let long =
                    "x".repeat(if random.u8(..20) == 0 { 5_000 } else { random.usize(..40) });
                let text = format!("{}-{long}\n", written.get());
                written.set(written.get() + 1);
                // Some lines come in two parts.
                let (start, end) = text.split_at(random.usize(..text.len()));
                (start.to_owned(), end.to_owned())
            };
            for _ in 0..random.usize(..4) {
                let (start, end) = line(&mut random);
                rig.append("a.log", &start);
                if random.u8(..4) == 0 {
                    read.extend(rig.lines());
                    seen = inode(&rig);
                }
                rig.append("a.log", &end);
            }
            if random.u8(..3) == 0 {
                read.extend(rig.lines());
                seen = inode(&rig);
            }
            // A file that was never seen at its name may be hidden from a pattern that matches no other.
            if !matches_all && seen != inode(&rig) || !rig.path("a.log").exists() {
                read.extend(rig.lines());
                seen = inode(&rig);
                continue;
            }
            // As log rotation numbers them: of two that were changed in the same moment the higher number is older.
            generation -= 1;
            rotations += 1;
            let kind = random.u8(..7);
            trace.push((kind, generation, written.get()));
            match kind {
                0..=2 => rig.rename("a.log", &format!("a.log.{generation}")),
                3 => {
                    // What is read to its end is copied and truncated, with lines that came before the copy.
                    read.extend(rig.lines());
                    let had = fs::metadata(rig.path("a.log")).unwrap().len();
                    let (start, end) = line(&mut random);
                    rig.append("a.log", &(start + &end));
                    // Of a file of which nothing was read nobody sees that it was truncated.
                    if had == 0 && !matches_all {
                        read.extend(rig.lines());
                    }
                    rig.copy("a.log", &format!("a.log.{generation}"));
                    rig.truncate("a.log");
                    // A copy of what was never read is known by its name only, before the other is renamed.
                    if had == 0 {
                        read.extend(rig.lines());
                    }
                }
                4 => {
                    read.extend(rig.lines());
                    rig.remove("a.log");
                }
                5 => {
                    read.extend(rig.lines());
                    rig.truncate("a.log");
                }
                _ => {
                    read.extend(rig.lines());
                    rig.restart();
                    rig.rename("a.log", &format!("a.log.{generation}"));
                }
            }
            if random.u8(..10) == 0 {
                rig.pass(MINUTE);
            }
            // A folder does not grow for ever.
            if generation % 40 == 0 {
                read.extend(rig.lines());
                for entry in fs::read_dir(rig.folder.path()).unwrap().flatten() {
                    if entry.file_name() != "a.log" {
                        fs::remove_file(entry.path()).unwrap();
                    }
                }
            }
        }
        read.extend(rig.lines());
        let numbers: Vec<u32> =
            read.iter().map(|line| line.split('-').next().unwrap().parse().unwrap()).collect();
        let wrong = numbers.iter().zip(0..).position(|(number, at)| *number != at);
        if wrong.is_some() || numbers.len() != written.get() as usize {
            let at = wrong.unwrap_or(numbers.len());
            let around = &numbers[at.saturating_sub(3)..numbers.len().min(at + 5)];
            let near: Vec<_> =
                trace.iter().filter(|(_, _, line)| line.abs_diff(at as u32) < 8).collect();
            panic!(
                "seed {seed}, matches all: {matches_all}, line {at}: {around:?}, {written:?} written; {near:?}"
            );
        }
    }
    assert!(rotations >= 300 * seeds, "{rotations} rotations");
    println!("{rotations} rotations");
}
