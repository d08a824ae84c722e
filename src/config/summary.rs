//! A pipeline in one line, for people.

use std::fmt;

use super::loaded::Pipeline;
use super::records::RecordsFile;
use super::write::Target;

/// `metrics: 1 cadence, 7 groups → infinibay → port org.infinibay.agent`.
impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        match self.file.generate {
            Some(_) => f.write_str("generated")?,
            None => counted(f, self.file.collect.len(), "cadence")?,
        }
        f.write_str(", ")?;
        counted(f, self.file.groups().len(), "group")?;
        let to =
            self.file.write.iter().map(|write| (self.file.format_of(write).name(), &write.target));
        outputs(f, to)
    }
}

/// `logs: 1 source, 2 transforms → json-lines → port org.infinibay.agent`.
impl fmt::Display for Pipeline<RecordsFile> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        counted(f, self.file.read.len(), "source")?;
        f.write_str(", ")?;
        counted(f, self.file.transform.len(), "transform")?;
        let to =
            self.file.write.iter().map(|write| (self.file.format_of(write).name(), &write.target));
        outputs(f, to)
    }
}

/// ` → infinibay → port org.infinibay.agent; → json-lines → file /tmp/readings, stdout`: the targets of each format.
fn outputs<'a>(
    f: &mut fmt::Formatter<'_>,
    to: impl Iterator<Item = (&'static str, &'a Target)>,
) -> fmt::Result {
    let mut formats: Vec<(&str, Vec<&Target>)> = Vec::new();
    for (format, target) in to {
        match formats.iter_mut().find(|(known, _)| *known == format) {
            Some((_, targets)) => targets.push(target),
            None => formats.push((format, vec![target])),
        }
    }
    for (nth, (format, targets)) in formats.into_iter().enumerate() {
        write!(f, "{} → {format} → ", if nth > 0 { ";" } else { "" })?;
        for (index, target) in targets.into_iter().enumerate() {
            write!(f, "{}{target}", if index > 0 { ", " } else { "" })?;
        }
    }
    Ok(())
}

/// `port org.infinibay.agent`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(name) => write!(f, "port {name}"),
            Self::Sink(sink) => sink.options().fmt(f),
        }
    }
}

fn counted(f: &mut fmt::Formatter<'_>, count: usize, noun: &str) -> fmt::Result {
    write!(f, "{count} {noun}{}", if count == 1 { "" } else { "s" })
}
