//! Deals with commands, each by itself: judges it, claims it, has the guest asked, and replies.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::claim::Claims;
use super::error::CommandError;
use super::receive::Asked;
use super::record::Done;
use super::reply::{self, Reply, Undelivered};
use super::{COMMAND_BYTES_MAX, Connections};
use crate::commands::authorize::policy::{self, Decision, Policy};
use crate::commands::decode::{Decode, HostMessage};
use crate::commands::verify::Verified;
use crate::config::RelayCommands;
use crate::host::GRACE;
use crate::pipeline::{Handler, Output, Transform};
use crate::relay::fleet::{Guest, Presence};
use crate::relay::guest::Shared;
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
    claims: Claims,
    connections: Connections,
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
    /// By the rules of `commands`, until `stop`.
    pub(crate) fn new(
        commands: &RelayCommands,
        claims: Claims,
        connections: Connections,
        shared: Arc<Shared>,
        stop: CancellationToken,
    ) -> Self {
        let (policy, wrap) = (commands.policy(), Wrap::new(&shared.fleet.site));
        Self { policy, shared, claims, connections, wrap, stop }
    }

    /// What became of a command; `None` where another relay deals with it.
    async fn deal(&self, asked: Asked) -> Option<Done> {
        let done = |outcome| Done {
            vm: Arc::clone(&asked.vm),
            id: None,
            action: None,
            outcome,
            took: asked.at.elapsed(),
        };
        let Some(to) = asked.reply.clone().filter(reply::is_inbox) else {
            return Some(done("no_inbox"));
        };
        let allowed = self.judge(&asked);
        let limit = match &allowed {
            Ok(allowed) => asked.at + allowed.timeout + GRACE,
            Err(_) => asked.at + ERROR,
        };
        let ready = match &allowed {
            Ok(_) => self.guest(&asked).await,
            Err(error) => Err(error.clone()),
        };
        if !self.claims.claim(&asked, limit).await {
            return None;
        }
        let answer = match (&allowed, ready) {
            (Ok(allowed), Ok(guest)) => self.ask(&guest, allowed, limit).await,
            (Err(error), _) => Err(error.clone()),
            (_, Err(error)) => Err(error),
        };
        let outcome = self.reply(&asked, &to, answer, limit.max(asked.at + ERROR)).await;
        let (id, action) = allowed.ok().map(|allowed| (allowed.id, allowed.action)).unzip();
        Some(Done { id, action, ..done(outcome) })
    }

    /// Whether a command may be asked, as far as that can be known without the guest: what its words mean there is for the
    /// guest's own rules.
    fn judge(&self, asked: &Asked) -> Result<Allowed, CommandError> {
        let bytes = asked.payload.len();
        if bytes > COMMAND_BYTES_MAX {
            return Err(CommandError::TooLong { bytes });
        }
        let not_understood = |why: &str| CommandError::NotUnderstood(why.to_owned());
        let payload = std::str::from_utf8(&asked.payload)
            .map_err(|_| not_understood("the command is not UTF-8"))?;
        let (now, mut out) = (Instant::now(), Output::default());
        let (sent_ms, age) = (0, Duration::ZERO);
        let message = Verified { payload: payload.to_owned(), sent_ms, age, received: now };
        Decode::default().apply(now, &message, &mut out);
        let request = match out.drain().next() {
            Some(HostMessage::Request(request)) => request,
            Some(HostMessage::Answer(refusal)) => return Err(not_understood(&refusal.error)),
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
        let action = policy::name(&request.kind).to_owned();
        let (id, timeout) = (request.id, request.timeout);
        Ok(Allowed { id, action, payload: payload.into(), timeout })
    }

    /// The guest, once it can be asked. Where it cannot, the error comes late enough for a relay that can ask it to claim the
    /// command.
    async fn guest(&self, asked: &Asked) -> Result<Arc<Guest>, CommandError> {
        loop {
            let found = self.shared.fleet.find(&asked.vm);
            let presence = found.as_ref().map(|guest| guest.presence());
            let (error, patience) = match (presence, found) {
                (Some(Presence::Ready), Some(guest)) => return Ok(guest),
                (Some(Presence::Unsigned), _) => (CommandError::NoKey, NOT_CONNECTED),
                (Some(_), _) => (CommandError::NotConnected, NOT_CONNECTED),
                (None, _) => (CommandError::UnknownGuest, UNKNOWN),
            };
            if asked.at.elapsed() >= patience {
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

    /// Replies, and gives the word for what became of it.
    async fn reply(
        &self,
        asked: &Asked,
        to: &Subject,
        answer: Result<Bytes, CommandError>,
        until: Instant,
    ) -> &'static str {
        let error = |error: &CommandError| Reply::error(&self.shared.fleet.site, asked, error);
        let (mut outcome, reply) = match &answer {
            Ok(line) => ("answered", Reply::answer(&self.wrap, asked, line)),
            Err(why) => (why.code(), error(why)),
        };
        let mut delivered = self.deliver(to, &reply, until).await;
        if let Err(Undelivered::TooLarge) = delivered {
            let why = CommandError::AnswerTooLarge { bytes: reply.bytes() };
            outcome = why.code();
            delivered = self.deliver(to, &error(&why), until).await;
        }
        match delivered {
            Ok(()) => outcome,
            Err(why) => {
                tracing::debug!(vm = &*asked.vm, outcome, %why, "a reply was not delivered");
                "undelivered"
            }
        }
    }

    /// Delivers a reply; at the stop it is tried once more, and no longer.
    async fn deliver(
        &self,
        to: &Subject,
        reply: &Reply,
        until: Instant,
    ) -> Result<(), Undelivered> {
        let last = async {
            self.stop.cancelled().await;
            sleep(LAST).await;
        };
        tokio::select! {
            biased;
            delivered = reply::deliver(&self.connections, to, reply, until) => delivered,
            () = last => Err(Undelivered::NotTaken),
        }
    }
}

impl Handler for Ask {
    type In = Asked;
    type Out = Done;
    type Key = Arc<str>;

    fn key(&self, asked: &Asked) -> Arc<str> {
        Arc::clone(&asked.vm)
    }

    fn handle(self: Arc<Self>, asked: Asked) -> BoxStream<'static, Done> {
        let done = async move { self.deal(asked).await };
        stream::once(done).filter_map(std::future::ready).boxed()
    }

    fn refuse(&self, asked: Asked) -> Vec<Done> {
        let took = asked.at.elapsed();
        vec![Done { vm: asked.vm, id: None, action: None, outcome: "dropped", took }]
    }

    fn broken(&self, vm: Arc<str>, panic: &str) -> Vec<Done> {
        tracing::error!(vm = &*vm, panic, "a command was lost to a fault of the relay");
        vec![Done { vm, id: None, action: None, outcome: "broken", took: Duration::ZERO }]
    }
}
