//! The fleet as a web page: guests as rows with their state and figures, one guest with its charts, processes and events, live
//! by server-sent events. Everything is in this program; a browser asks for nothing elsewhere.
//!
//! ```text
//!                 ┌─▶ page/…            the files of the page
//!  access ─▶ GET ─┼─▶ /guests/NAME      all that is known of one guest
//!                 └─▶ /events           the fleet, and once a second what has changed
//!         ─▶ POST ──▶ /guests/NAME/command   a command for the guest, where they are allowed
//! ```
//!
//! A guest is not trusted: its texts leave here as JSON, and the page sets them as text, never as HTML; its policy
//! (`Content-Security-Policy`) allows no script but the page's own. Nothing that comes in changes anything, but a command,
//! where commands are allowed: it needs the token, and no page of another site can send it.
//!
//! # Bounds
//! 64 connections at once, the next one waits; one request each; 5 s for its head, 10 s for a write to make way, 1 KiB for a
//! form; 16 pages that are open, which may be 16 events behind; 16 commands without a reply. All are in the table of `docs/architecture.md`.

mod access;
mod events;
mod patient;
mod view;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
    REFERRER_POLICY, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::commands::page::PageCommands;
use super::commands::reply::Reply;
use super::commands::{COMMAND_BYTES_MAX, CommandError};
use super::fleet::Fleet;
use super::subject;
use crate::commands::secret::{Secret, SecretError};
use crate::config;
use crate::tasks::spawn_blocking;
use access::Access;
use events::Events;
use patient::Patient;

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(5);
/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long a write may wait for the browser.
const WRITE: Duration = Duration::from_secs(10);
/// The longest form.
const FORM_BYTES_MAX: usize = 1024;
/// The shortest token.
const TOKEN_BYTES_MIN: usize = 16;
/// How long a wrong token takes, one after the other.
const WRONG: Duration = Duration::from_millis(500);
/// After a connection could not be taken: out of descriptors, at once it would fail again.
const REST: Duration = Duration::from_secs(1);

/// What the page may do: nothing but what its own files say, and no text becomes HTML.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// A file of the page.
struct File(&'static str, &'static str, &'static str);

/// Those that everybody gets: they hold nothing of a guest.
const FILES: [File; 5] = [
    File("/style.css", "text/css; charset=utf-8", include_str!("web/page/style.css")),
    File("/fleet.js", "text/javascript; charset=utf-8", include_str!("web/page/fleet.js")),
    File("/charts.js", "text/javascript; charset=utf-8", include_str!("web/page/charts.js")),
    File("/commands.js", "text/javascript; charset=utf-8", include_str!("web/page/commands.js")),
    File("/icon.svg", "image/svg+xml", include_str!("web/page/icon.svg")),
];
/// The type of what is known of guests, and of commands.
const JSON: &str = "application/json";
/// What a page offers that takes no commands.
const NO_OFFER: &[u8] = br#"{"timeout":1,"actions":[]}"#;
const NO_COMMANDS: &str = "this page takes no commands: start the relay with --allow-commands\n";
const INDEX: &str = include_str!("web/page/index.html");
const LOGIN: &str = include_str!("web/page/login.html");
/// What hides a sentence in [`LOGIN`].
const HIDDEN: &str = " hidden";

/// Why the page is not served.
#[derive(Debug, Error)]
pub(crate) enum WebError {
    /// There is no token where there must be one.
    #[error("the page cannot be served: its token is empty")]
    NoToken,
    /// The token could be guessed.
    #[error(
        "the page cannot be served: its token has less than {TOKEN_BYTES_MIN} bytes; make one with `openssl rand -hex 32`"
    )]
    ShortToken,
    /// The token cannot be loaded.
    #[error("the page cannot be served: {0}")]
    Token(#[from] SecretError),
    /// The address is taken, or not this machine's.
    #[error("cannot serve the page at {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
}

