//! All transforms of a flow in one pass over each record, and the batch that they are gathered in.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::fields::Fields;
use super::found::FoundFields;
use super::record::{Changes, Record};
use super::scan::{Flaw, scan};
use super::text::write_text;
use super::{Operator, Stage, Verdict};
use crate::model::{Frame, Receipt};
use crate::pipeline::tap::Tap;
use crate::pipeline::{MemoryBudget, Output, Ring, Transform};
use crate::records::Records;
use crate::records::batch::{Decode, Gathered, Invalid, Limits, ParseAs};
use crate::records::buffers::Buffers;
use crate::values::Problem;

/// Validates each record, applies the stages to it, and gathers what is left into batches.
///
/// A line that is no record is dropped, kept as text or sent to a side file, as its source says, and counted by its flaw in any case.
pub struct Pass {
    detail: String,
    stages: Vec<Box<dyn Operator>>,
    fields: Fields,
    found: FoundFields,
    changes: Changes,
    gathered: Gathered,
    /// A record that was made of a text.
    made: Vec<u8>,
    dropped: Vec<(&'static str, u64)>,
    discarded: Vec<(&'static str, u64)>,
    /// How many records were gathered when the call began that has not ended.
    begun: Option<usize>,
    /// The batches that this call has completed; the first may hold records of earlier calls.
    full: Vec<Records>,
    /// What each stage holds.
    holds: Vec<HeldRecords>,
    /// Of the batches of which a stage holds records, with the number of the call.
    receipts: VecDeque<(u64, Receipt)>,
    calls: u64,
    /// Of the last call.
    now: Option<Instant>,
    /// By the number of their source: the side files for lines that are no records.
    side_files: Vec<Option<SideFile>>,
    /// The tap behind each stage; empty where there are none.
    taps: Vec<Tapped>,
    /// One of them has a reader, in this call.
    is_tapped: bool,
}

/// The way to a side file: a ring, so that a file that is slow or full never holds up the records.
#[derive(Debug)]
struct SideFile {
    ring: Ring<Frame>,
    buffers: Buffers,
    /// The lines of this call.
    lines: Vec<u8>,
    count: u32,
}

impl SideFile {
    fn add(&mut self, line: &[u8]) {
        self.lines.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            self.lines.push(b'\n');
        }
        self.count += 1;
    }

    fn send(&mut self, oldest: Instant) {
        if self.count > 0 {
            let next = self.buffers.take(0);
            let lines = self.buffers.share(std::mem::replace(&mut self.lines, next));
            self.ring.publish(Frame::new(lines, std::mem::take(&mut self.count), oldest));
        }
    }
}

/// The tap behind one stage.
#[derive(Debug)]
struct Tapped {
    tap: Arc<Tap>,
    /// Lines that may be shown in this call.
    left: u32,
    /// Lines of this call that were not shown.
    skipped: u64,
}

impl Tapped {
    /// One record has come out, which `write` writes.
    #[inline]
    fn record(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.left == 0 {
            self.skipped += 1;
            return;
        }
        self.left -= 1;
        let mut line = Vec::new();
        write(&mut line);
        self.tap.line(line.strip_suffix(b"\n").unwrap_or(&line));
    }
}

impl Pass {
    /// Applies `stages` in their order; batches leave by `limits` and are charged to `budget`.
    ///
    /// # Errors
    /// The number of the stage that cannot be built, and why.
    pub fn new(
        stages: &[Stage],
        limits: Limits,
        budget: &MemoryBudget,
    ) -> Result<Self, (usize, Problem)> {
        let mut fields = Fields::default();
        let build = |(index, stage): (usize, &Stage)| {
            stage.options().build(&mut fields).map_err(|problem| (index, problem))
        };
        let operators = stages.iter().enumerate().map(build).collect::<Result<_, _>>()?;
        let names: Vec<&str> = stages.iter().map(Stage::name).collect();
        Ok(Self {
            detail: names.join(", "),
            stages: operators,
            found: FoundFields::default(),
            changes: Changes::new(&fields),
            fields,
            gathered: Gathered::new(limits, budget),
            made: Vec::new(),
            dropped: Vec::new(),
            discarded: Vec::new(),
            begun: None,
            full: Vec::new(),
            holds: stages.iter().map(|_| HeldRecords::default()).collect(),
            receipts: VecDeque::new(),
            calls: 0,
            now: None,
            side_files: Vec::new(),
            taps: Vec::new(),
            is_tapped: false,
        })
    }

