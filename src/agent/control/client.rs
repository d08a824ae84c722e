//! The other side of the socket: a command of this program that asks the agent.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use super::{ANSWER_BYTES_MAX, Answer, LINE_TIME, Request, TapRequest, line_of};

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// No agent listens there.
    NoAgent,
    /// It has not answered in time.
    Late,
    /// This came in between.
    Io(io::Error),
}

/// Asks the agent whose socket is at `path`, and waits at most `patience` for its answer, whatever is at the other
/// end: a thread of its own does the waiting, and is left behind where it takes longer. Blocks.
///
/// # Errors
/// There is no agent, or it does not answer in time.
pub(crate) fn ask(
    path: &Path,
    request: &Request,
    patience: Duration,
) -> Result<Answer, Unanswered> {
    let (path, request) = (path.to_owned(), request.clone());
    let (tell, answered) = std::sync::mpsc::sync_channel(1);
    let talking = std::thread::Builder::new().name("ask".to_owned());
    let talking = talking.spawn(move || tell.send(ask_and_wait(&path, &request)).is_ok());
    talking.map_err(Unanswered::Io)?;
    answered.recv_timeout(patience).unwrap_or(Err(Unanswered::Late))
}

/// Taps a stage, and hands each answer to `take` until it wants no more, or `patience` has passed without
/// one: then `take` gets `None`, to say whether it goes on. Blocks.
///
/// # Errors
/// There is no agent, or it has hung up.
pub(crate) fn look(
    path: &Path,
    request: &TapRequest,
    patience: Duration,
    take: &mut dyn FnMut(Option<Answer>) -> bool,
) -> Result<(), Unanswered> {
    let stream = connect(path)?;
    let mut looking = || {
        stream.set_write_timeout(Some(LINE_TIME))?;
        stream.set_read_timeout(Some(patience))?;
        (&stream).write_all(&line_of(&Request::Tap(request.clone()))?)?;
        let (mut from, mut line) = (BufReader::new(&stream), Vec::new());
        loop {
            // What was read before the time is over stays in the line.
            let length = line.len() as u64;
            match (&mut from).take(ANSWER_BYTES_MAX - length).read_until(b'\n', &mut line) {
                Ok(_) if line.ends_with(b"\n") => {
                    if !take(Some(serde_json::from_slice(&line)?)) {
                        return Ok(());
                    }
                    line.clear();
                }
                Ok(_) => return Err(io::Error::other("it has hung up")),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !take(None) {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    };
    looking().map_err(Unanswered::Io)
}

/// The process that listens at `path`, also one that does not answer.
pub(crate) fn listener(path: &Path) -> Option<u32> {
    // It does not wait where the queue of those who connect is full.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    net::connect(&socket, &SocketAddrUnix::new(path).ok()?).ok()?;
    u32::try_from(socket_peercred(&socket).ok()?.pid.as_raw_nonzero().get()).ok()
}

fn connect(path: &Path) -> Result<UnixStream, Unanswered> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    UnixStream::connect(path).map_err(|error| match error.kind() {
        NotFound | ConnectionRefused => Unanswered::NoAgent,
        _ => Unanswered::Io(error),
    })
}

fn ask_and_wait(path: &Path, request: &Request) -> Result<Answer, Unanswered> {
    let stream = connect(path)?;
    let serve_client = || {
        stream.set_write_timeout(Some(LINE_TIME))?;
        // After a refusal the other end may be closed already, with the answer still to be read.
        let written = (&stream).write_all(&line_of(request)?);
        let mut answer = Vec::new();
        let read = BufReader::new((&stream).take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut answer);
        if answer.is_empty() {
            written.and(read)?;
            return Err(io::Error::other("it hung up without an answer"));
        }
        Ok(serde_json::from_slice(&answer)?)
    };
    serve_client().map_err(Unanswered::Io)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_process_that_listens_is_known_also_where_it_does_not_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        assert_eq!(listener(&path), None);
        let _agent = UnixListener::bind(&path).unwrap();
        assert_eq!(listener(&path), Some(std::process::id()));
    }
}
