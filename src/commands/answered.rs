//! Which requests were taken, and what they were answered: so that an id that comes twice is not run
//! twice. Keeps nothing over a restart.

use std::collections::{HashMap, VecDeque};

use super::outcome::Outcome;
use super::reply::Told;

/// Answers that are remembered.
pub const ANSWERS_KEPT: usize = 512;

/// Bytes of output and data that are remembered with them: one answer as long as they get, and many of
/// the length they have.
pub const BYTES_KEPT: usize = 1 << 20;

/// What stands where an answer was too long ago to be remembered whole.
const NOT_KEPT: &str = "it was done before, and is not done again; what it said then is not kept";

/// The last answers by id, the oldest forgotten first. Where they are too long together, what the oldest said is
/// forgotten, and not that they were done.
#[derive(Debug, Default)]
pub struct Answered {
    by_id: HashMap<String, Option<Kept>>,
    /// Ids with an answer, oldest first, and what each weighs.
    order: VecDeque<(String, usize)>,
    bytes: usize,
}

/// An answer as it is remembered: its data as text, since a tree of values of the same data takes five times
/// the memory.
#[derive(Debug, PartialEq)]
struct Kept {
    told: Told,
    data: Option<Box<str>>,
}

/// What is known of an id.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// Nothing: it is taken from now on.
    New,
    /// It is under way; its answer will come.
    UnderWay,
    /// It was answered with this.
    Answered(Box<Told>),
}

impl Answered {
    /// Takes `id`, unless it is known.
    pub fn take(&mut self, id: &str) -> Known {
        match self.by_id.get(id) {
            Some(Some(kept)) => Known::Answered(Box::new(kept.told())),
            Some(None) => Known::UnderWay,
            None => {
                self.by_id.insert(id.to_owned(), None);
                Known::New
            }
        }
    }

    /// Remembers what `id` was answered.
    pub fn answer(&mut self, id: &str, told: &Told) {
        let kept = Kept::of(told);
        let weight = kept.weight();
        self.by_id.insert(id.to_owned(), Some(kept));
        self.order.push_back((id.to_owned(), weight));
        self.bytes += weight;
        while self.order.len() > ANSWERS_KEPT {
            let Some((oldest, weight)) = self.order.pop_front() else { return };
            self.bytes -= weight;
            self.by_id.remove(&oldest);
        }
        for (id, weight) in self.order.iter_mut().filter(|(_, weight)| *weight > 0) {
            if self.bytes <= BYTES_KEPT {
                return;
            }
            self.bytes -= std::mem::take(weight);
            if let Some(Some(kept)) = self.by_id.get_mut(id) {
                kept.shorten();
            }
        }
    }

    /// Lets go of an id that is not going to be run.
    pub fn forget(&mut self, id: &str) {
        if self.by_id.get(id) == Some(&None) {
            self.by_id.remove(id);
        }
    }
}

impl Kept {
    fn of(told: &Told) -> Self {
        let (told, data) = match told {
            Told::Response { id, action, outcome } => {
                let (outcome, data) = without_data(outcome);
                (Told::Response { id: id.clone(), action: action.clone(), outcome }, data)
            }
            Told::Completed { execution_id, outcome } => {
                let (outcome, data) = without_data(outcome);
                (Told::Completed { execution_id: execution_id.clone(), outcome }, data)
            }
            other => (other.clone(), None),
        };
        Self { told, data }
    }

    fn told(&self) -> Told {
        let mut told = self.told.clone();
        if let Some(outcome) = outcome_of(&mut told) {
            // It was spelled from a value, so it reads as one.
            outcome.data = self.data.as_deref().and_then(|data| serde_json::from_str(data).ok());
        }
        told
    }

    /// Leaves that it was done. What lacks its result is no success: a list that is missing would be taken for
    /// an empty one.
    fn shorten(&mut self) {
        let lacks_data = self.data.take().is_some();
        let Some(outcome) = outcome_of(&mut self.told) else { return };
        (outcome.stdout, outcome.stderr) = Default::default();
        if outcome.success && lacks_data {
            (outcome.success, outcome.error) = (false, Some(NOT_KEPT.to_owned()));
        } else if outcome.success {
            outcome.stdout = NOT_KEPT.to_owned();
        }
    }

    fn weight(&self) -> usize {
        let outcome = match &self.told {
            Told::Response { outcome, .. } | Told::Completed { outcome, .. } => outcome,
            _ => return 0,
        };
        let data = self.data.as_ref().map_or(0, |data| data.len());
        outcome.stdout.len() + outcome.stderr.len() + data
    }
}

