//! The guests of a relay: what is known and counted of each. Connects to none and writes nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::history::History;
use crate::config::Guests;
use crate::sync::IgnorePoison;

/// Bytes of begun lines of all guests together. Above them a begun line may have [`BEGUN_LINE_BYTES`] only.
const BEGUN_BYTES_MAX: usize = 32 << 20;
/// What a begun line may always have.
const BEGUN_LINE_BYTES: usize = 16 << 10;

/// All guests, by their names, and what they share.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// The name of this place.
    pub site: Arc<str>,
    /// What each guest may take.
    pub settings: Guests,
    guests: Mutex<BTreeMap<Arc<str>, Arc<Guest>>>,
    /// The number of the next guest.
    next: AtomicU64,
    /// Bytes of lines that have begun and not ended.
    begun: AtomicUsize,
    /// Sockets that are not read, by reason, as the last search found them.
    pub refused: Refused,
    /// What became of commands.
    pub commands: Outcomes,
    /// What a receiver of OTLP has not taken, by signal.
    pub rejected: Outcomes,
}

/// What became of something, in numbers.
#[derive(Debug, Default)]
pub(crate) struct Outcomes(Mutex<BTreeMap<&'static str, u64>>);

impl Outcomes {
    /// Counts one that came to `outcome`.
    pub(crate) fn count(&self, outcome: &'static str) {
        self.add(outcome, 1);
    }

    /// Counts so many that came to `outcome`; how many there were before.
    pub(crate) fn add(&self, outcome: &'static str, times: u64) -> u64 {
        let mut counts = self.0.lock().ignore_poison();
        let count = counts.entry(outcome).or_default();
        *count += times;
        *count - times
    }

    /// How many came to each.
    pub(crate) fn counted(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().ignore_poison().clone()
    }
}

/// Sockets that are not read.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// There are as many guests as `max` allows.
    pub too_many: AtomicU64,
    /// The guest has another socket.
    pub twice: AtomicU64,
    /// Its name would control a terminal.
    pub unprintable: AtomicU64,
}

impl Fleet {
    /// No guest yet.
    pub(crate) fn new(site: &str, settings: Guests) -> Self {
        let (guests, refused) = (Mutex::default(), Refused::default());
        Self {
            site: site.into(),
            settings,
            guests,
            next: AtomicU64::new(0),
            begun: AtomicUsize::new(0),
            refused,
            commands: Outcomes::default(),
            rejected: Outcomes::default(),
        }
    }

    /// The guest of this name, with what was counted of it before.
    pub(crate) fn guest(&self, vm: &str) -> Arc<Guest> {
        let mut guests = self.guests.lock().ignore_poison();
        if let Some(guest) = guests.get(vm) {
            return Arc::clone(guest);
        }
        let name: Arc<str> = vm.into();
        let guest = Arc::new(Guest::new(self.next.fetch_add(1, Relaxed), Arc::clone(&name)));
        guests.insert(name, Arc::clone(&guest));
        guest
    }

    /// The guest of this name, if its socket is there.
    pub(crate) fn find(&self, vm: &str) -> Option<Arc<Guest>> {
        self.guests.lock().ignore_poison().get(vm).cloned()
    }

    /// Forgets a guest whose socket is gone, and with it its counters.
    pub(crate) fn forget(&self, vm: &str) {
        self.guests.lock().ignore_poison().remove(vm);
    }

    /// Every guest, in the order of their names.
    pub(crate) fn guests(&self) -> Vec<Arc<Guest>> {
        self.guests.lock().ignore_poison().values().cloned().collect()
    }

    /// The longest line that a guest may begin now.
    pub(crate) fn line_max(&self) -> usize {
        let most = usize::try_from(self.settings.max_line.bytes()).unwrap_or(usize::MAX);
        match self.begun.load(Relaxed) < BEGUN_BYTES_MAX {
            true => most,
            false => most.min(BEGUN_LINE_BYTES),
        }
    }

