//! `infiniservice-host … diagnose`: why no guest answers at the socket, as one verdict with what to do next.
//!
//! From the outside inwards: the file, who listens, whether it takes the connection, whether it reads, whether the agent speaks,
//! and whether it takes a signature. The first step that fails is the verdict. Nothing is asked of the guest but the answer to a keep-alive.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rustix::net::sockopt::set_socket_send_buffer_size;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::{Failed, Guest, print, shown};
use crate::cli::EXIT_CONFIG;
use crate::cli::diagnose::verdict::{Class, Verdict, as_json, as_text};
use crate::host::{Host, HostError};
use crate::wire::envelope::WINDOW_MS;

/// How long the agent may say nothing: a little more than its shipped period of metrics.
const SILENCE_MAX: Duration = Duration::from_secs(35);
/// How long the program that listens may take to accept or to read, and the agent to answer a keep-alive.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at the kernel's list of sockets.
const INTERVAL: Duration = Duration::from_millis(20);
/// Blank lines to fill the buffer of a socket that is not read. The least buffer (`SOCK_MIN_SNDBUF`, 4.5 KiB) holds six.
const BLANK_LINES: usize = 64;
/// The kernel's sockets of this network namespace; see proc_pid_net(5).
const SOCKETS: &str = "/proc/net/unix";
/// The most of that list that is read: some hundred thousand sockets.
const SOCKETS_BYTES_MAX: u64 = 32 << 20;

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes, of the first fault:
   0 nothing is wrong      10 no socket             11 not a socket
  12 no permission         13 nobody listens        14 socket is busy
  15 connection closed     16 port is not open in the guest
  17 agent is silent       18 secret                19 clocks apart")]
pub(super) struct Diagnose {}

/// The classes, in the order in which they are looked for. The number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
enum Cause {
    /// There is nothing of this name.
    NoSocket = 10,
    /// There is something else.
    NotASocket = 11,
    /// This user may not connect.
    NoPermission = 12,
    /// The program that made it has gone.
    NobodyListens = 13,
    /// It serves another program.
    Busy = 14,
    /// It has closed the connection.
    Closed = 15,
    /// What is written is not read.
    PortNotOpen = 16,
    /// Nothing comes.
    Silent = 17,
    /// The agent takes no signature of this secret, or there is none here.
    Secret = 18,
    /// The clocks of host and guest are apart.
    ClockSkew = 19,
}

impl Class for Cause {
    fn title(self) -> &'static str {
        match self {
            Self::NoSocket => "no socket",
            Self::NotASocket => "not a socket",
            Self::NoPermission => "no permission",
            Self::NobodyListens => "nobody listens",
            Self::Busy => "socket is busy",
            Self::Closed => "connection closed",
            Self::PortNotOpen => "port is not open in the guest",
            Self::Silent => "agent is silent",
            Self::Secret => "secret",
            Self::ClockSkew => "clocks are apart",
        }
    }

    fn exit_code(self) -> u8 {
        self as u8
    }
}

type Seen<T> = Result<T, Verdict<Cause>>;

fn seen<T>(cause: Cause, seen: impl Into<String>, next: impl Into<String>) -> Seen<T> {
    Err(Verdict::new(cause, seen, next))
}

impl Diagnose {
    pub(super) async fn run(&self, guest: &Guest<'_>) -> Result<u8, Failed> {
        if guest.options.listen {
            let what = "diagnose connects to the socket where QEMU listens; leave --listen out";
            return Err(Failed { code: EXIT_CONFIG, what: what.to_owned() });
        }
        let settings = guest.settings(false)?;
        let has_secret = settings.secret.is_some();
        let looked = async {
            let stream = connect(guest.socket).await?;
            is_taken(guest.socket).await?;
            is_read(&stream).await?;
            is_answered(&Host::over(stream, settings), has_secret, guest.timeout(SILENCE_MAX)).await
        };
        let (nothing, verdict) = match looked.await {
            Ok(round_trip) => {
                let round_trip = round_trip.as_secs_f64() * 1000.0;
                (format!("the agent has answered a signed line after {round_trip:.1} ms"), None)
            }
            Err(verdict) => (String::new(), Some(verdict)),
        };
        let verdicts = verdict.as_slice();
        print(&match guest.options.json {
            true => as_json(verdicts),
            false => shown(&as_text(verdicts, &nothing)),
        })?;
        Ok(verdicts.first().map_or(0, |verdict| verdict.cause.exit_code()))
    }
}

