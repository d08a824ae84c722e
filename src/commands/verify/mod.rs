//! Verification: passes each message that the host signed once, and rejects everything else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::commands::receive::line_framer::Line;
use crate::commands::request_log::RequestLog;
use crate::commands::secret::Secret;
use crate::pipeline::{EventCount, LogLimit, Output, Transform};
use crate::wire::envelope::{self, Refused, WINDOW_MS};
use crate::wire::inbound::{self, Message};

/// A message that the host signed, and that is no replay.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified {
    /// The message as JSON; may hold secrets.
    pub payload: String,
    /// When the host signed it, in milliseconds since 1970 by this machine's clock.
    pub sent_ms: i64,
    /// How old it was when it was received; zero if its timestamp is in the future.
    pub age: Duration,
    /// When its line was complete.
    pub received: Instant,
}

/// Milliseconds since 1970.
pub(crate) type WallClock = fn() -> i64;

/// Verifies envelopes. Everything else is dropped, and counted by the reason of its [`Refused`].
///
/// - Without a secret it is *locked*: nothing passes, and the log says so.
/// - An envelope passes once: the request log remembers it, over restarts too. It is
///   consulted after the signature, so that only the host can add to it.
/// - An envelope more than [`WINDOW_MS`] older than the latest one is rejected, unless the clock was set back.
/// - Keep-alives and requests for metrics are not remembered, because a repeated reply is harmless.
/// - The log never contains a line; it has the reason of each rejection, limited by a [`LogLimit`].
///
/// ```
/// use infiniservice::internals::commands::receive::line_framer::Line;
/// use infiniservice::host::Secret;
/// use infiniservice::internals::commands::verify::Verify;
/// use infiniservice::pipeline::{Output, Transform};
/// use infiniservice::wire::envelope::seal;
/// use tokio::time::Instant;
///
/// let mut verify = Verify::new(Secret::new(b"key".to_vec())).with_clock(|| 1_000);
/// let line = Line(seal(b"key", 900, "n1", "{}").into());
/// let mut out = Output::default();
/// verify.apply(Instant::now(), &line, &mut out);
/// verify.apply(Instant::now(), &line, &mut out);
/// assert_eq!(out.dropped(), [("replayed", 1)]);
/// assert_eq!(out.drain().next().unwrap().age.as_millis(), 100);
/// ```
pub struct Verify {
    secret: Option<Secret>,
    clock: WallClock,
    window: Duration,
    log: RequestLog,
    refusing: LogLimit,
}

impl Verify {
    /// Accepts messages signed with `secret`; locked without one.
    pub fn new(secret: Option<Secret>) -> Self {
        let window = Duration::from_millis(WINDOW_MS);
        let log = RequestLog::in_memory();
        Self { secret, clock: wall_clock_ms, window, log, refusing: LogLimit::default() }
    }

    /// Uses `log` for replay protection.
    pub fn remembering(mut self, log: &RequestLog) -> Self {
        self.log = log.clone();
        self
    }

    /// Accepts timestamps within `window` of this machine's clock, at most [`WINDOW_MS`].
    pub fn within(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Uses another wall clock, for a test.
    pub fn with_clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    fn check(&mut self, now: Instant, line: &[u8]) -> Result<Verified, Refused> {
        let secret = self.secret.as_ref().ok_or(Refused::Locked)?;
        let now_ms = (self.clock)();
        let envelope = envelope::open(secret.expose(), line, now_ms)?;
        if u128::from(now_ms.abs_diff(envelope.ts_ms)) > self.window.as_millis() {
            return Err(Refused::Stale);
        }
        let is_harmless = is_harmless(&envelope.payload);
        self.log.envelope((now, now_ms), envelope.ts_ms, &envelope.nonce, is_harmless)?;
        let age = u64::try_from(now_ms.saturating_sub(envelope.ts_ms)).unwrap_or(0);
        Ok(Verified {
            payload: envelope.payload,
            sent_ms: envelope.ts_ms,
            age: Duration::from_millis(age),
            received: now,
        })
    }

    fn say(&mut self, now: Instant, refused: Refused, line: &[u8]) {
        let Some(unsaid) = self.refusing.happened(now) else { return };
        let (reason, bytes) = (refused.reason(), line.len());
        match refused {
            Refused::Locked => tracing::warn!(
                unsaid,
                "locked: the host sent a command and there is no shared secret to check it with; \
                 metrics flow, commands are dropped"
            ),
            _ => tracing::warn!(
                reason,
                bytes,
                unsaid,
                "a line of the host was refused; those that follow are counted"
            ),
        }
    }
}

impl Transform for Verify {
    type In = Line;
    type Out = Verified;

