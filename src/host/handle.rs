//! The user's handle of the host: send requests, wait for answers, read messages. The connection is a task of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use futures::Stream;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use super::clock::Clock;
use super::error::{Gone, HostError};
use super::inbox::Inbox;
use super::link::{Ask, Link, Send};
use super::message::{Kind, Message, Response, ScriptCompletion};
use super::payload::{self, RawCommand, Script};
use super::reading::Reading;
use super::settings::{Settings, Status};
use super::socket::{self, Listener};
use super::uuid::uuid;
use crate::model::Iso8601;

/// Payloads that wait to be signed and written.
pub const ASKS_WAITING: usize = 64;

/// How much longer than its time-out an answer is waited for, so that the guest's own answer "it took
/// too long", with what was said until then, still comes through.
pub const GRACE: Duration = Duration::from_secs(2);

/// The host's end of one connection.
///
/// It signs, tracks the guest's clock, sends and answers keep-alives, answers
/// `request_pending_scripts`, and cuts lines as today's host does. Dropping it ends the connection
/// once what was sent is written (at most two seconds later).
///
/// Many calls may wait at once: all methods take `&self`. Answers are delivered whether
/// or not messages are read; of unread messages the newest 16 MiB are kept.
#[derive(Debug)]
pub struct Host {
    asks: mpsc::Sender<Ask>,
    inbox: Arc<Inbox>,
    status: watch::Receiver<Status>,
}

impl Host {
    /// Connects to a socket that QEMU, or a test, listens at.
    ///
    /// # Errors
    /// Nothing listens there; the message has the remedy.
    pub async fn connect(path: &Path, settings: Settings) -> Result<Self, HostError> {
        Ok(Self::over(socket::connect(path).await?, settings))
    }

    /// Listens at `path` until one guest has connected, for an agent that runs with
    /// `--port unix:PATH`. For one that comes again, hold a [`Listener`].
    ///
    /// # Errors
    /// Where the socket cannot be made.
    pub async fn listen(path: &Path, settings: Settings) -> Result<Self, HostError> {
        Listener::bind(path).await?.accept(settings).await
    }

    /// The host's end of a connection that is already there.
    pub fn over(stream: UnixStream, settings: Settings) -> Self {
        let (asks, taken) = mpsc::channel(ASKS_WAITING);
        let (tell, status) = watch::channel(Status::default());
        let inbox = Arc::<Inbox>::default();
        tokio::spawn(Link::new(settings, taken, inbox.clone(), tell).run(stream));
        Self { asks, inbox, status }
    }

    /// The next line of the guest, in order, whatever it is; answers too.
    ///
    /// # Errors
    /// [`HostError::Gone`] after the last one. Safe to drop while it waits.
    pub async fn next(&self) -> Result<Message, HostError> {
        Ok(self.inbox.take().await?)
    }