fn outcome_of(told: &mut Told) -> Option<&mut Outcome> {
    match told {
        Told::Response { outcome, .. } | Told::Completed { outcome, .. } => Some(outcome),
        _ => None,
    }
}

fn without_data(outcome: &Outcome) -> (Outcome, Option<Box<str>>) {
    let data = outcome.data.as_ref().map(|data| data.to_string().into_boxed_str());
    let Outcome { success, exit_code, took, said, refused, .. } = *outcome;
    let (stdout, stderr) = (outcome.stdout.clone(), outcome.stderr.clone());
    let error = outcome.error.clone();
    (
        Outcome {
            success,
            exit_code,
            stdout,
            stderr,
            data: None,
            error,
            took,
            said,
            asked: None,
            refused,
        },
        data,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(id: &str, bytes: usize) -> Told {
        let outcome = Outcome::said("x".repeat(bytes));
        Told::Response { id: id.to_owned(), action: "A".to_owned(), outcome }
    }

    #[test]
    fn an_id_is_taken_once_and_its_answer_told_again() {
        let mut answered = Answered::default();
        assert_eq!(answered.take("a"), Known::New);
        assert_eq!(answered.take("a"), Known::UnderWay);
        answered.answer("a", &told("a", 3));
        assert_eq!(answered.take("a"), Known::Answered(Box::new(told("a", 3))));
        assert_eq!(answered.take("b"), Known::New);
        answered.forget("b");
        assert_eq!(answered.take("b"), Known::New);
        answered.forget("a");
        assert!(matches!(answered.take("a"), Known::Answered(_)), "an answer is not forgotten so");
    }

    #[test]
    fn an_answer_is_told_again_with_all_that_it_had() {
        let mut answered = Answered::default();
        let data = serde_json::json!({ "a": [1, 2.5, null, "\u{e9}\n"], "b": { "c": true } });
        let outcome = Outcome { data: Some(data), ..Outcome::failed("no") };
        let (execution_id, action) = ("c".to_owned(), "A".to_owned());
        let told = [
            Told::Response { id: "r".to_owned(), action, outcome: outcome.clone() },
            Told::Completed { execution_id, outcome },
        ];
        for (id, told) in ["r", "c"].iter().zip(&told) {
            answered.take(id);
            answered.answer(id, told);
            assert_eq!(answered.take(id), Known::Answered(Box::new(told.clone())));
        }
    }

    #[test]
    fn what_long_answers_push_out_is_what_was_said_and_not_that_it_was_done() {
        let mut answered = Answered::default();
        let outcome = Outcome::data(serde_json::json!(["found"]));
        let action = "A".to_owned();
        let found = Told::Response { id: "found".to_owned(), action, outcome };
        let failed = Outcome { exit_code: Some(3), ..Outcome::failed("no") };
        let failed = Told::Completed { execution_id: "failed".to_owned(), outcome: failed };
        let long = [told("a", BYTES_KEPT), told("b", BYTES_KEPT)];
        let all = [("said", &told("said", 9)), ("found", &found), ("failed", &failed)];
        for (id, told) in all.into_iter().chain([("a", &long[0]), ("b", &long[1])]) {
            answered.take(id);
            answered.answer(id, told);
        }
        let mut again = |id: &str| match answered.take(id) {
            Known::Answered(mut told) => outcome_of(&mut told).cloned().unwrap(),
            other => panic!("{id} would be done once more: {other:?}"),
        };
        assert_eq!(again("said"), Outcome::said(NOT_KEPT));
        assert_eq!((again("a").success, again("a").stdout), (true, NOT_KEPT.to_owned()));
        // A list that is missing must not be taken for an empty one.
        assert_eq!((again("found").success, again("found").error), (false, Some(NOT_KEPT.into())));
        assert_eq!(
            (again("failed").exit_code, again("failed").error),
            (Some(3), Some("no".into()))
        );
        assert_eq!(again("b").stdout.len(), BYTES_KEPT);
    }

    #[test]
    fn neither_many_answers_nor_long_ones_grow_it_for_ever() {
        let mut answered = Answered::default();
        for number in 0..10_000 {
            let id = number.to_string();
            answered.take(&id);
            answered.answer(&id, &told(&id, 100));
        }
        assert_eq!((answered.order.len(), answered.by_id.len()), (ANSWERS_KEPT, ANSWERS_KEPT));
        for number in 0..40 {
            let id = format!("long {number}");
            answered.take(&id);
            answered.answer(&id, &told(&id, 256 << 10));
        }
        assert!(answered.bytes <= BYTES_KEPT);
        assert_eq!(answered.order.len(), ANSWERS_KEPT);
        assert_eq!(answered.take("0"), Known::New, "the oldest is forgotten");
    }
}
