//! `bench`: a pipeline flat out over made-up readings, measured and checked. The pipeline is the one
//! that `run` would build; only its sources are others.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{load_or_tell, refuse, say};
use crate::bench::{Plan, Report};
use crate::daemon;

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// The pipeline file; built-in:NAME is one that is built in
    #[arg(value_name = "FILE", default_value = "built-in:bench.toml")]
    file: PathBuf,

    /// How long to make readings
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    time: Duration,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(super) fn main(self) -> ExitCode {
        let loaded = match load_or_tell(std::slice::from_ref(&self.file)) {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        let [pipeline] = &loaded.pipelines[..] else {
            return refuse("bench measures one pipeline; name its file");
        };
        if let Err(what) = daemon::start_log("warn") {
            return refuse(&what);
        }
        let runtime = match daemon::build_runtime(&loaded.agent.runtime) {
            Ok(runtime) => runtime,
            Err(error) => return refuse(&format!("cannot start the runtime: {error}")),
        };
        let plan = match Plan::new(pipeline) {
            Ok(plan) => plan,
            Err(what) => return refuse(&what),
        };
        let measured = runtime.block_on(plan.run(self.time));
        runtime.shutdown_timeout(Duration::from_millis(100));
        match measured {
            Err(what) => refuse(&what),
            Ok(report) => tell(&report, self.json),
        }
    }
}

fn tell(report: &Report, json: bool) -> ExitCode {
    let said = if json {
        match serde_json::to_string(report) {
            Ok(line) => say(&format!("{line}\n")),
            Err(error) => return refuse(&format!("cannot print the report: {error}")),
        }
    } else {
        say(&report.to_string())
    };
    if report.complete { said } else { ExitCode::FAILURE }
}
