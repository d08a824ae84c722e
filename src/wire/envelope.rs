//! The signed envelope around everything the host says: opening and sealing. Keeps no state, so it
//! cannot tell a replay; knows no message; reads no clock and no key file.
//!
//! ```text
//! {"type":"signed","v":1,"ts":1700000000000,"nonce":"<uuid>","payload":"<JSON as a string>","sig":"<64 hex>"}
//! sig = hex(HMAC-SHA256(key, v \n ts \n nonce \n payload)), numbers in decimal, payload unescaped
//! ```

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::ascii::Json;
use super::raw::Raw;
use crate::values::hex;

/// The one version there is.
pub const VERSION: u64 = 1;

/// How far the stamp of an envelope may be from now, either way: as much as today's guests allow.
pub const WINDOW_MS: u64 = 300_000;

/// What was in an envelope that is genuine and fresh.
#[derive(PartialEq, Eq)]
pub struct Envelope {
    /// When it was signed, in milliseconds since 1970 by this machine's clock as the host knows it.
    pub ts_ms: i64,
    /// What makes it different from every other.
    pub nonce: String,
    /// The message; may hold secrets, so it is never in a log.
    pub payload: String,
}

/// Why a line was not taken, in the order in which it is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no secret, so no signature can be verified.
    Locked,
    /// It is no JSON.
    NotJson,
    /// It is JSON and no envelope: another type, a field missing, twice or of the wrong kind, or a nonce that is empty
    /// or has control characters.
    NotSigned,
    /// An envelope of another version.
    Version,
    /// The signature is not that of the secret.
    Signature,
    /// Genuine, and signed too long ago or too far ahead.
    Stale,
    /// Genuine, and taken before.
    Replayed,
    /// Genuine, and of before one that is forgotten, because too many came since: it may have been taken.
    Crowded,
}

impl Refused {
    /// All of them, in their order.
    pub const ALL: [Self; 8] = [
        Self::Locked,
        Self::NotJson,
        Self::NotSigned,
        Self::Version,
        Self::Signature,
        Self::Stale,
        Self::Replayed,
        Self::Crowded,
    ];

    /// The word it is counted under.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::NotJson => "garbled",
            Self::NotSigned => "unsigned",
            Self::Version => "version",
            Self::Signature => "forged",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::Crowded => "crowded",
        }
    }
}

/// Opens an envelope: JSON of type `signed`, version, signature (compared in constant time), stamp
/// within [`WINDOW_MS`] of `now_ms`; in this order, and closed when in doubt.
///
/// A field that is there twice is refused. Whether the nonce was seen before is left to the caller,
/// who must ask before acting.
///
/// ```
/// use infiniservice::wire::envelope;
///
/// let line = envelope::seal(b"key", 1_700_000_000_000, "n1", "{\"type\":\"Metrics\"}");
/// let opened = envelope::open(b"key", line.as_bytes(), 1_700_000_000_900);
/// assert!(opened.is_ok_and(|envelope| envelope.payload == "{\"type\":\"Metrics\"}"));
/// let forged = envelope::open(b"kez", line.as_bytes(), 1_700_000_000_900);
/// assert_eq!(forged.err(), Some(envelope::Refused::Signature));
/// ```
///
/// # Errors
/// The first thing that is wrong.
pub fn open(key: &[u8], line: &[u8], now_ms: i64) -> Result<Envelope, Refused> {
    let line = str::from_utf8(line).map_err(|_| Refused::NotJson)?;
    let line = Raw::parse(line).map_err(|_| Refused::NotJson)?;
    let fields = line.fields(["type", "v", "ts", "nonce", "payload", "sig"]);
    let [kind, version, ts_ms, nonce, payload, sig] = fields.map_err(|_| Refused::NotSigned)?;
    let text = |value: Raw<'_>| match value.as_str().starts_with('"') {
        true => value.text().ok_or(Refused::NotJson),
        false => Err(Refused::NotSigned),
    };
    if kind.map(text).transpose()?.as_deref() != Some("signed") {
        return Err(Refused::NotSigned);
    }
    let (Some(version), Some(ts_ms), Some(nonce), Some(payload), Some(sig)) =
        (version, ts_ms, nonce, payload, sig)
    else {
        return Err(Refused::NotSigned);
    };
    let ts_ms: i64 = ts_ms.number().ok_or(Refused::NotSigned)?;
    if version.number::<u64>().ok_or(Refused::NotSigned)? != VERSION {
        return Err(Refused::Version);
    }
    let (nonce, payload, sig) = (text(nonce)?, text(payload)?, text(sig)?);
    // One with a newline could be another nonce and the beginning of the payload under the same signature.
    if nonce.is_empty() || nonce.chars().any(char::is_control) {
        return Err(Refused::NotSigned);
    }
    let sig = decode_hex(sig.as_bytes()).ok_or(Refused::Signature)?;
    let mac = mac(key, ts_ms, &nonce, &payload).ok_or(Refused::Signature)?;
    mac.verify_slice(&sig).map_err(|_| Refused::Signature)?;
    if now_ms.abs_diff(ts_ms) > WINDOW_MS {
        return Err(Refused::Stale);
    }
    Ok(Envelope { ts_ms, nonce, payload })
}

