//! Paths of sockets with a part that stands for any name, and the guest's name in them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::VM;
use crate::values::Problem;
use crate::wire::steers;

/// Names that are looked at in one search: a folder with more is no folder of sockets.
const NAMES_MAX: usize = 100_000;
/// `*` and `{vm}` in one name, which bounds how long a comparison takes.
const PARTS_MAX: usize = 2;

/// A path in which `*` stands for any part of a name, and `{vm}` for the part that is the guest's. Without `{vm}` the last `*`
/// is the guest's name.
///
/// `/run/domain-*-{vm}/agent` is the pattern of `/run/domain-7-web-1/agent`, the guest `web-1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketPattern {
    /// Each name of the path.
    names: Vec<Vec<Part>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// Any text, the shortest that fits.
    Any,
    /// The guest's name, at least a character.
    Vm,
}

impl FromStr for SocketPattern {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let example = "write it as in \"/run/guests/{vm}.socket\"";
        let Some(path) = text.strip_prefix('/') else {
            return Err(Problem::new("is no path from the root on", example));
        };
        let mut names: Vec<Vec<Part>> = path.split('/').map(parts).collect();
        if path.split('/').any(|name| name.is_empty() || name == "." || name == "..") {
            return Err(Problem::new("has a name that is empty, . or ..", example));
        }
        if !names.iter().flatten().any(|part| *part == Part::Vm)
            && let Some(last) = names.iter_mut().flatten().rev().find(|part| **part == Part::Any)
        {
            *last = Part::Vm;
        }
        if names.iter().flatten().filter(|part| **part == Part::Vm).count() != 1 {
            return Err(Problem::new("does not say which part is the guest's name", example));
        }
        let is_part = |part: &&Part| !matches!(part, Part::Text(_));
        if names.iter().any(|name| name.iter().filter(is_part).count() > PARTS_MAX) {
            return Err(Problem::new("has more than two * or {vm} in one name", example));
        }
        Ok(Self { names })
    }
}

/// A name as its parts.
fn parts(name: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = name;
    while let Some(at) = rest.find('*').into_iter().chain(rest.find(VM)).min() {
        let (text, wild) = rest.split_at(at);
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        let (part, length) =
            if wild.starts_with('*') { (Part::Any, 1) } else { (Part::Vm, VM.len()) };
        parts.push(part);
        rest = &wild[length..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    parts
}

/// Whether `parts` are the whole of `name`, and the guest's name in it.
fn fits<'n>(parts: &[Part], name: &'n str, vm: &mut Option<&'n str>) -> bool {
    let Some((first, rest)) = parts.split_first() else { return name.is_empty() };
    let ends = || name.char_indices().map(|(at, _)| at).chain([name.len()]);
    match first {
        Part::Text(text) => {
            name.strip_prefix(text.as_str()).is_some_and(|name| fits(rest, name, vm))
        }
        Part::Any => ends().any(|end| fits(rest, &name[end..], vm)),
        Part::Vm => {
            ends().filter(|end| *end > 0).collect::<Vec<_>>().into_iter().rev().any(|end| {
                let fits = fits(rest, &name[end..], vm);
                if fits {
                    *vm = Some(&name[..end]);
                }
                fits
            })
        }
    }
}

impl SocketPattern {
    /// Adds the sockets below `folder` that the `names` lead to.
    fn look(
        names: &[Vec<Part>],
        folder: &Path,
        vm: Option<&str>,
        left: &mut usize,
        found: &mut Found,
    ) {
        let Some((name, rest)) = names.split_first() else { return };
        if let [Part::Text(text)] = name.as_slice() {
            let path = folder.join(text);
            return match rest.is_empty() {
                true => {
                    found.add(&path, vm, fs::symlink_metadata(&path).ok().map(|at| at.file_type()))
                }
                false => Self::look(rest, &path, vm, left, found),
            };
        }
        // A folder that is not there yet, or that may not be read, has no sockets.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if *left == 0 {
                found.is_cut = true;
                return;
            }
            *left -= 1;
            let mut own = None;
            let file_name = entry.file_name();
            let Some(text) = file_name.to_str().filter(|text| fits(name, text, &mut own)) else {
                continue;
            };
            let (path, vm) = (folder.join(text), own.or(vm));
            match rest.is_empty() {
                true => found.add(&path, vm, entry.file_type().ok()),
                false => Self::look(rest, &path, vm, left, found),
            }
        }
    }
}

