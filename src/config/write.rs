//! The `[write]` section: one target, and how many frames are kept while it is not read.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

use super::units::Count;
use super::value::{Problem, text};
use crate::records::serialize as records;
use crate::sinks::{self, Destination, PathUse, UsedPath};
use crate::values::address::check_socket;
use crate::values::words::NONE;
use crate::values::{Key, key};
use crate::wire::Format;

/// One `[write]` section. `F` is how what the file sends looks: a format of readings, or of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write<F = Format> {
    /// Where frames go.
    pub target: Target,
    /// The format of what is written here; `None` is that of `[serialize]`.
    pub format: Option<F>,
    /// The newest frames that are kept while the port is not read; for other targets, the frames that may wait
    /// (of records at most `FRAMES_WAITING`).
    pub keep: Count,
    /// The delivery guarantee of a frame.
    pub delivery: Delivery,
}

/// The delivery guarantee of a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// Best effort: the oldest frames are overwritten and counted, and the host gets the count.
    #[default]
    Latest,
    /// Each is kept, on disk, until a host is known to have read it.
    Durable,
}

/// The default of `keep`.
const KEEP: u32 = 64;

/// The formats that a `[write]` section can name.
pub trait OutputFormat: DeserializeOwned + Copy + PartialEq {
    /// The format of a sink that takes one only, where it is one of these.
    fn of_sink(format: Format) -> Option<Self>;
}

impl OutputFormat for Format {
    fn of_sink(format: Format) -> Option<Self> {
        Some(format)
    }
}

impl OutputFormat for records::Format {
    /// None: such a sink serves metrics.
    fn of_sink(_: Format) -> Option<Self> {
        None
    }
}

/// The formats of all outputs, each once, in the order of the file; `default` is that of an output that names none.
pub(super) fn formats<F: OutputFormat>(write: &[Write<F>], default: F) -> Vec<F> {
    let mut formats = Vec::new();
    for format in write.iter().map(|write| write.format.unwrap_or(default)) {
        if !formats.contains(&format) {
            formats.push(format);
        }
    }
    formats
}

/// Where frames go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A virtio-serial port by name, a device by path, `unix:PATH`, `vsock:CID:PORT`, or `stdio`.
    Port(String),
    /// Anything else.
    Sink(Destination),
}

impl Target {
    /// Its name in a file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Port(_) => "port",
            Self::Sink(sink) => sink.name(),
        }
    }

    /// The options of the sink; `None` of a port.
    pub fn sink(&self) -> Option<&dyn sinks::Options> {
        match self {
            Self::Port(_) => None,
            Self::Sink(sink) => Some(sink.options()),
        }
    }

    /// The file that it writes.
    pub fn written(&self) -> Option<UsedPath<'_>> {
        self.sink()?.path().filter(|used| matches!(used.how, PathUse::Written { .. }))
    }
}

impl From<Destination> for Target {
    fn from(sink: Destination) -> Self {
        Self::Sink(sink)
    }
}

impl<'de, F: OutputFormat> Deserialize<'de> for Write<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Section::deserialize(deserializer)?.into_write().map_err(Problem::pack)
    }
}

/// A section as the file has it: the port, a field for each sink, and what is said of every target.
macro_rules! section {
    ($($(#[$about:meta])* $name:ident: $Name:ident($Options:ident)),* $(,)?) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, bound = "F: OutputFormat")]
        struct Section<F> {
            port: Option<PortName>,
            $(
                #[serde(default, deserialize_with = "some_options")]
                $name: Option<sinks::$Options>,
            )*
            format: Option<F>,
            keep: Option<Count>,
            delivery: Option<Delivery>,
        }

        impl<F> Section<F> {
            /// Takes the targets that it names.
            fn targets(&mut self) -> impl Iterator<Item = Target> + use<F> {
                let port = self.port.take().map(|PortName(name)| Target::Port(name));
                let sinks = [$(self.$name.take().map(Destination::$Name).map(Target::Sink)),*];
                port.into_iter().chain(sinks.into_iter().flatten())
            }
        }
    };
}
sinks::all_sinks!(section);

fn some_options<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: sinks::Options + Deserialize<'de>,
{
    T::parse(deserializer).map(Some)
}

impl<F: OutputFormat> Section<F> {
    fn into_write(mut self) -> Result<Write<F>, Problem> {
        let mut named = self.targets();
        let target = match (named.next(), named.next()) {
            (Some(target), None) => target,
            (Some(first), Some(second)) => {
                return Err(Problem::new(
                    format!("names two targets, {} and {}", first.name(), second.name()),
                    "keep one of them, and give the other a [[write]] section of its own",
                ));
            }
            _ => return Err(Problem::new("names no target", one_target())),
        };
        let delivery = self.delivery.unwrap_or_default();
        if delivery == Delivery::Durable && target.sink().is_some() {
            return Err(Problem::new(
                "has delivery = \"durable\", and only at a port does a host acknowledge",
                "leave delivery out: any other output gets every frame anyway",
            ));
        }
        let only = target.sink().and_then(sinks::Options::format);
        if only.is_some() && self.format.is_some() {
            return Err(Problem::new(
                format!("has a format, and {} takes one only", target.name()),
                "leave format out",
            ));
        }
        let keep = self.keep.unwrap_or(Count::fixed(KEEP));
        let format = only.and_then(F::of_sink).or(self.format);
        Ok(Write { target, format, keep, delivery })
    }
}

/// What `[write]` may name.
pub(super) fn one_target() -> String {
    let targets = std::iter::once(&PORT).chain(sinks::KEYS);
    let mut examples: Vec<String> =
        targets.map(|key| format!("{} = {}", key.name, key.example)).collect();
    let last = examples.pop().unwrap_or_default();
    format!("give it one of {} or {last}", examples.join(", "))
}

/// The one target that is no sink.
pub(super) const PORT: Key = key(
    "port",
    "name, device path, `unix:PATH`, `vsock:CID:PORT` or `stdio`",
    NONE,
    "\"org.infinibay.agent\"",
    "a virtio-serial port by its name, a device, a Unix socket or a vsock port to connect to (2 is the host), or standard input and output",
);

struct PortName(String);

impl<'de> Deserialize<'de> for PortName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        port_name(deserializer).map(Self)
    }
}

/// The name of a port.
pub(super) fn port_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = text(deserializer)?;
    if let Some(path) = name.strip_prefix("unix:") {
        check_socket(path).map_err(Problem::pack)?;
    }
    Ok(name)
}
