//! The process in a command's unit: takes an order from the agent, runs it, sends its output and its end, and ends. It
//! goes on without the agent, which may be replaced meanwhile.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::process::ExitCode;
use std::time::Duration;

use futures::FutureExt;
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::message::{FromUnit, Order, ToUnit, line, monotonic_us, news, next_line};
use crate::commands::execute::machine::{Judge, Machine};
use crate::commands::outcome::Outcome;
use crate::commands::process::{ProgramOutput, Runner, Settings};
use crate::commands::secret;
use crate::metrics::latest::Latest;
use crate::tasks::{spawn, spawn_blocking};

/// The first argument that means this process and not the agent.
pub const WORD: &str = "__run";
/// How long after its deadline an action may still take to say so.
const LATE: Duration = Duration::from_secs(5);
/// How long what nobody waits for may take to be ended; systemd ends what is left.
const ENDING: Duration = Duration::from_secs(3);
/// Between two pieces of the output: a program that writes much costs the agent no more than this.
const PAUSE: Duration = Duration::from_millis(20);
/// Messages that wait for the agent to read.
const MESSAGES: usize = 4;
/// Threads for blocking work.
const BLOCKING_MAX: usize = 16;

const NO_AGENT: &str =
    "the agent ended before it had decided about its side effects, so it was not run";

/// Runs one order. Standard input is the socket of the agent, standard output the file for the end.
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "{WORD} is how the agent runs commands, not for people; see --help ({error})"
            );
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let socket = StdStream::from(own(rustix::stdio::stdin())?);
    socket.peer_addr()?;
    socket.set_nonblocking(true)?;
    let end = File::from(own(rustix::stdio::stdout())?);
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    let _ = rustix::thread::set_name(c"infiniservice");
    secret::harden().map_err(io::Error::other)?;
    let runtime =
        Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_MAX).build()?;
    let done = runtime.block_on(run(socket, end, Settings::agent()));
    runtime.shutdown_background();
    done
}

/// The descriptor under another number, which no program inherits.
fn own(fd: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

pub(super) async fn run(socket: StdStream, mut end: File, settings: Settings) -> io::Result<()> {
    let (read, mut write) = UnixStream::from_std(socket)?.into_split();
    write.write_all(&line(&FromUnit::Ready)).await?;
    let mut lines = BufReader::new(read);
    let order = next_line(&mut lines).await?;
    if order.is_empty() {
        return Ok(()); // the agent has given up
    }
    let order: Order = serde_json::from_slice(&order)?;
    let left = order.deadline_us.saturating_sub(monotonic_us());
    let deadline = Instant::now() + Duration::from_micros(left);
    let stop = CancellationToken::new();
    let settings = Settings { output_bytes: order.output_bytes, ..settings };
    let machine = Machine {
        runner: Runner::with(settings, stop.clone()),
        latest: Latest::default(),
        state: order.state,
        command_line: order.command_line,
        agent: None, // what asks it runs there
    };
    let (agent, mut messages) = mpsc::channel::<Zeroizing<Vec<u8>>>(MESSAGES);
    let writing = spawn(async move {
        while let Some(message) = messages.recv().await {
            if write.write_all(&message).await.is_err() {
                break; // the agent is gone
            }
        }
    });
    let (decided, mut decisions) = mpsc::channel(1);
    let mut asks = std::pin::pin!(listen(lines, decided));
    let mut asked_to_end = signal(SignalKind::terminate())?;
    let done = match order.request.into_request() {
        Err(error) => Outcome::refused(error.to_string()).into(),
        Ok(request) => {
            let judge = order.is_limited.then(|| -> Judge<'_> {
                let (agent, decisions) = (&agent, &mut decisions);
                Box::new(move |effects| {
                    async move {
                        let _ = agent.send(line(&FromUnit::Effects(effects))).await;
                        decisions.recv().await.unwrap_or_else(|| Some(NO_AGENT.to_owned()))
                    }
                    .boxed()
                })
            });
            let output = ProgramOutput::default();
            let mut work = std::pin::pin!(machine.run(request, deadline, &output, judge));
            let mut sending = std::pin::pin!(send(&output, &agent));
            let mut late = std::pin::pin!(sleep_until(deadline + LATE));
            let (mut is_unwanted, mut is_alone) = (false, false);
            loop {
                tokio::select! {
                    biased;
                    done = &mut work => break done,
                    () = &mut asks, if !is_unwanted => {
                        is_unwanted = true;
                        stop.cancel();
                        late.set(sleep_until(Instant::now() + ENDING));
                    }
                    _ = asked_to_end.recv() => stop.cancel(),
                    () = &mut late => break Outcome::late(&output).into(),
                    () = &mut sending, if !is_alone => is_alone = true,
                }
            }
        }
    };
    // First to the file: where the agent ends at this moment, the next one finds it.
    let text = serde_json::to_vec(&done)?;
    let written = spawn_blocking(move || {
        let written = end.write_all(&text);
        drop(end);
        written
    });
    let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    // An agent that reads nothing finds it in the file, too.
    let _ = timeout(ENDING, async {
        let _ = agent.send(line(&FromUnit::Done(Box::new(done)))).await;
        drop(agent);
        let _ = writing.await;
    })
    .await;
    written
}

/// Sends the output as it comes. Returns when the agent is gone.
async fn send(output: &ProgramOutput, agent: &mpsc::Sender<Zeroizing<Vec<u8>>>) {
    let mut sent = [0; 2];
    loop {
        output.grown().await;
        for message in news(output, &mut sent) {
            if agent.send(message).await.is_err() {
                return;
            }
        }
        sleep(PAUSE).await;
    }
}

/// Passes decisions on. Returns when the agent says that nobody waits any more, and never where the agent is gone.
async fn listen(mut lines: BufReader<OwnedReadHalf>, decided: mpsc::Sender<Option<String>>) {
    loop {
        let said = next_line(&mut lines).await.unwrap_or_default();
        match serde_json::from_slice(&said) {
            Ok(ToUnit::End) => return,
            Ok(ToUnit::Decided(why)) => drop(decided.send(why).await),
            Err(_) => break,
        }
    }
    drop(decided);
    std::future::pending().await
}