/// The signature of a payload, as the host writes it: 64 lower-case hex digits.
pub fn sign(key: &[u8], ts_ms: i64, nonce: &str, payload: &str) -> String {
    signature(mac(key, ts_ms, nonce, payload))
}

/// The key of the guest `name` under the key `master`, in 64 lower-case hex digits:
/// HMAC-SHA256(master, `infiniservice guest` \n name). No signature is made of such a text, since those begin with a version.
pub(crate) fn derive(master: &[u8], name: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(master).ok();
    signature(mac.map(|mac| mac.chain_update(b"infiniservice guest\n").chain_update(name)))
}

fn signature(mac: Option<Hmac<Sha256>>) -> String {
    mac.map_or_else(String::new, |mac| hex(&mac.finalize().into_bytes()))
}

/// The whole envelope as one line without its newline: what a host sends.
pub fn seal(key: &[u8], ts_ms: i64, nonce: &str, payload: &str) -> String {
    let sig = sign(key, ts_ms, nonce, payload);
    let mut line = Vec::with_capacity(payload.len() + payload.len() / 4 + 192);
    let mut json = Json(&mut line);
    json.raw(r#"{"type":"signed","v":1,"ts":"#).raw(&ts_ms.to_string());
    json.raw(r#","nonce":"#).text(nonce).raw(r#","payload":"#).text(payload);
    json.raw(r#","sig":"#).text(&sig).raw("}");
    String::from_utf8(line).unwrap_or_default()
}

/// `None` never: HMAC takes a key of any length, and only the type does not say so.
fn mac(key: &[u8], ts_ms: i64, nonce: &str, payload: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(format!("{VERSION}\n{ts_ms}\n").as_bytes());
    mac.update(nonce.as_bytes());
    mac.update(b"\n");
    mac.update(payload.as_bytes());
    Some(mac)
}

fn decode_hex(text: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"cross-lang-test-key";
    const NOW: i64 = 1_700_000_000_000;
    const PAYLOAD: &str = r#"{"type":"Metrics"}"#;
    /// Made by the host's own code (its `AgentMessageSigner` test).
    const REFERENCE: &str = "417f2b895d7dd56461af56b07525ca476532ac795f8b92aab6c78a560686bdf5";

    fn refused(line: &str) -> Option<Refused> {
        open(KEY, line.as_bytes(), NOW).err()
    }

    fn fields(kind: &str, v: &str, ts: &str, sig: &str) -> String {
        let payload = r#""{\"type\":\"Metrics\"}""#;
        format!(
            r#"{{"type":{kind},"v":{v},"ts":{ts},"nonce":"fixed-nonce-123","payload":{payload},"sig":{sig}}}"#
        )
    }

    #[test]
    fn the_reference_vector_of_the_host_is_signed_and_opened() {
        assert_eq!(sign(KEY, NOW, "fixed-nonce-123", PAYLOAD), REFERENCE);
        let line = fields(r#""signed""#, "1", "1700000000000", &format!("{REFERENCE:?}"));
        assert_eq!(seal(KEY, NOW, "fixed-nonce-123", PAYLOAD), line);
        let opened = open(KEY, line.as_bytes(), NOW).ok().unwrap();
        assert_eq!(
            (opened.ts_ms, &*opened.nonce, &*opened.payload),
            (NOW, "fixed-nonce-123", PAYLOAD)
        );
    }

    #[test]
    fn the_key_of_a_guest_is_that_of_any_other_program_with_the_master() {
        // printf 'infiniservice guest\nweb-1' | openssl dgst -sha256 -hmac cross-lang-test-key
        let expected = "6e62e0a9bd57bf00c65e8a6b464fe274e15ab5999eff48b5c44b552bd54b7fa4";
        assert_eq!(derive(KEY, "web-1"), expected);
        assert_ne!(derive(KEY, "web-2"), expected);
    }

    #[test]
    fn what_is_no_envelope_is_told_apart_from_what_is_no_json() {
        for garbled in
            ["", "{", "nonsense", "{\"type\":\"signed\"", "{\"type\":\"\\ud800\"}", "\u{1}"]
        {
            assert_eq!(refused(garbled), Some(Refused::NotJson), "{garbled:?}");
        }
        assert_eq!(open(KEY, b"{\"type\":\"\xff\"}", NOW).err(), Some(Refused::NotJson));
        let sig = format!("{REFERENCE:?}");
        for unsigned in [
            "{}".to_owned(),
            "null".to_owned(),
            r#"{"type":"SafeCommand","id":"1"}"#.to_owned(),
            fields("1", "1", "1700000000000", &sig),
            fields(r#""Signed""#, "1", "1700000000000", &sig),
            fields(r#""signed""#, "\"1\"", "1700000000000", &sig),
            fields(r#""signed""#, "1", "1.7e12", &sig),
            fields(r#""signed""#, "1", "99999999999999999999", &sig),
            fields(r#""signed""#, "1", "1700000000000", "null"),
            fields(r#""signed""#, "1", "1700000000000,\"ts\":1700000000000", &sig),
        ] {
            assert_eq!(refused(&unsigned), Some(Refused::NotSigned), "{unsigned}");
        }
    }

    #[test]
    fn version_comes_before_signature_and_signature_before_stamp() {
        let (kind, sig) = (r#""signed""#, format!("{REFERENCE:?}"));
        assert_eq!(refused(&fields(kind, "2", "1", "\"\"")), Some(Refused::Version));
        for wrong in [
            "",
            "41",
            &REFERENCE[1..],
            &REFERENCE.replace("41", "42"),
            &REFERENCE.replace('4', "g"),
        ] {
            let line = fields(kind, "1", "1700000000000", &format!("{wrong:?}"));
            assert_eq!(refused(&line), Some(Refused::Signature), "{wrong}");
        }
        // The stamp is signed, so a line cannot be made fresh again.
        assert_eq!(refused(&fields(kind, "1", "1700000000001", &sig)), Some(Refused::Signature));
        let line = fields(kind, "1", "1700000000000", &sig);
        assert_eq!(open(b"another key", line.as_bytes(), NOW).err(), Some(Refused::Signature));
        assert_eq!(open(b"", line.as_bytes(), NOW).err(), Some(Refused::Signature));
    }

    #[test]
    fn the_stamp_may_be_five_minutes_off_either_way_and_no_more() {
        let opens = |ts: i64| open(KEY, seal(KEY, ts, "n", PAYLOAD).as_bytes(), NOW).err();
        for fresh in [NOW, NOW - 300_000, NOW + 300_000] {
            assert_eq!(opens(fresh), None);
        }
        for stale in [NOW - 300_001, NOW + 300_001, 0, i64::MIN, i64::MAX] {
            assert_eq!(opens(stale), Some(Refused::Stale));
        }
    }

    #[test]
    fn any_payload_comes_out_as_it_went_in() {
        for payload in ["", "\u{0}\n\"\\/é😀\u{7f}\u{2028}", &"x".repeat(1 << 20)] {
            let line = seal(KEY, NOW, "é ", payload);
            assert!(line.is_ascii());
            let opened = open(KEY, line.as_bytes(), NOW);
            // Our own writer leaves NUL out after signing, as the host never sends one.
            assert_eq!(opened.is_ok(), !payload.contains('\0'));
            if let Ok(envelope) = opened {
                assert_eq!(envelope.payload, payload);
            }
        }
        let spelled = fields(r#""signed""#, "1", "1700000000000", &format!("{REFERENCE:?}"))
            .replace("Metrics", r"\u004detrics");
        assert_eq!(refused(&spelled), None, "signed is the text, not its spelling");
    }

    #[test]
    fn a_deep_or_a_cut_line_is_an_error_like_any_other() {
        let deep = format!(r#"{{"type":"signed","x":{}}}"#, "[".repeat(100_000));
        assert_eq!(refused(&deep), Some(Refused::NotJson));
        let line = seal(KEY, NOW, "n", PAYLOAD);
        for end in 0..line.len() {
            assert!(refused(&line[..end]).is_some());
        }
    }
}
