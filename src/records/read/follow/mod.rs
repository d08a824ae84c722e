//! Follows files: lines of those that there are and of those that come, over rotation by rename, truncation and
//! copytruncate, with the position kept over restarts.
//!
//! [`Follower`] is the state machine, and blocks. [`Follow`] is the source: it runs the follower on the blocking pool, and waits
//! for the kernel (inotify) and for time.
//!
//! # Promises
//! - A file is known by device, inode and its first bytes, wherever it is renamed to. One that is renamed away or removed is
//!   read to its end, and for a minute more; one that was renamed while the agent was down is found in its folder.
//! - A truncated file is read from its start. What a copy of it in the same folder has more is read before that
//!   (copytruncate); a copy that matches the pattern itself is not read twice.
//! - Files of one log (`app.log`, `app.log.1`) are read oldest first.
//! - A line is given once its newline has come, or its file is gone for good; with `until_end` at the end.
//! - The position that is kept is the one that is [acknowledged](crate::model::Receipt): after a crash lines may come again,
//!   and none is missing.
//!
//! What cannot be read: what is written to a file and truncated before it was read, without a copy; and a file that comes and is
//! renamed out of the pattern between two looks.

mod follower;
mod notify;
mod pattern;
mod positions;
mod tail;

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until};

pub(crate) use follower::LineBatch;
pub use follower::{Follower, Options};
pub use pattern::Pattern;
pub use positions::Positions;

use crate::pipeline::{Source, StageError};
use crate::records::Records;
use crate::records::batch::Decode;
use crate::tasks::spawn_blocking;
use notify::{Change, Watcher};

/// How often the files are looked at where the kernel reports changes …
const LOOK_WATCHED: Duration = Duration::from_secs(10);
/// … and where it does not, or while there is much to read.
const LOOK: Duration = Duration::from_secs(1);

/// How long it waits after a change for more of them.
const PAUSE: Duration = Duration::from_millis(25);

/// How often positions are saved at most.
const SAVE: Duration = Duration::from_secs(1);

/// Where a file begins that is followed for the first time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// At its start.
    #[default]
    Start,
    /// Behind its last whole line.
    End,
}

/// The lines of files.
#[derive(Debug)]
pub(crate) struct Follow {
    options: Options,
    decode: Decode,
    positions: Positions,
}

impl Follow {
    /// Follows the files of the options; goes on where `positions` says.
    pub(crate) fn new(options: Options, decode: Decode, positions: Positions) -> Self {
        Self { options, decode, positions }
    }
}

/// What the next step on the blocking pool begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextStep {
    Look,
    Refresh,
    Read,
}

/// The follower and its watcher, as they go to the blocking pool and back.
struct Work {
    follower: Follower,
    watcher: Option<Arc<Watcher>>,
    positions: Positions,
    looked: Option<Instant>,
    saved: Instant,
    is_watched: bool,
    /// Nothing was given since the last save.
    is_saved: bool,
}

/// The end of a step.
struct Step {
    given: Option<LineBatch>,
    has_ended: bool,
    /// When a file that is gone is given up.
    tidy: Option<Instant>,
}

impl Work {
    /// One step: looks if it is asked to or it is time, and reads lines.
    fn step(&mut self, begin: NextStep, now: Instant) -> Step {
        if self.saved + SAVE <= now {
            self.save(now);
        }
        let is_time = self.looked.is_none_or(|looked| looked + LOOK <= now);
        let has_looked = begin == NextStep::Look || is_time && begin == NextStep::Read;
        let mut is_watched = self.is_watched;
        if has_looked {
            let folders = self.follower.look(now);
            self.looked = Some(now);
            is_watched = self.watcher.as_ref().is_some_and(|watcher| watcher.set_folders(folders));
        } else if begin == NextStep::Refresh {
            self.follower.refresh();
        }
        let given = self.follower.read(now);
        self.is_saved &= given.is_none();
        let tidy = self.follower.tidy(now);
        if given.is_none()
            && let Some(watcher) = &self.watcher
        {
            let files = watcher.set_files(self.follower.open_files());
            self.is_watched = files && is_watched && !self.follower.has_unwatched();
        }
        let has_ended = given.is_none() && self.follower.has_ended();
        Step { given, has_ended, tidy }
    }

    /// Waits until there may be something to do. Saves positions meanwhile.
    async fn rest(mut self, tidy: Option<Instant>) -> (Self, NextStep) {
        let pause = if self.is_watched { LOOK_WATCHED } else { LOOK };
        let look = self.looked.map_or_else(Instant::now, |looked| looked + pause);
        let look = tidy.map_or(look, |tidy| look.min(tidy));
        let watcher = self.watcher.clone();
        loop {
            let may_change = self.positions.may_change();
            let changed = async {
                match &watcher {
                    Some(watcher) => watcher.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = sleep_until(look) => return (self, NextStep::Look),
                change = changed => {
                    sleep(PAUSE).await;
                    let begin = match change {
                        Change::Names => NextStep::Look,
                        Change::Content => NextStep::Refresh,
                    };
                    return (self, begin);
                }
                () = sleep_until(self.saved + SAVE), if may_change || !self.is_saved => {
                    self.is_saved = !may_change;
                    self.saved = Instant::now();
                    let positions = self.positions.clone();
                    let _ = spawn_blocking(move || positions.save()).await;
                }
            }
        }
    }

    fn save(&mut self, now: Instant) {
        self.positions.save();
        self.saved = now;
    }
}

impl Source for Follow {
    type Out = Records;

    fn name(&self) -> String {
        "file".to_owned()
    }

    fn detail(&self) -> String {
        self.options.pattern.as_path().display().to_string()
    }

    fn open(&mut self) -> impl Stream<Item = Result<Records, StageError>> + Send + '_ {
        let (options, positions) = (self.options.clone(), self.positions.clone());
        let decode = self.decode;
        async_stream::stream! {
            let watcher = if options.until_end { None } else { Watcher::new().map(Arc::new) };
            let mut begin = NextStep::Look;
            let mut work = None;
            loop {
                let (options, positions) = (options.clone(), positions.clone());
                let watching = watcher.clone();
                let now = Instant::now();
                let stepped = spawn_blocking(move || {
                    let mut work = work.unwrap_or_else(|| Work {
                        follower: Follower::new(options, positions.clone()),
                        watcher: watching,
                        positions,
                        looked: None,
                        saved: now,
                        is_watched: false,
                        is_saved: false,
                    });
                    let step = work.step(begin, now);
                    (work, step)
                });
                let (done, step) = match stepped.await {
                    Ok(done) => done,
                    Err(error) => {
                        yield Err(StageError::new(error));
                        return;
                    }
                };
                let has_ended = step.has_ended;
                if let Some(LineBatch { lines, receipt }) = step.given {
                    let oldest = now;
                    let (bytes, ends, too_long) = (lines.bytes, lines.ends, lines.too_long);
                    yield Ok(Records { bytes, ends, too_long, oldest, decode, receipt });
                    (work, begin) = (Some(done), NextStep::Read);
                    continue;
                }
                if has_ended {
                    return;
                }
                let (rested, next) = done.rest(step.tidy).await;
                (work, begin) = (Some(rested), next);
            }
        }
    }

    async fn close(&mut self) {
        self.positions.settle().await;
        let positions = self.positions.clone();
        let _ = spawn_blocking(move || positions.save()).await;
    }
}
