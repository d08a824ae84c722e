//! Who may read the page: clients that know the token, if there is one; and under which name it is asked for.
//!
//! A browser shows the token once, in a form, and has a cookie from then on, which is made of the token and tells nothing of
//! it. A program sends it as `Authorization: Bearer`.

use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE, HOST, HeaderValue, ORIGIN};
use sha2::Sha256;

use crate::commands::secret::Secret;
use crate::values::hex;

/// The name of the cookie.
const COOKIE_NAME: &str = "infiniservice";

/// Who is let in.
pub(super) struct Access {
    token: Option<Secret>,
    /// In lower case.
    hosts: Vec<String>,
}

impl Access {
    /// Clients that know the `token`, or all.
    pub(super) fn new(token: Option<Secret>, hosts: Vec<String>) -> Self {
        Self { token, hosts }
    }

    /// Whether the page may be asked for under the name in `Host`: an IP address, `localhost` or one of the file's.
    ///
    /// # Why
    /// A page of another site can have its own name resolve to this machine (DNS rebinding), and then read what is served
    /// here as if it were its own. It cannot do that with an address.
    pub(super) fn knows_host(&self, headers: &HeaderMap) -> bool {
        let mut all = headers.get_all(HOST).iter();
        let (Some(host), None) = (all.next().and_then(|host| host.to_str().ok()), all.next())
        else {
            return false;
        };
        let has_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let name = match host.rsplit_once(':') {
            Some((name, port)) if has_port(port) => name,
            _ => host,
        };
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let name = name.to_ascii_lowercase();
        bare.parse::<IpAddr>().is_ok() || name == "localhost" || self.hosts.contains(&name)
    }

