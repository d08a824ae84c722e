//! A pipeline in one line, for people.

use std::fmt;

use super::load::Pipeline;
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
        write!(f, " → {} → ", self.file.serialize.format.name())?;
        for (index, write) in self.file.write.iter().enumerate() {
            write!(f, "{}{}", if index > 0 { ", " } else { "" }, write.target)?;
        }
        Ok(())
    }
}

/// `port org.infinibay.agent`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(name) => write!(f, "port {name}"),
            Self::File(file) => write!(f, "file {}", file.path.display()),
            Self::Unix(path) => write!(f, "unix {}", path.display()),
            Self::Stdout => f.write_str("stdout"),
            Self::Null => f.write_str("null"),
        }
    }
}

fn counted(f: &mut fmt::Formatter<'_>, count: usize, noun: &str) -> fmt::Result {
    write!(f, "{count} {noun}{}", if count == 1 { "" } else { "s" })
}
