//! Taps: the items that a running stage sends, copied to readers. Without a reader a burst of items costs one relaxed load.
//!
//! # Never in the way
//! A reader gets a bounded number of lines a second, through a queue that drops what does not fit. What is skipped is
//! counted, and not turned into text. So a flow at full rate pays for some lines a second, not for each item.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::stage::EventCount;
use crate::sync::IgnorePoison;

/// Lines that wait for one reader.
const LINES_WAITING: usize = 256;

/// Bytes that wait for one reader; a line that is longer than this is not shown.
pub const BYTES_WAITING: usize = 256 * 1024;

/// The most lines a second.
pub const RATE_MAX: u32 = 1_000;

/// The time that a rate is counted in.
const SECOND: Duration = Duration::from_secs(1);

/// The tap behind a stage. Its readers stay over a reload.
#[derive(Debug, Default)]
pub struct Tap {
    /// There is a reader.
    is_open: AtomicBool,
    /// The stage has items that can be shown.
    is_shown: AtomicBool,
    readers: Mutex<Vec<Attached>>,
}

/// A reader, from the flow's side.
#[derive(Debug)]
struct Attached {
    lines: mpsc::Sender<Bytes>,
    counts: Arc<Counts>,
    /// Lines a second.
    rate: u32,
    /// When the current second began, and how many lines are left of it.
    since: Option<Instant>,
    left: u32,
}

#[derive(Debug, Default)]
struct Counts {
    waiting_bytes: AtomicUsize,
    skipped: AtomicU64,
}

/// Receives the lines of a tap. Dropping it detaches the reader.
#[derive(Debug)]
pub struct TapReader {
    lines: mpsc::Receiver<Bytes>,
    counts: Arc<Counts>,
}

impl Tap {
    /// Attaches a reader of at most `rate` lines a second (bounded by [`RATE_MAX`]).
    pub fn attach(&self, rate: u32) -> TapReader {
        let (sender, lines) = mpsc::channel(LINES_WAITING);
        let counts = Arc::<Counts>::default();
        let rate = rate.clamp(1, RATE_MAX);
        let (since, left) = (None, 0);
        let reader = Attached { lines: sender, counts: Arc::clone(&counts), rate, since, left };
        self.readers().push(reader);
        self.is_open.store(true, Relaxed);
        TapReader { lines, counts }
    }

    /// Whether the stage has items that can be shown.
    pub fn is_shown(&self) -> bool {
        self.is_shown.load(Relaxed)
    }

    /// The stage has items that can be shown.
    pub fn show(&self) {
        self.is_shown.store(true, Relaxed);
    }

    /// Whether there is a reader.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    /// Shows what has come out, as far as the rate allows; the rest is counted.
    #[cold]
    pub fn offer<T: EventCount>(&self, now: Instant, items: &[T]) {
        let (mut left, mut skipped) = (self.allowance(now), 0);
        for item in items {
            if left == 0 {
                skipped += item.weight(); // to count its lines would cost more than to take it on
                continue;
            }
            let mut shown = 0;
            item.show(&mut |line| {
                self.line(line);
                (left, shown) = (left - 1, shown + 1);
                left > 0
            });
            skipped += item.lines().saturating_sub(shown);
        }
        self.skip(skipped);
    }

    /// How many lines may be shown now: none where the queues are full. Detaches the readers that are dropped.
    #[cold]
    pub fn allowance(&self, now: Instant) -> u32 {
        let mut readers = self.readers();
        readers.retain(|reader| !reader.lines.is_closed());
        if readers.is_empty() {
            self.is_open.store(false, Relaxed);
        }
        readers.iter_mut().map(|reader| reader.allowance(now)).max().unwrap_or_default()
    }

    /// Shows a line, which is within the allowance.
    pub fn line(&self, line: &[u8]) {
        let mut made = None;
        for reader in self.readers().iter_mut() {
            reader.line(line, &mut made);
        }
    }

    /// Counts lines that came out beside those that were shown.
    pub fn skip(&self, lines: u64) {
        for reader in self.readers().iter().filter(|_| lines > 0) {
            reader.counts.skipped.fetch_add(lines, Relaxed);
        }
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Attached>> {
        self.readers.lock().ignore_poison()
    }
}

impl Attached {
    fn allowance(&mut self, now: Instant) -> u32 {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= SECOND) {
            (self.since, self.left) = (Some(now), self.rate);
        }
        let places = u32::try_from(self.lines.capacity()).unwrap_or(u32::MAX);
        let is_full = self.counts.waiting_bytes.load(Relaxed) >= BYTES_WAITING;
        if is_full { 0 } else { self.left.min(places) }
    }

