//! Programs of other users, and everything once more for an agent that is not root.

use infiniservice::internals::commands::argument::Account;
use infiniservice::internals::commands::process::{Exit, Prepared, Program, command_line, script};
use infiniservice::internals::commands::request::{RawCommand, Script, Shell};
use rustix::fs::XattrFlags;
use tokio::time::Instant;

use super::rig::{Mark, WITHOUT_GROUPS, alone, beside, is_root, run, runner, shell, within};
use super::starting::account;

#[tokio::test]
async fn a_program_runs_as_the_user_it_is_told_with_that_users_groups_only() {
    beside(async {
        if !is_root() {
            return;
        }
        let runner = runner();
        for name in ["nobody", "daemon", "root"] {
            let text = "id -un; id -ru; id -u; id -G | tr ' ' '\\n' | sort -n; \
                        echo $HOME:$SHELL:$USER:$LOGNAME";
            let program = Program { run_as: account(name), ..shell(text) };
            let found = run(&runner, program).await.stdout.text;
            // What the C library says of that account, read by a program of root.
            let text = format!(
                "id -un {name}; id -ru {name}; id -u {name}; \
                     id -G {name} | tr ' ' '\\n' | sort -n; getent passwd {name} | cut -d: -f6,7 | tr -d '\\n'; \
                     echo :{name}:{name}"
            );
            assert_eq!(found, run(&runner, shell(&text)).await.stdout.text, "{name}");
        }
        let text = "grep -E '^Cap(Prm|Eff|Amb)' /proc/self/status | cut -f2 | sort -u";
        let program = Program { run_as: account("nobody"), ..shell(text) };
        assert_eq!(run(&runner, program).await.stdout.text, "0000000000000000\n");
    })
    .await;
}

#[tokio::test]
async fn only_root_may_run_programs_as_another_user() {
    beside(async {
        let program = Program { run_as: account("daemon"), ..shell("id -un") };
        match rustix::process::geteuid().is_root() {
            true => assert_eq!(run(&runner(), program).await.stdout.text, "daemon\n"),
            false => {
                let error = runner().run(program).await.unwrap_err().to_string();
                assert!(error.starts_with("only root may run programs as \"daemon\""), "{error}");
            }
        }
    })
    .await;
}

/// Such as `$0` again, `read`, descriptors of its own, a child with other rights, and a here-document.
const EXPECTING: &str = r#"set -eu
id -un
read -r line || echo "nothing to read"
exec 3>&1 9>/dev/null
echo "$given" >&3
cat <<E | tr a-z A-Z
here $(id -un)
E
[ "$#" = 0 ] && cd "$(dirname "$0")" && cd /
stat -Lc %a:%U "$0"
[ "${again-}" ] || again=1 "$shell" "$0"
"#;

/// A script has a file that it can name, its user alone can read, and nobody can change.
#[tokio::test]
async fn a_script_runs_from_a_file_that_only_its_user_can_read() {
    beside(async {
        let run_as = is_root().then(|| account("nobody")).flatten();
        let user = if run_as.is_some() { "nobody".to_owned() } else { whoami().await };
        for (shell, name) in [(Shell::Sh, "sh"), (Shell::Bash, "bash")] {
            // More than one argument could hold.
            let content = format!("{EXPECTING}# {}\n", "x".repeat(1 << 18));
            let inputs = [("given", "a b"), ("shell", name)];
            let inputs = inputs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let (name, run_as) = ("test".into(), run_as.clone());
            let pending = Script { name, content, shell, inputs, run_as };
            let Prepared { program, note } = script(&pending, within(10_000)).unwrap();
            let finished = run(&runner(), program).await;
            assert_eq!((finished.stderr.text.as_str(), note), ("", None));
            let once =
                format!("{user}\nnothing to read\na b\nHERE {}\n400:{user}\n", user.to_uppercase());
            assert_eq!(finished.stdout.text, once.repeat(2));
            assert_eq!(finished.exit, Exit::Code(0));
        }
    })
    .await;
}

#[tokio::test]
async fn a_child_that_has_become_another_user_cannot_read_its_script() {
    beside(async {
        if !is_root() {
            return;
        }
        let as_nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
        let content =
            format!("# secret\nls -l $0 > /dev/null\n{as_nobody} cat $0 2>&1\necho x >> $0");
        let program =
            Program { text: Some(content), ..Program::new("sh", [""; 0], within(10_000)) };
        let finished = run(&runner(), program).await;
        assert!(!finished.stdout.text.contains("secret"), "{}", finished.stdout.text);
        assert!(finished.stdout.text.contains("Permission denied"), "{}", finished.stdout.text);
        assert_ne!(finished.exit, Exit::Code(0), "not even root changes it");
    })
    .await;
}