/// What one search has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The socket of each guest.
    pub sockets: BTreeMap<String, PathBuf>,
    /// Sockets whose guest has another one already: the first in the order of their paths is taken.
    pub twice: usize,
    /// Names of guests that would control a terminal.
    pub unprintable: usize,
    /// Whether there were more names than are looked at.
    pub is_cut: bool,
}

impl Found {
    fn add(&mut self, path: &Path, vm: Option<&str>, kind: Option<fs::FileType>) {
        // A link could lead to any socket of the machine.
        let (Some(vm), true) = (vm, kind.is_some_and(|kind| kind.is_socket())) else { return };
        if vm.chars().any(steers) {
            self.unprintable += 1;
            return;
        }
        match self.sockets.entry(vm.to_owned()) {
            Entry::Vacant(free) => {
                free.insert(path.to_owned());
            }
            Entry::Occupied(mut known) => {
                self.twice += 1;
                if path < known.get().as_path() {
                    known.insert(path.to_owned());
                }
            }
        }
    }
}

/// Looks for the sockets of all `patterns`. It blocks on folders.
pub(crate) fn find(patterns: &[SocketPattern]) -> Found {
    let (mut found, mut left) = (Found::default(), NAMES_MAX);
    for pattern in patterns {
        SocketPattern::look(&pattern.names, Path::new("/"), None, &mut left, &mut found);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// The guest's name in `path`, compared name by name as the search does.
    fn vm(pattern: &str, path: &str) -> Option<String> {
        let pattern: SocketPattern = pattern.parse().unwrap();
        let names: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let mut vm = None;
        let is_same = names.len() == pattern.names.len()
            && pattern.names.iter().zip(names).all(|(mine, name)| fits(mine, name, &mut vm));
        vm.filter(|_| is_same).map(str::to_owned)
    }

    #[test]
    fn the_name_of_a_guest_is_the_part_that_the_pattern_says() {
        for (pattern, path, name) in [
            ("/run/{vm}.socket", "/run/web-1.socket", Some("web-1")),
            ("/run/{vm}.socket", "/run/.socket", None),
            ("/run/{vm}.socket", "/run/web-1.sock", None),
            ("/run/*/agent", "/run/web-1/agent", Some("web-1")),
            ("/run/*/agent", "/run/a/b/agent", None),
            ("/run/domain-*-{vm}/agent", "/run/domain-12-web-1/agent", Some("web-1")),
            (
                "/var/lib/libvirt/qemu/channel/target/domain-*-{vm}/org.infinibay.agent",
                "/var/lib/libvirt/qemu/channel/target/domain-7-web-1/org.infinibay.agent",
                Some("web-1"),
            ),
            ("/run/{vm}/*.sock", "/run/web/agent.sock", Some("web")),
            ("/run/vm-{vm}*", "/run/vm-é", Some("é")),
        ] {
            assert_eq!(vm(pattern, path).as_deref(), name, "{pattern} {path}");
        }
        for wrong in
            ["", "run/{vm}", "/run/agent", "/run/{vm}/{vm}", "/a//{vm}", "/a/../{vm}", "/*-*-{vm}"]
        {
            assert!(wrong.parse::<SocketPattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_sockets_are_found_and_each_guest_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let _sockets: Vec<UnixListener> = ["a.sock", "b.sock", "e\u{1b}.sock"]
            .iter()
            .map(|name| UnixListener::bind(at(name)).unwrap())
            .collect();
        fs::create_dir(at("more")).unwrap();
        let _other = UnixListener::bind(at("more/b.sock")).unwrap();
        fs::write(at("file.sock"), "").unwrap();
        std::os::unix::fs::symlink(at("a.sock"), at("link.sock")).unwrap();
        let pattern = |text: &str| at(text).to_str().unwrap().parse::<SocketPattern>().unwrap();
        let found = find(&[pattern("{vm}.sock"), pattern("more/{vm}.sock"), pattern("none/{vm}")]);
        let sockets = BTreeMap::from([("a".into(), at("a.sock")), ("b".into(), at("b.sock"))]);
        assert_eq!(found, Found { sockets, twice: 1, unprintable: 1, is_cut: false });
    }
}
