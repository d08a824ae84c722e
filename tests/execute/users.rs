//! Programs of other users, and everything once more for an agent that is not root.

use std::os::unix::fs::PermissionsExt;

use infiniservice::commands::execute::{Exit, Program, ScriptFile, script};
use infiniservice::commands::request::{Script, Shell};
use infiniservice::commands::words::Account;
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
            let text = "id -un; id -ru; id -u; id -G | tr ' ' '\\n' | sort -n; echo $HOME";
            let program = Program { run_as: account(name), ..shell(text) };
            let found = run(&runner, program).await.stdout.text;
            // What the C library says of that account, read by a program of root.
            let text = format!(
                "id -un {name}; id -ru {name}; id -u {name}; \
                     id -G {name} | tr ' ' '\\n' | sort -n; getent passwd {name} | cut -d: -f6"
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
                let error = runner().run(program).await.unwrap_err();
                assert!(error.starts_with("only root may run programs as \"daemon\""), "{error}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_script_runs_from_a_file_that_only_its_user_can_read() {
    beside(async {
        let temporary = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(temporary.path(), open).unwrap();
        let folder = temporary.path().join("scripts");
        let run_as = is_root().then(|| account("nobody")).flatten();
        let user = if run_as.is_some() { "nobody".to_owned() } else { whoami().await };
        for shell in [Shell::Sh, Shell::Bash] {
            let pending = Script {
                name: "test".into(),
                // More than one argument could hold.
                content: format!(
                    "# {}\nid -un; ls -l $0 | cut -c1-10; echo \"$given\"; cat",
                    "x".repeat(1 << 18)
                ),
                shell,
                inputs: [("given".to_owned(), "a b".to_owned())].into(),
                run_as: run_as.clone(),
            };
            let (program, file) = script(&pending, &folder, within(10_000)).unwrap();
            let finished = run(&runner(), program).await;
            assert_eq!(finished.stderr.text, "");
            assert_eq!(finished.stdout.text, format!("{user}\n-r--------\na b\n"));
            drop(file);
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        }
        if run_as.is_some() {
            let file = ScriptFile::create(&folder, ".sh", b"secret", None).unwrap();
            let text = format!("cat {}", file.path().display());
            let finished = run(&runner(), Program { run_as, ..super::rig::shell(&text) }).await;
            assert_eq!((finished.exit, finished.stdout.text.as_str()), (Exit::Code(1), ""));
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
