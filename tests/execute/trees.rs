//! Nothing a program starts outlives it: at its deadline, at the stop, when nobody waits, at its own end.

use std::time::Duration;

use infiniservice::internals::commands::outcome::Outcome;
use infiniservice::internals::commands::process::{Exit, Program, ProgramOutput, Runner, Settings};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::rig::{
    Mark, WITHOUT_GROUPS, alone, beside, pids, run, runner, settings, shell, until, within,
};

/// The deadline, mercy, and what a busy machine takes.
const SOON: Duration = Duration::from_secs(3);

/// Programs that start something with the mark and do not wait for it.
fn leavers(mark: &Mark) -> Vec<(&'static str, String)> {
    let quiet = "> /dev/null 2>&1 < /dev/null";
    vec![
        ("background", format!("sleep {mark} {quiet} &")),
        ("no hangup", format!("nohup sleep {mark} {quiet} &")),
        ("own session", format!("setsid sleep {mark} {quiet} &")),
        ("twice forked", format!("(setsid sh -c '(sleep {mark} &) ; sleep {mark} &' {quiet} &)")),
        ("holds the output", format!("setsid sleep {mark} &")),
    ]
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_it() {
    beside(async {
        let runner = runner();
        let mark = Mark::new();
        for (how, text) in leavers(&mark) {
            let begun = Instant::now();
            // The leader waits until what it leaves behind has really begun.
            let text = format!("{text}\n sleep 0.2; echo said");
            let (runner, notes) = runner.with_warnings();
            let finished = run(&runner, shell(&text)).await;
            assert_eq!(mark.alive(), [0; 0], "{how}");
            assert_eq!(finished.exit, Exit::Code(0), "{how}");
            assert_eq!(finished.stdout.text, "said\n", "{how}");
            assert!(begun.elapsed() < SOON, "{how}: {:?}", begun.elapsed());
            let notes = notes.take();
            if std::env::var_os(WITHOUT_GROUPS).is_some() {
                // Another program that ends may have taken it.
                continue;
            }
            assert_eq!(notes.len(), 1, "{how}: {notes:?}");
            assert!(
                notes[0].starts_with("ended ") && notes[0].contains(" left behind: "),
                "{notes:?}"
            );
            assert!(notes[0].contains("sleep"), "{how}: {notes:?}");
        }
        let (runner, notes) = runner.with_warnings();
        run(&runner, shell("sleep 0 & wait; true | cat")).await;
        assert_eq!(notes.take(), [""; 0], "what has ended is not left behind");
    })
    .await;
}

/// One that may leave processes behind does so at its own end only.
#[tokio::test]
async fn what_a_program_may_leave_behind_goes_on_and_is_told() {
    beside(async {
        let (runner, notes) = runner().with_warnings();
        let mark = Mark::new();
        let text =
            format!("setsid sleep {mark} > /dev/null 2>&1 < /dev/null & sleep 0.2; echo said");
        let finished = run(&runner, Program { detach: true, ..shell(&text) }).await;
        assert_eq!((finished.exit, finished.stdout.text.as_str()), (Exit::Code(0), "said\n"));
        let note = notes.take().join("; ");
        if cgroup_root().is_none() || std::env::var_os(WITHOUT_GROUPS).is_some() {
            // Another program that ends may have taken it.
            assert!(note.is_empty() || note.contains("it has no control group"), "{note}");
            assert_eq!(mark.alive(), [0; 0]);
            return;
        }
        assert!(
            note.starts_with("left 1 process running in ") && note.ends_with(": sleep"),
            "{note}"
        );
        assert_eq!(mark.alive().len(), 1);
        // Nor does the end of another program take it.
        run(&runner, shell("sleep 60 &")).await;
        assert_eq!(mark.alive().len(), 1);
        let pid = mark.alive()[0];
        let group = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let group = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
        let folder = format!("{}{group}", cgroup_root().unwrap());
        run(&runner, shell(&format!("kill {pid}"))).await;
        mark.goes().await;
        // Another agent that starts may have removed it.
        let gone =
            || std::fs::remove_dir(&folder).is_ok() || !std::path::Path::new(&folder).exists();
        until("its group can go", gone).await;

        let text = format!("setsid sleep {mark} & sleep {mark}");
        let late = Program { detach: true, deadline: within(300), ..shell(&text) };
        assert_eq!(run(&runner, late).await.exit, Exit::TimedOut);
        assert_eq!(mark.alive(), [0; 0], "its time was over");
    })
    .await;
}

/// The answer does not wait for what is slow to end.
#[tokio::test]
async fn an_answer_that_is_due_has_what_was_said_and_the_rest_is_ended_nevertheless() {
    beside(async {
        let patient = Settings { mercy: Duration::from_secs(5), ..settings() };
        let runner = Runner::with(patient, CancellationToken::new());
        let mark = Mark::new();
        let text = format!("trap '' TERM; echo said; sleep {mark} & sleep {mark}");
        let deadline = within(2_000);
        let output = ProgramOutput::default();
        let ended = runner.run_into(Program { deadline, ..shell(&text) }, &output);
        let answered_by = deadline + Duration::from_millis(100);
        assert!(
            timeout_at(answered_by, ended).await.is_err(),
            "they ignore SIGTERM, and there are seconds to go"
        );
        assert_eq!(Outcome::late(&output).stdout, "said\n");
        mark.goes().await;
    })
    .await;
}

/// Where the kernel's groups are, if this process may move others there.
fn cgroup_root() -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let root = mount.split(' ').nth(4)?.to_owned();
    let made = format!("{root}/execute-test-try.{}", std::process::id());
    std::fs::create_dir(&made).and_then(|()| std::fs::remove_dir(&made)).is_ok().then_some(root)
}