    /// Puts a tap behind each stage: the one that `tap` gives for its name.
    #[must_use]
    pub fn tapped(mut self, stages: &[Stage], tap: impl Fn(&str) -> Arc<Tap>) -> Self {
        let tapped = |stage: &Stage| {
            let tap = tap(stage.name());
            tap.show();
            Tapped { tap, left: 0, skipped: 0 }
        };
        self.taps = stages.iter().map(tapped).collect();
        self
    }

    /// Publishes the lines of each source that are no records to its ring in `rings`, as they are, a frame for each batch that
    /// has some; `budget` is charged.
    #[must_use]
    pub fn with_side_files(
        mut self,
        rings: Vec<Option<Ring<Frame>>>,
        budget: &MemoryBudget,
    ) -> Self {
        let side_file = |ring: Ring<Frame>| {
            let buffers = Buffers::new(budget);
            SideFile { ring, buffers, lines: Vec::new(), count: 0 }
        };
        self.side_files = rings.into_iter().map(|ring| ring.map(side_file)).collect();
        self
    }

    /// A call begins.
    fn begin(&mut self, now: Instant) {
        self.now = Some(now);
        self.is_tapped = self.taps.iter().any(|tapped| tapped.tap.is_open());
        if self.is_tapped {
            for tapped in &mut self.taps {
                let is_open = tapped.tap.is_open();
                tapped.left = if is_open { tapped.tap.allowance(now) } else { 0 };
            }
        }
    }

    /// Takes back what a call that panicked has gathered, and keeps what was there before.
    fn take_back(&mut self) {
        if let Some(records) = self.begun.take() {
            self.gathered.go_back(records, self.full.drain(..).next());
        }
        for side_file in self.side_files.iter_mut().flatten() {
            side_file.lines.clear();
            side_file.count = 0;
        }
    }