    /// A guest's begun line has become `after` bytes instead of `before`.
    pub(crate) fn begun(&self, before: usize, after: usize) {
        self.begun.fetch_add(after.wrapping_sub(before), Relaxed);
    }
}

/// What a line of a guest is, by its `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LineKind {
    /// A reading for today's host.
    Metrics,
    /// The answer to a request, or the end of a script.
    Response,
    /// An event, or what the agent says of itself.
    Event,
    /// Anything else: a line that a program of the guest wrote, or a reading in another format.
    Record,
}

impl LineKind {
    /// The word that stands for it in lines and labels.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Response => "response",
            Self::Event => "event",
            Self::Record => "record",
        }
    }
}

/// Declares what is counted of a guest: the family of the counter, and its label.
macro_rules! counts {
    ($($Count:ident: $family:ident $label:ident $value:literal $help:literal;)*) => {
        /// What is counted of a guest.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Count { $(#[doc = $help] $Count),* }

        impl Count {
            /// All of them, those of a family together.
            pub(super) const ALL: [Self; [$($help),*].len()] = [$(Self::$Count),*];

            /// The name of the counter without its prefix, and its label.
            pub(super) const fn names(self) -> (&'static str, &'static str, &'static str) {
                match self { $(Self::$Count => (stringify!($family), stringify!($label), $value)),* }
            }
        }
    };
}

counts! {
    Metrics: lines kind "metrics" "a reading was taken";
    Responses: lines kind "response" "an answer was taken";
    Events: lines kind "event" "an event was taken";
    Records: lines kind "record" "another line was taken";
    KeepAlives: lines kind "keep_alive" "a sign of life was taken";
    Bytes: bytes direction "received" "bytes that were read";
    TooLong: dropped reason "too_long" "a line was longer than max_line, or begun while all guests had too many begun";
    Garbage: dropped reason "garbage" "a line was no JSON object";
    TooDeep: dropped reason "too_deep" "a line was nested deeper than 127 levels";
    OutputFull: dropped reason "output_full" "a reading found no room in front of an output";
    TooLarge: dropped reason "too_large" "a line was larger than NATS takes";
    Unreadable: dropped reason "unreadable" "a reading was not served to Prometheus, or not sent as OTLP, since its values could not be read";
    Series: dropped reason "series" "a series was not served to Prometheus, since the guest has too many";
    Unread: dropped reason "unread" "an automatic message was left out, since the guest does not read";
    Closed: disconnects reason "closed" "the guest's side closed the connection";
    Refused: disconnects reason "refused" "the socket could not be connected to";
    Endless: disconnects reason "endless_line" "more came without an end of a line than four lines may have";
    Nonsense: disconnects reason "garbage" "a thousand lines in a row were no JSON objects";
    Lost: disconnects reason "unacknowledged" "a line was lost on its way, so that the guest must send it again";
    Rate: throttled reason "rate" "the guest was not read for a while, since it sends more than its rate";
    Output: throttled reason "output" "the guest was not read for a while, since an output does not take its lines";
}

/// One guest.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Its number, which no guest has again: one that comes back at another socket is another one.
    pub id: u64,
    /// Its name.
    pub vm: Arc<str>,
    /// What has happened, in the order of [`Count::ALL`].
    counts: [AtomicU64; Count::ALL.len()],
    state: Mutex<State>,
    /// For the web page; empty where there is none.
    history: Mutex<History>,
    /// Room was made in front of an output for this guest.
    pub room: Notify,
    /// A command for this guest is in flight.
    pub asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    is_connected: bool,
    /// A line came on this connection.
    is_heard: bool,
    /// What it is sent on this connection is signed.
    is_signed: bool,
    /// When its last line came, by both clocks.
    last: Option<(Instant, SystemTime)>,
    /// Its newest reading as Prometheus reads it, and when it came.
    reading: Option<(Instant, Arc<str>)>,
    /// The version of its agent, where that has said it.
    version: Option<Arc<str>>,
}

