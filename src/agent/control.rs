//! The local control: a socket in the state folder, through which a command of this program sends a request to the running
//! agent. One line of JSON is the request, one the answer; the answer to a tap has as many as it takes.
//!
//! # Authorization
//! Root, and the user the agent runs as: the socket has mode 0600, and the kernel names the user at the other end
//! (`SO_PEERCRED`, unix(7)).
//!
//! # Bounds
//! Four at once, and 64 KiB and 5 s for a line, either way. A fifth takes the place of the one that has been silent
//! for longest, and is refused if all have sent a request. So an idle client cannot lock others out. Two may be
//! taps, so that the others are free.
//!
//! A socket that was removed, with or without its folder, is created again within a minute.

mod client;
mod socket;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub(crate) use client::{Unanswered, ask, listener, look};
use socket::{Bound, ListenError, is_there};

use crate::agent::clients::{CLIENTS_MAX, Clients, RequestRead};
use crate::agent::log::level::{self, LevelError, LevelStatus};
use crate::agent::reload::ReloadRequest;
use crate::agent::reload::report::Report;
use crate::agent::status::{Status, StatusReport};
use crate::commands::notify::spool_status::SpoolContents;
use crate::files::StateFolder;
use crate::pipeline::LogLimit;
use crate::pipeline::tap::TapReader;
use crate::tasks::spawn_blocking;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Read the files again.
    Reload,
    /// The status of the spools.
    SpoolReport,
    /// What the agent does.
    Status,
    /// The level of the log.
    Log(LogRequest),
    /// A tap on a stage, until the client hangs up.
    Tap(TapRequest),
}

/// The stage that is tapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TapRequest {
    /// Its name, with or without that of its pipeline before it.
    pub stage: String,
    /// Its pipeline.
    pub pipeline: Option<String>,
    /// Lines a second, at most.
    pub rate: u32,
}

/// What is wanted of the level of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogRequest {
    /// To know it.
    Show,
    /// To change it, for so many seconds.
    Change(String, u64),
    /// To go back to the level of the settings.
    Reset,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The files were read, and this came of it.
    Reloaded(Report),
    /// The status of the spool of each port.
    SpoolReport(Vec<SpoolContents>),
    /// What the agent does.
    Status(Box<Status>),
    /// The level of the log, after what was wanted.
    Log(LevelStatus),
    /// The tap on this stage has begun.
    Tapping(String),
    /// What has come out of it since.
    Tapped(Tapped),
    /// It was not done: the end of a sentence.
    Refused(String),
}

/// Lines of a tap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tapped {
    /// Lines, in order.
    pub lines: Vec<String>,
    /// Lines that came out beside them and are not shown.
    pub skipped: u64,
}

/// The socket's name in the state folder.
const NAME: &str = "control.sock";

/// Where the socket of an agent with this state folder is.
pub(crate) fn socket_of(state: &Path) -> PathBuf {
    state.join(NAME)
}

