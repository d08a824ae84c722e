//! Readings for an action, taken now by the collectors of the metrics flow. Keeps nothing.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until};

use super::ActionError;
use super::blocking;
use crate::metrics::collect::Collector;
use crate::model::SystemMetrics;

/// What the collectors read over `interval`: a value that needs one (a rate, a share of time) has it
/// behind it. With no interval they read once, and such values are left out.
///
/// # Errors
/// The end of a sentence, where the deadline is too near or passes.
pub(super) async fn over(
    deadline: Instant,
    interval: Duration,
    collectors: Vec<Box<dyn Collector>>,
) -> Result<SystemMetrics, ActionError> {
    let start = Instant::now();
    if start + interval >= deadline {
        return Err(ActionError::MeasuringTakesLonger(interval));
    }
    let (reading, collectors) = once(deadline, collectors).await?;
    if interval.is_zero() {
        return Ok(reading);
    }
    sleep_until(start + interval).await;
    Ok(once(deadline, collectors).await?.0)
}

async fn once(
    deadline: Instant,
    mut collectors: Vec<Box<dyn Collector>>,
) -> Result<(SystemMetrics, Vec<Box<dyn Collector>>), ActionError> {
    blocking(deadline, "reading the machine", move || {
        let now = Instant::now();
        let mut reading = SystemMetrics::empty(SystemTime::now(), now, Duration::ZERO, 0);
        collectors.iter_mut().for_each(|collector| collector.read(now, &mut reading));
        (reading, collectors)
    })
    .await
}
