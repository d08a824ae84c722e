//! A connection to NATS, for lines and for commands: how it is made, and who the relay is.

use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::commands::secret::{Secret, SecretError, SecretSource};
use crate::config;
use crate::pipeline::StageError;
use crate::tasks::spawn_blocking;

/// Messages that are on their way at once.
pub(crate) const MESSAGES_MAX: usize = 512;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer of the server or the stream may take.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);
/// How often the server is asked whether it is there, where nothing else is said.
const PING: Duration = Duration::from_secs(10);

/// A connection. One that has ended stays so: another is made, so that no client holds messages of before, and a file with the
/// login may have changed.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// Publishes and subscribes.
    pub client: Client,
    /// The same, acknowledged.
    pub jetstream: Context,
    /// It has ended.
    pub lost: CancellationToken,
}

impl Connection {
    /// Connects under this name.
    ///
    /// # Errors
    /// No server is there, or it does not take this relay; the text says what to check.
    pub(crate) async fn open(settings: &config::Nats, name: String) -> Result<Self, StageError> {
        let failed = |what: &dyn Display| StageError::outside(what);
        let servers: Result<Vec<ServerAddr>, _> =
            settings.servers.iter().map(|server| server.parse()).collect();
        let servers = servers.map_err(|error| failed(&error))?;
        let lost = CancellationToken::new();
        let on_event = {
            let lost = lost.clone();
            move |event| {
                match event {
                    Event::Disconnected | Event::Closed | Event::LameDuckMode => lost.cancel(),
                    Event::SlowConsumer(_) => {
                        tracing::warn!(
                            "commands come faster than they are taken; some are dropped"
                        );
                    }
                    _ => {}
                }
                async {}
            }
        };
        let options = identify(settings, ConnectOptions::new()).await?;
        let options = options
            .name(name)
            .connection_timeout(CONNECT)
            .request_timeout(Some(ANSWER))
            .ping_interval(PING)
            .client_capacity(MESSAGES_MAX)
            .subscription_capacity(MESSAGES_MAX)
            .max_reconnects(1)
            .event_callback(on_event);
        let options = match &settings.ca {
            Some(ca) => options.add_root_certificates(ca.clone()),
            None => options,
        };
        let client = options.connect(servers).await.map_err(|error| {
            let text = error.to_string();
            let help = match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                    "; check user, secret and credentials in [nats]"
                }
                // rustls's own error comes as one of input and output.
                ConnectErrorKind::Tls => "; check ca in [nats], and the server's certificate",
                _ if text.contains("certificate") => {
                    "; check ca in [nats], and the server's certificate"
                }
                _ => "",
            };
            StageError::outside(format_args!("cannot connect to NATS: {text}{help}"))
        })?;
        let jetstream = jetstream::ContextBuilder::new()
            .timeout(ANSWER)
            .ack_timeout(ANSWER)
            .max_ack_inflight(MESSAGES_MAX)
            .build(client.clone());
        Ok(Self { client, jetstream, lost })
    }
}

/// Reads who the relay is; anew for each connection, so that a file may change.
async fn identify(
    settings: &config::Nats,
    options: ConnectOptions,
) -> Result<ConnectOptions, StageError> {
    let config::Nats { credentials, user, secret, .. } = settings;
    if let Some(path) = credentials {
        let path = path.clone();
        let text = load(SecretSource::File(path)).await?;
        // The file may end with its key, and the client wants the end of that line, which is no part of a secret.
        let text = Zeroizing::new([text.as_str(), "\n"].concat());
        return options.credentials(&text).map_err(|_| {
            StageError::outside("credentials in [nats] is no credentials file of NATS")
        });
    }
    match (user, secret) {
        (Some(user), Some(source)) => {
            let password = load(source.clone()).await?;
            Ok(options.user_and_password(user.clone(), password.to_string()))
        }
        _ => Ok(options),
    }
}

async fn load(source: SecretSource) -> Result<Zeroizing<String>, StageError> {
    let unfit = |what: &dyn Display| StageError::outside(format_args!("no login for NATS: {what}"));
    let loaded = spawn_blocking(move || Secret::load(&source)).await;
    let secret = match loaded {
        Ok(loaded) => loaded.map_err(|error: SecretError| unfit(&error))?,
        Err(_) => None,
    };
    let secret = secret.ok_or_else(|| unfit(&"the secret in [nats] is empty"))?;
    let text = std::str::from_utf8(secret.expose()).map_err(|_| unfit(&"it is no text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}