    /// A copy is `made` once for all readers.
    fn line(&mut self, line: &[u8], made: &mut Option<Bytes>) {
        let waiting = self.counts.waiting_bytes.load(Relaxed);
        if self.left > 0 && waiting + line.len() <= BYTES_WAITING {
            let copy = made.get_or_insert_with(|| Bytes::copy_from_slice(line)).clone();
            self.counts.waiting_bytes.fetch_add(line.len(), Relaxed);
            if self.lines.try_send(copy).is_ok() {
                self.left -= 1;
                return;
            }
            self.counts.waiting_bytes.fetch_sub(line.len(), Relaxed);
        }
        self.counts.skipped.fetch_add(1, Relaxed);
    }
}

impl TapReader {
    /// The next line, without its end. Waits for it.
    pub async fn next(&mut self) -> Option<Bytes> {
        let line = self.lines.recv().await?;
        self.counts.waiting_bytes.fetch_sub(line.len(), Relaxed);
        Some(line)
    }

    /// A line that is there already.
    pub fn ready(&mut self) -> Option<Bytes> {
        let line = self.lines.try_recv().ok()?;
        self.counts.waiting_bytes.fetch_sub(line.len(), Relaxed);
        Some(line)
    }

    /// How many lines were not shown since this was last asked; of what came beyond the rate it is readings or records.
    pub fn skipped(&self) -> u64 {
        self.counts.skipped.swap(0, Relaxed)
    }
}

/// Gives the lines of `text`, without their ends, until `line` wants no more: [`EventCount::show`] for what is text.
pub fn show_lines(text: &[u8], line: &mut dyn FnMut(&[u8]) -> bool) {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    for one in text.split(|byte| *byte == b'\n') {
        if !line(one) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Text(&'static str);

    impl EventCount for Text {
        const IS_SHOWN: bool = true;

        fn weight(&self) -> u64 {
            self.lines()
        }

        fn lines(&self) -> u64 {
            self.0.lines().count() as u64
        }

        fn show(&self, line: &mut dyn FnMut(&[u8]) -> bool) {
            show_lines(self.0.as_bytes(), line);
        }
    }

    fn taken(reader: &mut TapReader) -> (Vec<String>, u64) {
        let lines = std::iter::from_fn(|| reader.ready());
        let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect();
        (lines, reader.skipped())
    }

    #[test]
    fn each_reader_gets_so_many_lines_a_second_and_the_count_of_the_rest() {
        let (tap, now) = (Tap::default(), Instant::now());
        let (mut slow, mut quick) = (tap.attach(2), tap.attach(100));
        assert!(tap.is_open());
        tap.offer(now, &[Text("a\nb\n"), Text("c\nd\n")]);
        assert_eq!(taken(&mut slow), (vec!["a".to_owned(), "b".to_owned()], 2));
        assert_eq!(taken(&mut quick).0.len(), 4);
        tap.offer(now + Duration::from_millis(999), &[Text("e")]);
        assert_eq!(taken(&mut slow), (vec![], 1));
        tap.offer(now + SECOND, &[Text("f")]);
        assert_eq!(taken(&mut slow), (vec!["f".to_owned()], 0));
        drop((slow, quick));
        tap.offer(now, &[Text("g")]);
        assert!(!tap.is_open());
    }

    #[test]
    fn what_waits_is_bounded_in_lines_and_in_bytes_and_what_does_not_fit_is_counted() {
        let (tap, now) = (Tap::default(), Instant::now());
        let mut idle = tap.attach(RATE_MAX);
        for _ in 0..LINES_WAITING + 5 {
            tap.offer(now, &[Text("x")]);
        }
        let (lines, skipped) = taken(&mut idle);
        assert_eq!((lines.len(), skipped), (LINES_WAITING, 5));
        let long: &'static str = "x".repeat(BYTES_WAITING / 2 + 1).leak();
        tap.offer(now, &[Text(long), Text(long), Text("y")]);
        let (lines, skipped) = taken(&mut idle);
        assert_eq!((lines.len(), lines[1].as_str(), skipped), (2, "y", 1));
    }
}
