//! The connection to a receiver of OTLP: one, kept over requests, which carries one request at a time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::commands::secret::{Secret, SecretError};
use crate::config::{Endpoint, Otlp};
use crate::tasks::spawn_blocking;

/// How long a connection and a request may take together.
const ANSWER: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why a request has not been answered, as the end of a sentence.
#[derive(Debug, Error)]
pub(super) enum ClientError {
    /// The receiver cannot be reached.
    #[error("cannot connect to {endpoint}: {error}")]
    Connect {
        /// The receiver.
        endpoint: Endpoint,
        /// Why not.
        error: io::Error,
    },
    /// The certificates of authorities cannot be read.
    #[error("cannot read ca in [otlp]: {0}")]
    Ca(String),
    /// TLS cannot be begun with these settings.
    #[error("cannot use TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A certificate cannot be for such a name.
    #[error("the endpoint in [otlp] is no name for a certificate: {0}")]
    Name(#[from] InvalidDnsNameError),
    /// There is no token.
    #[error("no token for the receiver: {0}")]
    Token(#[from] SecretError),
    /// It is empty, or no text for a header.
    #[error("the token in [otlp] is empty, or has characters that a header cannot have")]
    UnfitToken,
    /// The connection has ended.
    #[error("the receiver has not answered: {0}")]
    Http(#[from] hyper::Error),
    /// The answer has no end.
    #[error("the answer of the receiver cannot be read: {0}")]
    Answer(Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("the receiver has not answered within {ANSWER:?}")]
    Late,
}

/// What a receiver has said.
pub(super) struct Answer {
    pub status: StatusCode,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

/// A connection that is made when it is needed.
pub(super) struct Client {
    settings: Otlp,
    open: Option<Open>,
}

/// A connection that is there.
struct Open {
    sender: SendRequest<Full<Bytes>>,
    authorization: Option<HeaderValue>,
    task: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Is not connected yet.
    pub(super) fn new(settings: Otlp) -> Self {
        Self { settings, open: None }
    }

    /// Where it leads.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.settings.endpoint
    }

    /// Sends `body`, which is compressed, to `path`. A connection that failed is not used again.
    ///
    /// # Errors
    /// The receiver has not answered.
    pub(super) async fn post(&mut self, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        let kept = self.open.take().filter(|open| !open.sender.is_closed());
        let said = timeout(ANSWER, async {
            let mut open = match kept {
                Some(open) => open,
                None => connect(&self.settings).await?,
            };
            open.sender.ready().await?;
            let request = request(&self.settings.endpoint, path, &open, body);
            let answer = open.sender.send_request(request).await?;
            Ok::<_, ClientError>((said(answer).await?, open))
        });
        let (said, open) = said.await.map_err(|_| ClientError::Late)??;
        self.open = Some(open);
        Ok(said)
    }
}

fn request(endpoint: &Endpoint, path: &str, open: &Open, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = hyper::Method::POST;
    // The file's check has left nothing in it that a path cannot have.
    *request.uri_mut() = format!("{}{path}", endpoint.base).parse().unwrap_or_default();
    let agent = concat!("infiniservice-host/", env!("CARGO_PKG_VERSION"));
    let headers = request.headers_mut();
    headers.extend(HeaderValue::from_str(&endpoint.authority).ok().map(|host| (HOST, host)));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.extend(open.authorization.clone().map(|value| (AUTHORIZATION, value)));
    request
}

async fn said(answer: Response<hyper::body::Incoming>) -> Result<Answer, ClientError> {
    let (head, body) = answer.into_parts();
    let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(ClientError::Answer)?.to_bytes();
    Ok(Answer { status: head.status, retry_after: seconds.map(Duration::from_secs), body })
}

/// Connects; reads the token and the certificates anew, since their files may have changed.
async fn connect(settings: &Otlp) -> Result<Open, ClientError> {
    let Otlp { endpoint, ca, token } = settings.clone();
    let is_tls = endpoint.is_tls;
    let loaded = spawn_blocking(move || {
        let token = token.map(|source| Secret::load(&source)).transpose()?;
        let tls = is_tls.then(|| tls(ca.as_deref())).transpose()?;
        Ok::<_, ClientError>((token, tls))
    });
    let (token, tls) = loaded.await.map_err(|_| ClientError::UnfitToken)??;
    let authorization = match token {
        Some(token) => Some(bearer(token.as_ref()).ok_or(ClientError::UnfitToken)?),
        None => None,
    };
    let failed = |error| ClientError::Connect { endpoint: endpoint.clone(), error };
    let stream = TcpStream::connect(&endpoint.authority).await.map_err(failed)?;
    let (sender, task) = match tls {
        Some(tls) => {
            let name = ServerName::try_from(endpoint.host().to_owned())?;
            begin(tls.connect(name, stream).await.map_err(failed)?).await?
        }
        None => begin(stream).await?,
    };
    Ok(Open { sender, authorization, task })
}

/// `Authorization: Bearer`, which no `Debug` shows.
fn bearer(token: Option<&Secret>) -> Option<HeaderValue> {
    let value = [b"Bearer ", token?.expose()].concat();
    let mut value = HeaderValue::from_bytes(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

async fn begin<S>(stream: S) -> Result<(SendRequest<Full<Bytes>>, JoinHandle<()>), ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    let task = tokio::spawn(async move {
        // Its requests say what has happened to it.
        let _ = connection.await;
    });
    Ok((sender, task))
}

/// TLS by the authorities of the system and those of `ca`; it blocks on files.
fn tls(ca: Option<&std::path::Path>) -> Result<TlsConnector, ClientError> {
    let mut roots = RootCertStore::empty();
    // One of the system that cannot be read is as good as none.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(ca) = ca {
        let failed = |error: &dyn std::fmt::Display| ClientError::Ca(error.to_string());
        for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| failed(&error))? {
            let certificate = certificate.map_err(|error| failed(&error))?;
            roots.add(certificate).map_err(|error| failed(&error))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
