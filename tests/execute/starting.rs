//! How programs start, how they may fail to, and how they end.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use infiniservice::internals::commands::argument::Account;
use infiniservice::internals::commands::process::{Exit, Program, Runner, Settings};
use tokio_util::sync::CancellationToken;

use super::rig::{alone, beside, is_root, run, runner, settings, shell, within};

async fn refused(runner: &Runner, program: Program) -> String {
    runner.run(program).await.unwrap_err().to_string()
}

fn plain(program: impl Into<PathBuf>) -> Program {
    Program::new(program, [""; 0], within(10_000))
}

#[tokio::test]
async fn a_program_ends_with_its_code_or_its_signal() {
    beside(async {
        let runner = runner();
        for code in [0, 1, 77, 126, 127, 255] {
            let finished = run(&runner, shell(&format!("echo why >&2; exit {code}"))).await;
            assert_eq!(finished.exit, Exit::Code(code));
            assert_eq!(finished.exit.code(), code);
            assert_eq!(finished.stderr.text, "why\n");
        }
        for (signal, number) in [("KILL", 9), ("TERM", 15), ("SEGV", 11), ("PIPE", 13)] {
            let finished = run(&runner, shell(&format!("ulimit -c 0; kill -{signal} $$"))).await;
            assert_eq!(finished.exit, Exit::Signal(number));
            assert_eq!(finished.exit.code(), 128 + number);
        }

        assert_eq!((Exit::TimedOut.code(), Exit::Cancelled.code()), (124, 143));
    })
    .await;
}

#[tokio::test]
async fn arguments_arrive_as_they_are() {
    beside(async {
        let odd = ["", " ", "$(id)", "a\nb", "'\"\\", "*", "--", "__enter", "é"];
        let text = "for a; do printf '<%s>' \"$a\"; done; printf %s \"$0\"";
        let arguments = ["-c", text, "zero"].into_iter().chain(odd);
        let finished = run(&runner(), Program::new("sh", arguments, within(10_000))).await;
        let expected: String = odd.iter().map(|one| format!("<{one}>")).collect();
        assert_eq!(finished.stdout.text, format!("{expected}zero"));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_started_is_told_in_a_sentence() {
    beside(async {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let without = Runner::new(CancellationToken::new());
        for runner in [runner(), without] {
            for (program, why) in [
                (plain("no-such-program"), "there is no program \"no-such-program\""),
                (plain("/no/such/program"), "there is no program \"/no/such/program\""),
                (plain("./sh"), "absolute path"),
                (plain(file("data", "x", 0o644)), "make it executable"),
                (plain(folder.path()), "make it executable"),
                (plain(file("odd", "#!/no/such/shell\n", 0o755)), "the interpreter or loader"),
                (Program { directory: Some("/no/such".into()), ..plain("true") }, "/no/such"),
                (
                    Program { directory: Some("/etc/passwd".into()), ..plain("true") },
                    "no directory",
                ),
                (Program { directory: Some("tmp".into()), ..plain("true") }, "not absolute"),
                (
                    Program { run_as: account("LAB\\ann"), ..plain("true") },
                    "\"LAB\\ann\" is not in",
                ),
                (
                    Program { environment: one("A=", "secret"), ..plain("true") },
                    "\"A=\" is no name",
                ),
                (Program::new("true", ["a\0b"], within(9_000)), "has a NUL"),
                (Program::new("true", ["a".repeat(1 << 18)], within(9_000)), "use a file"),
            ] {
                let error = refused(&runner, program).await;
                assert!(error.contains(why), "{error}");
                assert!(!error.contains("secret") && !error.contains('\n'), "{error}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_the_user_may_not_enter_is_told() {
    beside(async {
        if !is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mine = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(folder.path(), mine).unwrap();
        let directory = Some(folder.path().to_owned());
        let run_as = account("nobody");
        let error = refused(&runner(), Program { directory, run_as, ..plain("true") }).await;
        assert!(error.contains("cannot be entered: Permission denied"), "{error}");
    })
    .await;
}

/// A program's own complaint and code are never taken for a failure to start.
#[tokio::test]
async fn a_program_that_ends_as_if_not_started_was_started() {
    beside(async {
        let finished = run(&runner(), shell("echo '0123456789abcdef: no' >&2; exit 126")).await;
        assert_eq!(finished.exit, Exit::Code(126));
    })
    .await;
}

#[tokio::test]
async fn the_step_in_between_is_not_for_people() {
    beside(async {
        let agent = env!("CARGO_BIN_EXE_infiniservice");
        let program = Program::new(agent, ["__enter", "x"], within(10_000));
        let finished = run(&runner(), program).await;
        assert_eq!(finished.exit, Exit::Code(126));
        assert!(finished.stderr.text.contains("not for people"), "{}", finished.stderr.text);
    })
    .await;
}

#[tokio::test]
async fn a_trampoline_that_is_gone_is_an_error_and_no_panic() {
    beside(async {
        let trampoline = Some(PathBuf::from("/no/such/agent"));
        let settings = Settings { trampoline, ..settings() };
        let runner = Runner::with(settings, CancellationToken::new());
        assert!(refused(&runner, plain("true")).await.contains("cannot be run"));
    })
    .await;
}

#[tokio::test]
async fn two_hundred_runs_leave_no_descriptor_behind() {
    alone(async {
        // Pipes, processes and files: what a run may have open. The rest is of the runtimes of tests
        // that wait for their turn.
        let open = || {
            let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
            let of_a_run = |link: &PathBuf| {
                let link = link.to_string_lossy();
                link.starts_with('/') || link.contains("pipe:") || link.contains("pidfd")
            };
            links.filter(of_a_run).count()
        };
        let runner = runner();
        run(&runner, shell("true")).await;
        let before = open();
        for number in 0..200 {
            let program = Program { input: vec![b'x'; number], ..shell("cat > /dev/null") };
            match number % 10 {
                0 => drop(refused(&runner, plain("/etc/passwd")).await),
                1 => drop(run(&runner, Program { deadline: within(1), ..program }).await),
                _ => drop(run(&runner, program).await),
            }
        }
        super::rig::until("as it was", || open() <= before).await;
    })
    .await;
}

pub fn account(name: &str) -> Option<Account> {
    Some(Account::new(name).unwrap())
}

fn one(name: &str, value: &str) -> std::collections::BTreeMap<String, String> {
    [(name.to_owned(), value.to_owned())].into()
}
