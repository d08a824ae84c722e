//! The level of the log while the program runs: it may be changed for a time, and goes back by itself.

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::reload::{Handle, Layer};

use crate::config::is_log_level;
use crate::sync::IgnorePoison;
use crate::tasks::spawn;

/// The longest time of a change.
pub(crate) const CHANGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// There is one log, and one level.
static LEVEL: OnceLock<Mutex<Level>> = OnceLock::new();

struct Level {
    filter: Handle<Targets, Registry>,
    /// The level of the settings, as it is written and as it filters.
    configured: (String, Targets),
    change: Option<Change>,
}

/// A level in place of the one of the settings.
struct Change {
    level: String,
    until: Instant,
    /// The task that takes it back.
    end: AbortHandle,
}

/// The level now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LevelStatus {
    /// The level in force.
    pub level: String,
    /// The level of the settings, where another one is in force, and the seconds that are left of that.
    pub instead_of: Option<(String, u64)>,
}

/// Why the level cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LevelError {
    /// The text is not a list of levels.
    #[error("this is not a list of log levels")]
    Unreadable,
    /// The time is zero, or longer than [`CHANGE_MAX`].
    #[error("the level can be changed for 1s to 24h")]
    Time,
    /// The program has no log.
    #[error("this program does not log")]
    NoLog,
}

/// A filter with the level `configured`, for [`status`] and [`change`]. Of several, those change the first.
pub(super) fn filter(configured: &str) -> Result<Layer<Targets, Registry>, LevelError> {
    let targets = configured.parse::<Targets>().map_err(|_| LevelError::Unreadable)?;
    let (layer, filter) = Layer::new(targets.clone());
    let configured = (configured.to_owned(), targets);
    let _ = LEVEL.set(Mutex::new(Level { filter, configured, change: None }));
    Ok(layer)
}

/// The level now.
///
/// # Errors
/// The program has no log.
pub(crate) fn status() -> Result<LevelStatus, LevelError> {
    Ok(LEVEL.get().ok_or(LevelError::NoLog)?.lock().ignore_poison().status())
}

/// Puts `level` in force for a time; `None` goes back to the level of the settings. It takes the place of an earlier
/// change. Call it in a runtime, whose timer ends the change.
///
/// # Errors
/// See [`LevelError`]: nothing has changed then.
pub(crate) fn change(change: Option<(&str, Duration)>) -> Result<LevelStatus, LevelError> {
    let mut current = LEVEL.get().ok_or(LevelError::NoLog)?.lock().ignore_poison();
    let change = match change {
        None => None,
        Some((_, time)) if time.is_zero() || time > CHANGE_MAX => return Err(LevelError::Time),
        // A word that is no level would be taken for a module, and silence all others.
        Some((level, _)) if !is_log_level(level) => return Err(LevelError::Unreadable),
        Some((level, time)) => {
            Some((level.parse::<Targets>().map_err(|_| LevelError::Unreadable)?, level, time))
        }
    };
    if let Some(Change { end, .. }) = current.change.take() {
        end.abort();
    }
    match change {
        None => current.restore(),
        Some((targets, level, time)) => {
            let until = Instant::now() + time;
            let end = spawn(async move {
                sleep_until(until).await;
                if let Some(level) = LEVEL.get() {
                    level.lock().ignore_poison().expire(Instant::now());
                }
            });
            current.set(targets);
            let (level, end) = (level.to_owned(), end.abort_handle());
            current.change = Some(Change { level, until, end });
        }
    }
    Ok(current.status())
}

impl Level {
    fn status(&self) -> LevelStatus {
        let Some(change) = &self.change else {
            return LevelStatus { level: self.configured.0.clone(), instead_of: None };
        };
        let left = change.until.saturating_duration_since(Instant::now());
        let instead_of = Some((self.configured.0.clone(), left.as_secs_f64().ceil() as u64));
        LevelStatus { level: change.level.clone(), instead_of }
    }

    /// Takes the change back, unless a later one has taken its place.
    fn expire(&mut self, now: Instant) {
        if self.change.take_if(|change| change.until <= now).is_some() {
            self.restore();
            tracing::info!(level = self.configured.0, "the log has its configured level again");
        }
    }

    fn restore(&self) {
        self.set(self.configured.1.clone());
    }

    /// A filter of a log that has ended is gone; there is nothing to change then.
    fn set(&self, targets: Targets) {
        let _ = self.filter.reload(targets);
    }
}
