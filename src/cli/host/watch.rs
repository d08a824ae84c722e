//! `infiniservice-host … watch`: the machine's metrics as they come.

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use tokio::time::timeout;

use super::keys::Keys;
use super::{EXIT_LATE, Failed, Guest, print, print_json, say, view};
use crate::host::{Host, HostError, Kind, Message, Reading, Settings};

#[derive(Debug, Args)]
pub(super) struct Watch {
    /// End after this many readings
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

impl Watch {
    pub(super) async fn run(&self, guest: &Guest<'_>) -> Result<u8, Failed> {
        let settings = guest.settings(false)?;
        if settings.secret.is_none() && !guest.options.json {
            say("there is no secret: nothing is sent to the guest");
        }
        let mut shown = Shown {
            title: guest.socket.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            json: guest.options.json,
            terminal: io::stdout().is_terminal(),
            left: self.count,
            before: None,
            silent_for: guest.options.timeout,
        };
        // Who sees the table has the keys; elsewhere they are another program's.
        let keys = if shown.terminal { Keys::take() } else { None };
        let quit = async {
            match &keys {
                Some(keys) => keys.quit().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = shown.watch(guest, settings) => ended,
            () = quit => Ok(0),
        }
    }
}

/// A guest that is silent for so long is reported: the Infinibay host treats it as gone then.
const SILENCE: Duration = Duration::from_secs(90);

/// The content of the screen.
struct Shown {
    title: String,
    json: bool,
    terminal: bool,
    /// Readings still to show.
    left: Option<u64>,
    before: Option<Reading>,
    /// How long nothing may come.
    silent_for: Option<Duration>,
}

impl Shown {
    async fn watch(&mut self, guest: &Guest<'_>, settings: Settings) -> Result<u8, Failed> {
        if !guest.options.listen {
            let host = Host::connect(guest.socket, settings).await?;
            return self.follow(&host).await.map(|()| 0);
        }
        let listener = guest.listen().await?;
        loop {
            let host = self.in_time(listener.accept(Settings::clone(&settings))).await?;
            match self.follow(&host).await {
                Ok(()) => return Ok(0),
                Err(Failed { code: super::EXIT_UNAVAILABLE, .. }) => {
                    say("the agent has disconnected; waiting for the next one");
                }
                Err(failed) => return Err(failed),
            }
        }
    }

    /// Shows readings until there were enough of them.
    async fn follow(&mut self, host: &Host) -> Result<(), Failed> {
        if self.terminal && !self.json && self.before.is_none() {
            say("connected; the first metrics take up to 30 s (q ends)");
        }
        let mut missed = 0;
        while self.left != Some(0) {
            let (message, reading) = self.in_time(next_reading(host)).await?;
            self.show(host, &message, reading)?;
            self.left = self.left.map(|left| left - 1);
            let now = host.status().keep_alive.missed_in_a_row();
            if now > missed && !self.terminal {
                say(&format!("the guest has not echoed {now} keep-alive request(s)"));
            }
            missed = now;
        }
        Ok(())
    }

    fn show(&mut self, host: &Host, message: &Message, now: Reading) -> io::Result<()> {
        let before = self.before.as_ref();
        if self.json {
            print_json(&message.line)?;
        } else if self.terminal {
            let size = terminal_size();
            let table = view::table(&self.title, &now, before, &host.status(), size);
            print(&view::redrawn(&table))?;
        } else {
            let heading = if before.is_none() { view::heading() } else { String::new() };
            print(&format!("{heading}{}", view::line(&now, before)))?;
        }
        self.before = Some(now);
        Ok(())
    }

    async fn in_time<T>(
        &self,
        what: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, Failed> {
        let Some(limit) = self.silent_for else { return Ok(what.await?) };
        match timeout(limit, what).await {
            Ok(got) => Ok(got?),
            Err(_) => {
                let limit = humantime::format_duration(limit);
                let what = format!("no metrics came within {limit} (is the agent running?)");
                Err(Failed { code: EXIT_LATE, what })
            }
        }
    }
}

/// The next reading; reports a silent guest once.
async fn next_reading(host: &Host) -> Result<(Message, Reading), HostError> {
    if let Ok(reading) = timeout(SILENCE, reading(host)).await {
        return reading;
    }
    let seconds = SILENCE.as_secs();
    say(&format!("no metrics for {seconds} s (has the agent ended?); waiting"));
    reading(host).await
}

async fn reading(host: &Host) -> Result<(Message, Reading), HostError> {
    loop {
        let message = host.next().await?;
        if let Kind::Unreadable(why) = &message.kind {
            say(why);
        }
        if let Some(reading) = Reading::of(&message) {
            return Ok((message, reading));
        }
    }
}

/// Columns, and rows without the one the cursor stands in.
fn terminal_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 1 => {
            (size.ws_col.into(), usize::from(size.ws_row) - 1)
        }
        _ => (80, 23),
    }
}
