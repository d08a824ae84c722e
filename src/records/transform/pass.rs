//! All transforms of a flow in one pass over each record, and the batch that they are gathered in.

use tokio::time::Instant;

use super::record::{Changes, Fields, Found, Record, write_text};
use super::scan::{Flaw, scan};
use super::{Operator, Stage, Verdict};
use crate::model::Receipt;
use crate::pipeline::{MemoryBudget, Output, Transform};
use crate::records::Records;
use crate::records::batch::{Decode, Gathered, Invalid, Limits, ParseAs};
use crate::values::Problem;

/// Validates each record, applies the stages to it, and gathers what is left into batches.
///
/// A line that is no record is dropped or kept as text, as its source says, and counted by its flaw in any case.
pub struct Pass {
    detail: String,
    stages: Vec<Box<dyn Operator>>,
    fields: Fields,
    found: Found,
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
            found: Found::default(),
            changes: Changes::new(&fields),
            fields,
            gathered: Gathered::new(limits, budget),
            made: Vec::new(),
            dropped: Vec::new(),
            discarded: Vec::new(),
            begun: None,
            full: Vec::new(),
        })
    }

    /// Takes back what a call that panicked has gathered, and keeps what was there before.
    fn take_back(&mut self) {
        if let Some(records) = self.begun.take() {
            self.gathered.go_back(records, self.full.drain(..).next());
        }
    }

    /// The line of `length` bytes, newline included, that `text` begins with, through all stages.
    #[inline]
    fn line(&mut self, now: Instant, oldest: Instant, text: &[u8], length: usize, decode: Decode) {
        let Self { fields, found, changes, made, .. } = self;
        let scanned = match decode.parse_as {
            ParseAs::Json => scan(text, fields, found),
            ParseAs::Text => Err(Flaw::InvalidJson),
        };
        let (line, object) = match scanned {
            Ok(object) => (text, object),
            Err(flaw) => {
                if decode == (Decode { parse_as: ParseAs::Json, invalid: Invalid::Drop }) {
                    return count(&mut self.dropped, flaw.reason());
                }
                let line = text.get(..length).unwrap_or_default();
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                made.clear();
                made.extend_from_slice(b"{\"message\":");
                write_text(line.strip_suffix(b"\r").unwrap_or(line), made);
                made.extend_from_slice(b"}\n");
                match scan(made, fields, found) {
                    Ok(object) => (made.as_slice(), object),
                    Err(flaw) => return count(&mut self.dropped, flaw.reason()),
                }
            }
        };
        let mut record = Record::new(line, object, fields, found, changes);
        for stage in &mut self.stages {
            match stage.apply(now, &mut record) {
                Verdict::Keep => {}
                Verdict::Discard(reason) => return count(&mut self.discarded, reason),
            }
        }
        record.write(&mut self.gathered.lines);
        self.gathered.end_line(now, oldest);
    }
}

fn count(records: &mut Vec<(&'static str, u64)>, reason: &'static str) {
    match records.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, count)) => *count += 1,
        None => records.push((reason, 1)),
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
        let mut start = 0;
        for end in &input.ends {
            let end = *end as usize;
            let text = input.bytes.get(start..).unwrap_or_default();
            self.line(now, input.oldest, text, end.saturating_sub(start), input.decode);
            start = end;
            if self.gathered.is_full() {
                self.full.extend(self.gathered.take());
            }
        }
        self.begun = None;
        // The receipt goes with the last of its records.
        match self.full.last_mut() {
            _ if self.gathered.records() > 0 => self.gathered.end_batch(&input.receipt),
            Some(last) => {
                let receipts = [std::mem::take(&mut last.receipt), input.receipt.clone()];
                last.receipt = Receipt::merge(receipts);
            }
            None => input.receipt.acknowledge(),
        }
        self.full.drain(..).for_each(|batch| out.push(batch));
        out.drop_items("too_long", input.too_long);
        for (reason, records) in self.dropped.drain(..) {
            out.drop_items(reason, records);
        }
        for (reason, records) in self.discarded.drain(..) {
            out.discard_items(reason, records);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.gathered.deadline().or_else(|| Some(self.full.first()?.oldest))
    }

    fn expire(&mut self, now: Instant, out: &mut Output<Records>) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.finish(out);
        }
    }

    fn finish(&mut self, out: &mut Output<Records>) {
        self.take_back();
        self.gathered.take().into_iter().for_each(|batch| out.push(batch));
    }

    fn held(&self) -> u64 {
        self.gathered.records() as u64
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
