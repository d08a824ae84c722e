//! `run --once`: one reading of each pipeline through its own stages to standard output.

use std::process::ExitCode;

use super::trial::try_out;
use super::{complain, exit_code, print, refuse};
use crate::config::{Collect, Loaded, Pipeline};
use crate::wire::Format;

/// Nothing came of the reading.
const EXIT_NOTHING: u8 = 1;

/// Takes the reading and prints it, once in each format that the files have; in `format` only, where one is given.
pub(super) fn once(loaded: &Loaded, format: Option<Format>) -> ExitCode {
    let pipelines: Vec<Pipeline> =
        loaded.pipelines.iter().map(|pipeline| shortened(pipeline, format)).collect();
    if pipelines.is_empty() {
        return refuse("--once takes a reading, and these files collect nothing");
    }
    for pipeline in &pipelines {
        let groups = pipeline.file.groups();
        for format in pipeline.file.formats() {
            if let Some(missing) = format.needs().iter().find(|needed| !groups.contains(needed)) {
                let (name, missing, origin) = (format.name(), missing.name(), &pipeline.origin);
                return refuse(format_args!(
                    "{name} needs {missing}, which {origin} does not collect"
                ));
            }
        }
    }
    let tried = match try_out(loaded, &pipelines, 1) {
        Ok(tried) => tried,
        Err(code) => return code,
    };
    let mut is_whole = true;
    for (pipeline, tried) in pipelines.iter().zip(tried) {
        for (format, frames) in pipeline.file.formats().iter().zip(tried) {
            if frames.is_empty() {
                is_whole = false;
                let (origin, name) = (&pipeline.origin, format.name());
                complain(&format!(
                    "infiniservice: {origin}: the reading made no {name}: a group that it needs was not read, or a stage \
                     holds it back"
                ));
            }
            for frame in frames {
                match exit_code(print(&frame.bytes)) {
                    ExitCode::SUCCESS => {}
                    unwritten => return unwritten,
                }
            }
        }
    }
    ExitCode::from(if is_whole { 0 } else { EXIT_NOTHING })
}

/// The pipeline with one cadence that reads all, and one output for each format.
fn shortened(pipeline: &Pipeline, format: Option<Format>) -> Pipeline {
    let mut pipeline = pipeline.clone();
    let file = &mut pipeline.file;
    let from = file.collect.iter().flat_map(|collect| collect.from.clone()).collect();
    if let Some(every) = file.collect.iter().map(|collect| collect.every).min() {
        file.collect = vec![Collect { every, from }];
    }
    let default = format.unwrap_or(file.serialize.format);
    let mut formats: Vec<Format> = Vec::new();
    file.write.retain_mut(|write| {
        let format = format.or(write.format).unwrap_or(default);
        write.format = Some(format);
        let is_new = !formats.contains(&format);
        formats.push(format);
        is_new
    });
    pipeline
}