async fn connect(socket: &Path) -> Seen<UnixStream> {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound, PermissionDenied, WouldBlock};
    use std::os::unix::fs::FileTypeExt;
    let path = socket.display();
    let error = match UnixStream::connect(socket).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    let is_socket = socket.metadata().is_ok_and(|about| about.file_type().is_socket());
    match error.kind() {
        NotFound | NotADirectory => seen(
            Cause::NoSocket,
            format!("there is no {path}"),
            "start the machine; does its definition have a channel with this path? (`virsh dumpxml`, or -chardev socket,path=… of QEMU)",
        ),
        ConnectionRefused if !is_socket => seen(
            Cause::NotASocket,
            format!("{path} is there and is no socket"),
            "name the socket that QEMU made for the port",
        ),
        ConnectionRefused => seen(
            Cause::NobodyListens,
            format!("{path} is left over: no program listens there"),
            "start the machine; where it runs, its channel has another path (`ss -xlp` lists who listens where)",
        ),
        PermissionDenied => seen(
            Cause::NoPermission,
            format!("user {} may not connect to {path}", rustix::process::geteuid().as_raw()),
            "run this as root, or as the user that QEMU runs as; `namei -l` of the path shows which folder is closed",
        ),
        // Its queue of connections is full.
        WouldBlock => busy(socket),
        _ => seen(
            Cause::NobodyListens,
            format!("cannot connect to {path}: {error}"),
            "see connect(2)",
        ),
    }
}

fn busy<T>(socket: &Path) -> Seen<T> {
    seen(
        Cause::Busy,
        format!(
            "{} has not taken this connection: another program is connected, and QEMU takes one at a time",
            socket.display()
        ),
        "`ss -xp` shows which; a relay (`infiniservice-host relay`) reads it for many",
    )
}

/// Whether the listener has taken the connection. A kernel that does not show it is believed to have.
async fn is_taken(socket: &Path) -> Seen<()> {
    let deadline = Instant::now() + PATIENCE;
    while waiting(&sockets(), socket) > 0 {
        if Instant::now() > deadline {
            return busy(socket);
        }
        sleep(INTERVAL).await;
    }
    Ok(())
}

fn sockets() -> String {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(SOCKETS);
    let read = file.and_then(|file| file.take(SOCKETS_BYTES_MAX).read_to_end(&mut bytes));
    read.map_or(String::new(), |_| String::from_utf8_lossy(&bytes).into_owned())
}

/// Connections to `socket` that are not accepted yet: the kernel has them as "connecting" (`SS_CONNECTING`, net.h) under the name
/// of the listener.
fn waiting(sockets: &str, socket: &Path) -> usize {
    const CONNECTING: &str = "02";
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| PathBuf::from(path));
    let own = whole(socket);
    let is_own = |line: &&str| {
        // The address, four numbers, the state, the number of the file and the path, which may hold blanks.
        let state = line.split_whitespace().nth(5);
        let path = line.find('/').map(|at| Path::new(&line[at..]));
        state == Some(CONNECTING) && path.is_some_and(|path| whole(path) == own)
    };
    sockets.lines().filter(is_own).count()
}

/// Whether what is written is read: QEMU reads only while the port is open in the guest. What is written are blank lines, which
/// an agent passes over.
async fn is_read(stream: &UnixStream) -> Seen<()> {
    let closed = |error: io::Error| closed(&error.to_string());
    // The kernel takes its least.
    set_socket_send_buffer_size(stream, 1).map_err(|error| closed(error.into()))?;
    for _ in 0..BLANK_LINES {
        match stream.try_write(b"\n") {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(closed(error)),
        }
    }
    match timeout(PATIENCE, stream.writable()).await {
        Ok(written) => written.map_err(closed),
        Err(_) => seen(
            Cause::PortNotOpen,
            "QEMU has taken the connection and reads nothing: no program in the guest has the port open",
            "is the machine up, and the agent running in it? there, `infiniservice diagnose` says more",
        ),
    }
}