/// Taps at the same time.
const TAPS_MAX: usize = 2;
/// Lines of a tap in one line to the client.
const TAPPED_LINES_MAX: usize = 64;
/// How often at least the client of a tap gets the count of skipped lines.
const TAPPED_EVERY: Duration = Duration::from_secs(1);
/// The longest request.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// The longest answer that is read: a mistake in each of a few hundred files.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// How long a line may take.
const LINE_TIME: Duration = Duration::from_secs(5);
/// How often it is looked whether the socket is where it was put, and whether one can be put there.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Listens in the folder `state` until it is dropped. Without a folder that can be written, and beside another
/// agent that has it, there is no local control for as long as that is so. This is logged once.
pub(super) async fn serve(
    state: StateFolder,
    reload: mpsc::Sender<ReloadRequest>,
    report: StatusReport,
) {
    let mut said = None;
    loop {
        let folder = state.clone();
        let bound = match spawn_blocking(move || Bound::in_folder(folder)).await {
            Ok(bound) => bound,
            Err(error) => Err(error.into()),
        };
        let served = match bound {
            Ok(bound) => listen(bound, &reload, &report).await,
            Err(why) => Err(why),
        };
        match served {
            Ok(()) => said = None,
            Err(error) => {
                let why = error.to_string();
                if said.as_ref() != Some(&why) {
                    tracing::info!(
                        reason = %why,
                        "`infiniservice reload` cannot reach this agent; SIGHUP does the same"
                    );
                }
                said = Some(why);
                sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// Listens until the socket is not where it was put any more.
async fn listen(
    bound: Bound,
    reload: &mpsc::Sender<ReloadRequest>,
    report: &StatusReport,
) -> Result<(), ListenError> {
    let listener = bound.listener.try_clone().and_then(UnixListener::from_std);
    let cannot = |error| ListenError::Io { path: socket_of(bound.state.path()), error };
    let listener = listener.map_err(cannot)?;
    let (mut clients, taps) = (Clients::default(), Arc::new(Semaphore::new(TAPS_MAX)));
    let mut look = Instant::now() + LOOK_EVERY;
    let (mut failing, mut strangers) = (LogLimit::default(), LogLimit::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sleep_until(look) => {
                look = Instant::now() + LOOK_EVERY;
                let (path, inode) = (socket_of(bound.state.path()), bound.inode);
                if !spawn_blocking(move || is_there(&path, inode)).await.unwrap_or(true) {
                    tracing::warn!("the socket of the local control was removed");
                    return Ok(());
                }
                continue;
            }
        };
        let client = match accepted {
            Ok((client, _)) => client,
            Err(error) => {
                if failing.happened(Instant::now()).is_some() {
                    tracing::warn!(%error, "local control cannot take a client");
                }
                sleep(LINE_TIME).await; // out of descriptors: at once it would fail again
                continue;
            }
        };
        let uid = client.peer_cred().map(|peer| peer.uid());
        if !uid.is_ok_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw()) {
            if let Some(more) = strangers.happened(Instant::now()) {
                tracing::warn!(more, "local control: a connection of another user was refused");
            }
            continue;
        }
        let (reload, report, taps) = (reload.clone(), report.clone(), Arc::clone(&taps));
        let serve_client =
            |client, request_read| serve_client(client, request_read, reload, report, taps);
        if let Some(client) = clients.take(client, serve_client)
            && let Err(error) = refuse(client)
        {
            tracing::debug!(%error, "a client of the local control has left before it was refused");
        }
        yield_now().await; // who has request_read already is heard before the next one is looked at
    }
}

/// Refuses a client when there are too many. Does not block: a new connection has space for a line.
fn refuse(client: UnixStream) -> io::Result<()> {
    let answer = Answer::Refused(format!("too many clients ask already; it answers {CLIENTS_MAX}"));
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    let client = client.into_std()?; // which stays non-blocking, and is tried at once
    // Reads the request, because closing with unread data would lose the answer (unix(7): ECONNRESET).
    let _ = (&client).read(&mut [0; 1024]);
    (&client).write_all(&line)
}

async fn serve_client(
    client: UnixStream,
    request_read: RequestRead,
    reload: mpsc::Sender<ReloadRequest>,
    report: StatusReport,
    taps: Arc<Semaphore>,
) -> io::Result<()> {
    let (read, mut write) = client.into_split();
    let mut line = Vec::new();
    let mut read = tokio::io::BufReader::with_capacity(1024, read).take(LINE_BYTES_MAX);
    timeout(LINE_TIME, read.read_until(b'\n', &mut line)).await??;
    request_read.set();
    let answer = match serde_json::from_slice(&line) {
        Err(error) => Answer::Refused(format!("this is no request: {error}")),
        Ok(Request::SpoolReport) => Answer::SpoolReport(report.spools.contents()),
        Ok(Request::Status) => match spawn_blocking(move || report.now()).await {
            Ok(Ok(status)) => Answer::Status(Box::new(status)),
            Ok(Err(why)) => Answer::Refused(why.to_string()),
            Err(error) => Answer::Refused(error.to_string()),
        },
        Ok(Request::Log(wanted)) => match log_level(&wanted) {
            Ok(level) => Answer::Log(level),
            Err(why) => Answer::Refused(why.to_string()),
        },
        Ok(Request::Tap(wanted)) => {
            match (report.find_tap(&wanted.stage, wanted.pipeline.as_deref()), taps.try_acquire()) {
                (Err(why), _) => Answer::Refused(why.to_string()),
                (Ok(_), Err(_)) => Answer::Refused(format!("{TAPS_MAX} look at stages already")),
                (Ok((stage, tap)), Ok(_permit)) => {
                    let reader = tap.attach(wanted.rate);
                    send(&mut write, &Answer::Tapping(stage)).await?;
                    return show(reader, read.into_inner(), write).await;
                }
            }
        }
        Ok(Request::Reload) => {
            let (request, result) = ReloadRequest::with_reply("infiniservice reload");
            match reload.try_send(request) {
                Err(_) => Answer::Refused("too many wait for a reload already".to_owned()),
                Ok(()) => match result.await {
                    Ok(report) => Answer::Reloaded(report),
                    Err(_) => Answer::Refused("the agent stops".to_owned()),
                },
            }
        }
    };
    send(&mut write, &answer).await
}

async fn send(to: &mut (impl AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
    timeout(LINE_TIME, to.write_all(&line_of(answer)?)).await??;
    Ok(())
}

/// A message as a line.
fn line_of(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Hands on what `reader` gets until the client hangs up, which has nothing more to say.
async fn show(
    mut reader: TapReader,
    mut client: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut more = [0; 64];
    loop {
        let next = tokio::select! {
            next = timeout(TAPPED_EVERY, reader.next()) => next,
            read = client.read(&mut more) => match read? {
                0 => return Ok(()),
                _ => continue,
            },
        };
        let mut lines = match next {
            Err(_) => Vec::new(),
            Ok(None) => return Ok(()),
            Ok(Some(line)) => vec![line],
        };
        while lines.len() < TAPPED_LINES_MAX
            && let Some(line) = reader.ready()
        {
            lines.push(line);
        }
        let skipped = reader.skipped();
        if skipped > 0 || !lines.is_empty() {
            let text = |line: &Bytes| String::from_utf8_lossy(line).into_owned();
            let lines = lines.iter().map(text).collect();
            send(&mut write, &Answer::Tapped(Tapped { lines, skipped })).await?;
        }
    }
}

fn log_level(wanted: &LogRequest) -> Result<LevelStatus, LevelError> {
    match wanted {
        LogRequest::Show => level::status(),
        LogRequest::Reset => level::change(None),
        LogRequest::Change(level, seconds) => {
            level::change(Some((level, Duration::from_secs(*seconds))))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tokio::task::JoinSet;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    type Server = (tempfile::TempDir, PathBuf, mpsc::Receiver<ReloadRequest>, JoinSet<()>);

    /// A server in a folder of its own, and its reload requests.
    async fn server() -> Server {
        server_of(StatusReport::default()).await
    }

    async fn server_of(report: StatusReport) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let (sender, asked) = mpsc::channel(1);
        let mut serving = JoinSet::new();
        let state = folder.path().join("state");
        let path = socket_of(&state);
        serving.spawn(serve(StateFolder::at(state), sender, report));
        while !path.exists() {
            tokio::task::yield_now().await;
        }
        (folder, path, asked, serving)
    }

    async fn raw(path: &Path, line: &str) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn a_request_gets_one_line_and_an_invalid_one_is_refused() {
        let (_folder, path, mut asked, _serving) = server().await;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let client = {
            let path = path.clone();
            spawn_blocking(move || ask(&path, &Request::Reload, PATIENCE).unwrap())
        };
        let report = Report { changed: vec!["lab".to_owned()], ..Report::default() };
        let ReloadRequest { reply, .. } = asked.recv().await.unwrap();
        reply.unwrap().send(report.clone()).unwrap();
        assert_eq!(client.await.unwrap(), Answer::Reloaded(report));
        for nonsense in ["{}\n", "\"dance\"\n", "\n", &"x".repeat(65_536)] {
            let answer = raw(&path, nonsense).await;
            assert!(answer.starts_with("{\"refused\":\"this is no request"), "{answer}");
        }
    }

    #[tokio::test]
    async fn two_may_look_at_stages_until_they_leave_and_who_asks_wrongly_is_told_the_stages() {
        let report = StatusReport::default();
        let stages = ["m/join", "m/tags", "m/tags", "n/tags", "commands/verify"];
        let stages = stages.map(|name| report.registry.node(name.to_owned()));
        stages[..4].iter().for_each(|stage| stage.tap().show());
        let (_folder, path, _asked, _serving) = server_of(report).await;
        let wanted = |stage: &str, pipeline: Option<&str>| TapRequest {
            stage: stage.to_owned(),
            pipeline: pipeline.map(str::to_owned),
            rate: 2,
        };
        let ask = |request: TapRequest| {
            let path = path.clone();
            spawn_blocking(move || {
                let mut first = None;
                look(&path, &request, PATIENCE, &mut |answer| {
                    first = answer;
                    false
                })
                .unwrap();
                first.unwrap()
            })
        };
        let refused = [
            (
                wanted("verify", None),
                "there is no stage verify; there are m/join, m/tags, m/tags#2, n/tags",
            ),
            (
                wanted("tags", None),
                "several stages are called tags: m/tags, n/tags; write one of them",
            ),
            (
                wanted("join", Some("n")),
                "there is no stage join of n; there are m/join, m/tags, m/tags#2, n/tags",
            ),
        ];
        for (request, why) in refused {
            assert_eq!(ask(request).await.unwrap(), Answer::Refused(why.to_owned()));
        }
        let begun = |stage: &str| Answer::Tapping(stage.to_owned());
        assert_eq!(ask(wanted("tags#2", Some("m"))).await.unwrap(), begun("m/tags#2"));
        assert_eq!(ask(wanted("n/tags", None)).await.unwrap(), begun("n/tags"));

        let (sender, mut answers) = mpsc::channel(16);
        let looking: Vec<_> = (0..TAPS_MAX)
            .map(|_| {
                let (path, request, sender) = (path.clone(), wanted("join", None), sender.clone());
                spawn_blocking(move || {
                    look(&path, &request, PATIENCE, &mut |answer| {
                        let is_end = matches!(&answer, Some(Answer::Tapped(_)));
                        sender.blocking_send(answer.unwrap()).unwrap();
                        !is_end
                    })
                    .unwrap();
                })
            })
            .collect();
        for _ in 0..TAPS_MAX {
            assert_eq!(answers.recv().await.unwrap(), begun("m/join"));
        }
        let full = Answer::Refused("2 look at stages already".to_owned());
        assert_eq!(ask(wanted("join", None)).await.unwrap(), full);
        let tap = stages[0].tap();
        assert_eq!(tap.allowance(Instant::now()), 2);
        for line in ["{}", "b", "beyond the rate"] {
            tap.line(line.as_bytes());
        }
        for _ in 0..TAPS_MAX {
            let Answer::Tapped(tapped) = answers.recv().await.unwrap() else { panic!("no lines") };
            // They may come one by one.
            assert!(
                ["{}", "b"]
                    .starts_with(&tapped.lines.iter().map(String::as_str).collect::<Vec<_>>())
            );
        }
        for looking in looking {
            looking.await.unwrap();
        }
        // The places are free once the agent has noticed that the clients have left.
        while ask(wanted("join", None)).await.unwrap() == full {}
    }

    #[test]
    fn an_agent_that_never_ends_its_answer_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = socket_of(folder.path());
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        // A byte now and then, each of which a time-out of the read would begin again with.
        std::thread::spawn(move || {
            let (mut drips, _) = listener.accept().unwrap();
            while drips.write_all(b" ").is_ok() {
                std::thread::park_timeout(Duration::from_millis(10));
            }
        });
        let begun = std::time::Instant::now();
        let late = ask(&path, &Request::Reload, Duration::from_millis(200));
        assert!(matches!(late, Err(Unanswered::Late)), "{late:?}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_silent_client_is_not_waited_for() {
        let (_folder, path, _asked, _serving) = server().await;
        let mut silent = UnixStream::connect(&path).await.unwrap();
        tokio::time::pause();
        let mut answer = String::new();
        silent.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "");
    }

    #[tokio::test]
    async fn who_speaks_has_the_place_of_who_does_not_and_is_refused_where_all_have_spoken() {
        let (_folder, path, mut asked, _serving) = server().await;
        let mut silent = Vec::new();
        for _ in 0..30 {
            silent.push(UnixStream::connect(&path).await.unwrap());
        }
        let ask = || {
            let path = path.clone();
            spawn_blocking(move || ask(&path, &Request::Reload, PATIENCE).unwrap())
        };
        let (mut speaking, mut waiting) = (Vec::new(), Vec::new());
        for _ in 0..CLIENTS_MAX {
            speaking.push(ask());
            waiting.push(timeout(PATIENCE, asked.recv()).await.unwrap().unwrap());
        }
        let begun = std::time::Instant::now();
        let refused = Answer::Refused("too many clients ask already; it answers 4".to_owned());
        assert_eq!(ask().await.unwrap(), refused);
        assert!(raw(&path, "").await.starts_with("{\"refused\":\"too many clients"));
        assert!(begun.elapsed() < LINE_TIME, "at once");
        for ReloadRequest { reply, .. } in waiting {
            reply.unwrap().send(Report::default()).unwrap();
        }
        for speaks in speaking {
            assert_eq!(speaks.await.unwrap(), Answer::Reloaded(Report::default()));
        }
    }

    #[tokio::test]
    async fn a_socket_that_was_removed_with_its_folder_is_there_again_in_a_minute() {
        let (folder, path, _asked, _serving) = server().await;
        std::fs::remove_dir_all(folder.path().join("state")).unwrap();
        tokio::time::pause();
        let begun = std::time::Instant::now();
        while !path.exists() {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(raw(&path, "{}\n").await.starts_with("{\"refused\":\"this is no request"));
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_a_live_one_is_not_and_ours_is_removed() {
        let (folder, path, _asked, mut serving) = server().await;
        let state = StateFolder::at(folder.path().join("state"));
        assert!(
            matches!(Bound::in_folder(state.clone()), Err(ListenError::OtherAgent(at)) if at == path)
        );
        serving.shutdown().await;
        assert!(!path.exists());
        // Left over. One that was bound and closed might be open for a moment more in a program that another test starts.
        mknodat(CWD, &path, FileType::Socket, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(matches!(ask(&path, &Request::Reload, PATIENCE), Err(Unanswered::NoAgent)));
        let bound = Bound::in_folder(state).unwrap();
        let later = folder.path().join("state/later");
        drop(std::os::unix::net::UnixListener::bind(&later).unwrap());
        std::fs::rename(&later, &path).unwrap();
        drop(bound);
        assert!(path.exists(), "another agent's by now");
    }
}
