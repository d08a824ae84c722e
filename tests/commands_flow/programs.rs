//! What people send to be run, as they send it: saved on Windows, long, with daemons, for the host's names of
//! accounts. Each answer says what the agent did besides.

use std::collections::BTreeMap;

use infiniservice::host::{RawCommand, Script};

use super::rig::{Lab, script};
use super::support::flows::SECRET;
use super::support::{PATIENCE, raw};

#[tokio::test]
async fn a_script_that_was_saved_on_windows_stops_where_it_fails_and_the_answer_says_what_was_removed()
 {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let saved = "\u{FEFF}#!/bin/sh\r\nset -e\r\necho a\r\nfalse\r\necho on\r\n";
    let done = host.script(&script("e-1", saved.to_owned()), PATIENCE).await.unwrap();
    assert_eq!((done.exit_code, done.stdout.as_str()), (1, "a\n"));
    let removed = "removed a byte order mark and the carriage returns at the ends of 5 lines";
    assert!(done.stderr.contains(removed), "{}", done.stderr);

    let line = host.exec(&raw("\u{FEFF}set -e\r\nfalse\r\necho on\r\n"), PATIENCE).await.unwrap();
    assert_eq!((line.exit_code, line.stdout.as_str()), (Some(1), ""), "{line:?}");
    assert!(line.stderr.contains("removed a byte order mark and"), "{line:?}");

    let plain = host.exec(&raw("echo b"), PATIENCE).await.unwrap();
    assert_eq!((plain.stdout.as_str(), plain.stderr.as_str()), ("b\n", ""));

    let wide: Vec<u8> = "\u{FEFF}set -e\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let wide = String::from_utf8_lossy(&wide).into_owned();
    let refused = host.script(&script("e-2", wide), PATIENCE).await.unwrap();
    assert!(refused.stderr.contains("save it as UTF-8"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_line_longer_than_an_argument_is_run_and_no_text_is_on_the_disk() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    for length in [131_050, 200_000, 2 << 20] {
        let line = format!("#{}\nprintf %s \"$A\"; exit 3", "x".repeat(length));
        let env_vars: BTreeMap<String, String> = [("A".to_owned(), "b".to_owned())].into();
        let line = RawCommand { env_vars, ..raw(&line) };
        let answer = host.exec(&line, PATIENCE).await.unwrap();
        assert_eq!((answer.exit_code, answer.stdout.as_str()), (Some(3), "b"), "{answer:?}");
    }
    let listed = script("e-1", format!("ls -A {}/state", lab.folder.path().display()));
    let done = host.script(&listed, PATIENCE).await.unwrap();
    assert!(!done.stdout.lines().any(|name| name == "scripts"), "{}", done.stdout);
}

#[tokio::test]
async fn what_is_left_running_is_ended_and_told_unless_a_rule_lets_it_be_left() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let left = "nohup sleep 3601.5 > /dev/null 2>&1 & setsid -f sleep 3601.5; sleep 0.3; echo said";
    let answer = host.exec(&raw(left), PATIENCE).await.unwrap();
    assert_eq!((answer.success, answer.stdout.as_str()), (true, "said\n"), "{answer:?}");
    let told = "infiniservice: ended 2 processes left behind: sleep, sleep\n";
    assert_eq!(answer.stderr, told);

    let env_vars: BTreeMap<String, String> =
        [("INFINISERVICE_DETACH".to_owned(), "1".to_owned())].into();
    let answer = host.exec(&RawCommand { env_vars, ..raw(left) }, PATIENCE).await.unwrap();
    let why = answer.error.unwrap_or_default();
    assert!(!answer.success && why.contains("does not say detach = true"), "{why}");
    let input_values = [("INFINISERVICE_DETACH".to_owned(), "true".to_owned())].into();
    let pushed = Script { input_values, ..script("e-1", left.to_owned()) };
    let done = host.script(&pushed, PATIENCE).await.unwrap();
    assert!(done.stderr.contains("does not say detach = true"), "{}", done.stderr);
}

#[tokio::test]
async fn the_hosts_names_of_who_may_do_everything_are_root() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can do this");
        return;
    }
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let text = "echo $(id -un):$(id -G):$USER:$LOGNAME:$HOME:$SHELL";
    let as_account = |name: &str| RawCommand { run_as: Some(name.to_owned()), ..raw(text) };
    let root = host.exec(&as_account("root"), PATIENCE).await.unwrap().stdout;
    assert!(root.starts_with("root:") && root.contains(":root:root:/root:/"), "{root}");
    for name in ["system", "SYSTEM", "administrator", "Administrator"] {
        assert_eq!(host.exec(&as_account(name), PATIENCE).await.unwrap().stdout, root, "{name}");
    }
    let pushed = Script { run_as: Some("System".to_owned()), ..script("e-1", format!("{text}\n")) };
    assert_eq!(host.script(&pushed, PATIENCE).await.unwrap().stdout, root);
    let other = Script { run_as: Some("nobody".to_owned()), ..script("e-2", format!("{text}\n")) };
    let done = host.script(&other, PATIENCE).await.unwrap();
    assert!(done.stdout.starts_with("nobody:"), "{done:?}");
}

#[tokio::test]
async fn what_is_run_has_no_signal_blocked_or_ignored_whoever_started_the_agent() {
    let lab = Lab::new().await;
    let _agent = std::thread::scope(|scope| {
        let blocked = scope.spawn(|| {
            nix::sys::signal::SigSet::all().thread_set_mask().unwrap();
            lab.start_after("trap '' HUP INT QUIT USR1 PIPE CHLD TERM ALRM 34 64;", Some(SECRET))
        });
        blocked.join().unwrap()
    });
    let host = lab.host().await;
    // By a shell of its own for a command line, and through a text in memory for a script.
    let look = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let line = host.exec(&raw(look), PATIENCE).await.unwrap().stdout;
    let done = host.script(&script("e-1", look.to_owned()), PATIENCE).await.unwrap().stdout;
    for said in [line, done] {
        assert_eq!(said.lines().count(), 2, "{said}");
        for mask in said.lines().map(|line| line.split_once('\t').unwrap().1) {
            // Without 32 and 33, which are the C library's own.
            assert_eq!(u64::from_str_radix(mask, 16).unwrap() & !(3 << 31), 0, "{said}");
        }
    }
}
