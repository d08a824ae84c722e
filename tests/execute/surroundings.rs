//! What a program finds around it: exactly what is documented.

use std::collections::BTreeSet;

use infiniservice::internals::commands::process::{PATH, Program, Runner};
use tokio_util::sync::CancellationToken;

use super::rig::{alone, beside, run, runner, said, shell, within};

/// Variables of the test itself are the trap: there are many, and none may arrive.
#[tokio::test]
async fn the_environment_is_exactly_what_is_documented() {
    beside(async {
        assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")), "there is a trap");
        let home = said(&runner(), "getent passwd $(id -u) | cut -d: -f6").await;
        let without = Runner::new(CancellationToken::new());
        for runner in [runner(), without] {
            let mut program = Program::new("env", [""; 0], within(10_000));
            let fixed = format!("HOME={home}LANG=C.UTF-8\nLC_ALL=C.UTF-8\nPATH={PATH}\n");
            assert_eq!(sorted(&run(&runner, program.clone()).await.stdout.text), fixed);
            program.environment.insert("LANG".into(), "C".into());
            program.environment.insert("Z z".into(), "a=b\tc".into());
            let finished = run(&runner, program).await;
            assert_eq!(
                sorted(&finished.stdout.text),
                fixed.replace("C.UTF-8\nLC", "C\nLC") + "Z z=a=b\tc\n"
            );
        }
    })
    .await;
}

fn sorted(text: &str) -> String {
    let lines: BTreeSet<&str> = text.lines().collect();
    lines.into_iter().flat_map(|line| [line, "\n"]).collect()
}

#[tokio::test]
async fn a_program_starts_in_the_root_or_where_it_is_told_to() {
    beside(async {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let runner = runner();
        assert_eq!(said(&runner, "pwd").await, "/\n");
        let program = Program { directory: Some(folder.clone()), ..shell("pwd") };
        let finished = run(&runner, program).await;
        assert_eq!(finished.stdout.text, format!("{}\n", folder.display()));
    })
    .await;
}

#[tokio::test]
async fn a_program_has_its_own_session_no_terminal_and_plain_signals() {
    beside(async {
        let runner = runner();
        assert_eq!(said(&runner, "umask").await, "0022\n");
        // pid, session, terminal of the shell itself
        let text = "read -r pid name state parent group session tty rest < /proc/$$/stat; \
                        echo $((pid - session)) $((pid - group)) $tty";
        assert_eq!(said(&runner, text).await, "0 0 0\n");
        let text = "grep ^SigBlk /proc/self/status | cut -f2";
        assert_eq!(said(&runner, text).await, "0000000000000000\n");
        let score = said(&runner, "cat /proc/self/oom_score_adj").await;
        assert!(!score.starts_with('-'), "{score}");
    })
    .await;
}

/// The agent may have been started with signals ignored (`nohup`); what it starts has none.
#[tokio::test]
async fn a_program_begins_with_no_signal_ignored() {
    beside(async {
        let agent = env!("CARGO_BIN_EXE_infiniservice");
        // As the agent starts a program, by a shell that ignores some, and SIGCHLD and SIGPIPE.
        let text = format!(
            "trap '' HUP INT QUIT USR1 PIPE CHLD TERM ALRM TSTP WINCH 34 40 64; \
             exec {agent} __enter t: '' '' '' / /bin/grep grep ^SigIgn /proc/self/status"
        );
        let found = said(&runner(), &text).await;
        let mask = found.strip_prefix("SigIgn:\t").unwrap().trim();
        // Without 32 and 33, which are the C library's own.
        assert_eq!(u64::from_str_radix(mask, 16).unwrap() & !(3 << 31), 0, "{mask}");
        let own = said(&runner(), "grep ^SigIgn /proc/self/status | cut -f2").await;
        assert_eq!(u64::from_str_radix(own.trim(), 16).unwrap() & !(3 << 31), 0, "{own}");
    })
    .await;
}

/// Files, pipes and sockets are open here while it runs: it must see three descriptors, and those
/// that this very process was given without close-on-exec.
#[tokio::test]
async fn a_program_inherits_no_descriptor_of_the_agent() {
    alone(async {
        let _file = std::fs::File::open("/proc/self/status").unwrap();
        let _socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let given: BTreeSet<u32> = std::fs::read_dir("/proc/self/fdinfo")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|number| *number > 2 && !closes_on_exec(*number))
            .collect();
        let runner = runner();
        let other = tokio::spawn({
            let runner = runner.clone();
            async move { run(&runner, shell("sleep 0.3")).await }
        });
        // The shell's own list, without the descriptor that lists.
        let listed = said(&runner, "for fd in /proc/$$/fd/*; do echo ${fd##*/}; done").await;
        let found: BTreeSet<u32> = listed.lines().map(|line| line.parse().unwrap()).collect();
        let extra: Vec<_> = found.iter().filter(|fd| **fd > 2 && !given.contains(fd)).collect();
        // dash opens the folder while it expands `*`.
        assert!(extra.len() <= 1, "{extra:?}, given {given:?}");
        other.await.unwrap();
    })
    .await;
}

fn closes_on_exec(number: u32) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u64::from_str_radix(flags.trim(), 8).ok());
    flags.is_none_or(|flags| flags & 0o2_000_000 != 0)
}
