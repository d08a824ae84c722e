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
    /// How many records were gathered when the call began that has not ended.
    begun: Option<usize>,
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
            begun: None,
        })
    }

    /// One line through all stages.
    #[inline]
    fn line(&mut self, now: Instant, oldest: Instant, line: &[u8], decode: Decode) {
        let Self { fields, found, changes, made, .. } = self;
        let scanned = match decode.parse_as {
            ParseAs::Json => scan(line, fields, found),
            ParseAs::Text => Err(Flaw::InvalidJson),
        };
        let (line, object) = match scanned {
            Ok(object) => (line, object),
            Err(flaw) => {
                if decode == (Decode { parse_as: ParseAs::Json, invalid: Invalid::Drop }) {
                    return count(&mut self.dropped, flaw.reason());
                }
                made.clear();
                made.extend_from_slice(b"{\"message\":");
                write_text(line.strip_suffix(b"\r").unwrap_or(line), made);
                made.push(b'}');
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
                Verdict::Drop(reason) => return count(&mut self.dropped, reason),
            }
        }
        record.write(&mut self.gathered.lines);
        self.gathered.end_line(now, oldest);
    }
}

fn count(dropped: &mut Vec<(&'static str, u64)>, reason: &'static str) {
    match dropped.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, count)) => *count += 1,
        None => dropped.push((reason, 1)),
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
        if let Some(records) = self.begun.take() {
            self.gathered.truncate(records);
        }
        self.dropped.clear();
        self.begun = Some(self.gathered.records());
        let mut full: Option<Records> = None;
        for line in input.lines() {
            self.line(now, input.oldest, line, input.decode);
            if self.gathered.is_full() {
                full.into_iter().for_each(|batch| out.push(batch));
                full = self.gathered.take();
                self.begun = Some(0);
            }
        }
        self.begun = None;
        // The receipt goes with the last of its records.
        match &mut full {
            _ if self.gathered.records() > 0 => self.gathered.end_batch(&input.receipt),
            Some(last) => {
                let receipts = [std::mem::take(&mut last.receipt), input.receipt.clone()];
                last.receipt = Receipt::merge(receipts);
            }
            None => input.receipt.acknowledge(),
        }
        full.into_iter().for_each(|batch| out.push(batch));
        out.drop_items("too_long", input.too_long);
        for (reason, records) in self.dropped.drain(..) {
            out.drop_items(reason, records);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.gathered.deadline()
    }

    fn expire(&mut self, now: Instant, out: &mut Output<Records>) {
        if self.gathered.deadline().is_some_and(|deadline| deadline <= now) {
            self.finish(out);
        }
    }

    fn finish(&mut self, out: &mut Output<Records>) {
        self.gathered.take().into_iter().for_each(|batch| out.push(batch));
    }

    fn held(&self) -> u64 {
        self.gathered.records() as u64
    }
}
