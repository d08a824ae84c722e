//! Deals with commands, each by itself: judges it, claims it, has the guest asked, and replies.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::COMMAND_BYTES_MAX;
use super::command::{Command, ReplyTo};
use super::error::CommandError;
use super::inbox::{Inbox, Undelivered};
use super::record::FinishedCommand;
use super::reply::Reply;
use crate::commands::authorize::policy::{Decision, Policy};
use crate::commands::decode::Decode;
use crate::commands::request::HostMessage;
use crate::commands::verify::Verified;
use crate::config::RelayCommands;
use crate::host::GRACE;
use crate::pipeline::{Handler, Output, Transform};
use crate::relay::fleet::{Guest, Presence};
use crate::relay::guest::Shared;
use crate::relay::in_flight::NotTaken;
use crate::relay::outputs::Wrap;

/// How long the refusal of a command waits for another relay that has the guest connected …
const NOT_CONNECTED: Duration = Duration::from_millis(300);
/// … or that has it at all.
const UNKNOWN: Duration = Duration::from_millis(600);
/// How often a relay looks for the guest meanwhile.
const LOOK: Duration = Duration::from_millis(20);
/// How long an error is tried to be delivered.
const ERROR: Duration = Duration::from_secs(30);
/// How long the last try to deliver a reply may take once the relay stops.
const LAST: Duration = Duration::from_secs(2);
/// When a command is said again to a guest that has not answered, for the first time; then after twice as long, each time …
const REPEAT_FIRST: Duration = Duration::from_secs(5);
/// … up to this.
const REPEAT_LAST: Duration = Duration::from_secs(60);

/// The stage that deals with commands.
pub(crate) struct Ask {
    policy: Policy,
    shared: Arc<Shared>,
    wrap: Wrap,
    stop: CancellationToken,
}

/// A command that may be asked.
struct Allowed {
    id: String,
    action: String,
    payload: Arc<str>,
    timeout: Duration,
}

impl Ask {
    /// By `rules`, until `stop`.
    pub(crate) fn new(rules: &RelayCommands, shared: Arc<Shared>, stop: CancellationToken) -> Self {
        let (policy, wrap) = (rules.policy(), Wrap::new(&shared.fleet.site));
        Self { policy, shared, wrap, stop }
    }

    /// What became of a command; `None` where another relay deals with it.
    async fn deal(&self, command: Command) -> Option<FinishedCommand> {
        let Command { vm, payload, at, reply_to } = command;
        let sender = reply_to.sender();
        let done = |id, action, outcome| {
            let (vm, took) = (Arc::clone(&vm), at.elapsed());
            Some(FinishedCommand { vm, sender, id, action, outcome, took })
        };
        if matches!(reply_to, ReplyTo::NoInbox) {
            return done(None, None, "no_inbox");
        }
        let allowed = self.judge(&payload);
        let limit = match &allowed {
            Ok(allowed) => at + allowed.timeout + GRACE,
            Err(_) => at + ERROR,
        };
        let ready = match &allowed {
            Ok(_) => self.guest(&vm, at).await,
            Err(error) => Err(error.clone()),
        };
        if !reply_to.is_ours(&vm, &payload, limit).await {
            return None;
        }
        let answer = match (&allowed, ready) {
            (Ok(allowed), Ok(guest)) => self.ask(&guest, allowed, limit).await,
            (Err(error), _) => Err(error.clone()),
            (_, Err(error)) => Err(error),
        };
        let outcome = self.reply(&vm, reply_to, answer, limit.max(at + ERROR)).await;
        let (id, action) = allowed.ok().map(|allowed| (allowed.id, allowed.action)).unzip();
        done(id, action, outcome)
    }

    /// Whether a command may be asked, as far as that can be known without the guest: what its words mean there is for the
    /// guest's own rules.
    fn judge(&self, payload: &[u8]) -> Result<Allowed, CommandError> {
        if payload.len() > COMMAND_BYTES_MAX {
            return Err(CommandError::TooLong);
        }
        let not_understood = |why: &str| CommandError::NotUnderstood(why.to_owned());
        let payload =
            std::str::from_utf8(payload).map_err(|_| not_understood("the command is not UTF-8"))?;
        let (now, mut out) = (Instant::now(), Output::default());
        let (sent_ms, age) = (0, Duration::ZERO);
        let message = Verified { payload: payload.to_owned(), sent_ms, age, received: now };
        Decode::default().apply(now, &message, &mut out);
        let request = match out.drain().next() {
            Some(HostMessage::Request(request)) => request,
            Some(HostMessage::Refused(refusal)) => return Err(not_understood(&refusal.error)),
            Some(_) => {
                return Err(not_understood("a command is a SafeCommand or an UnsafeCommand"));
            }
            None => {
                return Err(not_understood("the command is no JSON object with a type and an id"));
            }
        };
        if let Decision::Denied { why, .. } = self.policy.decide(&request) {
            return Err(CommandError::Denied(why));
        }
        let most = self.policy.time_for(&request);
        if request.timeout > most {
            let why = format!("denied: its timeout is longer than the {most:?} of relay.toml");
            return Err(CommandError::Denied(why));
        }
        let action = request.kind.name().to_owned();
        let (id, timeout) = (request.id, request.timeout);
        Ok(Allowed { id, action, payload: payload.into(), timeout })
    }

