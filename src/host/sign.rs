//! The signed envelope around every line that the host sends. Reads no clock and does no I/O but for
//! fresh nonces; does not verify.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

use super::secret::Secret;

/// The version that guests know.
const VERSION: u8 = 1;

#[derive(Serialize)]
struct Envelope<'a> {
    r#type: &'static str,
    v: u8,
    ts: u64,
    nonce: &'a str,
    payload: &'a str,
    sig: String,
}

/// The line, without its newline, that carries `payload` signed: HMAC-SHA256 over version, time,
/// nonce and payload with newlines between, in hexadecimal. `ts` is in milliseconds since 1970 by
/// the guest's clock.
pub fn envelope(secret: &Secret, ts: u64, nonce: &str, payload: &str) -> String {
    let sig = signature(secret, ts, nonce, payload);
    let envelope = Envelope { r#type: "signed", v: VERSION, ts, nonce, payload, sig };
    // Text and numbers only: writing them as JSON cannot fail.
    serde_json::to_string(&envelope).unwrap_or_default()
}

/// A random UUID (RFC 9562, version 4) for a nonce or an id.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn uuid() -> Result<String, String> {
    let mut bytes = [0_u8; 16];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match got {
        Ok(16) => {}
        Ok(_) => return Err("the kernel gave too few random bytes; try again".to_owned()),
        Err(error) => return Err(format!("the kernel gave no random bytes: {error}")),
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex(&bytes);
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

fn signature(secret: &Secret, ts: u64, nonce: &str, payload: &str) -> String {
    // HMAC takes a key of any length; this cannot fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.key()) else { return String::new() };
    mac.update(format!("{VERSION}\n{ts}\n{nonce}\n").as_bytes());
    mac.update(payload.as_bytes());
    hex(&mac.finalize().into_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_reference_vector_is_signed_as_the_host_signs_it() {
        let secret = Secret::new("cross-lang-test-key").unwrap();
        let line = envelope(&secret, 1_700_000_000_000, "fixed-nonce-123", r#"{"type":"Metrics"}"#);
        assert_eq!(
            line,
            "{\"type\":\"signed\",\"v\":1,\"ts\":1700000000000,\"nonce\":\"fixed-nonce-123\",\
             \"payload\":\"{\\\"type\\\":\\\"Metrics\\\"}\",\
             \"sig\":\"417f2b895d7dd56461af56b07525ca476532ac795f8b92aab6c78a560686bdf5\"}"
        );
    }

    #[test]
    fn a_uuid_is_of_version_4_and_never_the_same() {
        let (one, other) = (uuid().unwrap(), uuid().unwrap());
        assert_ne!(one, other);
        let parts: Vec<&str> = one.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{one}");
    }
}
