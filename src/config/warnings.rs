//! Warnings: parts of a file that have no effect or lose data, and so are likely mistakes. Reads the file system.

use std::collections::BTreeMap;
use std::path::Path;

use super::agent::AgentSettings;
use super::check::{Broken, Step};
use super::error::clean;
use super::pipeline::{Batch, PipelineFile};
use super::write::{Target, Write};
use crate::metrics::enrich::{Enrich, NoEffect};
use crate::metrics::serialize::MAX_FRAME;
use crate::model::Group;
use crate::sinks::Options;
use crate::wire::Format;

use Step::{Item, Key};

/// The warnings about a pipeline file.
pub(super) fn of_pipeline(file: &PipelineFile) -> Vec<Broken> {
    let mut warnings = Vec::new();
    without_a_place_in_the_format(file, &mut warnings);
    without_input(file, &mut warnings);
    without_effect(file, &mut warnings);
    tags_without_value(file, &mut warnings);
    tags_given_twice(file, &mut warnings);
    batch_that_its_delay_never_ends(file, &mut warnings);
    for (index, write) in file.write.iter().enumerate() {
        output(write, file.batch.max_bytes.bytes(), index, &mut warnings);
    }
    warnings
}

fn without_a_place_in_the_format(file: &PipelineFile, warnings: &mut Vec<Broken>) {
    let formats = file.formats();
    let names = super::explain::list(formats.iter().map(|format| format.name()));
    let the_format = match formats.len() {
        1 => format!("the format {names} has"),
        _ => format!("the formats {names} have"),
    };
    let other = "write format = \"json-lines\" in [serialize], or leave this out";
    for (index, enrich) in file.enrich.iter().enumerate() {
        let name = enrich.name();
        if !formats.iter().any(|format| enrich.options().shows_in(*format)) {
            let message = format!("{the_format} no place for {name}: it is lost");
            warnings.push(Broken::new(&[Key("enrich"), Item(index), Key(name)], message, other));
        }
    }
    let left = file.groups();
    for (at, collect) in file.collect.iter().enumerate() {
        for (index, read) in collect.from.iter().enumerate() {
            let group = read.group();
            if left.contains(&group) && !formats.iter().any(|format| format.carries(group)) {
                let name = group.name();
                let message = format!("{the_format} no place for {name:?}: it is read and lost");
                let path = [Key("collect"), Item(at), Key("from"), Item(index)];
                warnings.push(Broken::new(&path, message, other));
            }
        }
    }
}

/// Enrichers whose group is not there, or not any more, when they come.
fn without_input(file: &PipelineFile, warnings: &mut Vec<Broken>) {
    let mut groups: Vec<Group> = file.reads().map(super::Read::group).collect();
    for (index, enrich) in file.enrich.iter().enumerate() {
        groups.retain(|group| enrich.options().passes(*group));
        let mut needs = enrich.options().needs();
        needs.dedup();
        let is_all = needs.len() == 1;
        for needed in needs.into_iter().filter(|needed| !groups.contains(needed)) {
            let what = if is_all { "this does nothing" } else { "a part of this does nothing" };
            let message = format!("{what}: there is no {:?} here", needed.name());
            let help = format!("collect {:?}, or leave this out", needed.name());
            let path = [Key("enrich"), Item(index), Key(enrich.name())];
            warnings.push(Broken::new(&path, message, help));
        }
    }
}

/// Options of enrichers that have no effect on this machine.
fn without_effect(file: &PipelineFile, warnings: &mut Vec<Broken>) {
    for (index, enrich) in file.enrich.iter().enumerate() {
        for NoEffect { key, item, message, help } in enrich.options().without_effect() {
            let path = [Key("enrich"), Item(index), Key(enrich.name()), Key(key), Item(item)];
            warnings.push(Broken::new(&path, message, help));
        }
    }
}

/// Values that a format has no place for, so that it leaves the tag out.
fn tags_without_value(file: &PipelineFile, warnings: &mut Vec<Broken>) {
    if !file.formats().contains(&Format::Influx) {
        return;
    }
    for (index, enrich) in file.enrich.iter().enumerate() {
        let tags = enrich.options().tags().into_iter().flatten();
        for (name, _) in tags.filter(|(_, value)| value.is_empty()) {
            let message =
                format!("the tag {name:?} has no value, and the format \"influx\" leaves it out");
            let path = [Key("enrich"), Item(index), Key(enrich.name())];
            warnings.push(Broken::new(&path, message, "give it a value, or take it out"));
        }
    }
}

fn tags_given_twice(file: &PipelineFile, warnings: &mut Vec<Broken>) {
    fn names(enrich: &Enrich) -> impl Iterator<Item = &String> {
        enrich.options().tags().into_iter().flat_map(BTreeMap::keys)
    }
    for (index, enrich) in file.enrich.iter().enumerate() {
        let later: Vec<&String> = file.enrich[index + 1..].iter().flat_map(names).collect();
        for name in names(enrich).filter(|name| later.contains(name)) {
            let message =
                format!("the tag {name:?} is given again further down, and that one counts");
            let path = [Key("enrich"), Item(index), Key(enrich.name())];
            warnings.push(Broken::new(&path, message, "take one of the two out"));
        }
    }
}