    /// Whether these headers show the token, or the cookie that is made of it.
    pub(super) fn lets_in(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let texts = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let mut bearers = texts(AUTHORIZATION).filter_map(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let mut cookies = texts(COOKIE)
            .flat_map(|value| value.split(';'))
            .filter_map(|cookie| cookie.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='));
        bearers.any(|bearer| is_same(token.expose(), bearer.as_bytes()))
            || cookies.any(|cookie| is_same(session(token).as_bytes(), cookie.as_bytes()))
    }

    /// The `Set-Cookie` of who has sent this form; `None` where it has not the token.
    pub(super) fn log_in(&self, form: &[u8]) -> Option<String> {
        let token = self.token.as_ref()?;
        let sent =
            form.split(|byte| *byte == b'&').find_map(|field| field.strip_prefix(b"token="))?;
        is_same(token.expose(), &decoded(sent)).then(|| {
            let session = session(token);
            format!("{COOKIE_NAME}={session}; Path=/; HttpOnly; SameSite=Strict")
        })
    }
}

/// Whether a request that changes something is the page's own, and not one that a page of another site has a browser make
/// (CSRF): `Origin`, which every browser sends, is the host that it is sent to. A program sends none, but the token.
pub(super) fn is_own(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    match (headers.contains_key(ORIGIN), text(ORIGIN), text(HOST)) {
        (false, ..) => headers.contains_key(AUTHORIZATION),
        (true, Some(origin), Some(host)) => {
            origin.split_once("://").is_some_and(|(_, at)| at.eq_ignore_ascii_case(host))
        }
        _ => false,
    }
}

/// The value of the cookie: HMAC-SHA256 of a text under the token, in hexadecimal digits.
fn session(token: &Secret) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(token.expose()).ok();
    let mac = mac.map(|mac| mac.chain_update(b"infiniservice-host web session"));
    mac.map_or_else(String::new, |mac| hex(&mac.finalize().into_bytes()))
}

/// Compares in a time that tells nothing of `secret`: under a key, by HMAC's own comparison.
fn is_same(secret: &[u8], sent: &[u8]) -> bool {
    let mac = |text: &[u8]| Some(Hmac::<Sha256>::new_from_slice(secret).ok()?.chain_update(text));
    let (Some(own), Some(other)) = (mac(secret), mac(sent)) else { return false };
    other.verify_slice(&own.finalize().into_bytes()).is_ok()
}

/// A value of `application/x-www-form-urlencoded`.
fn decoded(value: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(value.len()), value);
    while let [first, after @ ..] = rest {
        rest = after;
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        bytes.push(match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                rest = &after[2..];
                (high << 4 | low) as u8
            }
            (b'+', ..) => b' ',
            (byte, ..) => *byte,
        });
    }
    bytes
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    const TOKEN: &str = "a token & its %signs+";

    fn access() -> Access {
        Access::new(Secret::new(TOKEN.into()), vec!["relay.example".to_owned()])
    }

    fn headers(all: &[(HeaderName, &str)]) -> HeaderMap {
        let pair = |(name, value): &(HeaderName, &str)| {
            (name.clone(), HeaderValue::from_str(value).unwrap())
        };
        all.iter().map(pair).collect()
    }

    #[test]
    fn a_page_of_another_name_that_leads_here_is_not_answered() {
        for known in [
            "127.0.0.1:8460",
            "localhost",
            "LOCALHOST:1",
            "[::1]:8460",
            "10.0.0.7",
            "Relay.example:80",
        ] {
            assert!(access().knows_host(&headers(&[(HOST, known)])), "{known}");
        }
        for unknown in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8460",
            "",
            "a:b",
            "[::1",
        ] {
            assert!(!access().knows_host(&headers(&[(HOST, unknown)])), "{unknown}");
        }
        assert!(!access().knows_host(&HeaderMap::new()));
        assert!(!access().knows_host(&headers(&[(HOST, "localhost"), (HOST, "evil.example")])));
    }

    #[test]
    fn what_another_site_sends_is_not_the_page_s_own() {
        let from = |all: &[(HeaderName, &str)]| is_own(&headers(all));
        let host = || (HOST, "relay.example:8460");
        assert!(from(&[host(), (ORIGIN, "http://relay.example:8460")]));
        assert!(from(&[(HOST, "relay.example"), (ORIGIN, "https://Relay.example")]));
        assert!(from(&[host(), (AUTHORIZATION, "Bearer x")]), "a program");
        for other in
            ["http://relay.example", "http://evil.example", "null", "", "relay.example:8460"]
        {
            let token = (AUTHORIZATION, "Bearer x");
            assert!(!from(&[host(), token, (ORIGIN, other)]), "{other}");
        }
        assert!(!from(&[host()]), "a browser that does not say where from");
    }

    #[test]
    fn only_the_token_or_its_cookie_lets_in() {
        let access = access();
        let form = b"other=1&token=a+token+%26+its+%25signs%2b";
        let cookie = access.log_in(form).unwrap();
        assert!(
            cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict") && !cookie.contains("token")
        );
        let cookie = cookie.split(';').next().unwrap();
        let bearer = format!("Bearer {TOKEN}");
        let behind = format!("theme=dark; {cookie}");
        for right in [(AUTHORIZATION, &bearer[..]), (COOKIE, cookie), (COOKIE, &behind)] {
            assert!(access.lets_in(&headers(std::slice::from_ref(&right))), "{right:?}");
        }
        let longer = format!("{cookie}0");
        let as_cookie = format!("infiniservice={TOKEN}");
        for wrong in [
            (AUTHORIZATION, "Bearer a token"),
            (AUTHORIZATION, "Bearer"),
            (AUTHORIZATION, TOKEN),
            (COOKIE, "infiniservice="),
            (COOKIE, &longer),
            (COOKIE, &as_cookie),
        ] {
            assert!(!access.lets_in(&headers(std::slice::from_ref(&wrong))), "{wrong:?}");
        }
        assert!(!access.lets_in(&HeaderMap::new()));
        for wrong in [&b"token=a"[..], b"token=", b"", b"token=%", b"atoken=a+token"] {
            assert_eq!(access.log_in(wrong), None);
        }
        assert!(Access::new(None, Vec::new()).lets_in(&HeaderMap::new()));
        assert_eq!(Access::new(None, Vec::new()).log_in(form), None);
    }
}