/// Serves the page until it is dropped.
#[derive(Debug)]
pub(super) struct Web(#[expect(dead_code, reason = "its tasks end with it")] JoinSet<()>);

/// What is served, and to whom.
struct Page {
    fleet: Arc<Fleet>,
    access: Access,
    events: Events,
    /// Where commands go, if they are allowed.
    commands: Option<PageCommands>,
    /// Of wrong tokens one is dealt with at a time.
    wrong: Semaphore,
}

impl Web {
    /// Serves `fleet` as `settings` say, and takes `commands`.
    ///
    /// # Errors
    /// There is no token to be had, or it cannot listen there.
    pub(super) async fn start(
        fleet: &Arc<Fleet>,
        settings: config::Web,
        commands: Option<PageCommands>,
    ) -> Result<Self, WebError> {
        let config::Web { address, token, hosts, commands: _ } = settings;
        let token = match token {
            Some(source) => {
                let loaded = spawn_blocking(move || Secret::load(&source)).await;
                let token = loaded.ok().ok_or(WebError::NoToken)??.ok_or(WebError::NoToken)?;
                if token.expose().len() < TOKEN_BYTES_MIN {
                    return Err(WebError::ShortToken);
                }
                Some(token)
            }
            None => None,
        };
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| WebError::Listen { address, error })?;
        let (has_token, takes_commands) = (token.is_some(), commands.is_some());
        tracing::info!(%address, has_token, takes_commands, "the web page of the guests is served");
        let page = Arc::new(Page {
            fleet: Arc::clone(fleet),
            access: Access::new(token, hosts),
            events: Events::new(),
            commands,
            wrong: Semaphore::new(1),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let page = Arc::clone(&page);
            async move { page.events.run(&page.fleet).await }
        });
        tasks.spawn(accept(page, listener));
        Ok(Self(tasks))
    }
}

/// Takes connections for ever.
async fn accept(page: Arc<Page>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, from)) => {
                let page = Arc::clone(&page);
                connections.spawn(async move {
                    serve(page, stream, from).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a browser could not be taken");
                sleep(REST).await;
            }
        }
    }
}

