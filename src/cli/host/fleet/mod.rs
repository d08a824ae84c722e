//! `ls` and `top`: the guests of a relay that runs, from what it serves to Prometheus. Asks no guest, and changes nothing.

mod page;
mod table;

use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;

use super::{EXIT_CONFIG, EXIT_SYSTEM, EXIT_UNAVAILABLE, Failed, print};
use crate::cli::BadArgument;
use crate::cli::paint::Paint;
use crate::cli::terminal::{self, Key, Terminal};
use crate::model::Iso8601;
use crate::sinks::{Listen, io_reason};
use page::{Guest, guests};
use table::{Look, Sort, screen, table};

/// The longest page that is read.
const PAGE_BYTES_MAX: u64 = 256 << 20;
/// How long the relay may say nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two pages.
const INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct Fleet {
    /// Where the relay serves its metrics: ADDRESS:PORT or unix:/PATH, as in [[write]] prometheus of its file
    #[arg(long, value_name = "WHERE", default_value = "127.0.0.1:9465", value_parser = place)]
    metrics: Listen,

    /// The order of the guests
    #[arg(long, value_enum, default_value_t = Sort::Name)]
    sort: Sort,
}

fn place(text: &str) -> Result<Listen, BadArgument> {
    let write = |what: &str| BadArgument(format!("write {what}"));
    match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => Ok(Listen::Unix(path.into())),
        Some(_) => Err(write("the path from the root on, as in unix:/run/relay.metrics")),
        None => text
            .parse()
            .map(Listen::Address)
            .map_err(|_| write("an address and a port, as in 127.0.0.1:9465, or unix: and a path")),
    }
}

impl Fleet {
    /// `ls`: once, as a table or as a JSON object for each guest.
    pub(super) fn list(&self, is_json: bool) -> Result<u8, Failed> {
        let guests = self.guests()?;
        let text = match is_json {
            true => guests.iter().map(|guest| object(guest) + "\n").collect(),
            false => table(&guests, now_seconds(), Paint::of_stdout()),
        };
        print(&text)?;
        Ok(0)
    }

    /// `top`: again and again, until a key or a signal ends it.
    pub(super) fn show(&self) -> Result<u8, Failed> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            let what = "top needs a terminal; `infiniservice-host ls` writes anywhere".to_owned();
            return Err(Failed { code: EXIT_CONFIG, what });
        }
        let guests = self.guests()?;
        let terminal = Terminal::take().map_err(|error| Failed {
            code: EXIT_SYSTEM,
            what: format!("the terminal cannot be used: {}", io_reason(&error)),
        })?;
        self.draw(&terminal, guests)?;
        Ok(0)
    }

    fn draw(&self, terminal: &Terminal, mut guests: Vec<Guest>) -> Result<(), Failed> {
        let (paint, mut sort, mut paused, mut scroll) =
            (Paint::of_stdout(), self.sort, false, 0_usize);
        let (mut asked, mut trouble) = (Instant::now(), None::<String>);
        loop {
            let (columns, rows) = terminal::size();
            let look = Look { paint, columns, rows, sort, scroll, paused };
            let (lines, hidden) = screen(&guests, now_seconds(), trouble.as_deref(), look);
            scroll = scroll.min(hidden);
            print(&terminal::drawn(&lines))?;
            let page = rows / 2;
            match terminal.key(INTERVAL.saturating_sub(asked.elapsed()))? {
                Some(Key::Quit) => return Ok(()),
                Some(Key::Pause) => paused = !paused,
                Some(Key::Up) => scroll = scroll.saturating_sub(1),
                Some(Key::Down) => scroll += 1,
                Some(Key::PageUp) => scroll = scroll.saturating_sub(page),
                Some(Key::PageDown) => scroll += page,
                Some(Key::Letter('s')) => {
                    sort = sort.next();
                    sort.sort(&mut guests);
                }
                Some(Key::Letter(_) | Key::Other) => {}
                None => {
                    asked = Instant::now();
                    if paused {
                        continue;
                    }
                    match self.page() {
                        Ok(page) => (guests, trouble) = (self.sorted(&page, sort), None),
                        Err(error) => trouble = Some(self.unanswered(&error)),
                    }
                }
            }
        }
    }

    fn guests(&self) -> Result<Vec<Guest>, Failed> {
        let page = self.page().map_err(|error| Failed {
            code: EXIT_UNAVAILABLE,
            what: self.unanswered(&error)
                + " (--metrics names the place in [[write]] prometheus of a relay that runs)",
        })?;
        Ok(self.sorted(&page, self.sort))
    }

    fn sorted(&self, page: &str, sort: Sort) -> Vec<Guest> {
        let mut guests = guests(page);
        sort.sort(&mut guests);
        guests
    }

    fn unanswered(&self, error: &io::Error) -> String {
        format!("no metrics of a relay at {}: {}", self.metrics, io_reason(error))
    }

    /// What the relay serves now.
    fn page(&self) -> io::Result<String> {
        match &self.metrics {
            Listen::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                get(stream)
            }
            Listen::Address(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                get(stream)
            }
        }
    }
}

fn get(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(PAGE_BYTES_MAX).read_to_string(&mut answer).map_err(|error| {
        match error.kind() {
            ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
            _ => error,
        }
    })?;
    let no_page = || io::Error::other("what answers there serves no metrics");
    let (head, page) = answer.split_once("\r\n\r\n").ok_or_else(no_page)?;
    let status = head.split_ascii_whitespace().nth(1);
    let is_of_relay = status == Some("200") && page.contains("infiniservice_relay_guests");
    if is_of_relay { Ok(page.to_owned()) } else { Err(no_page()) }
}

fn object(guest: &Guest) -> String {
    let last = (guest.last_seconds > 0.0)
        .then(|| UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(guest.last_seconds).ok()?))
        .flatten();
    json!({
        "vm": guest.vm,
        "site": guest.site,
        "up": guest.is_up,
        "cpu_percent": guest.cpu,
        "memory_percent": guest.memory,
        "disk_percent": guest.disk,
        "lost": guest.lost,
        "version": guest.version,
        "last_line": last.map(|at| Iso8601::new(at).as_str().to_owned()),
    })
    .to_string()
}

fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