/// As only root can: into another group, another session, and to another parent.
#[tokio::test]
async fn what_has_left_its_control_group_ends_at_the_deadline() {
    beside(async {
        let Some(root) = cgroup_root() else {
            eprintln!("skipped: no control group can be made here");
            return;
        };
        let mark = Mark::new();
        let away = format!(
            "setsid sh -c 'echo 0 > {root}/cgroup.procs; (setsid sh -c \"sleep {mark}; sleep {mark}\" &) ; exit' &"
        );
        for last in [format!("sleep {mark}"), "trap '' TERM; while :; do sleep 1; done".to_owned()] {
            let text = format!("{away} sleep 0.3; {last}");
            let program = Program { deadline: within(1_000), ..shell(&text) };
            let running = tokio::spawn({
                let runner = runner();
                async move { run(&runner, program).await }
            });
            mark.appears().await;
            assert_eq!(running.await.unwrap().exit, Exit::TimedOut);
            assert_eq!(mark.alive(), [0; 0], "{last}");
        }
        // Also where nobody waits for the program any more.
        let text = format!("{away} sleep 60");
        let runner = runner();
        tokio::select! {
            _ = runner.run(shell(&text)) => panic!("it ended by itself"),
            () = mark.appears() => {}
        }
        mark.goes().await;
    })
    .await;
}

