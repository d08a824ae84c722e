//! The task that owns a connection: reads and writes concurrently, signs outgoing lines, and sends the automatic answers of
//! the Infinibay host.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval_at};

use super::error::{Gone, HostError};
use super::inbox::Inbox;
use super::message::{Kind, Message};
use super::payload::{self, Script};
use super::settings::{Settings, Status};
use super::uuid::{connection_number, uuid};
use crate::model::Iso8601;
use crate::wire::{LINE_BYTES_MAX, Lines, envelope};

/// The longest line taken from a guest, as today's host has it (`VIRTIO_MAX_MESSAGE_BYTES`); a longer
/// one is dropped and reported.
pub const GUEST_LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// So many bytes without a newline end the connection (`VIRTIO_MAX_BUFFER_BYTES`).
pub const GUEST_BUFFER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Answers that are waited for at once.
pub const WAITING_MAX: usize = 4096;
/// While more than this waits to be written, nothing more is taken on.
const UNWRITTEN_BYTES_MAX: usize = 64 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;
/// How long what is unwritten may take when the last handle of the host is dropped, and what is unread when
/// nothing can be written any more.
const FLUSH: Duration = Duration::from_secs(2);

/// Completed when a line is written, or why it cannot be.
pub(super) type Written = oneshot::Sender<Result<(), HostError>>;

/// Something to send.
pub(super) struct Send {
    pub payload: String,
    pub signed: bool,
    pub written: Written,
    /// Gets the message of this kind when it comes.
    pub wait: Option<(Kind, oneshot::Sender<Message>)>,
}

/// A request to the task.
pub(super) enum Ask {
    Send(Send),
    /// To be given out at the next `request_pending_scripts`.
    Scripts(Vec<Script>),
    /// A keep-alive request, now.
    Alive,
}

pub(super) struct Link {
    settings: Settings,
    asks: mpsc::Receiver<Ask>,
    inbox: Arc<Inbox>,
    status: watch::Sender<Status>,
    lines: Lines,
    /// Bytes since the last newline.
    unended: usize,
    unwritten: VecDeque<(Bytes, Option<Written>)>,
    unwritten_bytes: usize,
    waiting: HashMap<Kind, oneshot::Sender<Message>>,
    scripts: Vec<Script>,
    /// Tells this connection from the next one; `None` where no random number is to be had.
    connection: Option<u64>,
}

impl Link {
    pub(super) fn new(
        settings: Settings,
        asks: mpsc::Receiver<Ask>,
        inbox: Arc<Inbox>,
        status: watch::Sender<Status>,
    ) -> Self {
        Self {
            settings,
            asks,
            inbox,
            status,
            lines: Lines::new(GUEST_LINE_BYTES_MAX),
            unended: 0,
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            waiting: HashMap::new(),
            scripts: Vec::new(),
            connection: connection_number().ok(),
        }
    }

    /// Runs until the guest closes the connection, or the last handle is dropped.
    pub(super) async fn run(mut self, stream: UnixStream) {
        let (mut reader, mut writer) = stream.into_split();
        let why = self.converse(&mut reader, &mut writer).await;
        self.inbox.close(why);
    }

