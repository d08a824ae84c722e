//! The outputs of all files, and where two of them collide: under any spelling of a path, and with the names that rotation
//! creates. Reads folders, so it blocks.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::error::{ConfigError, Place as ErrorPlace, shown};
use super::loaded::Loaded;
use super::write::Target;
use crate::commands::secret::SecretSource;
use crate::files::is_state_name;
use crate::port;
use crate::records;
use crate::sinks::PathUse;

/// Device and inode.
type Inode = (u64, u64);

/// Links to nothing that are followed on one way, as many as the kernel follows of others.
const LINKS_MAX: usize = 40;

/// Where a path leads: a folder that is there, known by its inode, and names from it on, which may not be there yet.
#[derive(Debug, PartialEq, Eq)]
struct ResolvedPath {
    folder: Inode,
    rest: PathBuf,
}

impl ResolvedPath {
    /// `None` where not even the root can be looked at.
    fn of(path: &Path) -> Option<Self> {
        let names = |path: &Path| -> Vec<OsString> {
            let names = path.components().rev().filter_map(|component| match component {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
            });
            names.collect()
        };
        let mut left = names(&std::path::absolute(path).ok()?);
        let (mut folder, mut rest) = (PathBuf::from("/"), PathBuf::new());
        let mut links = 0;
        while let Some(name) = left.pop() {
            let next = folder.join(&name);
            if name == ".." {
                if !rest.pop() {
                    folder = next;
                }
            } else if !rest.as_os_str().is_empty() {
                rest.push(name);
            } else if next.is_dir() {
                folder = next;
            } else if let Some(target) = fs::read_link(&next).ok().filter(|_| links < LINKS_MAX) {
                // What it leads to may be made later.
                links += 1;
                if target.is_absolute() {
                    folder = PathBuf::from("/");
                }
                left.extend(names(&target));
            } else {
                rest.push(name);
            }
        }
        Some(Self { folder: inode(&fs::metadata(folder).ok()?), rest })
    }
}

fn inode(metadata: &fs::Metadata) -> Inode {
    (metadata.dev(), metadata.ino())
}

/// Something that is there, or will be.
#[derive(Debug)]
struct UsedDestination<'a> {
    /// The file that names it.
    origin: &'a str,
    path: &'a Path,
    kind: Kind,
    place: Option<ResolvedPath>,
    /// The file itself, where there is one.
    file: Option<Inode>,
    /// How many names it has besides, `.1` to this.
    kept: u32,
    /// Where in `origin` it is named.
    at: Option<&'a ErrorPlace>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Output,
    Audit,
    /// Or a device. Many may connect to one.
    Socket,
    Config,
    Secret,
}

impl<'a> UsedDestination<'a> {
    fn new(origin: &'a str, path: &'a Path, kind: Kind, kept: u32) -> Self {
        let file = fs::metadata(path).ok().filter(|found| !found.is_dir());
        let (place, file) = (ResolvedPath::of(path), file.as_ref().map(inode));
        Self { origin, path, kind, place, file, kept, at: None }
    }

    /// The same, named in the section of this number.
    fn in_section(self, loaded: &'a Loaded, number: usize) -> Self {
        let sections = loaded.outputs.iter().find(|(origin, _)| origin == self.origin);
        Self { at: sections.and_then(|(_, places)| places.get(number)), ..self }
    }

    /// Whether the agent writes a file there.
    fn writes(&self) -> bool {
        matches!(self.kind, Kind::Output | Kind::Audit)
    }

    fn meets(&self, other: &Self) -> bool {
        if !self.writes() && !other.writes() {
            return false;
        }
        let is_one = self.file.is_some() && self.file == other.file;
        let (Some(one), Some(two)) = (&self.place, &other.place) else { return is_one };
        let same = || one.rest == two.rest || self.becomes(two) || other.becomes(one);
        is_one || one.folder == two.folder && same()
    }