fn closed(why: &str) -> Verdict<Cause> {
    Verdict::new(
        Cause::Closed,
        format!("the connection was taken and has ended: {why}"),
        "try it again; has the machine ended or restarted?",
    )
}

/// Whether the agent speaks, and echoes a signed line; after which time.
async fn is_answered(host: &Host, has_secret: bool, silence_max: Duration) -> Seen<Duration> {
    let gone = |error: HostError| match error {
        HostError::Late { .. } => Ok(()),
        error => Err(closed(&error.to_string())),
    };
    if has_secret {
        match host.echo(PATIENCE).await {
            Ok(round_trip) => return Ok(round_trip),
            Err(error) => gone(error)?,
        }
    }
    // What it says at any time is metrics, which tell its clock. What it has said before it hung may have come by now.
    let before = host.status().lines;
    let speaks = async {
        while host.status().lines == before {
            host.next().await?;
        }
        Ok(())
    };
    let has_spoken = timeout(silence_max, speaks).await;
    let is_silent = has_spoken.is_err();
    if let Ok(Err(error)) = has_spoken {
        gone(error)?;
    }
    if is_silent {
        let secret = if has_secret { ", and has not answered a signed line" } else { "" };
        return seen(
            Cause::Silent,
            format!(
                "the port is open in the guest, and nothing came within {} s{secret}",
                silence_max.as_secs()
            ),
            "in the guest: does the agent have the port, or another program? `infiniservice diagnose` says; an agent without metrics \
             and with another secret is silent, too",
        );
    }
    if !has_secret {
        return seen(
            Cause::Secret,
            "the agent speaks; there is no secret here, so it was not tried whether it listens",
            "give the guest's in the variable INFINISERVICE_SHARED_SECRET, or with --secret file:/PATH",
        );
    }
    // Its clock is known now, and what is signed has its time.
    match host.echo(PATIENCE).await {
        Ok(round_trip) => clocks(host.status().clock.offset_ms()).map_or(Ok(round_trip), Err),
        Err(error) => {
            gone(error)?;
            seen(
                Cause::Secret,
                "the agent speaks, and answers no line that is signed with this secret",
                "set the same secret at both: in the guest in /etc/infiniservice/agent.env, then `systemctl restart infiniservice`; \
                 without one the agent takes nothing",
            )
        }
    }
}

/// Clocks that are too far apart for a line with this machine's time.
fn clocks(offset_ms: Option<i64>) -> Option<Verdict<Cause>> {
    let offset = offset_ms.filter(|offset| offset.unsigned_abs() > WINDOW_MS)?;
    let (seconds, way) =
        (offset.unsigned_abs() / 1000, if offset > 0 { "ahead" } else { "behind" });
    Some(Verdict::new(
        Cause::ClockSkew,
        format!(
            "the guest's clock is {seconds} s {way}: it refuses what has the time of this machine"
        ),
        "run an NTP client in both, or give the guest the kernel's ptp_kvm clock; until then, add --wait-clock",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_tells_which_connections_wait() {
        let sockets = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 22222 /run/no/web 1.sock\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 22224 /run/no/web 1.sock\n\
            0000000000000000: 00000002 00000000 00000000 0001 02     0 /run/no/web 1.sock\n\
            0000000000000000: 00000002 00000000 00000000 0001 02     0 /run/no/web 2.sock\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 22223\n";
        assert_eq!(waiting(sockets, Path::new("/run/no/web 1.sock")), 1);
        assert_eq!(waiting(sockets, Path::new("/run/no/web")), 0);
        assert_eq!(waiting("", Path::new("/run/no/web 1.sock")), 0);
    }

    #[test]
    fn clocks_are_apart_beyond_the_window() {
        assert_eq!(clocks(None), None);
        assert_eq!(clocks(Some(-300_000)), None);
        let apart = clocks(Some(-7_200_000)).unwrap();
        assert!(apart.seen.contains("7200 s behind"), "{apart:?}");
    }
}