    /// The guest, once it can be asked. Where it cannot, the error comes late enough for a relay that can ask it to claim the
    /// command.
    async fn guest(&self, vm: &str, came: Instant) -> Result<Arc<Guest>, CommandError> {
        loop {
            let found = self.shared.fleet.find(vm);
            let presence = found.as_ref().map(|guest| guest.presence());
            let (error, patience) = match (presence, found) {
                (Some(Presence::Ready), Some(guest)) => return Ok(guest),
                (Some(Presence::Unsigned), _) => (CommandError::NoKey, NOT_CONNECTED),
                (Some(_), _) => (CommandError::NotConnected, NOT_CONNECTED),
                (None, _) => (CommandError::UnknownGuest, UNKNOWN),
            };
            if came.elapsed() >= patience {
                return Err(error);
            }
            sleep(LOOK).await;
        }
    }

    /// Has the guest asked, and waits for its answer.
    ///
    /// It is asked again from time to time: an agent for whom this host is no host of its own drops the answer to what was
    /// asked on a connection that has ended, be it one of a relay before this one, and answers from its record then.
    async fn ask(
        &self,
        guest: &Guest,
        allowed: &Allowed,
        limit: Instant,
    ) -> Result<Bytes, CommandError> {
        let Allowed { id, payload, timeout, .. } = allowed;
        let mut pending = self.shared.commands.take(&guest.vm, id, payload)?;
        guest.asked.notify_one();
        let mut pause = REPEAT_FIRST;
        loop {
            tokio::select! {
                biased;
                Ok(line) = &mut pending.answer => return Ok(line),
                () = self.stop.cancelled() => return Err(CommandError::Stopping),
                () = sleep_until(limit) => return Err(CommandError::Late { timeout: *timeout }),
                () = sleep(pause) => {
                    pause = REPEAT_LAST.min(2 * pause);
                    pending.repeat();
                    // It may be at another socket by now.
                    if let Some(guest) = self.shared.fleet.find(&guest.vm) {
                        guest.asked.notify_one();
                    }
                }
            }
        }
    }

    /// Replies, and gives the word for what became of the command.
    async fn reply(
        &self,
        vm: &str,
        to: ReplyTo,
        answer: Result<Bytes, CommandError>,
        until: Instant,
    ) -> &'static str {
        let reply = match answer {
            Ok(line) => Reply::answer(&self.wrap, vm, &line),
            Err(why) => self.error(vm, why),
        };
        let mut outcome = reply.outcome();
        let delivered = match to {
            ReplyTo::Page(page) => page.send(reply),
            ReplyTo::NoInbox => Err(Undelivered::NotTaken),
            ReplyTo::Inbox(inbox) => match self.deliver(&inbox, &reply, until).await {
                Err(Undelivered::TooLarge) => {
                    let bytes = reply.payload.len();
                    let reply = self.error(vm, CommandError::AnswerTooLarge { bytes });
                    outcome = reply.outcome();
                    self.deliver(&inbox, &reply, until).await
                }
                delivered => delivered,
            },
        };
        match delivered {
            Ok(()) => outcome,
            Err(why) => {
                tracing::debug!(vm, outcome, %why, "a reply was not delivered");
                "undelivered"
            }
        }
    }

    fn error(&self, vm: &str, why: CommandError) -> Reply {
        Reply::error(&self.shared.fleet.site, vm, why)
    }

    /// Delivers a reply; at the stop it is tried once more, and no longer.
    async fn deliver(
        &self,
        inbox: &Inbox,
        reply: &Reply,
        until: Instant,
    ) -> Result<(), Undelivered> {
        let last = async {
            self.stop.cancelled().await;
            sleep(LAST).await;
        };
        tokio::select! {
            biased;
            delivered = inbox.deliver(reply, until) => delivered,
            () = last => Err(Undelivered::NotTaken),
        }
    }
}

impl Handler for Ask {
    type In = Command;
    type Out = FinishedCommand;
    type Key = (Arc<str>, String);

    fn key(&self, command: &Command) -> Self::Key {
        (Arc::clone(&command.vm), command.reply_to.sender())
    }

    fn handle(self: Arc<Self>, command: Command) -> BoxStream<'static, FinishedCommand> {
        let done = async move { self.deal(command).await };
        stream::once(done).filter_map(std::future::ready).boxed()
    }

    /// A request of the page gets a reply; a client of NATS asks again.
    fn refuse(&self, command: Command) -> Vec<FinishedCommand> {
        let Command { vm, at, reply_to, .. } = command;
        let (sender, took) = (reply_to.sender(), at.elapsed());
        let outcome = match reply_to {
            ReplyTo::Page(page) => {
                let reply = self.error(&vm, NotTaken::TooMany.into());
                let outcome = reply.outcome();
                page.send(reply).map_or("undelivered", |()| outcome)
            }
            ReplyTo::Inbox(_) | ReplyTo::NoInbox => "dropped",
        };
        vec![FinishedCommand { vm, sender, id: None, action: None, outcome, took }]
    }

    fn broken(&self, (vm, sender): Self::Key, panic: &str) -> Vec<FinishedCommand> {
        tracing::error!(vm = &*vm, panic, "a command was lost to a fault of the relay");
        let (outcome, took) = ("broken", Duration::ZERO);
        vec![FinishedCommand { vm, sender, id: None, action: None, outcome, took }]
    }
}