    /// The readings of the machine as they come. Other lines are passed over: use either this or
    /// [`next`](Self::next).
    pub fn metrics(&self) -> impl Stream<Item = Reading> + '_ {
        stream! {
            while let Ok(message) = self.next().await {
                if let Some(reading) = Reading::of(&message) {
                    yield reading;
                }
            }
        }
    }

    /// Signs a payload and sends it as it is. Returns when the line is written.
    ///
    /// # Errors
    /// Without a secret, when the line is too long, or when the connection is over.
    pub async fn send(&self, payload: impl Into<String>) -> Result<(), HostError> {
        self.dispatch(payload.into(), true, None).await
    }

    /// Sends a payload as a line of its own, not signed: a guest must not obey it.
    ///
    /// # Errors
    /// When the line is too long or the connection is over.
    pub async fn send_unsigned(&self, payload: impl Into<String>) -> Result<(), HostError> {
        self.dispatch(payload.into(), false, None).await
    }

    /// Asks the guest for an action (see [`action`](super::action())) and waits for the answer.
    ///
    /// `timeout` is sent to the guest in whole seconds; the answer is waited for [`GRACE`] longer.
    ///
    /// # Errors
    /// [`HostError::Late`] when none came; as [`send`](Self::send) otherwise. An answer that
    /// refuses is not an error.
    pub async fn command(&self, action: &Value, timeout: Duration) -> Result<Response, HostError> {
        let id = uuid().map_err(HostError::no_random)?;
        self.answer(payload::safe_command(&id, action, timeout), id, timeout).await
    }

    /// Has a shell of the guest run a command line, and waits for the answer, as
    /// [`command`](Self::command) does.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub async fn exec(
        &self,
        command: &RawCommand,
        timeout: Duration,
    ) -> Result<Response, HostError> {
        let id = uuid().map_err(HostError::no_random)?;
        self.answer(payload::unsafe_command(&id, command, timeout), id, timeout).await
    }

    /// Sends a payload of one's own and waits for the answer to `id`.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub async fn answer(
        &self,
        payload: impl Into<String>,
        id: impl Into<String>,
        timeout: Duration,
    ) -> Result<Response, HostError> {
        let message = self.call(payload.into(), Kind::Response(id.into()), timeout).await?;
        Ok(message.response().unwrap_or_default())
    }

    /// Sends a script without a request of the guest, and waits for its end.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub async fn script(
        &self,
        script: &Script,
        timeout: Duration,
    ) -> Result<ScriptCompletion, HostError> {
        let now = Iso8601::new(std::time::SystemTime::now());
        let payload = payload::pending_scripts(std::slice::from_ref(script), now.as_str());
        let kind = Kind::ScriptCompletion(script.execution_id.clone());
        let message = self.call(payload, kind, timeout).await?;
        Ok(message.script_completion().unwrap_or_default())
    }

    /// Hands these scripts out once, when the guest next requests pending ones. Before and after that the guest gets an
    /// empty list.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn pending(&self, scripts: Vec<Script>) -> Result<(), HostError> {
        self.asks.send(Ask::Scripts(scripts)).await.map_err(|_| Gone::Closed.into())
    }

    /// The current state of the guest.
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Waits until the guest has sent a time, so that requests are stamped with its clock.
    ///
    /// # Errors
    /// [`HostError::Late`], or when the connection is over.
    pub async fn clock_known(&self, timeout: Duration) -> Result<Clock, HostError> {
        let mut status = self.status.clone();
        let known = status.wait_for(|status| status.clock.offset_ms().is_some());
        match tokio::time::timeout(timeout, known).await {
            Ok(Ok(status)) => Ok(status.clock),
            Ok(Err(_)) => Err(Gone::Closed.into()),
            Err(_) => Err(HostError::Late {
                after: timeout,
                hint: "the guest has not said what time it is; \
                       it does with its next metrics, which may take half a minute"
                    .to_owned(),
            }),
        }
    }

    /// Waits until the guest has sent anything. A guest that is silent for half of `within` is sent a
    /// keep-alive.
    ///
    /// # Errors
    /// [`HostError::Late`] when nothing came, or when the connection is over.
    pub async fn is_heard(&self, within: Duration) -> Result<(), HostError> {
        let mut status = self.status.clone();
        let mut heard = std::pin::pin!(async move {
            status
                .wait_for(|status| status.lines > 0)
                .await
                .map(|_| ())
                .map_err(|_| Gone::Closed.into())
        });
        if let Ok(heard) = tokio::time::timeout(within / 2, &mut heard).await {
            return heard;
        }
        let asked = async {
            self.asks.send(Ask::Alive).await.map_err(|_| Gone::Closed)?;
            heard.await
        };
        match tokio::time::timeout(within / 2, asked).await {
            Ok(heard) => heard,
            Err(_) => {
                let hint = hint(&Status::default(), &self.status());
                Err(HostError::Late { after: within, hint })
            }
        }
    }

    /// Sends a keep-alive now, and waits for its echo. Returns the time between.
    ///
    /// # Errors
    /// [`HostError::Late`] when none came: a guest drops what it cannot verify without a word. Without a secret, or when the
    /// connection is over.
    pub async fn echo(&self, within: Duration) -> Result<Duration, HostError> {
        let mut status = self.status.clone();
        let before = self.status();
        let echoed = async {
            self.asks.send(Ask::Alive).await.map_err(|_| Gone::Closed)?;
            let is_new = |now: &Status| now.keep_alive.echoed() > before.keep_alive.echoed();
            let now = status.wait_for(is_new).await.map_err(|_| Gone::Closed)?;
            Ok(now.keep_alive.round_trip().unwrap_or_default())
        };
        match tokio::time::timeout(within, echoed).await {
            Ok(echoed) => echoed,
            Err(_) => Err(HostError::Late { after: within, hint: hint(&before, &self.status()) }),
        }
    }

    /// Messages that were dropped because they were not read.
    pub fn lost(&self) -> u64 {
        self.inbox.lost()
    }

    async fn call(
        &self,
        payload: String,
        kind: Kind,
        timeout: Duration,
    ) -> Result<Message, HostError> {
        let before = self.status();
        let (waits, answer) = oneshot::channel();
        let wait = timeout.saturating_add(GRACE);
        let called = async {
            self.dispatch(payload, true, Some((kind, waits))).await?;
            answer.await.map_err(|_| Gone::Closed.into())
        };
        match tokio::time::timeout(wait, called).await {
            Ok(answered) => answered,
            Err(_) => Err(HostError::Late { after: timeout, hint: hint(&before, &self.status()) }),
        }
    }

    async fn dispatch(
        &self,
        payload: String,
        signed: bool,
        wait: Option<(Kind, oneshot::Sender<Message>)>,
    ) -> Result<(), HostError> {
        if payload.contains('\n') && !signed {
            return Err(HostError::Newline);
        }
        if payload.contains('\0') {
            return Err(HostError::Nul);
        }
        let (written, answered) = oneshot::channel();
        let send = Ask::Send(Send { payload, signed, written, wait });
        self.asks.send(send).await.map_err(|_| Gone::Closed)?;
        answered.await.map_err(|_| Gone::Closed)?
    }
}

/// The likely reason for a missing answer. A guest does not report that it has refused a signature.
fn hint(before: &Status, now: &Status) -> String {
    /// How far a signature's time may be off (protocol: five minutes).
    const WINDOW_MS: i64 = 300_000;
    let offset = now.clock.offset_ms().unwrap_or(0);
    if now.lines == 0 {
        return "nothing at all came from the guest (does the agent run there? is another program \
                connected to this socket? QEMU serves one at a time)"
            .to_owned();
    }
    if before.clock.offset_ms().is_none() && offset.abs() > WINDOW_MS {
        return format!(
            "the guest's clock is {} s off, which was not known when this was signed; try again and \
             wait for its clock first (--wait-clock)",
            offset / 1000
        );
    }
    "the guest talks but did not answer (has it the same secret? what it cannot verify it drops \
     without a word; or it needs longer: raise --timeout)"
        .to_owned()
}

impl Listener {
    /// The next agent that connects.
    ///
    /// # Errors
    /// When the system gives no connection.
    pub async fn accept(&self, settings: Settings) -> Result<Host, HostError> {
        Ok(Host::over(self.stream().await?, settings))
    }
}
