//! Rules that need the whole of a file. Each names the place it concerns as a path of keys.

use std::collections::BTreeMap;

use super::agent::{AgentSettings, RuntimeKind};
use super::check::{Broken, Check, Step, somewhere_to_write};
use super::pipeline::PipelineFile;
use super::warnings;
use crate::metrics::collect::GROUPS;
use crate::model::Group;
use crate::wire::Format;

use Step::{Item, Key};

impl Check for PipelineFile {
    fn check(&self) -> Vec<Broken> {
        let mut broken: Vec<Broken> = one_origin(self).into_iter().collect();
        if broken.is_empty() {
            broken.extend(something_from(self));
            broken.extend(each_group_once(self));
        }
        if broken.is_empty() {
            // These rules concern collected groups.
            let groups = [something_left(self), what_the_formats_need(self)];
            broken.extend(groups.into_iter().flatten().next());
        }
        broken.extend(tags_that_the_format_takes(self));
        broken.extend(somewhere_to_write(&self.write));
        broken
    }

    fn warnings(&self) -> Vec<Broken> {
        warnings::of_pipeline(self)
    }
}

impl Check for AgentSettings {
    fn check(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        if self.runtime.kind == RuntimeKind::CurrentThread && self.runtime.worker_threads.is_some()
        {
            broken.push(Broken::new(
                &[Key("runtime"), Key("worker_threads")],
                "the current_thread runtime has no worker threads",
                "leave this line out, or write kind = \"multi_thread\"",
            ));
        }
        if self.restart.base > self.restart.max {
            broken.push(Broken::new(
                &[Key("restart"), Key("base")],
                "the first pause is longer than the longest one",
                "base has to be at most max, which is \"30s\" where it is not given",
            ));
        }
        broken
    }

    fn warnings(&self) -> Vec<Broken> {
        warnings::of_settings(self)
    }
}

fn one_origin(file: &PipelineFile) -> Option<Broken> {
    match (file.collect.is_empty(), &file.generate) {
        (true, None) => Some(
            Broken::new(
                &[],
                "nothing is collected",
                "add a section, as in [[collect]] every = \"30s\" from = [\"cpu\", \"memory\"]",
            )
            .missing(),
        ),
        (false, Some(_)) => Some(
            Broken::new(
                &[Key("generate")],
                "readings are both collected and generated",
                "keep [[collect]] for real readings, or [generate] for made-up ones",
            )
            .beside(vec![Key("collect"), Item(0)]),
        ),
        _ => None,
    }
}

/// Every place that names readers, and how many.
fn origins(file: &PipelineFile) -> impl Iterator<Item = (Vec<Step>, Vec<Group>)> {
    let groups = |from: &[super::Read]| from.iter().map(super::Read::group).collect();
    let collected = file.collect.iter().enumerate().map(move |(index, collect)| {
        (vec![Key("collect"), Item(index), Key("from")], groups(&collect.from))
    });
    let generated = file
        .generate
        .iter()
        .map(move |made| (vec![Key("generate"), Key("from")], groups(&made.from)));
    collected.chain(generated)
}

fn something_from(file: &PipelineFile) -> impl Iterator<Item = Broken> {
    let empty = origins(file).filter(|(_, groups)| groups.is_empty());
    empty.map(|(path, _)| {
        let message = "this list is empty, so nothing would be read";
        let help = format!("name what is read: {}", names(GROUPS));
        Broken::new(&path, message, help).missing()
    })
}

fn each_group_once(file: &PipelineFile) -> Vec<Broken> {
    let mut seen: Vec<(Group, Vec<Step>)> = Vec::new();
    let mut broken = Vec::new();
    for (list, groups) in origins(file) {
        for (index, group) in groups.into_iter().enumerate() {
            let place = [list.as_slice(), &[Item(index)]].concat();
            let Some((_, earlier)) = seen.iter().find(|(earlier, _)| *earlier == group) else {
                seen.push((group, place));
                continue;
            };
            let (message, help) = match earlier.starts_with(&list) {
                true => ("this is named twice in one list", "keep one of them"),
                false => (
                    "this is collected by two cadences",
                    "take it out of one of the two [[collect]]",
                ),
            };
            broken.push(Broken::new(&place, message, help).beside(earlier.clone()));
        }
    }
    broken
}

fn something_left(file: &PipelineFile) -> Option<Broken> {
    if !file.groups().is_empty() {
        return None;
    }
    let takes_out =
        |enrich: &super::Enrich| file.reads().any(|read| !enrich.options().passes(read.group()));
    let index = file.enrich.iter().rposition(takes_out)?;
    let broken = Broken::new(
        &[Key("enrich"), Item(index), Key(file.enrich[index].name())],
        "nothing of what is collected is left after this",
        "keep a group that is collected, or leave this enricher out",
    );
    Some(broken.missing())
}

fn what_the_formats_need(file: &PipelineFile) -> Option<Broken> {
    let formats = match file.write.is_empty() {
        true => vec![file.serialize.format],
        false => file.formats(),
    };
    formats.into_iter().find_map(|format| what_the_format_needs(file, format))
}

fn what_the_format_needs(file: &PipelineFile, format: Format) -> Option<Broken> {
    let left = file.groups();
    let missing: Vec<Group> =
        format.needs().iter().copied().filter(|group| !left.contains(group)).collect();
    let first = missing.first()?;
    let (why, also) = match file.reads().any(|read| read.group() == *first) {
        true => ("left out by select", format!("keep {}", names(&missing))),
        false => ("not collected", format!("collect {} as well", names(&missing))),
    };
    let needs = format!("needs {}, and {:?} is {why}", names(format.needs()), first.name());
    let own = file.write.iter().position(|write| write.format == Some(format));
    let place = match own {
        Some(index) => vec![Key("write"), Item(index), Key("format")],
        None => vec![Key("serialize"), Key("format")],
    };
    let broken = Broken::new(
        &place,
        format!("the format {:?} {needs}", format.name()),
        format!("{also}, or write format = \"json-lines\", which takes any"),
    );
    let without_section = Some((
        format!("without [serialize] the format is {:?}, which {needs}", format.name()),
        format!("add [serialize] with format = \"json-lines\", which takes any, or {also}"),
    ));
    Some(Broken { without_section, ..broken }.missing())
}

fn tags_that_the_format_takes(file: &PipelineFile) -> Vec<Broken> {
    let formats = file.formats();
    let mut broken = Vec::new();
    for (index, enrich) in file.enrich.iter().enumerate() {
        for name in enrich.options().tags().into_iter().flat_map(BTreeMap::keys) {
            let refused = |format: &Format| Some((*format, format.refused_tag(name)?));
            let Some((format, why)) = formats.iter().find_map(refused) else { continue };
            broken.push(Broken::new(
                &[Key("enrich"), Item(index), Key(enrich.name())],
                format!(
                    "a tag cannot be named {name:?} in the format {:?}: it {why}",
                    format.name()
                ),
                format!("give it another name, such as \"site_{}\"", name.trim_start_matches('_')),
            ));
        }
    }
    broken
}

/// `"cpu", "memory" and "disk"`.
pub(super) fn names(groups: &[Group]) -> String {
    super::explain::list(groups.iter().map(|group| group.name()))
}