    /// Whether this file, once rotated, gets the name of `other`, which is in the same folder.
    fn becomes(&self, other: &ResolvedPath) -> bool {
        let Some(ResolvedPath { rest, .. }) = &self.place else { return false };
        let name = other.rest.as_os_str().as_bytes();
        let number = name.strip_prefix(rest.as_os_str().as_bytes());
        let number = number.and_then(|end| str::from_utf8(end.strip_prefix(b".")?).ok());
        let number = number.filter(|text| !text.starts_with(['0', '+']));
        number
            .and_then(|text| text.parse().ok())
            .is_some_and(|number| (1..=self.kept).contains(&number))
    }
}

/// What cannot go together in `loaded`, with `state` as the state folder, and with `instead` in the place of every port
/// that the files name; an error for each output that is wrong.
///
/// - Two that write to one file, also over links and other spellings, or where one is rotated into the other: each
///   would turn over, or replace, what the other has written.
/// - An output that is a file of the agent's own in the state folder, a configuration file, the secret, or would be read
///   as a configuration file.
/// - An output that is a folder, a link, a pipe or a device.
pub(crate) fn conflicts(
    loaded: &Loaded,
    state: &Path,
    instead: Option<&port::Target>,
) -> Vec<ConfigError> {
    let claims = claims(loaded, instead);
    let mut errors = Vec::new();
    for (index, claim) in claims.iter().enumerate() {
        let met = claims[..index].iter().find(|other| claim.meets(other));
        let wrong = match met {
            Some(other) => Some(meeting(claim, other)),
            None => unfit(claim, &claims, state),
        };
        if let Some((message, help)) = wrong {
            let place = claim.at.cloned().map(Box::new);
            let error = ConfigError::of_file(claim.origin, message, Some(help));
            errors.push(ConfigError { place, ..error });
        }
    }
    errors
}

/// All of them; the ones that are read before the ones that are written.
fn claims<'a>(loaded: &'a Loaded, instead: Option<&'a port::Target>) -> Vec<UsedDestination<'a>> {
    let pipelines = || loaded.pipelines.iter().chain(&loaded.skipped);
    let origins = pipelines().map(|pipeline| pipeline.origin.as_str());
    let origins = origins.chain(loaded.records.iter().map(|pipeline| pipeline.origin.as_str()));
    let commands = loaded.commands.as_ref();
    let origins = origins.chain(commands.map(|commands| commands.origin.as_str()));
    let origins = origins.chain(loaded.agent_origin.as_deref());
    let mut claims: Vec<UsedDestination<'_>> = origins
        .filter(|origin| !origin.starts_with("built-in:"))
        .map(|origin| UsedDestination::new(origin, Path::new(origin), Kind::Config, 0))
        .collect();
    if let Some(port::Target::Path(path) | port::Target::Unix(path)) = instead {
        claims.push(UsedDestination::new("--port", path, Kind::Socket, 0));
    }
    let named = |origin, name: &'a str| {
        let path = name.strip_prefix("unix:").unwrap_or(name);
        let is_path = instead.is_none() && path.starts_with('/');
        is_path.then(|| UsedDestination::new(origin, Path::new(path), Kind::Socket, 0))
    };
    if let Some(commands) = commands {
        let (origin, file) = (commands.origin.as_str(), &commands.file);
        claims.extend(file.receive.iter().filter_map(|receive| named(origin, &receive.port)));
        if let Some(SecretSource::File(path)) = &file.verify.secret {
            claims.push(UsedDestination::new(origin, path, Kind::Secret, 0));
        }
        if let Some(path) = &file.audit.path {
            let claim = UsedDestination::new(origin, path, Kind::Audit, file.audit.keep.get());
            claims.push(claim.in_section(loaded, 0));
        }
    }
    for (origin, number, target) in loaded.targets() {
        let claim = match target {
            Target::Port(name) => named(origin, name),
            Target::Sink(sink) => sink.options().path().map(|used| match used.how {
                PathUse::Written { kept } => {
                    UsedDestination::new(origin, used.path, Kind::Output, kept)
                }
                PathUse::Socket => UsedDestination::new(origin, used.path, Kind::Socket, 0),
            }),
        };
        claims.extend(claim.map(|claim| claim.in_section(loaded, number)));
    }
    for one in &loaded.records {
        let files = one.file.read.iter().filter_map(records::read::Read::side_file);
        claims.extend(files.map(|file| {
            UsedDestination::new(&one.origin, &file.path, Kind::Output, file.keep.get())
        }));
    }
    claims
}

