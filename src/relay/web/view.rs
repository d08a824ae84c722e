//! What the page is told of guests, as JSON: a row of each in the fleet, and all that is known of one. Serves nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use tokio::time::Instant;

use crate::relay::fleet::{Count, Fleet, Guest};
use crate::relay::history::{Event, Process, Reading, milliseconds};

/// Readings that the fleet's own page draws of a guest.
const SPARK_MAX: usize = 40;

/// A guest among the others. Times are milliseconds since 1970, shares are percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    vm: Arc<str>,
    state: &'static str,
    /// When its last line came; 0 before the first.
    last: u64,
    /// When its newest reading came; its figures are there while it is up.
    at: Option<u64>,
    cpu: Option<f32>,
    memory: Option<f32>,
    disk: Option<f32>,
    /// What of it was not handed on.
    lost: u64,
    version: Option<Arc<str>>,
    event: Option<Event>,
}

impl Row {
    pub(super) fn of(fleet: &Fleet, guest: &Guest, now: Instant) -> Self {
        let known = guest.snapshot(now, &fleet.settings);
        let history = guest.history();
        let newest = history.readings.back().filter(|_| known.is_up);
        let drops = Count::ALL.into_iter().filter(|count| count.names().0 == "dropped");
        Self {
            vm: Arc::clone(&guest.vm),
            state: match (known.is_up, known.last_seconds > 0.0) {
                (true, _) => "up",
                (false, true) => "down",
                (false, false) => "never",
            },
            last: (known.last_seconds * 1000.0) as u64,
            at: newest.map(|newest| newest.at),
            cpu: newest.and_then(|newest| newest.cpu),
            memory: newest.and_then(|newest| newest.memory),
            disk: newest.and_then(|newest| newest.disk),
            lost: drops.map(|count| guest.counted(count)).sum(),
            version: known.version,
            event: history.events.back().cloned(),
        }
    }
}

/// All guests, by name.
pub(super) fn rows(fleet: &Fleet) -> BTreeMap<Arc<str>, Row> {
    let now = Instant::now();
    let row = |guest: Arc<Guest>| (Arc::clone(&guest.vm), Row::of(fleet, &guest, now));
    fleet.guests().into_iter().map(row).collect()
}

/// The whole fleet, for a page that has just been opened.
pub(super) fn fleet(fleet: &Fleet) -> Vec<u8> {
    #[derive(Serialize)]
    struct Whole<'a> {
        site: &'a str,
        now: u64,
        guests: Vec<Drawn>,
    }
    #[derive(Serialize)]
    struct Drawn {
        #[serde(flatten)]
        row: Row,
        /// Time and share of the processor of the last readings.
        spark: Vec<(u64, Option<f32>)>,
    }
    let now = Instant::now();
    let drawn = |guest: Arc<Guest>| {
        let row = Row::of(fleet, &guest, now);
        let history = guest.history();
        let skipped = history.readings.len().saturating_sub(SPARK_MAX);
        let spark = history.readings.iter().skip(skipped).map(|one| (one.at, one.cpu)).collect();
        Drawn { row, spark }
    };
    let guests = fleet.guests().into_iter().map(drawn).collect();
    json(&Whole { site: &fleet.site, now: milliseconds(SystemTime::now()), guests })
}

/// What is another now than before.
pub(super) fn changes<'a>(changed: Vec<&'a Row>, gone: Vec<&'a str>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Changes<'a> {
        now: u64,
        changed: Vec<&'a Row>,
        gone: Vec<&'a str>,
    }
    json(&Changes { now: milliseconds(SystemTime::now()), changed, gone })
}

/// All that is known of one guest.
pub(super) fn guest(fleet: &Fleet, guest: &Guest) -> Vec<u8> {
    #[derive(Serialize)]
    struct Whole<'a> {
        now: u64,
        #[serde(flatten)]
        row: Row,
        readings: Vec<&'a Reading>,
        processes: &'a [Process],
        events: Vec<&'a Event>,
        /// What was counted of it, by family and label.
        counts: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    }
    let row = Row::of(fleet, guest, Instant::now());
    let mut counts = BTreeMap::<_, BTreeMap<_, _>>::new();
    for count in Count::ALL {
        let ((family, _, value), times) = (count.names(), guest.counted(count));
        if times > 0 {
            counts.entry(family).or_default().insert(value, times);
        }
    }
    let history = guest.history();
    json(&Whole {
        now: milliseconds(SystemTime::now()),
        row,
        readings: history.readings.iter().collect(),
        processes: &history.processes,
        events: history.events.iter().collect(),
        counts,
    })
}

/// None of these types can fail to be JSON.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