/// Whether a guest can be asked anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Its socket is not connected to.
    Absent,
    /// It is connected, and nothing came: the machine may have no agent yet, or serve another program at its socket.
    Silent,
    /// Something came, and there is no key to sign with.
    Unsigned,
    /// It takes commands.
    Ready,
}

/// What is known of a guest at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// Whether its socket is connected to.
    pub is_connected: bool,
    /// Whether a line came lately.
    pub is_up: bool,
    /// When the last line came, in seconds since 1970; 0 before the first.
    pub last_seconds: f64,
    /// Its newest reading, where that is not too old.
    pub reading: Option<Arc<str>>,
    /// The version of its agent, where that has said it, also on a connection before.
    pub version: Option<Arc<str>>,
}

impl Guest {
    fn new(id: u64, vm: Arc<str>) -> Self {
        let (counts, state, history) = (Default::default(), Mutex::default(), Mutex::default());
        Self { id, vm, counts, state, history, room: Notify::new(), asked: Notify::new() }
    }

    /// Counts `what` once.
    pub(crate) fn count(&self, what: Count) {
        self.add(what, 1);
    }

    /// Counts `what` so often.
    pub(crate) fn add(&self, what: Count, times: u64) {
        self.counts[what as usize].fetch_add(times, Relaxed);
    }

    /// How often `what` has happened.
    pub(crate) fn counted(&self, what: Count) -> u64 {
        self.counts[what as usize].load(Relaxed)
    }

    /// It is connected, or no more.
    pub(crate) fn connected(&self, is_connected: bool) {
        let mut state = self.state.lock().ignore_poison();
        (state.is_connected, state.is_heard, state.is_signed) = (is_connected, false, false);
        if !is_connected {
            state.reading = None;
        }
    }

    /// What it is sent on this connection is signed.
    pub(crate) fn signed(&self) {
        self.state.lock().ignore_poison().is_signed = true;
    }

    /// A line came.
    pub(crate) fn heard(&self, now: Instant) {
        let mut state = self.state.lock().ignore_poison();
        (state.is_heard, state.last) = (true, Some((now, SystemTime::now())));
    }

    /// Whether it can be asked anything.
    pub(crate) fn presence(&self) -> Presence {
        match *self.state.lock().ignore_poison() {
            State { is_connected: false, .. } => Presence::Absent,
            State { is_heard: false, .. } => Presence::Silent,
            State { is_signed: false, .. } => Presence::Unsigned,
            _ => Presence::Ready,
        }
    }

    /// Its newest reading as Prometheus reads it.
    pub(crate) fn read(&self, now: Instant, text: Arc<str>) {
        self.state.lock().ignore_poison().reading = Some((now, text));
    }

    /// Its agent has said its version.
    pub(crate) fn runs(&self, version: &str) {
        self.state.lock().ignore_poison().version = Some(version.into());
    }

    /// Its last readings and events.
    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().ignore_poison()
    }

    /// The version of its agent, where that has said it.
    pub(super) fn version(&self) -> Option<Arc<str>> {
        self.state.lock().ignore_poison().version.clone()
    }

    /// What is known of it `now`; a line or a reading counts for as long as `settings` say.
    pub(crate) fn snapshot(&self, now: Instant, settings: &Guests) -> Snapshot {
        let state = self.state.lock().ignore_poison();
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) < settings.silence.get();
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Snapshot {
            is_connected: state.is_connected,
            is_up: state.is_connected && state.last.is_some_and(|(at, _)| is_fresh(&at)),
            last_seconds: state.last.map_or(0.0, |(_, at)| seconds(at).as_secs_f64()),
            reading: state
                .reading
                .as_ref()
                .filter(|(at, _)| is_fresh(at))
                .map(|(_, text)| text.clone()),
            version: state.version.clone(),
        }
    }
}