/// The error where two outputs collide.
fn meeting(claim: &UsedDestination<'_>, other: &UsedDestination<'_>) -> (String, &'static str) {
    // When only one is an output, the message names what it would destroy.
    let (writer, other) = if claim.writes() { (claim, other) } else { (other, claim) };
    let (path, there) = (shown(writer.path), shown(other.path));
    match other.kind {
        Kind::Config => (
            format!("{path} is written to, and is the configuration file {there}"),
            "write to another file",
        ),
        Kind::Secret => {
            (format!("{path} is written to, and holds the secret"), "write to another file")
        }
        Kind::Socket => (
            format!("{path} is written to as a file, and is the port or socket {there}"),
            "write to another file",
        ),
        Kind::Output | Kind::Audit => {
            let how = match claim.place == other.place
                || claim.file.is_some() && claim.file == other.file
            {
                true if writer.path == other.path => String::new(),
                true => format!(", as {there}"),
                false => format!(", because {there} is rotated"),
            };
            let name = shown(claim.path);
            (
                format!("{} writes to {name} too{how}", other_origin(claim, writer, other)),
                "give each a file of its own",
            )
        }
    }
}

fn other_origin<'a>(
    claim: &UsedDestination<'a>,
    writer: &UsedDestination<'a>,
    other: &UsedDestination<'a>,
) -> &'a str {
    if std::ptr::eq(claim, writer) { other.origin } else { writer.origin }
}

/// The error of an output by itself.
fn unfit(
    claim: &UsedDestination<'_>,
    claims: &[UsedDestination<'_>],
    state: &Path,
) -> Option<(String, &'static str)> {
    let path = shown(claim.path);
    if let Kind::Output | Kind::Audit | Kind::Socket = claim.kind
        && let Some(name) = own_name(claim.path, state)
        && !(claim.kind == Kind::Audit && name.as_bytes().starts_with(b"audit"))
    {
        let message = format!("{path} is a file of the agent's own, in its state folder");
        return Some((message, "write to another folder"));
    }
    if claim.kind != Kind::Output {
        return None;
    }
    // The audit reports this when it is opened, and a locked agent does not need it.
    if fs::symlink_metadata(claim.path).is_ok_and(|found| !found.is_file()) {
        let message = format!("{path} is not a regular file");
        return Some((message, "name one that is, or a new one; not a link, a folder or a device"));
    }
    let folder = |claim: &UsedDestination<'_>| claim.place.as_ref().map(|place| place.folder);
    let is_beside =
        |other: &UsedDestination<'_>| other.kind == Kind::Config && folder(other) == folder(claim);
    if claim.path.extension().is_some_and(|end| end == "toml") && claims.iter().any(is_beside) {
        let message = format!("{path} would be read as a configuration file at the next reload");
        return Some((message, "let its name end otherwise"));
    }
    None
}

/// The name of the agent's own in its state folder that `path` leads to, or through.
fn own_name(path: &Path, state: &Path) -> Option<OsString> {
    let whole = std::path::absolute(path).ok()?;
    let inside = ResolvedPath::of(state)?;
    whole.ancestors().find_map(|path| {
        let name = path.file_name().filter(|name| name.to_str().is_some_and(is_state_name))?;
        (ResolvedPath::of(path.parent()?)? == inside).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests;
