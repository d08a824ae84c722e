//! systemd's manager on its own socket, for the one call that needs descriptors: `StartTransientUnit`. It is there before
//! the bus and without it, so commands reach a machine whose bus is down.
//!
//! # Why not the connection of [`systemd`](crate::commands::actions)
//! The manager gives its well-known name as sender there, which zbus refuses to read. So only the message is zbus's; the
//! handshake and the reply are read here (D-Bus specification, "Authentication Protocol" and "Message Format").

use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use thiserror::Error;
use zbus::{Fd, Message, Variant};

/// Where it listens; only root may connect.
const SOCKET: &str = "/run/systemd/private";
/// The longest message that is read; what it tells of new units is far below it.
const MESSAGE_MAX: usize = 1 << 20;
/// Messages that are read until the reply comes: signals of units that come and go meanwhile.
const MESSAGES_MAX: usize = 10_000;

/// A service that runs once, as transient unit: systemd.service(5), systemd.resource-control(5).
pub(super) struct Service<'a> {
    /// Of the unit, with its suffix.
    pub name: &'a str,
    pub program: &'a Path,
    /// The name that the program is called by, then its arguments; every user can read them.
    pub arguments: &'a [&'a str],
    pub input: BorrowedFd<'a>,
    pub output: BorrowedFd<'a>,
    /// When systemd ends it.
    pub runtime_max: Duration,
    pub tasks_max: u64,
    /// Of the machine's memory, what it may use at most.
    pub memory_percent: u32,
    pub cpu_weight: u64,
}

