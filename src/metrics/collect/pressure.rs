//! Pressure stall information from `/proc/pressure`. Does not set triggers.

use std::io;

use tokio::time::Instant;

use super::procfs::Reader;
use super::{Collector, CollectorContext, NoOptions, Registered, parse, tell};
use crate::model::{Group, Pressure, PressureStats, SystemMetrics};

/// How long tasks stood still for want of processor, memory or I/O.
///
/// A kernel before 4.20, or one started with `psi=0`, has no such files: that is reported once, and the
/// group is left out from then on without a word.
#[derive(Debug, Default)]
pub struct PressureCollector {
    file: Reader,
    is_reported: bool,
}

impl PressureCollector {
    /// A collector that has not read yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn stall(&mut self, what: &str) -> io::Result<Option<PressureStats>> {
        Ok(parse(self.file.read(format!("/proc/pressure/{what}"))?))
    }
}

impl Registered for PressureCollector {
    const GROUP: Group = Group::Pressure;
    type Options = NoOptions;

    fn build(_: &NoOptions, _: &CollectorContext<'_>) -> Self {
        Self::new()
    }
}

impl Collector for PressureCollector {
    fn group(&self) -> Group {
        Group::Pressure
    }

    fn read(&mut self, _now: Instant, into: &mut SystemMetrics) {
        let stalls = [self.stall("cpu"), self.stall("memory"), self.stall("io")];
        let error = stalls.iter().find_map(|stall| stall.as_ref().err()).map(io::Error::to_string);
        let [cpu, memory, io] = stalls.map(|stall| stall.ok().flatten());
        if cpu.is_some() || memory.is_some() || io.is_some() {
            into.pressure = Some(Pressure { cpu, memory, io }.into());
            self.is_reported = false;
        } else if !std::mem::replace(&mut self.is_reported, true) {
            let why = error.unwrap_or_else(|| "its text is not understood".to_owned());
            tell(
                into,
                Group::Pressure,
                format!("cannot read /proc/pressure: {why} (does this kernel have PSI?)"),
            );
        }
    }
}

/// Lines such as `some avg10=0.23 avg60=0.56 avg300=0.48 total=7444903`
/// (`Documentation/accounting/psi.rst`); the line `full` is missing for the processor before 5.13.
fn parse(text: &[u8]) -> Option<PressureStats> {
    let line = |name: &[u8]| {
        let line = parse::value(text, name)?;
        // Microseconds since boot.
        let total = parse::words(line).find_map(|word| word.strip_prefix(b"total="));
        let seconds = total.and_then(parse::number).map(|micros| micros as f64 / 1e6);
        Some((average(line, b"avg10=")?, average(line, b"avg60=")?, seconds))
    };
    let some = line(b"some ")?;
    let full = line(b"full ");
    Some(PressureStats {
        some_10s_percent: some.0,
        some_60s_percent: some.1,
        full_10s_percent: full.map(|full| full.0),
        full_60s_percent: full.map(|full| full.1),
        some_seconds: some.2,
        full_seconds: full.and_then(|full| full.2),
    })
}

fn average(line: &[u8], key: &[u8]) -> Option<f64> {
    let word = parse::words(line).find_map(|word| word.strip_prefix(key))?;
    let value: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    value.is_finite().then(|| value.clamp(0.0, 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stall_has_some_and_where_the_kernel_tells_it_full() {
        let text = b"some avg10=0.23 avg60=1.56 avg300=0.48 total=7444903\nfull avg10=0.10 avg60=0.20 avg300=0.00 total=0\n";
        let stall = parse(text).unwrap();
        assert_eq!((stall.some_10s_percent, stall.some_60s_percent), (0.23, 1.56));
        assert_eq!((stall.full_10s_percent, stall.full_60s_percent), (Some(0.1), Some(0.2)));
        assert_eq!((stall.some_seconds, stall.full_seconds), (Some(7.444903), Some(0.0)));
        let old = parse(b"some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n").unwrap();
        assert_eq!(old.full_10s_percent, None);
    }

    #[test]
    fn a_text_of_another_kind_is_refused() {
        for text in
            [&b""[..], b"some avg10=x avg60=1\n", b"some avg10=1\n", b"some avg10=inf avg60=1\n"]
        {
            assert_eq!(parse(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>, text in "(some|full) avg10=.{0,9} avg60=.{0,9}\n") {
            let _ = (parse(&bytes), parse(text.as_bytes()));
        }
    }
}
