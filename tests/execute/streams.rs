//! What goes in and comes out: always drained, bounded, and never waited for longer than the program.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use infiniservice::internals::commands::actions::{ActionOutcome, Afterwards};
use infiniservice::internals::commands::authorize::{
    Authorization, Authorize, AuthorizedMessage, CurrentPolicy,
};
use infiniservice::internals::commands::execute::Execute;
use infiniservice::internals::commands::execute::executor::Executor;
use infiniservice::internals::commands::execute::running::Running;
use infiniservice::internals::commands::process::{
    Exit, OutputStream, Program, ProgramOutput, Runner, Settings,
};
use infiniservice::internals::commands::reply::Outbound;
use infiniservice::internals::commands::request::{RawCommand, Request, RequestKind, Shell};
use infiniservice::internals::commands::request_log::RequestLog;
use infiniservice::internals::config::load;
use infiniservice::metrics::latest::Latest;
use infiniservice::pipeline::Handler;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::rig::{Mark, alone, beside, run, runner, said, settings, shell, within};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_gibibyte_of_output_is_counted_and_costs_no_memory() {
    alone(async {
        let runner = runner();
        run(&runner, shell("head -c 1000000 /dev/zero")).await;
        let before = resident_kib();
        let text = "head -c 1073741824 /dev/zero; echo end";
        let program = Program { deadline: within(50_000), ..shell(text) };
        let mut peak = before;
        let mut running = std::pin::pin!(run(&runner, program));
        let finished = loop {
            tokio::select! {
                finished = &mut running => break finished,
                () = tokio::time::sleep(Duration::from_millis(20)) => peak = peak.max(resident_kib()),
            }
        };
        assert_eq!(finished.exit, Exit::Code(0));
        assert_eq!((finished.stdout.bytes, finished.stdout.truncated), ((1 << 30) + 4, true));
        assert!(finished.stdout.text.ends_with("\0end\n"));
        assert!(finished.stdout.text.len() < 257 * 1024);
        assert!(peak.max(resident_kib()) - before < 8 * 1024, "{before} KiB, then {peak}");
        println!("resident before {before} KiB, peak {peak} KiB");
    })
    .await;
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn both_streams_are_kept_head_and_tail() {
    beside(async {
        let runner =
            Runner::with(Settings { output_bytes: 64, ..settings() }, CancellationToken::new());
        let finished = run(&runner, shell("seq 100000 >&2 & seq 200000; wait")).await;
        assert!(finished.stdout.text.starts_with("1\n2\n3\n"), "{}", finished.stdout.text);
        assert!(finished.stdout.text.ends_with("\n199999\n200000\n"), "{}", finished.stdout.text);
        assert!(finished.stderr.text.ends_with("\n99999\n100000\n"), "{}", finished.stderr.text);
        assert_eq!((finished.stdout.bytes, finished.stderr.bytes), (1_288_895, 588_895));
    })
    .await;
}

#[tokio::test]
async fn standard_input_is_empty_unless_something_is_given() {
    beside(async {
        let runner = runner();
        assert_eq!(said(&runner, "cat; readlink /proc/self/fd/0").await, "/dev/null\n");
        let input = "ä\0ö\n".repeat(MIB / 6).into_bytes();
        let program = Program { input: input.clone(), ..shell("cksum; cat") };
        let finished = run(&runner, program).await;
        assert_eq!(finished.exit, Exit::Code(0));
        let size = finished.stdout.text.split(' ').nth(1).unwrap().trim();
        assert_eq!(size, input.len().to_string(), "all of it, and then its end");
    })
    .await;
}

#[tokio::test]
async fn a_program_that_does_not_want_its_input_is_no_error() {
    beside(async {
        let runner = runner();
        for text in ["true", "exec 0<&-; sleep 0.1", "head -c 10 > /dev/null", "sleep 0.2"] {
            let begun = Instant::now();
            let program = Program { input: vec![b'x'; MIB], ..shell(text) };
            let finished = run(&runner, program).await;
            assert_eq!(finished.exit, Exit::Code(0), "{text}");
            assert!(begun.elapsed() < Duration::from_secs(3), "{text}");
        }
        let program =
            Program { input: vec![b'x'; MIB], deadline: within(200), ..shell("exec sleep 100") };
        assert_eq!(run(&runner, program).await.exit, Exit::TimedOut);
    })
    .await;
}

#[tokio::test]
async fn a_program_may_close_its_streams_and_go_on() {
    beside(async {
        let finished = run(&runner(), shell("echo a; exec <&- >&- 2>&-; sleep 0.3; exit 7")).await;
        assert_eq!((finished.exit, finished.stdout.text.as_str()), (Exit::Code(7), "a\n"));
    })
    .await;
}

#[tokio::test]
async fn whoever_holds_the_output_after_the_end_gets_a_moment_to_finish() {
    beside(async {
        let runner = runner();
        let finished = run(&runner, shell("(sleep 0.05; echo late) & echo first")).await;
        assert_eq!(finished.stdout.text, "first\nlate\n");
        let (mark, begun) = (Mark::new(), Instant::now());
        let finished = run(&runner, shell(&format!("sleep {mark} & echo first"))).await;
        assert_eq!((finished.exit, finished.stdout.text.as_str()), (Exit::Code(0), "first\n"));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    })
    .await;
}

/// One that talks without end is ended all the same, and what it said is there.
#[tokio::test]
async fn endless_output_ends_at_the_deadline() {
    beside(async {
        let runner = runner();
        let begun = Instant::now();
        let program = Program { deadline: within(300), ..shell("yes & yes >&2 & yes") };
        let finished = run(&runner, program).await;
        assert_eq!(finished.exit, Exit::TimedOut);
        assert!(finished.stdout.truncated && finished.stderr.truncated);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    })
    .await;
}

/// Writes, and never ends.
struct Stuck;

impl Executor for Stuck {
    fn execute<'a>(
        &'a self,
        _: &'a str,
        _: RequestKind,
        _: Instant,
        output: &'a ProgramOutput,
    ) -> BoxFuture<'a, Option<ActionOutcome>> {
        output.begin(8);
        output.push(OutputStream::Stdout, 0, b"so far, and more");
        std::future::pending().boxed()
    }

    fn afterwards(&self, _: Afterwards) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_in_time_is_answered_with_its_output_so_far() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("commands.toml");
    let file = "[receive]\n[enforce]\nallow = [\"*\"]\nraw_shell = true\n";
    std::fs::write(&path, file).unwrap();
    let policy = load(&[path], &|_| None).unwrap().commands.unwrap().policy();
    let kind = RequestKind::Raw(RawCommand {
        command: "any".to_owned(),
        shell: Shell::Sh,
        working_dir: None,
        environment: Default::default(),
        run_as: None,
    });
    let asked = Request::new("a".to_owned(), kind, Duration::from_secs(60), Instant::now());
    let deadline = asked.deadline();
    let permit = Authorize::new(policy).decide(asked).unwrap();
    let execute = Execute {
        executor: Box::new(Stuck),
        audit: None,
        latest: Latest::default(),
        log: RequestLog::in_memory(),
        current_policy: CurrentPolicy::default(),
        running: Running::default(),
    };
    let message = AuthorizedMessage::Command(Authorization::Permitted(permit));
    let replies: Vec<_> = Arc::new(execute).handle(message).collect().await;
    let [Outbound::Response { outcome, .. }] = &replies[..] else { panic!("{replies:?}") };
    assert!(Instant::now() < deadline);
    let error = outcome.error.as_deref().unwrap_or_default();
    assert!(outcome.exit_code == Some(124) && error.contains("had not ended yet"), "{outcome:?}");
    assert_eq!(outcome.stdout, "so f\n[... 8 bytes left out ...]\nmore");
    assert!(outcome.output_size.truncated);
}