/// Nothing is on a disk: what a killed agent leaves behind holds no script.
#[tokio::test]
async fn a_long_command_line_is_run_as_a_file_in_memory() {
    beside(async {
        let run_as = is_root().then(|| account("nobody")).flatten();
        let long = format!("#{}\nset -e\necho \"$A\"; pwd\nfalse\necho on", "x".repeat(200_000));
        for (command, note) in [(long.clone(), false), (long.replace('\n', "\r\n"), true)] {
            let raw = RawCommand {
                command,
                shell: Shell::Sh,
                working_dir: Some("/tmp".into()),
                environment: [("A".to_owned(), "b".to_owned())].into(),
                run_as: run_as.clone(),
            };
            let prepared = command_line(&raw, within(10_000)).unwrap();
            assert_eq!(prepared.note.is_some(), note);
            let finished = run(&runner(), prepared.program).await;
            assert_eq!(
                (finished.exit, finished.stdout.text.as_str()),
                (Exit::Code(1), "b\n/tmp\n")
            );
        }
    })
    .await;
}

async fn whoami() -> String {
    run(&runner(), shell("id -un")).await.stdout.text.trim().to_owned()
}

/// A real fork bomb, held by the kernel to 150 processes of that user.
#[tokio::test]
async fn a_fork_bomb_ends_at_its_deadline() {
    alone(async {
        if !is_root() {
            return;
        }
        let runner = runner();
        let (mark, begun) = (Mark::new(), Instant::now());
        let text =
            format!("ulimit -u 150; bomb() {{ bomb {mark} | bomb {mark} & }}; bomb; sleep {mark}");
        let bomb = Program::new("bash", ["-c", &text], within(1_000));
        let finished = run(&runner, Program { run_as: account("nobody"), ..bomb }).await;
        assert_eq!(finished.exit, Exit::TimedOut);
        let count =
            |text: &str| shell(&format!("ps -o args= -u nobody | grep -c '{text}' || true"));
        assert_eq!(run(&runner, count(&mark.to_string())).await.stdout.text, "0\n");
        assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
    })
    .await;
}

/// This test binary again, as a user that may make no control group and be nobody else.
#[tokio::test]
async fn everything_holds_for_an_agent_that_is_not_root() {
    alone(async {
        if is_root() {
            again(account("nobody")).await;
        }
    })
    .await;
}

/// And again as root, where no control group can be made.
#[tokio::test]
async fn everything_holds_without_control_groups() {
    alone(async {
        if is_root() && std::env::var_os(WITHOUT_GROUPS).is_none() {
            again(None).await;
        }
    })
    .await;
}

/// As under systemd with `Delegate=`: the agent makes room for the groups of its programs.
#[tokio::test]
async fn a_group_that_was_handed_over_is_divided() {
    alone(async {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let mount = mount.and_then(|mount| mount.split(' ').nth(4)).unwrap_or("/no/such");
        let folder = format!("{mount}/execute-test.{}", std::process::id());
        if !is_root() || std::fs::create_dir(&folder).is_err() {
            eprintln!("skipped: no control group can be made here");
            return;
        }
        rustix::fs::setxattr(&folder, "trusted.delegate", b"1", XattrFlags::empty()).unwrap();
        let own = std::env::current_exe().unwrap();
        let text = format!(
            "echo 0 > {folder}/cgroup.procs && exec {} --ignored --nocapture --exact users::as_an_agent_of_systemd",
            own.display()
        );
        let finished = run(&runner(), shell(&text)).await;
        std::fs::remove_dir(format!("{folder}/agent")).unwrap();
        std::fs::remove_dir(&folder).unwrap();
        let (out, err) = (finished.stdout.text, finished.stderr.text);
        assert_eq!(finished.exit, Exit::Code(0), "{out}\n{err}");
        assert!(out.contains("1 passed"), "{out}");
    })
    .await;
}

#[tokio::test]
#[ignore = "started by the test before, in a control group for it"]
async fn as_an_agent_of_systemd() {
    let own = || std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let line =
        |text: &str| text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned();
    let before = line(&own());
    assert!(before.contains("/execute-test."), "{before}");
    // The second time it is below already.
    for _ in 0..2 {
        let finished = run(&runner(), shell("cat /proc/self/cgroup")).await;
        let programs = line(&finished.stdout.text);
        assert!(programs.starts_with(&format!("{before}/infiniservice-run.")), "{programs}");
        assert_eq!(line(&own()), format!("{before}/agent"));
    }
}

async fn again(run_as: Option<Account>) {
    let own = std::env::current_exe().unwrap();
    let arguments = ["--test-threads=4", "--skip=everything"];
    let mut all = Program { run_as, ..Program::new(own, arguments, within(100_000)) };
    all.environment.insert(WITHOUT_GROUPS.into(), "1".into());
    // As cargo gives a test, to see that nothing of it is passed on.
    all.environment.insert("CARGO_TRAP".into(), "1".into());
    let finished = run(&runner(), all).await;
    let (out, err) = (finished.stdout.text, finished.stderr.text);
    assert_eq!(finished.exit, Exit::Code(0), "{out}\n{err}");
    assert!(out.contains("test result: ok"), "{out}");
}