#[tokio::test]
async fn at_the_deadline_the_whole_tree_ends() {
    beside(async {
        let runner = runner();
        let mark = Mark::new();
        for (how, text) in leavers(&mark) {
            let begun = Instant::now();
            let text = format!("{text}\n echo said; sleep {mark}");
            let program = Program { deadline: within(500), ..shell(&text) };
            let finished = run(&runner, program).await;
            assert_eq!(mark.alive(), [0; 0], "{how}");
            assert_eq!(finished.exit, Exit::TimedOut, "{how}");
            assert_eq!(finished.stdout.text, "said\n", "{how}");
            let took = begun.elapsed();
            assert!((Duration::from_millis(500)..SOON).contains(&took), "{how}: {took:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn children_that_ignore_the_request_to_end_are_killed() {
    beside(async {
        let runner = runner();
        let (mark, begun) = (Mark::new(), Instant::now());
        let deaf = format!("trap '' TERM HUP INT; while :; do sleep {mark}; done");
        let text = format!("sh -c \"{deaf}\" & sh -c \"{deaf}\" | cat & {deaf}");
        let program = Program { deadline: within(400), ..shell(&text) };
        assert_eq!(run(&runner, program).await.exit, Exit::TimedOut);
        assert_eq!(mark.alive(), [0; 0]);
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test]
async fn a_program_that_is_told_to_end_may_clean_up_first() {
    beside(async {
        let runner = runner();
        let text = "trap 'echo cleaned; exit 0' TERM; while :; do sleep 0.02; done";
        let program = Program { deadline: within(300), ..shell(text) };
        let finished = run(&runner, program).await;
        assert_eq!(finished.exit, Exit::TimedOut);
        assert_eq!(finished.stdout.text, "cleaned\n");
    })
    .await;
}

#[tokio::test]
async fn the_stop_ends_what_runs_and_starts_nothing_more() {
    beside(async {
        let (mark, stop) = (Mark::new(), CancellationToken::new());
        let runner = Runner::with(settings(), stop.clone());
        let text = format!("setsid sleep {mark} & sleep {mark}");
        let running = tokio::spawn({
            let (runner, text) = (runner.clone(), text.clone());
            async move { run(&runner, shell(&text)).await }
        });
        mark.appears().await;
        stop.cancel();
        let begun = Instant::now();
        assert_eq!(running.await.unwrap().exit, Exit::Cancelled);
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        assert_eq!(run(&runner, shell(&text)).await.exit, Exit::Cancelled);
        assert_eq!(mark.alive(), [0; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_program_whose_time_is_over_already_is_not_started() {
    beside(async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ran");
        let text = format!("touch {}", file.display());
        let program = Program { deadline: Instant::now(), ..shell(&text) };
        assert_eq!(run(&runner(), program).await.exit, Exit::TimedOut);
        assert!(!file.exists());
    })
    .await;
}

#[tokio::test]
async fn when_nobody_waits_any_more_the_tree_ends() {
    beside(async {
        let runner = runner();
        let mark = Mark::new();
        let text = format!("setsid sleep {mark} & trap '' TERM; sleep {mark}; sleep {mark}");
        let program = shell(&text);
        tokio::select! {
            _ = runner.run(program) => panic!("it ended by itself"),
            () = mark.appears() => {}
        }
        mark.goes().await;
    })
    .await;
}

/// The runtime goes away under a program, as when the agent ends without waiting.
#[tokio::test]
async fn when_the_runtime_is_dropped_the_tree_ends() {
    beside(async {
        let mark = Mark::new();
        let text = format!("setsid sleep {mark} & sleep {mark}");
        let mut other = tokio::runtime::Builder::new_multi_thread();
        let other = other.worker_threads(1).enable_all().build().unwrap();
        let runner = Runner::with(settings(), CancellationToken::new());
        other.spawn(async move { runner.run(shell(&text)).await });
        mark.appears().await;
        other.shutdown_background();
        mark.goes().await;
    })
    .await;
}

/// Without control groups a program keeps its own orphans: the end of another one must not take them.
#[tokio::test]
async fn the_end_of_one_program_leaves_another_ones_daemon_alone() {
    beside(async {
        let runner = runner();
        let first = {
            let text = "(setsid sh -c 'sleep 0.9; echo late' &); sleep 1.2; echo end";
            let runner = runner.clone();
            tokio::spawn(async move { run(&runner, shell(text)).await })
        };
        for _ in 0..4 {
            let mark = Mark::new();
            run(&runner, shell(&format!("(setsid sleep {mark} &) ; sleep 0.05"))).await;
            assert_eq!(mark.alive(), [0; 0]);
        }
        assert_eq!(first.await.unwrap().stdout.text, "late\nend\n");
    })
    .await;
}

/// Doubles seven times, each process in a session of its own and deaf: 128 at most.
#[tokio::test]
async fn a_tree_of_many_sessions_ends_at_its_deadline() {
    alone(async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("grow");
        let runner = runner();
        let (mark, begun) = (Mark::new(), Instant::now());
        let grow = format!(
            "trap '' TERM\n[ $1 = 0 ] && exec sleep {mark}\n\
                 for i in 1 2; do setsid sh {} $(($1 - 1)) & done; wait",
            file.display()
        );
        std::fs::write(&file, grow).unwrap();
        let text = format!("sh {} 6", file.display());
        let program = Program { deadline: within(1_500), ..shell(&text) };
        assert_eq!(run(&runner, program).await.exit, Exit::TimedOut);
        assert_eq!(mark.alive(), [0; 0]);
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test]
async fn no_zombie_stays() {
    alone(async {
        let runner = runner();
        for _ in 0..10 {
            run(&runner, shell("(setsid sleep 0.01 &); (sleep 0.01 &); (true &); sleep 0.02"))
                .await;
        }
        let zombies = || {
            let own = format!(" Z {} ", std::process::id());
            let stat = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/stat"));
            pids().iter().filter(|pid| stat(pid).is_ok_and(|stat| stat.contains(&own))).count()
        };
        // Orphans that ended by themselves are reaped with the next program that ends.
        run(&runner, shell("true")).await;
        until("as it was", || zombies() == 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_program_has_a_control_group_of_its_own_which_is_gone_afterwards() {
    beside(async {
        let runner = runner();
        let text = "sed -n 's/^0:://p' /proc/self/cgroup";
        let finished = run(&runner, shell(text)).await;
        let group = finished.stdout.text.trim();
        if !group.contains(&format!("infiniservice-run.{}.", std::process::id())) {
            eprintln!("skipped: no control group can be made here");
            return;
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
        let folder = format!("{}{group}", mount.split(' ').nth(4).unwrap());
        assert!(!std::path::Path::new(&folder).exists(), "{folder}");
        // What the program itself makes below goes too.
        let folder = "$(grep ' - cgroup2 ' /proc/self/mountinfo | cut -d' ' -f5)";
        let mark = Mark::new();
        let text = format!(
            "cd {folder}/$(sed -n 's/^0:://p' /proc/self/cgroup) && mkdir -p in/ner \
             && setsid sh -c 'echo 0 > in/ner/cgroup.procs; sleep {mark}' & sleep 0.3; pwd"
        );
        let finished = run(&runner, shell(&text)).await;
        assert_eq!(finished.exit, Exit::Code(0), "{}", finished.stderr.text);
        assert_eq!(mark.alive(), [0; 0]);
        let folder = super::rig::said(
            &runner,
            &format!(
                "ls -d {folder}/infiniservice-run.{}.*/in 2> /dev/null || true",
                std::process::id()
            ),
        )
        .await;
        assert_eq!(folder, "");
    })
    .await;
}

#[tokio::test]
async fn fifty_programs_at_once_all_end_as_they_should() {
    beside(async {
        let runner = runner();
        let all = (0..50).map(|number| {
            let runner = runner.clone();
            async move { run(&runner, shell(&format!("sleep 0.05; exit {number}"))).await.exit }
        });
        let all = futures::future::join_all(all).await;
        let expected: Vec<Exit> = (0..50).map(Exit::Code).collect();
        assert_eq!(all, expected);
    })
    .await;
}
