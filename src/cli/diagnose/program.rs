//! A program of the machine that is asked something.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use thiserror::Error;

/// Why a program has told nothing: the end of a sentence.
#[derive(Debug, Error)]
pub(super) enum ProgramError {
    /// It cannot be started or read.
    #[error("{name} cannot be run: {error}")]
    NotRun { name: String, error: io::Error },
    /// It takes too long.
    #[error("{name} has not ended within {} s", after.as_secs())]
    Late { name: String, after: Duration },
    /// The thread that reads it has failed.
    #[error("{name} was not read")]
    NotRead { name: String },
}

/// The first `bytes_max` bytes of what a program prints, waited for at most `patience`. Then it is ended, and its exit code is
/// not looked at.
///
/// # Errors
/// It cannot be run, or takes too long.
pub(super) fn output(
    words: &[&str],
    bytes_max: u64,
    patience: Duration,
) -> Result<String, ProgramError> {
    let name = words[0];
    let cannot = |error| ProgramError::NotRun { name: name.to_owned(), error };
    let mut program = Command::new(name);
    program.args(&words[1..]).env("LC_ALL", "C");
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = program.spawn().map_err(cannot)?;
    let stdout = child.stdout.take();
    let (sender, receiver) = sync_channel(1);
    let reading = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let mut bytes = Vec::new();
        let read = match stdout {
            Some(stdout) => stdout.take(bytes_max).read_to_end(&mut bytes),
            None => Ok(0),
        };
        sender.send(read.map(|_| bytes)).is_ok()
    });
    let read = match reading {
        Ok(_) => receiver.recv_timeout(patience),
        Err(error) => Ok(Err(error)),
    };
    let _ = child.kill(); // fails where it has ended
    match read {
        Ok(Ok(bytes)) => {
            let _ = child.wait(); // it has closed its output, or was killed
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Ok(Err(error)) => Err(cannot(error)),
        Err(RecvTimeoutError::Timeout) => {
            Err(ProgramError::Late { name: name.to_owned(), after: patience })
        }
        Err(RecvTimeoutError::Disconnected) => Err(ProgramError::NotRead { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_prints_without_end_or_does_not_end_is_ended() {
        let patience = Duration::from_secs(30);
        assert_eq!(output(&["echo", "a"], 64, patience).unwrap(), "a\n");
        assert_eq!(output(&["yes"], 5, patience).unwrap(), "y\ny\ny");
        let late = output(&["sleep", "1000"], 5, Duration::from_millis(50)).unwrap_err();
        assert!(late.to_string().starts_with("sleep has not ended"), "{late}");
        let none = output(&["/no/such"], 5, patience).unwrap_err();
        assert!(none.to_string().starts_with("/no/such cannot be run: "), "{none}");
    }
}
