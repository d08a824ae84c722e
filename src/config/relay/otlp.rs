//! `[otlp]` of `relay.toml`: the receiver of OTLP, and who the relay is to it.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::Deserializer;

use crate::commands::secret::SecretSource;
use crate::config::value::{Problem, text};

/// `[otlp]`: readings and lines go to a receiver of OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Otlp {
    /// The receiver.
    pub endpoint: Endpoint,
    /// Certificates of authorities, in PEM, beside those of the system.
    #[serde(default, deserialize_with = "super::nats::path")]
    pub ca: Option<PathBuf>,
    /// Where the token is that is sent as `Authorization: Bearer`.
    #[serde(default)]
    pub token: Option<SecretSource>,
}

/// `http://HOST:PORT` or `https://HOST:PORT`, with a path or without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Whether it has TLS.
    pub is_tls: bool,
    /// The name or address, in brackets where it is of IPv6, and the port.
    pub authority: String,
    /// In front of `/v1/metrics` and `/v1/logs`; without a slash at its end.
    pub base: String,
}

impl Endpoint {
    /// The name or address that the certificate has to be for.
    pub(crate) fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.base)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        endpoint(&text(deserializer)?).map_err(Problem::pack)
    }
}

fn endpoint(text: &str) -> Result<Endpoint, Problem> {
    let help = "write http:// or https://, a name or an address, and a port, as in \"http://127.0.0.1:4318\"";
    let (is_tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(Problem::new("is no receiver of OTLP", help)),
    };
    let (authority, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(Problem::new("has a user or a token in it", "take it out, and use token"));
    }
    crate::values::address::check_address(authority)?;
    let base = base.trim_end_matches('/');
    if base.contains(['?', '#']) || base.contains(char::is_whitespace) {
        return Err(Problem::new("has more than a path behind its port", help));
    }
    Ok(Endpoint { is_tls, authority: authority.to_owned(), base: base.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_where_the_paths_of_the_signals_begin() {
        let taken = |text: &str| {
            let found = endpoint(text).ok()?;
            Some((found.is_tls, found.host().to_owned(), found.authority, found.base))
        };
        let parts = |tls, host: &str, authority: &str, base: &str| {
            Some((tls, host.to_owned(), authority.to_owned(), base.to_owned()))
        };
        for (text, expected) in [
            ("http://127.0.0.1:4318", parts(false, "127.0.0.1", "127.0.0.1:4318", "")),
            (
                "https://otel.example:443/in/otlp/",
                parts(true, "otel.example", "otel.example:443", "/in/otlp"),
            ),
            ("http://[::1]:4318/", parts(false, "::1", "[::1]:4318", "")),
            ("grpc://127.0.0.1:4317", None),
            ("http://127.0.0.1", None),
            ("http://a:hunter2@127.0.0.1:4318", None),
            ("http://127.0.0.1:4318/?a", None),
        ] {
            assert_eq!(taken(text), expected, "{text}");
        }
    }
}