    async fn converse(&mut self, reader: &mut OwnedReadHalf, writer: &mut OwnedWriteHalf) -> Gone {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        // Without a secret nothing can be sent, so the period does not matter.
        let period = self.settings.keep_alive.filter(|_| self.settings.secret.is_some());
        let asks_alive = period.is_some_and(|period| !period.is_zero());
        let period = period.filter(|_| asks_alive).unwrap_or(Duration::from_secs(3600));
        let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let room = self.unwritten_bytes < UNWRITTEN_BYTES_MAX;
            let front = self.unwritten.front().map(|(line, _)| line.clone());
            if chunk.capacity() < CHUNK_BYTES / 4 {
                chunk.reserve(CHUNK_BYTES);
            }
            tokio::select! {
                read = reader.read_buf(&mut chunk) => match read {
                    Ok(0) => return Gone::Closed,
                    Ok(_) => if let Err(why) = self.take(chunk.split().freeze()) { return why },
                    Err(error) => return Gone::Broken(error.into()),
                },
                written = writer.write(front.as_deref().unwrap_or_default()), if front.is_some() => {
                    match written {
                        Ok(bytes) => self.wrote(bytes),
                        Err(error) => {
                            // Data that the guest sent before it disconnected is still read.
                            self.unwritten.clear();
                            let _ = tokio::time::timeout(FLUSH, self.read_rest(reader, chunk)).await;
                            return Gone::NotWritten(error.into());
                        }
                    }
                }
                ask = self.asks.recv(), if room => match ask {
                    Some(Ask::Send(send)) => self.send(send),
                    Some(Ask::Scripts(scripts)) => self.scripts.extend(scripts),
                    Some(Ask::Alive) => self.ask_alive(),
                    None => {
                        let _ = tokio::time::timeout(FLUSH, self.flush(writer)).await;
                        return Gone::HostLeft;
                    }
                },
                _ = ticks.tick(), if asks_alive && room => self.ask_alive(),
            }
        }
    }

    fn ask_alive(&mut self) {
        let mut number = 0;
        self.status.send_modify(|status| number = status.keep_alive.ask(Instant::now()));
        self.say(&payload::keep_alive_request(number, &now()));
    }

    fn take(&mut self, mut chunk: Bytes) -> Result<(), Gone> {
        self.unended = match memchr::memrchr(b'\n', &chunk) {
            Some(at) => chunk.len() - at - 1,
            None => self.unended + chunk.len(),
        };
        while let Some(line) = self.lines.next(&mut chunk) {
            match line {
                Ok(line) if line.trim_ascii().is_empty() => {}
                // Copied: a short line would keep the whole chunk it came in.
                Ok(line) => self.received(Message::read(Bytes::copy_from_slice(&line))),
                Err(too_long) => self.inbox.put(Message::unreadable(too_long.to_string())),
            }
        }
        if self.unended > GUEST_BUFFER_BYTES_MAX {
            return Err(Gone::Endless { bytes: self.unended });
        }
        Ok(())
    }

    fn received(&mut self, message: Message) {
        let at = SystemTime::now();
        self.status.send_modify(|status| {
            status.lines += 1;
            status.last = Some(Instant::now());
            if let Some(timestamp) = message.timestamp() {
                status.clock.learn(timestamp, at);
            }
            if let Kind::KeepAlive(number) = message.kind {
                status.keep_alive.heard(number, Instant::now());
            }
        });
        match &message.kind {
            Kind::KeepAlive(number) => {
                self.say(&payload::keep_alive_response(*number, &now(), self.connection));
            }
            Kind::RequestPendingScripts => {
                let scripts = std::mem::take(&mut self.scripts);
                self.say(&payload::hand_out(&scripts, &now()));
            }
            kind => {
                if let Some(waits) = self.waiting.remove(kind) {
                    let _ = waits.send(message.clone());
                }
            }
        }
        self.inbox.put(message);
    }

    fn send(&mut self, send: Send) {
        match self.line(&send.payload, send.signed) {
            Ok(line) => {
                if let Some((kind, waits)) = send.wait {
                    if self.waiting.len() >= WAITING_MAX {
                        self.waiting.retain(|_, waits| !waits.is_closed());
                    }
                    if self.waiting.len() >= WAITING_MAX {
                        let _ = send.written.send(Err(HostError::Busy));
                        return;
                    }
                    self.waiting.insert(kind, waits);
                }
                self.queue(line, Some(send.written));
            }
            Err(error) => {
                let _ = send.written.send(Err(error));
            }
        }
    }

    /// What the host says by itself: left out where it cannot be signed, or where the guest asks more
    /// than it reads.
    fn say(&mut self, payload: &str) {
        if self.unwritten_bytes < UNWRITTEN_BYTES_MAX
            && let Ok(line) = self.line(payload, true)
        {
            self.queue(line, None);
        }
    }

    /// The line for a payload, stamped by the guest's clock.
    fn line(&self, payload: &str, signed: bool) -> Result<Bytes, HostError> {
        let mut line = if signed {
            let secret = self.settings.secret.as_ref().ok_or(HostError::NoSecret)?;
            let ts = self.status.borrow().clock.stamp(SystemTime::now());
            let nonce = uuid().map_err(HostError::no_random)?;
            envelope::seal(secret.expose(), ts, &nonce, payload)
        } else {
            payload.to_owned()
        };
        if line.len() > LINE_BYTES_MAX {
            return Err(HostError::TooLong { bytes: line.len() });
        }
        line.push('\n');
        Ok(line.into())
    }

    fn queue(&mut self, line: Bytes, written: Option<Written>) {
        self.unwritten_bytes += line.len();
        self.unwritten.push_back((line, written));
    }

    fn wrote(&mut self, bytes: usize) {
        self.unwritten_bytes -= bytes;
        let Some((line, _)) = self.unwritten.front_mut() else { return };
        line.advance(bytes);
        if line.is_empty()
            && let Some((_, Some(written))) = self.unwritten.pop_front()
        {
            let _ = written.send(Ok(()));
        }
    }

    async fn read_rest(&mut self, reader: &mut OwnedReadHalf, mut chunk: BytesMut) {
        while matches!(reader.read_buf(&mut chunk).await, Ok(1..)) {
            if self.take(chunk.split().freeze()).is_err() {
                return;
            }
        }
    }

    async fn flush(&mut self, writer: &mut OwnedWriteHalf) -> std::io::Result<()> {
        while let Some((line, _)) = self.unwritten.pop_front() {
            writer.write_all(&line).await?;
        }
        Ok(())
    }
}

fn now() -> String {
    Iso8601::new(SystemTime::now()).as_str().to_owned()
}
