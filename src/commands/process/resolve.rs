//! Where a program is, where it starts and what is in its environment. Starts nothing.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::Access;

use super::ProcessError;

/// Where programs are looked for, and what they get as `PATH`.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds a program: an absolute path as it is, a bare name in [`PATH`]. Reads directories: not for an
/// async worker.
///
/// # Errors
/// It is not there, or nothing that can be run.
pub(crate) fn find(program: &Path) -> Result<PathBuf, ProcessError> {
    if program.is_absolute() {
        return match usable(program) {
            true => Ok(program.to_owned()),
            false if program.exists() => Err(ProcessError::NotExecutable(program.to_owned())),
            false => Err(ProcessError::NotFound(program.to_owned())),
        };
    }
    let mut parts = program.components();
    let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else {
        return Err(ProcessError::RelativePath(program.to_owned()));
    };
    let mut places = PATH.split(':').map(|folder| Path::new(folder).join(name));
    places.find(|place| usable(place)).ok_or_else(|| ProcessError::NotFound(program.to_owned()))
}

/// Whether a program of this name is installed. Reads directories: not for an async worker.
pub(crate) fn installed(name: &str) -> bool {
    find(Path::new(name)).is_ok()
}

/// The directory to start in: `/`, or the one given.
///
/// # Errors
/// It is not absolute, missing or no directory.
pub(in crate::commands) fn directory(given: Option<&Path>) -> Result<PathBuf, ProcessError> {
    let Some(given) = given else { return Ok("/".into()) };
    if !given.is_absolute() {
        return Err(ProcessError::RelativeDirectory(given.to_owned()));
    }
    match std::fs::metadata(given) {
        Ok(found) if found.is_dir() => Ok(given.to_owned()),
        Ok(_) => Err(ProcessError::NotDirectory(given.to_owned())),
        Err(error) => Err(ProcessError::Directory { path: given.to_owned(), error }),
    }
}

/// The whole environment: nothing is inherited. `PATH`, `LANG` and `LC_ALL` (C.UTF-8), what tells whose
/// it is (`user::variables`), and what the caller adds, which wins.
///
/// `LD_PRELOAD` and the like are not refused: a host that may set variables may name the program anyway,
/// and a program that gains rights on `exec` is not given them (`ld.so(8)`, secure execution).
///
/// # Errors
/// A name is empty or has `=`, or something has a NUL. No value is repeated.
pub(in crate::commands) fn environment(
    whose: impl IntoIterator<Item = (&'static str, OsString)>,
    added: &BTreeMap<String, String>,
) -> Result<BTreeMap<OsString, OsString>, ProcessError> {
    let fixed = [("PATH", PATH), ("LANG", "C.UTF-8"), ("LC_ALL", "C.UTF-8")];
    let mut all: BTreeMap<OsString, OsString> =
        fixed.map(|(name, value)| (name.into(), value.into())).into();
    all.extend(whose.into_iter().map(|(name, value)| (name.into(), value)));
    for (name, value) in added {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(ProcessError::VariableName(name.clone()));
        }
        if value.contains('\0') {
            return Err(ProcessError::NulInVariable(name.clone()));
        }
        all.insert(name.into(), value.into());
    }
    Ok(all)
}

/// Arguments as the kernel takes them.
///
/// # Errors
/// An argument has a NUL.
pub(super) fn arguments(program: &Path, arguments: &[OsString]) -> Result<(), ProcessError> {
    let mut all = std::iter::once(program.as_os_str()).chain(arguments.iter().map(OsStr::new));
    match all.any(|argument| argument.as_bytes().contains(&0)) {
        true => Err(ProcessError::NulInArgument),
        false => Ok(()),
    }
}

fn usable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_name_or_by_absolute_path_only() {
        assert!(find(Path::new("sh")).unwrap().is_absolute());
        assert_eq!(find(Path::new("/bin/sh")).unwrap(), Path::new("/bin/sh"));
        assert!(installed("sh") && !installed("no-such-program"));
        for (wrong, why) in [
            ("", "no program"),
            ("bin/sh", "absolute path"),
            ("../bin/sh", "absolute path"),
            ("..", "absolute path"),
            ("no-such-program", "install it"),
            ("/no/such/program", "no program \"/no/such/program\" on this machine"),
            ("/etc/passwd", "make it executable"),
            ("/usr", "make it executable"),
        ] {
            let error = find(Path::new(wrong)).unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_directory_exists_and_is_one() {
        assert_eq!(directory(None).unwrap(), Path::new("/"));
        assert_eq!(directory(Some(Path::new("/tmp"))).unwrap(), Path::new("/tmp"));
        for (wrong, why) in [
            ("tmp", "not absolute"),
            ("/no/such", "cannot be used"),
            ("/etc/passwd", "no directory"),
        ] {
            assert!(
                directory(Some(Path::new(wrong))).unwrap_err().to_string().contains(why),
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_environment_is_clean_and_the_caller_wins() {
        let added = [("LANG".to_owned(), "de_DE".to_owned()), ("A b".to_owned(), String::new())];
        let all = environment([("HOME", "/root".into())], &added.into()).unwrap();
        let all: Vec<String> = all
            .iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect();
        assert_eq!(
            all,
            ["A b=", "HOME=/root", "LANG=de_DE", "LC_ALL=C.UTF-8", &format!("PATH={PATH}")]
        );
    }

    #[test]
    fn a_variable_that_the_kernel_would_misread_is_refused_without_its_value() {
        for (name, value) in
            [("", "secret"), ("A=B", "secret"), ("A\0", "secret"), ("A", "secret\0")]
        {
            let added = [(name.to_owned(), value.to_owned())].into();
            let error = environment([], &added).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(arguments(Path::new("a"), &["b\0".into()]).is_err());
        assert!(arguments(Path::new("a"), &["b".into()]).is_ok());
    }
}