/// Answers the one request of a connection.
async fn serve(page: Arc<Page>, stream: TcpStream, from: SocketAddr) {
    let answer = service_fn(move |request| {
        let page = Arc::clone(&page);
        async move { Ok::<_, Infallible>(page.answer(request, from).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(Patient::new(stream, WRITE)), answer);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a browser has not got its answer");
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

impl Page {
    async fn answer(&self, request: Request<Incoming>, from: SocketAddr) -> Answer {
        let (method, path) = (request.method(), request.uri().path());
        if !self.access.knows_host(request.headers()) {
            let why = "this name is not known here: add it to hosts in [web]\n";
            return text(StatusCode::MISDIRECTED_REQUEST, why);
        }
        if method == Method::POST && path == "/login" {
            return self.log_in(request.into_body()).await;
        }
        if method == Method::POST
            && let Some(vm) = path.strip_suffix("/command").and_then(guest_name)
        {
            return self.command(&vm, request, from).await;
        }
        if method != Method::GET && method != Method::HEAD {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        if let Some(File(_, kind, content)) = FILES.iter().find(|File(at, ..)| *at == path) {
            return whole(StatusCode::OK, kind, content.as_bytes());
        }
        if path == "/login" {
            return html(StatusCode::OK, LOGIN);
        }
        if !self.access.lets_in(request.headers()) {
            return match path {
                "/" => to("/login"),
                _ => unauthorized(),
            };
        }
        match path {
            "/" => html(StatusCode::OK, INDEX),
            "/events" => self.events(),
            "/actions" => {
                let offer = self.commands.as_ref().map_or(NO_OFFER, PageCommands::offer);
                whole(StatusCode::OK, JSON, offer)
            }
            _ => match guest_name(path) {
                Some(vm) => self.guest(&vm),
                None => text(StatusCode::NOT_FOUND, "there is nothing here\n"),
            },
        }
    }

    fn events(&self) -> Answer {
        let Some(events) = self.events.open(&self.fleet) else {
            let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n");
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
            return answer;
        };
        let body = StreamBody::new(events.map_ok(Frame::data));
        dressed(StatusCode::OK, "text/event-stream", body.boxed_unsync())
    }

    fn guest(&self, vm: &str) -> Answer {
        match self.fleet.find(vm) {
            Some(guest) => whole(StatusCode::OK, JSON, &view::guest(&self.fleet, &guest)),
            None => text(StatusCode::NOT_FOUND, "there is no such guest\n"),
        }
    }

    /// Sends a command to the guest `vm`, and answers with the reply, the same as over NATS.
    async fn command(&self, vm: &str, request: Request<Incoming>, from: SocketAddr) -> Answer {
        let headers = request.headers();
        let Some(commands) = &self.commands else {
            return text(StatusCode::FORBIDDEN, NO_COMMANDS);
        };
        if !self.access.lets_in(headers) {
            return unauthorized();
        }
        if !access::is_own(headers) {
            let why = "only the page itself sends commands: Origin and Host differ\n";
            return text(StatusCode::FORBIDDEN, why);
        }
        if !is_json(headers) {
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a command is application/json\n");
        }
        let body = Limited::new(request.into_body(), COMMAND_BYTES_MAX);
        let replied = match timeout(HEAD, body.collect()).await {
            Ok(Ok(body)) => commands.send(vm, body.to_bytes(), from).await,
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(CommandError::TooLong),
            Ok(Err(_)) | Err(_) => {
                return text(StatusCode::BAD_REQUEST, "the command has not come\n");
            }
        };
        let reply = replied.unwrap_or_else(|why| Reply::error(&self.fleet.site, vm, why));
        let status = reply.error.as_ref().map_or(200, CommandError::status);
        whole(StatusCode::from_u16(status).unwrap_or_default(), JSON, &reply.payload)
    }

    async fn log_in(&self, body: Incoming) -> Answer {
        let form = timeout(HEAD, Limited::new(body, FORM_BYTES_MAX).collect()).await;
        let Ok(Ok(form)) = form else {
            return text(StatusCode::BAD_REQUEST, "this is no form\n");
        };
        match self.access.log_in(&form.to_bytes()) {
            Some(cookie) => {
                let mut answer = to("/");
                if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                    answer.headers_mut().insert(SET_COOKIE, cookie);
                }
                answer
            }
            None => {
                let _turn = self.wrong.acquire().await;
                sleep(WRONG).await;
                html(StatusCode::FORBIDDEN, &LOGIN.replacen(HIDDEN, "", 1))
            }
        }
    }
}

/// The guest that `/guests/NAME` names.
fn guest_name(path: &str) -> Option<String> {
    path.strip_prefix("/guests/").and_then(subject::name)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(JSON))
}

fn unauthorized() -> Answer {
    let mut answer = text(StatusCode::UNAUTHORIZED, "the token is needed\n");
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

fn to(place: &'static str) -> Answer {
    let mut answer = text(StatusCode::SEE_OTHER, "");
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static(place));
    answer
}

fn html(status: StatusCode, content: &str) -> Answer {
    whole(status, "text/html; charset=utf-8", content.as_bytes())
}

fn text(status: StatusCode, content: &str) -> Answer {
    whole(status, "text/plain; charset=utf-8", content.as_bytes())
}

fn whole(status: StatusCode, kind: &'static str, content: &[u8]) -> Answer {
    dressed(status, kind, Full::new(Bytes::copy_from_slice(content)).boxed_unsync())
}

/// An answer with the headers of all: its type, that it is not cached, and what a page may do with it.
fn dressed(
    status: StatusCode,
    kind: &'static str,
    body: UnsyncBoxBody<Bytes, Infallible>,
) -> Answer {
    const SAME_ORIGIN: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (SAME_ORIGIN, "same-origin"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