fn batch_that_its_delay_never_ends(file: &PipelineFile, warnings: &mut Vec<Broken>) {
    let (items, delay) = (file.batch.max_items.get(), file.batch.max_delay.get());
    let Some(fastest) = file.collect.iter().map(|collect| collect.every.get()).min() else {
        return;
    };
    let full = fastest.saturating_mul(items.saturating_sub(1));
    if items > 1 && delay > full && delay != Batch::default().max_delay.get() {
        let message = format!(
            "this is never reached: {items} readings are there after {}",
            humantime::format_duration(full)
        );
        let help = "raise max_items, or leave this line out";
        warnings.push(Broken::new(&[Key("batch"), Key("max_delay")], message, help));
    }
}

/// The warnings about one `[[write]]` behind batches of at most `batch` bytes.
pub(super) fn output<F>(write: &Write<F>, batch: u64, index: usize, warnings: &mut Vec<Broken>) {
    let path = |key| [Key("write"), Item(index), Key(key)];
    match &write.target {
        Target::Port(name) => {
            if let Some(socket) = name.strip_prefix("unix:") {
                relative_path(Path::new(socket), &path("port"), warnings);
            }
            let kept = u64::from(write.keep.get()).saturating_mul(MAX_FRAME as u64);
            if kept < batch {
                let frames = batch.div_ceil(MAX_FRAME as u64);
                let message = format!(
                    "this is less than one batch: up to {frames} frames at once, and the oldest of them would be lost"
                );
                let help = format!("write keep = {frames}, or make max_bytes of [batch] smaller");
                warnings.push(Broken::new(&path("keep"), message, help));
            }
        }
        Target::Sink(sink) => self::sink(sink.options(), &path(sink.name()), warnings),
    }
}

/// The warnings about a sink whose options stand at `place`.
pub(super) fn sink(options: &dyn Options, place: &[Step], warnings: &mut Vec<Broken>) {
    let used = options.path();
    let key = used.and_then(|used| used.key).map(Key);
    let at: Vec<Step> = place.iter().copied().chain(key).collect();
    if let Some(used) = used {
        relative_path(used.path, &at, warnings);
    }
    for (message, help) in options.obstacles() {
        warnings.push(Broken::new(&at, clean(&message), clean(&help)));
    }
}

fn relative_path(path: &Path, at: &[Step], warnings: &mut Vec<Broken>) {
    if path.is_relative() {
        let message = "this path begins where the agent is started, and that may be anywhere";
        warnings.push(Broken::new(at, message, "begin it with a slash"));
    }
}

/// The warnings about the settings of the agent.
pub(super) fn of_settings(settings: &AgentSettings) -> Vec<Broken> {
    let mut warnings = Vec::new();
    for (message, help) in unknown_log_targets(&settings.log.level) {
        warnings.push(Broken::new(&[Key("log"), Key("level")], message, help));
    }
    if settings.runtime.thread_name.len() > THREAD_NAME_MAX {
        let message = "the kernel shows 15 bytes of this name";
        let help = "shorten it, where the rest matters";
        warnings.push(Broken::new(&[Key("runtime"), Key("thread_name")], message, help));
    }
    warnings
}

/// What Linux keeps of a thread's name (`TASK_COMM_LEN` of `include/linux/sched.h` is 16, with a NUL).
const THREAD_NAME_MAX: usize = 15;

/// The modules of this program that log, and the libraries that do.
const MODULES: [&str; 16] = [
    "agent",
    "bench",
    "cli",
    "commands",
    "config",
    "files",
    "host",
    "machine_events",
    "metrics",
    "model",
    "pipeline",
    "port",
    "records",
    "sinks",
    "spool",
    "wire",
];
const LIBRARIES: [&str; 4] = ["tokio", "zbus", "mio", "tracing"];

/// What is wrong with each target of `levels` that nothing logs as, and what to write.
pub(crate) fn unknown_log_targets(levels: &str) -> impl Iterator<Item = (String, String)> {
    let targets = levels.split(',').filter_map(|part| part.split_once('='));
    targets.filter_map(|(target, _)| unknown_target(target.trim()))
}

fn unknown_target(target: &str) -> Option<(String, String)> {
    let mut parts = target.split("::");
    let (library, module) = (parts.next().unwrap_or_default(), parts.next());
    let message = format!("nothing logs as {target:?}: this has no effect");
    match (library, module) {
        ("infiniservice", Some(module)) if !MODULES.contains(&module) => {
            let near = super::explain::nearest(module, &MODULES);
            let help = match near {
                Some(near) => format!("did you mean \"infiniservice::{near}\"?"),
                None => format!("its modules are {}", super::explain::list(MODULES)),
            };
            Some((message, help))
        }
        ("infiniservice", _) => None,
        (module, None) if MODULES.contains(&module) => {
            Some((message, format!("write \"infiniservice::{module}\"")))
        }
        (library, _) if LIBRARIES.contains(&library) => None,
        _ => Some((message, "write \"infiniservice::\" and a module, such as port".to_owned())),
    }
}