    fn detail(&self) -> String {
        match self.secret {
            Some(_) => "checks signatures",
            None => "no secret: refuses every line",
        }
        .to_owned()
    }

    fn apply(&mut self, now: Instant, input: &Line, out: &mut Output<Verified>) {
        match self.check(now, &input.0) {
            Ok(verified) => out.push(verified),
            Err(refused) => {
                out.drop_items(refused.reason(), 1);
                self.say(now, refused, &input.0);
            }
        }
    }
}

/// Whether a repeated message is harmless, so that the request log need not remember it.
fn is_harmless(payload: &str) -> bool {
    /// A longer message is none of these, and is not parsed.
    const SHORT: usize = 512;
    payload.len() <= SHORT
        && matches!(
            inbound::parse(payload, 0),
            Ok(Message::KeepAliveRequest(_) | Message::KeepAliveResponse(_) | Message::Metrics)
        )
}

impl EventCount for Verified {}

/// Omits the payload, which may hold secrets.
impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verified")
            .field("bytes", &self.payload.len())
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}

/// Milliseconds since 1970 by the system's clock.
pub(crate) fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::sync::Arc;

    use super::*;
    use crate::commands::request_log::NONCES_KEPT;
    use crate::wire::envelope::seal;

    const NOW: i64 = 1_700_000_000_000;
    const MINUTE: Duration = Duration::from_secs(60);

    fn verify(secret: &str) -> Verify {
        Verify::new(Secret::new(secret.as_bytes().to_vec())).with_clock(|| NOW)
    }

    fn line(ts: i64, nonce: &str) -> Line {
        Line(seal(b"key", ts, nonce, "{}").into())
    }

    fn outcome(verify: &mut Verify, now: Instant, line: &Line) -> Result<Verified, &'static str> {
        let mut out = Output::default();
        verify.apply(now, line, &mut out);
        let lost = out.dropped().first().map(|(reason, _)| *reason);
        out.drain().next().ok_or_else(|| lost.unwrap())
    }

    #[test]
    fn without_a_secret_even_a_right_line_is_dropped() {
        assert_eq!(outcome(&mut verify(""), Instant::now(), &line(NOW, "n")), Err("locked"));
        assert_eq!(verify("").detail(), "no secret: refuses every line");
    }

    #[test]
    fn a_line_is_taken_once_for_as_long_as_it_is_fresh() {
        let (mut verify, start) = (verify("key"), Instant::now());
        let ahead = line(NOW + 300_000, "n");
        let taken = outcome(&mut verify, start, &ahead).unwrap();
        assert_eq!((taken.sent_ms, taken.age), (NOW + 300_000, Duration::ZERO));
        for later in [0, 1, 5, 10] {
            let again = outcome(&mut verify, start + MINUTE * later, &ahead);
            assert_eq!(again, Err("replayed"));
        }
        let renewed = line(NOW + 1, "n");
        assert_eq!(outcome(&mut verify, start, &renewed), Err("replayed"), "the nonce decides");
    }

    #[test]
    fn whoever_shares_the_memory_takes_no_line_twice() {
        let (log, now) = (RequestLog::in_memory(), Instant::now());
        let mut first = verify("key").remembering(&log);
        assert!(outcome(&mut first, now, &line(NOW, "n")).is_ok());
        drop(first);
        let mut next = verify("key").remembering(&log);
        assert_eq!(outcome(&mut next, now, &line(NOW, "n")), Err("replayed"));
    }

    #[test]
    fn what_is_not_genuine_is_not_remembered() {
        let (mut verify, now) = (verify("key"), Instant::now());
        let forged = Line(seal(b"other", NOW, "n", "{}").into());
        assert_eq!(outcome(&mut verify, now, &forged), Err("forged"));
        assert_eq!(outcome(&mut verify, now, &line(NOW - 300_001, "n")), Err("stale"));
        assert!(outcome(&mut verify, now, &line(NOW, "n")).is_ok());
    }

    /// As after a suspend, a stop or a restore, and when the time is set.
    #[test]
    fn a_wall_clock_that_jumps_opens_no_line_a_second_time_and_makes_none_younger() {
        let (verify, start) = (verify("key"), Instant::now());
        let sent = line(NOW, "n");
        let mut ahead = verify.with_clock(|| NOW + 7_200_000);
        assert_eq!(outcome(&mut ahead, start, &sent), Err("stale"), "signed before a suspend");
        let mut right = ahead.with_clock(|| NOW + 60_000);
        let taken = outcome(&mut right, start, &sent).unwrap();
        assert_eq!(taken.age, MINUTE);
        let mut behind = right.with_clock(|| NOW - 7_200_000);
        assert_eq!(outcome(&mut behind, start + MINUTE, &sent), Err("stale"), "set back");
        let mut again = behind.with_clock(|| NOW - 60_000);
        assert_eq!(outcome(&mut again, start + MINUTE * 2, &sent), Err("replayed"));
        let fresh = outcome(&mut again, start + MINUTE * 2, &line(NOW, "m")).unwrap();
        assert_eq!(fresh.age, Duration::ZERO, "a stamp ahead is no age");
    }

    #[test]
    fn keep_alives_cost_no_memory_and_a_flood_makes_nothing_deaf() {
        let (mut verify, now) = (verify("key"), Instant::now());
        let alive = r#"{"type":"keep_alive_request","sequence_number":1}"#;
        let alive = Line(seal(b"key", NOW, "alive", alive).into());
        assert!(
            outcome(&mut verify, now, &alive).is_ok() && outcome(&mut verify, now, &alive).is_ok()
        );
        for number in 0..2 * NONCES_KEPT as i64 {
            assert!(
                outcome(&mut verify, now, &line(NOW - 30_000 + number, &number.to_string()))
                    .is_ok()
            );
        }
        assert_eq!(outcome(&mut verify, now, &line(NOW - 30_000, "0")), Err("crowded"));
        assert!(outcome(&mut verify, now, &line(NOW + 10_000, "next")).is_ok());
    }

    #[test]
    fn a_nonce_that_could_be_read_as_something_else_is_refused() {
        let (mut verify, now) = (verify("key"), Instant::now());
        for nonce in ["", "a\nb", "\r", "a\u{85}"] {
            assert_eq!(outcome(&mut verify, now, &line(NOW, nonce)), Err("unsigned"), "{nonce:?}");
        }
    }

    /// What is logged while `run` runs.
    fn logged(run: impl FnOnce()) -> String {
        // A log line that another thread meets first, with no subscriber, would be off for this one, too.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
        let mut log = tempfile::tempfile().unwrap();
        let writer = Arc::new(log.try_clone().unwrap());
        let lines = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
        tracing::subscriber::with_default(lines, run);
        let mut text = String::new();
        log.rewind().unwrap();
        log.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn refusals_are_said_once_a_minute_also_between_good_lines_and_never_with_the_line() {
        let now = Instant::now();
        let canary = |key: &[u8], nonce: &str| Line(seal(key, NOW, nonce, "canary-4711").into());
        let log = logged(|| {
            let mut verify = verify("");
            (0..3).for_each(|_| drop(outcome(&mut verify, now, &canary(b"key", "n"))));
        });
        assert_eq!(log.matches("locked").count(), 1, "{log}");
        let shown = logged(|| {
            let mut verify = verify("key");
            for second in 0..150_u64 {
                let now = now + Duration::from_secs(second);
                let key: &[u8] = if second % 2 == 0 { b"x" } else { b"key" };
                drop(outcome(&mut verify, now, &canary(key, &second.to_string())));
            }
        });
        assert_eq!(shown.matches("reason=\"forged\"").count(), 3, "{shown}");
        assert!(shown.contains("unsaid=29"), "{shown}");
        assert!(!log.contains("canary") && !shown.contains("canary"));
    }

    #[test]
    fn the_payload_is_not_told() {
        let taken = outcome(&mut verify("key"), Instant::now(), &line(NOW, "n")).unwrap();
        assert_eq!(format!("{taken:?}"), "Verified { bytes: 2, age: 0ns, .. }");
    }
}