    /// The line of `length` bytes, newline included, that `text` begins with, through all stages.
    #[inline]
    fn line(&mut self, now: Instant, origin: Origin, text: &[u8], length: usize, decode: Decode) {
        let scanned = match decode.parse_as {
            ParseAs::Json => scan(text, &self.fields, &mut self.found),
            ParseAs::Text => Err(Flaw::InvalidJson),
        };
        let flaw = match scanned {
            Ok(object) => return self.through(now, origin, text, object, 0),
            Err(flaw) => flaw,
        };
        let line = text.get(..length).unwrap_or_default();
        match (decode.parse_as, decode.invalid) {
            (ParseAs::Text, _) | (ParseAs::Json, Invalid::Keep) => {}
            (ParseAs::Json, Invalid::Drop) => return count(&mut self.dropped, flaw.reason()),
            (ParseAs::Json, Invalid::SideFile(number)) => {
                if let Some(Some(side_file)) = self.side_files.get_mut(number) {
                    side_file.add(line);
                }
                return count(&mut self.dropped, flaw.reason());
            }
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut made = std::mem::take(&mut self.made);
        made.clear();
        made.extend_from_slice(b"{\"message\":");
        write_text(line.strip_suffix(b"\r").unwrap_or(line), &mut made);
        made.extend_from_slice(b"}\n");
        match scan(&made, &self.fields, &mut self.found) {
            Ok(object) => self.through(now, origin, &made, object, 0),
            Err(flaw) => count(&mut self.dropped, flaw.reason()),
        }
        self.made = made;
    }

    /// The record at `object` of `text`, whose fields are found, through the stages from `first` on.
    #[inline]
    fn through(
        &mut self,
        now: Instant,
        origin: Origin,
        text: &[u8],
        object: (usize, usize),
        first: usize,
    ) {
        let mut record = Record::new(text, object, &self.fields, &self.found, &mut self.changes);
        for (index, stage) in self.stages.iter_mut().enumerate().skip(first) {
            let verdict = stage.apply(now, &mut record);
            match verdict {
                Verdict::Keep if self.is_tapped => {
                    self.taps[index].record(|line| record.write(line));
                }
                Verdict::Keep => {}
                Verdict::Discard(reason) => return count(&mut self.discarded, reason),
                Verdict::Drop(reason) => return count(&mut self.dropped, reason),
                Verdict::Hold | Verdict::Release => {
                    let hold = &mut self.holds[index];
                    let before = hold.origin;
                    hold.taken += 1;
                    hold.origin.get_or_insert(origin);
                    if verdict == Verdict::Release {
                        self.release(now, false, index, before);
                        self.holds[index].origin = Some(origin);
                    }
                    return;
                }
            }
        }
        record.write(&mut self.gathered.lines);
        self.gathered.end_line(now, origin.oldest);
        if self.gathered.is_full() {
            self.full.extend(self.gathered.take());
        }
    }

    /// Takes what is due at a stage through those behind it.
    #[inline(never)]
    fn release(&mut self, now: Instant, has_ended: bool, index: usize, origin: Option<Origin>) {
        let Some(origin) = origin else { return };
        let mut due = std::mem::take(&mut self.holds[index].due);
        due.clear();
        self.stages[index].release(now, has_ended, &mut due);
        let (mut start, mut given) = (0, 0);
        for newline in memchr::memchr_iter(b'\n', &due) {
            given += 1;
            let line = &due[start..=newline];
            if self.is_tapped {
                self.taps[index].record(|shown| shown.extend_from_slice(line));
            }
            match scan(line, &self.fields, &mut self.found) {
                Ok(object) => self.through(now, origin, line, object, index + 1),
                Err(flaw) => count(&mut self.dropped, flaw.reason()),
            }
            start = newline + 1;
        }
        let (held, reason) = self.stages[index].held();
        let hold = &mut self.holds[index];
        let ended = hold.taken.saturating_sub(held + given);
        (hold.taken, hold.due) = (held, due);
        if held == 0 {
            hold.origin = None;
        }
        if ended > 0 {
            count_many(&mut self.discarded, reason, ended);
        }
    }

    /// Takes what is due through the stages behind.
    fn release_due(&mut self, now: Instant, has_ended: bool) {
        for index in 0..self.stages.len() {
            let deadline = self.stages[index].deadline();
            if has_ended || deadline.is_some_and(|deadline| deadline <= now) {
                let origin = self.holds.get(index).and_then(|hold| hold.origin);
                self.release(now, has_ended, index, origin);
            }
        }
    }

    /// Hands the receipts on of whose records none is held any more: they go with the last records that have left.
    fn settle(&mut self) {
        let holding = self.holds.iter().filter_map(|hold| Some(hold.origin?.call)).min();
        let is_settled = |call: u64| holding.is_none_or(|holding| call < holding);
        while self.receipts.front().is_some_and(|(call, _)| is_settled(*call)) {
            let Some((_, receipt)) = self.receipts.pop_front() else { return };
            match self.full.last_mut() {
                _ if self.gathered.records() > 0 => self.gathered.end_batch(&receipt),
                Some(last) => {
                    last.receipt = Receipt::merge([std::mem::take(&mut last.receipt), receipt]);
                }
                None => receipt.acknowledge(),
            }
        }
    }

    /// When what is gathered has to leave; at once, where a broken call has left complete batches.
    fn gathered_deadline(&self) -> Option<Instant> {
        self.gathered.deadline().or_else(|| Some(self.full.first()?.oldest))
    }

    /// Gives what is complete, and says what was dropped.
    fn give(&mut self, out: &mut Output<Records>) {
        if std::mem::take(&mut self.is_tapped) {
            for tapped in &mut self.taps {
                tapped.tap.skip(std::mem::take(&mut tapped.skipped));
            }
        }
        self.settle();
        self.full.drain(..).for_each(|batch| out.push(batch));
        for (reason, records) in self.dropped.drain(..) {
            out.drop_items(reason, records);
        }
        for (reason, records) in self.discarded.drain(..) {
            out.discard_items(reason, records);
        }
    }
}

/// Where a record is from: which call of the pass brought it, and when it was read.
#[derive(Debug, Clone, Copy)]
struct Origin {
    call: u64,
    oldest: Instant,
}

/// What the pass knows of the records that a stage holds.
#[derive(Debug, Default)]
struct HeldRecords {
    /// Records that were taken, and neither given nor ended.
    taken: u64,
    /// Of the oldest of them.
    origin: Option<Origin>,
    /// What is given, while it is.
    due: Vec<u8>,
}

fn count(dropped: &mut Vec<(&'static str, u64)>, reason: &'static str) {
    count_many(dropped, reason, 1);
}

fn count_many(dropped: &mut Vec<(&'static str, u64)>, reason: &'static str, records: u64) {
    match dropped.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, count)) => *count += records,
        None => dropped.push((reason, records)),
    }
}

impl Transform for Pass {
    type In = Records;
    type Out = Records;

    fn name(&self) -> String {
        "transform".to_owned()
    }

    fn detail(&self) -> String {
        self.detail.clone()
    }

