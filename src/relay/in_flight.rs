//! Commands in flight: said to their guests, or to be said, and waiting for the answer. Pure: knows no socket and no clock.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::sync::IgnorePoison;

/// Commands in flight, and those of one guest.
pub(crate) const COMMANDS_MAX: usize = 256;
/// See [`COMMANDS_MAX`].
pub(crate) const COMMANDS_OF_GUEST_MAX: usize = 16;
/// Bytes of all of them.
pub(crate) const BYTES_MAX: usize = 8 << 20;

/// The commands in flight to all guests.
///
/// A guest's connection takes them by their numbers, in order, and begins anew after each end: so each connection says each
/// command once, and a command that was cut off by the end of one is said again on the next.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    commands: Vec<Command>,
    /// The last number that was given.
    last: u64,
}

#[derive(Debug)]
struct Command {
    /// Stays the same.
    key: u64,
    /// Its place in the order.
    number: u64,
    vm: Arc<str>,
    id: String,
    payload: Arc<str>,
    answer: oneshot::Sender<Bytes>,
}

/// Why a command is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum NotTaken {
    /// Too many commands are in flight.
    #[error("too many commands are in flight; ask again when some of them are answered")]
    TooMany,
    /// Another command in flight has its id, and its answer would be taken for this one's.
    #[error("its id is in flight with another payload; ask with an id of its own")]
    OtherPayload,
}

impl InFlight {
    /// Takes a command for the guest `vm`, which is told apart by `id`.
    ///
    /// # Errors
    /// There are too many, or its id is in flight with another payload, whose answer would be taken for its own.
    pub(crate) fn take(
        &self,
        vm: &Arc<str>,
        id: &str,
        payload: &Arc<str>,
    ) -> Result<Pending<'_>, NotTaken> {
        let mut state = self.state();
        let of_guest = || state.commands.iter().filter(|command| command.vm == *vm);
        if of_guest().any(|command| command.id == id && command.payload != *payload) {
            return Err(NotTaken::OtherPayload);
        }
        let bytes: usize = state.commands.iter().map(|command| command.payload.len()).sum();
        if state.commands.len() >= COMMANDS_MAX
            || of_guest().count() >= COMMANDS_OF_GUEST_MAX
            || bytes + payload.len() > BYTES_MAX
        {
            return Err(NotTaken::TooMany);
        }
        let (sender, answer) = oneshot::channel();
        state.last += 1;
        let number = state.last;
        state.commands.push(Command {
            key: number,
            number,
            vm: Arc::clone(vm),
            id: id.to_owned(),
            payload: Arc::clone(payload),
            answer: sender,
        });
        Ok(Pending { in_flight: self, key: number, answer })
    }

    /// The next command for the guest `vm` behind the number `said`, and its own number.
    pub(crate) fn next(&self, vm: &str, said: u64) -> Option<(u64, Arc<str>)> {
        let state = self.state();
        let behind = |command: &&Command| &*command.vm == vm && command.number > said;
        let next = state.commands.iter().filter(behind).min_by_key(|command| command.number)?;
        Some((next.number, Arc::clone(&next.payload)))
    }

    /// Whether a line of the guest `vm` may be an answer.
    pub(crate) fn has(&self, vm: &str) -> bool {
        self.state().commands.iter().any(|command| &*command.vm == vm)
    }

    /// The guest `vm` has answered `id` with `line`. All who asked for it get it.
    pub(crate) fn answer(&self, vm: &str, id: &str, line: &Bytes) {
        let mut state = self.state();
        let is_it = |command: &mut Command| &*command.vm == vm && command.id == id;
        for command in state.commands.extract_if(.., is_it) {
            let _ = command.answer.send(line.clone()); // who asked may have given up
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().ignore_poison()
    }
}

/// A command in flight. It is given up when this is dropped; the guest may have it all the same.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    in_flight: &'a InFlight,
    key: u64,
    /// The line that the guest answers with.
    pub answer: oneshot::Receiver<Bytes>,
}

impl Pending<'_> {
    /// Has it said once more on the same connection.
    pub(crate) fn repeat(&self) {
        let mut state = self.in_flight.state();
        state.last += 1;
        let number = state.last;
        if let Some(command) = state.commands.iter_mut().find(|command| command.key == self.key) {
            command.number = number;
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.in_flight.state().commands.retain(|command| command.key != self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> (Arc<str>, Arc<str>) {
        ("web".into(), "{}".into())
    }

    #[test]
    fn each_connection_says_each_command_once_until_it_is_to_be_said_again() {
        let (vm, payload) = texts();
        let in_flight = InFlight::default();
        let first = in_flight.take(&vm, "1", &payload).unwrap();
        let _second = in_flight.take(&vm, "2", &payload).unwrap();
        let numbers = |mut said: u64| {
            let mut numbers = Vec::new();
            while let Some((number, _)) = in_flight.next("web", said) {
                numbers.push(number);
                said = number;
            }
            numbers
        };
        assert_eq!(numbers(0), [1, 2]);
        assert_eq!(numbers(2), [0; 0]);
        assert_eq!(numbers(0), [1, 2], "another connection");
        first.repeat();
        assert_eq!(numbers(2), [3]);
        assert_eq!(in_flight.next("db", 0), None);
        drop(first);
        assert_eq!(numbers(0), [2]);
    }

    #[test]
    fn an_answer_is_for_all_who_asked_the_same_of_this_guest() {
        let (vm, payload) = texts();
        let in_flight = InFlight::default();
        let mut asked = [(); 2].map(|()| in_flight.take(&vm, "1", &payload).unwrap());
        let mut other = in_flight.take(&"db".into(), "1", &payload).unwrap();
        let refused = in_flight.take(&vm, "1", &"{ }".into()).unwrap_err();
        assert_eq!(refused, NotTaken::OtherPayload);
        in_flight.answer("web", "1", &Bytes::from_static(b"done"));
        for pending in &mut asked {
            assert_eq!(pending.answer.try_recv().unwrap(), "done");
        }
        assert!(other.answer.try_recv().is_err(), "no guest answers for another");
        assert!(!in_flight.has("web") && in_flight.has("db"));
    }

    #[test]
    fn they_are_bounded_in_number_of_a_guest_and_in_bytes() {
        let in_flight = InFlight::default();
        let mut held = Vec::new();
        let mut take = |vm: usize, payload: &str| {
            let vm: Arc<str> = format!("vm-{vm}").into();
            let id = held.len().to_string();
            in_flight.take(&vm, &id, &payload.into()).map(|pending| held.push(pending)).err()
        };
        for _ in 0..COMMANDS_OF_GUEST_MAX {
            assert_eq!(take(0, "{}"), None);
        }
        assert_eq!(take(0, "{}"), Some(NotTaken::TooMany));
        assert_eq!(take(1, &"x".repeat(BYTES_MAX)), Some(NotTaken::TooMany));
        for number in COMMANDS_OF_GUEST_MAX..COMMANDS_MAX {
            assert_eq!(take(number, "{}"), None);
        }
        assert_eq!(take(COMMANDS_MAX, "{}"), Some(NotTaken::TooMany));
    }
}
