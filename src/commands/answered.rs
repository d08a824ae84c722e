//! Which requests were taken, and what they were answered: so that an id that comes twice is not run
//! twice. Keeps nothing over a restart.

use std::collections::{HashMap, VecDeque};

use super::reply::Told;

/// Answers that are remembered.
pub const ANSWERS_KEPT: usize = 512;

/// Bytes of output and data that are remembered with them.
pub const BYTES_KEPT: usize = 4 << 20;

/// The last answers by id, the oldest forgotten first.
#[derive(Debug, Default)]
pub struct Answered {
    by_id: HashMap<String, Option<Told>>,
    /// Ids with an answer, oldest first, and what each weighs.
    order: VecDeque<(String, usize)>,
    bytes: usize,
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
            Some(Some(told)) => Known::Answered(Box::new(told.clone())),
            Some(None) => Known::UnderWay,
            None => {
                self.by_id.insert(id.to_owned(), None);
                Known::New
            }
        }
    }

    /// Remembers what `id` was answered.
    pub fn answer(&mut self, id: &str, told: Told) {
        let weight = weight(&told);
        self.by_id.insert(id.to_owned(), Some(told));
        self.order.push_back((id.to_owned(), weight));
        self.bytes += weight;
        while self.order.len() > ANSWERS_KEPT || self.bytes > BYTES_KEPT {
            let Some((oldest, weight)) = self.order.pop_front() else { return };
            self.bytes -= weight;
            self.by_id.remove(&oldest);
        }
    }

    /// Lets go of an id that is not going to be run.
    pub fn forget(&mut self, id: &str) {
        if self.by_id.get(id) == Some(&None) {
            self.by_id.remove(id);
        }
    }
}

fn weight(told: &Told) -> usize {
    let outcome = match told {
        Told::Response { outcome, .. } | Told::Completed { outcome, .. } => outcome,
        _ => return 0,
    };
    let data = outcome.data.as_ref().map_or(0, |data| data.to_string().len());
    outcome.stdout.len() + outcome.stderr.len() + data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::outcome::Outcome;

    fn told(id: &str, bytes: usize) -> Told {
        let outcome = Outcome::said("x".repeat(bytes));
        Told::Response { id: id.to_owned(), action: "A".to_owned(), outcome }
    }

    #[test]
    fn an_id_is_taken_once_and_its_answer_told_again() {
        let mut answered = Answered::default();
        assert_eq!(answered.take("a"), Known::New);
        assert_eq!(answered.take("a"), Known::UnderWay);
        answered.answer("a", told("a", 3));
        assert_eq!(answered.take("a"), Known::Answered(Box::new(told("a", 3))));
        assert_eq!(answered.take("b"), Known::New);
        answered.forget("b");
        assert_eq!(answered.take("b"), Known::New);
        answered.forget("a");
        assert!(matches!(answered.take("a"), Known::Answered(_)), "an answer is not forgotten so");
    }

    #[test]
    fn neither_many_answers_nor_long_ones_grow_it_for_ever() {
        let mut answered = Answered::default();
        for number in 0..10_000 {
            let id = number.to_string();
            answered.take(&id);
            answered.answer(&id, told(&id, 100));
        }
        assert_eq!((answered.order.len(), answered.by_id.len()), (ANSWERS_KEPT, ANSWERS_KEPT));
        for number in 0..40 {
            let id = format!("long {number}");
            answered.take(&id);
            answered.answer(&id, told(&id, 256 << 10));
        }
        assert!(answered.bytes <= BYTES_KEPT);
        assert_eq!(answered.take("0"), Known::New, "the oldest is forgotten");
    }
}
