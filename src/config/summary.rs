//! A pipeline in one line, for people.

use std::fmt;

use super::load::Pipeline;
use super::records::RecordsFile;
use super::write::{Target, Write};

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
        for (nth, format) in self.file.formats().into_iter().enumerate() {
            write!(f, "{} → {} → ", if nth > 0 { ";" } else { "" }, format.name())?;
            let writes =
                self.file.write.iter().filter(|write| self.file.format_of(write) == format);
            targets(f, writes)?;
        }
        Ok(())
    }
}

/// `logs: 1 source, 2 transforms → json-lines → port org.infinibay.agent`.
impl fmt::Display for Pipeline<RecordsFile> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        counted(f, self.file.read.len(), "source")?;
        f.write_str(", ")?;
        counted(f, self.file.transform.len(), "transform")?;
        write!(f, " → {} → ", self.file.serialize.format.name())?;
        targets(f, self.file.write.iter())
    }
}

fn targets<'a>(f: &mut fmt::Formatter<'_>, writes: impl Iterator<Item = &'a Write>) -> fmt::Result {
    for (index, write) in writes.enumerate() {
        write!(f, "{}{}", if index > 0 { ", " } else { "" }, write.target)?;
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