impl Service<'_> {
    /// Has systemd start it, which may take `patience` for each step. Blocks.
    ///
    /// # Errors
    /// systemd does not.
    pub(super) fn start(&self, patience: Duration) -> Result<(), ManagerError> {
        let wrong = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock => ManagerError::Late { after: patience },
            _ => ManagerError::Socket(error),
        };
        let call = self.call()?;
        let mut manager = Manager::connect(Path::new(SOCKET), patience).map_err(wrong)?;
        match manager.ask(&call).map_err(wrong)? {
            Reply::Done => Ok(()),
            Reply::Refused(why) => Err(ManagerError::Refused(why)),
        }
    }

    fn call(&self) -> zbus::Result<Message> {
        let program = self.program.to_string_lossy().into_owned();
        let arguments: Vec<String> = self.arguments.iter().map(|&one| one.to_owned()).collect();
        let runtime_max = u64::try_from(self.runtime_max.as_micros()).unwrap_or(u64::MAX);
        let properties = [
            ("Description", Variant::from("A command of the host of this machine")),
            ("Slice", Variant::from("infiniservice.slice")),
            ("ExecStart", Variant::from(vec![(program, arguments, false)])),
            ("StandardInputFileDescriptor", Variant::from(Fd::from(self.input))),
            ("StandardOutputFileDescriptor", Variant::from(Fd::from(self.output))),
            ("CollectMode", Variant::from("inactive-or-failed")),
            ("Delegate", Variant::from(true)),
            // The one that asked for too much is ended, and the service tells its end.
            ("OOMPolicy", Variant::from("continue")),
            ("OOMScoreAdjust", Variant::from(-500_i32)),
            ("TimeoutStopUSec", Variant::from(5_000_000_u64)),
            ("RuntimeMaxUSec", Variant::from(runtime_max)),
            ("TasksMax", Variant::from(self.tasks_max)),
            ("MemoryMaxScale", Variant::from(u32::MAX / 100 * self.memory_percent.min(100))),
            ("CPUWeight", Variant::from(self.cpu_weight)),
        ];
        let none: &[(&str, &[(&str, Variant<'_>)])] = &[];
        Message::method_call("/org/freedesktop/systemd1", "StartTransientUnit")
            .interface("org.freedesktop.systemd1.Manager")
            .build(&(self.name, "fail", &properties[..], none))
    }
}

/// Why systemd does not start a service: the end of a sentence.
#[derive(Debug, Error)]
pub(super) enum ManagerError {
    /// The call cannot be put into a message.
    #[error(transparent)]
    Message(#[from] zbus::Error),
    /// systemd takes too long.
    #[error("systemd did not answer within {after:.1?}")]
    Late {
        /// How long it could take for each step.
        after: Duration,
    },
    /// Its socket is not there, or is closed.
    #[error("systemd's socket {SOCKET}: {0}")]
    Socket(io::Error),
    /// It refuses the call, in its own words.
    #[error("{0}")]
    Refused(String),
}

/// What comes back for a call.
#[derive(Debug, PartialEq)]
enum Reply {
    Done,
    /// The manager's words.
    Refused(String),
}

/// A connection.
struct Manager {
    stream: BufReader<UnixStream>,
}

impl Manager {
    fn connect(path: &Path, patience: Duration) -> io::Result<Self> {
        let patience = Some(patience.max(Duration::from_millis(1)));
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(patience)?;
        stream.set_write_timeout(patience)?;
        let mut manager = Self { stream: BufReader::new(stream) };
        // As user 0, in hex digits of its digits. All at once: a message that systemd reads together with the last line
        // stays in its buffer until another one comes, and a descriptor would end the connection.
        manager.say(b"\0AUTH EXTERNAL 30\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n")?;
        manager.hear("OK")?;
        manager.hear("AGREE_UNIX_FD")?;
        Ok(manager)
    }

    fn say(&mut self, line: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(line)
    }

    fn hear(&mut self, word: &str) -> io::Result<()> {
        let mut line = Vec::new();
        (&mut self.stream).take(1024).read_until(b'\n', &mut line)?;
        let line = String::from_utf8_lossy(&line);
        match line.split_ascii_whitespace().next() {
            Some(first) if first == word => Ok(()),
            _ => Err(io::Error::other(format!("it said {:?} and not {word}", line.trim_end()))),
        }
    }

    /// Sends a call, and gives what comes back.
    fn ask(&mut self, call: &Message) -> io::Result<Reply> {
        let data = call.data();
        let fds: Vec<BorrowedFd<'_>> = data.fds().iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other("there are too many descriptors"));
        }
        let bytes = data.bytes();
        let slices = [IoSlice::new(bytes)];
        let sent = sendmsg(self.stream.get_ref(), &slices, &mut control, SendFlags::NOSIGNAL)?;
        // The descriptors went with the first part.
        self.say(&bytes[sent.min(bytes.len())..])?;
        for _ in 0..MESSAGES_MAX {
            if let Some(reply) = self.reply()? {
                return Ok(reply);
            }
        }
        Err(io::Error::other("it says much and does not answer"))
    }

    /// The next message, where it is a reply.
    fn reply(&mut self) -> io::Result<Option<Reply>> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        let number = |at: usize| {
            let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
            let number =
                if head[0] == b'B' { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
            usize::try_from(number).unwrap_or(usize::MAX)
        };
        let (body, fields) = (number(4), number(12));
        // The head with its fields is as long as a multiple of eight.
        let fields = fields.min(MESSAGE_MAX).next_multiple_of(8);
        if body > MESSAGE_MAX || fields > MESSAGE_MAX {
            return Err(io::Error::other("its message is too long"));
        }
        let mut rest = vec![0; fields + body];
        self.stream.read_exact(&mut rest)?;
        Ok(match head[1] {
            2 => Some(Reply::Done),
            3 => {
                // A text: its length, the text, NUL.
                let text = rest.get(fields + 4..).unwrap_or_default();
                let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
                Some(Reply::Refused(String::from_utf8_lossy(text).into_owned()))
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// What a manager says: lines of the handshake, then for each call a signal and the reply of a type, with a body.
    fn manager(listener: UnixListener, replies: Vec<(u8, &'static str)>) {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while line.lines().last() != Some("BEGIN") {
            lines.read_line(&mut line).unwrap();
        }
        stream.write_all(b"OK 1234\r\nAGREE_UNIX_FD\r\n").unwrap();
        for (kind, text) in replies {
            let mut head = [0; 16];
            lines.read_exact(&mut head).unwrap();
            let length =
                |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()) as usize;
            let mut rest = vec![0; length(12).next_multiple_of(8) + length(4)];
            lines.read_exact(&mut rest).unwrap();
            let mut body = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
            body.extend_from_slice(text.as_bytes());
            body.push(0);
            for kind in [4, kind] {
                let mut message = vec![b'l', kind, 0, 1];
                message.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
                message.extend([1, 0, 0, 0, 3, 0, 0, 0]);
                message.extend([9, 9, 9, 0, 0, 0, 0, 0]);
                message.extend(&body);
                stream.write_all(&message).unwrap();
            }
        }
    }

    fn asked(replies: Vec<(u8, &'static str)>) -> io::Result<Reply> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("private");
        let listener = UnixListener::bind(&path).unwrap();
        let other = thread::spawn(move || manager(listener, replies));
        let (one, two) = UnixStream::pair().unwrap();
        let service = Service {
            name: "a.service",
            program: Path::new("/bin/true"),
            arguments: &["true"],
            input: one.as_fd(),
            output: two.as_fd(),
            runtime_max: Duration::MAX,
            tasks_max: 1,
            memory_percent: 80,
            cpu_weight: 1,
        };
        let call = service.call().unwrap();
        assert_eq!(call.data().fds().len(), 2);
        let said = Manager::connect(&path, Duration::from_secs(20))?.ask(&call);
        other.join().unwrap();
        said
    }

    #[test]
    fn a_call_is_answered_or_refused_whatever_is_said_between() {
        assert_eq!(asked(vec![(2, "/job/1")]).unwrap(), Reply::Done);
        let refused = asked(vec![(3, "Unit a.service already exists.")]);
        assert_eq!(refused.unwrap(), Reply::Refused("Unit a.service already exists.".to_owned()));
        assert!(asked(vec![]).is_err(), "it went away");
    }
}