    fn apply(&mut self, now: Instant, input: &Records, out: &mut Output<Records>) {
        self.take_back();
        self.dropped.clear();
        self.discarded.clear();
        self.begun = Some(self.gathered.records());
        self.calls += 1;
        self.begin(now);
        self.release_due(now, false);
        let (mut start, origin) = (0, Origin { call: self.calls, oldest: input.oldest });
        for end in &input.ends {
            let end = *end as usize;
            let text = input.bytes.get(start..).unwrap_or_default();
            self.line(now, origin, text, end.saturating_sub(start), input.decode);
            start = end;
        }
        self.begun = None;
        for side_file in self.side_files.iter_mut().flatten() {
            side_file.send(input.oldest);
        }
        // The receipt goes with the last of its records.
        self.receipts.push_back((self.calls, input.receipt.clone()));
        out.drop_items("too_long", input.too_long);
        self.give(out);
    }

    fn deadline(&self) -> Option<Instant> {
        let stages = self.stages.iter().filter_map(|stage| stage.deadline()).min();
        self.gathered_deadline().into_iter().chain(stages).min()
    }

    fn expire(&mut self, now: Instant, out: &mut Output<Records>) {
        self.begin(now);
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if is_over(self.deadline()) {
            let is_late = is_over(self.gathered_deadline());
            self.take_back();
            self.release_due(now, false);
            self.settle();
            if is_late || is_over(self.gathered.deadline()) {
                self.full.extend(self.gathered.take());
            }
            self.give(out);
        }
    }

    fn finish(&mut self, out: &mut Output<Records>) {
        self.take_back();
        if let Some(now) = self.now {
            self.begin(now);
            self.release_due(now, true);
        }
        self.settle();
        self.full.extend(self.gathered.take());
        self.give(out);
    }

    fn held(&self) -> u64 {
        let stages: u64 = self.stages.iter().map(|stage| stage.held().0).sum();
        self.gathered.records() as u64 + stages
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::model::Unacknowledged;
    use crate::values::Count;

    struct PanicOnce(Option<u64>);

    impl Operator for PanicOnce {
        fn apply(&mut self, _: Instant, _: &mut Record<'_>) -> Verdict {
            if let Some(left) = self.0.take() {
                assert!(left > 0, "the stage is broken");
                self.0 = Some(left - 1);
            }
            Verdict::Keep
        }
    }

    fn batch(text: &'static str, receipt: Receipt) -> Records {
        let ends = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at as u32 + 1).collect();
        let (oldest, decode) = (Instant::now(), Decode::default());
        Records { bytes: text.into(), ends, too_long: 0, oldest, decode, receipt }
    }

    /// Whether the broken input is offered again or given up, and whatever is called next.
    #[test]
    fn a_panic_behind_a_full_batch_takes_no_record_of_an_earlier_input_with_it() {
        for (is_given_up, is_late) in [(false, false), (true, false), (true, true)] {
            let limits = Limits { max_items: Count::fixed(2), ..Limits::default() };
            let mut pass = Pass::new(&[], limits, &MemoryBudget::default()).ok().unwrap();
            pass.stages.push(Box::new(PanicOnce(Some(3))));
            let (now, mut out, positions) =
                (Instant::now(), Output::default(), Unacknowledged::default());
            pass.apply(now, &batch("{\"a\":1}\n", positions.receipt(1)), &mut out);
            let broken = batch("{\"a\":2}\n{\"a\":3}\n{\"a\":4}\n", positions.receipt(2));
            let call = catch_unwind(AssertUnwindSafe(|| pass.apply(now, &broken, &mut out)));
            assert!(call.is_err() && out.drain().len() == 0);
            if is_given_up {
                broken.receipt.acknowledge();
            } else {
                pass.apply(now, &broken, &mut out);
            }
            match pass.deadline() {
                Some(deadline) if is_late => pass.expire(deadline, &mut out),
                _ => pass.finish(&mut out),
            }
            assert_eq!(positions.take(), None, "the first record is on its way");
            let left: Vec<Records> = out.drain().collect();
            left.iter().for_each(|batch| batch.receipt.acknowledge());
            assert_eq!(positions.take(), Some(2));
            let left: Vec<u8> = left.iter().flat_map(|batch| batch.bytes.to_vec()).collect();
            let all = "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n{\"a\":4}\n";
            assert_eq!(left, if is_given_up { &all[..8] } else { all }.as_bytes());
        }
    }
}
