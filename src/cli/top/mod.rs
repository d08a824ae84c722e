//! `top`: the status of the running agent, drawn again and again. The agent is asked once a second; nothing is changed.
//!
//! # Why no terminal library
//! A screen that is drawn anew once a second needs five sequences that every terminal since the VT100 knows. `ratatui` and
//! `crossterm` would be a tenth of the executable on each guest.

mod screen;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::paint::Paint;
use super::running::{RunningAgent, why_unanswered};
use super::terminal::{self, Key, Terminal};
use super::{exit_code, print, refuse};
use crate::agent::control::{Answer, Request, ask};
use crate::agent::status::Status;
use screen::{Samples, View, screen};

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(1);
/// The limit for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct Top {
    /// Show all stages, also those in which nothing has moved
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    agent: RunningAgent,
}

impl Top {
    pub(super) fn main(self) -> ExitCode {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return refuse("top needs a terminal; `infiniservice status` writes anywhere");
        }
        let socket = match self.agent.socket() {
            Ok(socket) => socket,
            Err(code) => return code,
        };
        let first = match super::status::status(&socket) {
            Ok(first) => first,
            Err(code) => return code,
        };
        match Terminal::take() {
            Ok(terminal) => exit_code(show(&terminal, &socket, first, self.all)),
            Err(error) => refuse(format_args!("the terminal cannot be used: {error}")),
        }
    }
}

/// Draws until a key or a signal ends it.
fn show(terminal: &Terminal, socket: &Path, first: Status, all: bool) -> io::Result<()> {
    let (mut before, mut now) = (first.clone(), first);
    let (mut asked, mut elapsed, mut trouble) = (Instant::now(), INTERVAL, None);
    let (paint, is_utf8) = (Paint::of_stdout(), is_utf8(&|name| std::env::var(name).ok()));
    let (mut all, mut paused, mut scroll) = (all, false, 0_usize);
    loop {
        let (columns, rows) = terminal::size();
        let view = View { paint, is_utf8, columns, rows, all, scroll, paused };
        let samples = Samples { before: &before, now: &now, elapsed };
        let (lines, hidden) = screen(samples, trouble.as_deref(), view);
        scroll = scroll.min(hidden);
        print(terminal::drawn(&lines).as_bytes())?;
        let page = rows / 2;
        match terminal.key(INTERVAL.saturating_sub(asked.elapsed()))? {
            Some(Key::Quit) => return Ok(()),
            Some(Key::Letter('a')) => all = !all,
            Some(Key::Pause) => paused = !paused,
            Some(Key::Up) => scroll = scroll.saturating_sub(1),
            Some(Key::Down) => scroll += 1,
            Some(Key::PageUp) => scroll = scroll.saturating_sub(page),
            Some(Key::PageDown) => scroll += page,
            Some(Key::Letter(_) | Key::Other) => {}
            None => {
                let began = std::mem::replace(&mut asked, Instant::now());
                if paused {
                    continue;
                }
                match ask(socket, &Request::Status, PATIENCE) {
                    Ok(Answer::Status(status)) => {
                        (before, elapsed) = (std::mem::replace(&mut now, *status), began.elapsed());
                        trouble = None;
                    }
                    Ok(_) => trouble = Some("the agent samples another question".to_owned()),
                    Err(error) => trouble = Some(why_unanswered(socket, &error, PATIENCE, "")),
                }
            }
        }
    }
}

/// Whether the terminal has more characters than ASCII, by the variables that setlocale(3) looks at.
fn is_utf8(variable: &dyn Fn(&str) -> Option<String>) -> bool {
    let set = |name: &&str| variable(name).filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_tells_the_characters() {
        let of = |set: &'static [(&str, &str)]| {
            is_utf8(&|name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(of(&[("LANG", "en_US.UTF-8")]) && of(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")]));
        assert!(!of(&[]) && !of(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]));
    }
}
