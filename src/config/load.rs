//! Finds and reads the files: a folder of them, single ones, or those built into the program.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::str::Utf8Error;

use super::Env;
use super::agent::StateOnly;
use super::commands::{Commands, CommandsFile};
use super::error::{ConfigError, Place, Severity, clean, shown};
use super::loaded::{Loaded, Pipeline};
use super::memory;
use super::parse::{Flow, flow, is_flow, parse, parse_with};
use super::pipeline::PipelineFile;
use super::records::RecordsFile;
use super::setting::{Setting, with_settings};
use super::test_file::{TestFile, WrongTest};
use crate::commands::secret::SecretError;
use crate::files::{Untrusted, open_trusted};
use crate::sort;

/// The default folder.
pub(crate) const DEFAULT_FOLDER: &str = "/etc/infiniservice/pipelines";

/// The shipped files, so that the program alone works. Each can be named as `built-in:NAME`.
pub const BUILT_IN: [(&str, &str); 4] = [
    ("agent.toml", include_str!("../../pipelines/agent.toml")),
    ("bench.toml", include_str!("../../pipelines/bench.toml")),
    ("commands.toml", include_str!("../../pipelines/commands.toml")),
    ("metrics.toml", include_str!("../../pipelines/metrics.toml")),
];

/// Reads and checks every file that `paths` name.
///
/// A folder stands for its `*.toml` in the order of their names. There, `agent.toml` holds the
/// agent's settings, and a file that generates readings is skipped; named itself, it is loaded. A file
/// with `[receive]` is the command flow, of which there is at most one.
/// Without any path, `DEFAULT_FOLDER` is taken where it exists, else [`BUILT_IN`].
///
/// It blocks on files, of which it reads at most 1 MiB each.
///
/// # Errors
/// All errors, at most a hundred for each file.
pub fn load(paths: &[PathBuf], env: &Env<'_>) -> Result<Loaded, Vec<ConfigError>> {
    let (loaded, errors) = inspect(paths, env);
    if errors.is_empty() { Ok(loaded) } else { Err(errors) }
}

/// As [`load`], with `settings` overriding the files: those of each pipeline, or of the agent.
///
/// # Errors
/// As of [`load`]; places refer to the text with the settings filled in.
pub(crate) fn load_with(
    paths: &[PathBuf],
    settings: &[Setting],
    env: &Env<'_>,
) -> Result<Loaded, Vec<ConfigError>> {
    let (loaded, errors) = inspect_in(paths, settings, env, Path::new(DEFAULT_FOLDER));
    if errors.is_empty() { Ok(loaded) } else { Err(errors) }
}

/// As [`load`], and returns the valid parts beside the errors. Of an invalid `agent.toml` the state folder is right if it
/// can be read.
pub(crate) fn inspect(paths: &[PathBuf], env: &Env<'_>) -> (Loaded, Vec<ConfigError>) {
    inspect_in(paths, &[], env, Path::new(DEFAULT_FOLDER))
}

/// The files that [`load`] reads, as they are shown, and their texts, unchecked. A text may hold what should not be in it.
pub(crate) fn texts(paths: &[PathBuf]) -> Vec<Result<(String, String), ConfigError>> {
    let found = find(paths, Path::new(DEFAULT_FOLDER)).into_iter();
    found.map(|found| found.and_then(|found| found.read())).collect()
}

/// Reads and checks the one file that `path` names, a pipeline to run or to generate readings.
///
/// # Errors
/// The errors of the file; also if it is a folder, a command flow, or the agent's settings.
pub fn load_file(path: &Path, env: &Env<'_>) -> Result<Pipeline, Vec<ConfigError>> {
    let found = named(path);
    let help = Some("name a pipeline file");
    if found.is_agent() {
        return Err(vec![ConfigError::of_file(
            shown(path),
            "this holds the agent's settings",
            help,
        )]);
    }
    let (origin, text) = found.read().map_err(|error| vec![error])?;
    match flow(&origin, &text).map_err(|error| vec![error])? {
        Flow::Metrics => {}
        Flow::Commands => {
            return Err(vec![ConfigError::of_file(origin, "this holds a command flow", help)]);
        }
        Flow::Records => {
            let help = Some("name a file of metrics");
            return Err(vec![ConfigError::of_file(origin, "this reads records", help)]);
        }
    }
    let file = parse(&origin, &text, env)?.file;
    Ok(Pipeline { name: found.stem(), origin, file })
}

/// Reads and checks the one file of a relay; returns its warnings, too. It blocks on the file.
///
/// # Errors
/// The errors of the file.
#[cfg(feature = "host")]
pub(crate) fn load_relay(
    path: &Path,
    env: &Env<'_>,
) -> Result<(super::RelayFile, Vec<ConfigError>), Vec<ConfigError>> {
    let text = read(path).map_err(|error| vec![error])?;
    parse(&shown(path), &text, env).map(|parsed| (parsed.file, parsed.warnings))
}

/// Reads a file of tests. `check` says what is wrong with it that only its pipeline tells; it is asked once, after every
/// other mistake but those that need the whole file.
///
/// # Errors
/// All mistakes, in the order of the file.
pub(crate) fn load_tests(
    path: &Path,
    env: &Env<'_>,
    check: &mut dyn FnMut(&TestFile) -> Vec<WrongTest>,
) -> Result<(String, TestFile), Vec<ConfigError>> {
    let found = named(path);
    let (origin, text) = found.read().map_err(|error| vec![error])?;
    if is_flow(&text) {
        let help =
            format!("name a file that tests it, with pipeline = \"{}\"", found.stem() + ".toml");
        return Err(vec![ConfigError::of_file(origin, "this is a pipeline", Some(&help))]);
    }
    let mut check = |file: &TestFile| check(file).into_iter().map(WrongTest::broken).collect();
    let parsed = parse_with(&origin, &text, env, &mut check)?;
    Ok((origin, parsed.file))
}

/// The files of tests that `path` stands for: itself, or the `*.toml` of a folder by name.
///
/// # Errors
/// The folder cannot be read, or has none.
pub(crate) fn test_files(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    if path.is_dir() { files_of(path) } else { Ok(vec![path.to_path_buf()]) }
}

/// Whether `path` names one of [`BUILT_IN`].
pub(crate) fn is_built_in(path: &Path) -> bool {
    matches!(named(path).source, Source::BuiltIn(..))
}

/// The most bytes of a file.
const MAX_BYTES: u64 = 1 << 20;

/// A file that is to be read.
struct ConfigFile {
    source: Source,
    in_folder: bool,
}

enum Source {
    Disk(PathBuf),
    BuiltIn(&'static str, &'static str),
    StandardInput,
}

impl ConfigFile {
    fn path(&self) -> &Path {
        match &self.source {
            Source::Disk(path) => path,
            Source::BuiltIn(name, _) => Path::new(name),
            Source::StandardInput => Path::new("stdin"),
        }
    }

    fn is_agent(&self) -> bool {
        self.path().file_name().is_some_and(|name| name == "agent.toml")
    }

    /// The name of the pipeline in it.
    fn stem(&self) -> String {
        clean(&self.path().file_stem().unwrap_or_default().to_string_lossy())
    }

    /// How it is shown, and its text.
    fn read(&self) -> Result<(String, String), ConfigError> {
        match self.source {
            Source::Disk(ref path) => Ok((shown(path), read(path)?)),
            Source::BuiltIn(name, text) => Ok((format!("built-in:{name}"), text.to_owned())),
            Source::StandardInput => Ok(("stdin".to_owned(), read(Path::new("/dev/stdin"))?)),
        }
    }
}

/// The file of that name, on disk or built in; `-` is standard input.
fn named(path: &Path) -> ConfigFile {
    let name = path.to_str().and_then(|path| path.strip_prefix("built-in:"));
    let source = match BUILT_IN.into_iter().find(|(known, _)| Some(*known) == name) {
        Some((name, text)) => Source::BuiltIn(name, text),
        None if path == Path::new("-") => Source::StandardInput,
        None => Source::Disk(path.to_path_buf()),
    };
    ConfigFile { source, in_folder: false }
}

fn inspect_in(
    paths: &[PathBuf],
    settings: &[Setting],
    env: &Env<'_>,
    default: &Path,
) -> (Loaded, Vec<ConfigError>) {
    let mut loaded = Loaded::default();
    let mut errors = Vec::new();
    for found in find(paths, default) {
        let taken = found.map_err(|error| vec![error]);
        let taken = taken.and_then(|found| take(found, settings, env, &mut loaded));
        errors.extend(taken.err().into_iter().flatten());
    }
    if loaded.agent_origin.is_none() && settings.iter().any(|setting| !setting.is_of_pipeline()) {
        let (origin, text) = agent_with(("agent.toml".to_owned(), String::new()), settings);
        match parse(&origin, &text, env) {
            Ok(parsed) => loaded.agent = parsed.file,
            Err(wrong) => errors.extend(wrong),
        }
    }
    if errors.is_empty() {
        let together = memory::warnings(&loaded);
        loaded.warnings.extend(together);
    }
    (loaded, errors)
}

/// Every file that `paths` stand for, and every path that stands for none.
fn find(paths: &[PathBuf], default: &Path) -> Vec<Result<ConfigFile, ConfigError>> {
    if paths.is_empty() && !default.exists() {
        let found =
            |(name, text)| Ok(ConfigFile { source: Source::BuiltIn(name, text), in_folder: true });
        return BUILT_IN.into_iter().map(found).collect();
    }
    let default = [default.to_path_buf()];
    let mut found = Vec::new();
    let is_stdin = |path: &&PathBuf| **path == Path::new("-");
    let is_given_twice = paths.iter().filter(is_stdin).count() > 1;
    if is_given_twice {
        let help = "standard input can be read once; write - once";
        found.push(Err(ConfigError::of_file("stdin", "this was already given", Some(help))));
    }
    let paths = if paths.is_empty() { &default } else { paths };
    for path in paths.iter().filter(|path| !(is_given_twice && is_stdin(path))) {
        match path.is_dir() {
            false => found.push(Ok(named(path))),
            true => {
                match files_of(path) {
                    Ok(files) => found.extend(files.into_iter().map(|file| {
                        Ok(ConfigFile { source: Source::Disk(file), in_folder: true })
                    })),
                    Err(error) => found.push(Err(error)),
                }
            }
        }
    }
    found
}

/// The `*.toml` of a folder that are no hidden files, by name.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let wrong = |error: io::Error| {
        ConfigError::of_file(
            shown(folder),
            format!("cannot read this folder: {}", reason(&error)),
            None,
        )
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !hidden {
            files.push(path);
        }
    }
    if files.is_empty() {
        let help = "put a pipeline file there, or name the files to use";
        return Err(ConfigError::of_file(
            shown(folder),
            "this folder has no *.toml file",
            Some(help),
        ));
    }
    sort::by(&mut files, Ord::cmp);
    Ok(files)
}

/// The text of an `agent.toml` with those of `settings` that are the agent's.
fn agent_with(read: (String, String), settings: &[Setting]) -> (String, String) {
    with_settings(read, settings.iter().filter(|setting| !setting.is_of_pipeline()))
}

/// Reads one file into `loaded`.
fn take(
    found: ConfigFile,
    settings: &[Setting],
    env: &Env<'_>,
    loaded: &mut Loaded,
) -> Result<(), Vec<ConfigError>> {
    let (origin, text) = found.read().map_err(|error| vec![error])?;
    let twice = |origin: String, message: String, help: &str| {
        Err(vec![ConfigError::of_file(origin, message, Some(help))])
    };
    if found.is_agent() {
        let (origin, text) = agent_with((origin, text), settings);
        let parsed = parse(&origin, &text, env).inspect_err(|_| {
            if let Ok(parsed) = parse::<StateOnly>(&origin, &text, env) {
                loaded.agent.state = parsed.file.state;
            }
        })?;
        if let Some(earlier) = &loaded.agent_origin {
            let message = format!("the agent's settings were already given by {earlier}");
            return twice(origin, message, "name one agent.toml");
        }
        (loaded.agent, loaded.agent_origin) = (parsed.file, Some(origin));
        loaded.warnings.extend(parsed.warnings);
        return Ok(());
    }
    let kind = flow(&origin, &text).map_err(|error| vec![error])?;
    if kind == Flow::Commands {
        let parsed = parse::<CommandsFile>(&origin, &text, env)?;
        if let Some(earlier) = &loaded.commands {
            let message = format!("a command flow was already given by {}", earlier.origin);
            let help = "put both into one file: what is allowed is said in one place";
            return twice(origin, message, help);
        }
        loaded.outputs.push((origin.clone(), parsed.outputs));
        loaded.commands = Some(Commands { origin, file: parsed.file });
        loaded.warnings.extend(parsed.warnings);
        return Ok(());
    }
    let of_pipeline = settings.iter().filter(|setting| setting.is_of_pipeline());
    let (origin, text) = with_settings((origin, text), of_pipeline);
    let earlier = loaded.origin_of(&found.stem()).map(str::to_owned);
    let twice = |origin: String, earlier: &str| {
        let message =
            format!("a pipeline named \"{}\" was already given by {earlier}", found.stem());
        let help = "a pipeline has the name of its file; rename one of the two";
        twice(origin, message, help)
    };
    if kind == Flow::Records {
        let parsed = parse::<RecordsFile>(&origin, &text, env)?;
        if let Some(earlier) = &earlier {
            return twice(origin, earlier);
        }
        loaded.outputs.push((origin.clone(), parsed.outputs));
        loaded.records.push(Pipeline { name: found.stem(), origin, file: parsed.file });
        loaded.warnings.extend(parsed.warnings);
        return Ok(());
    }
    let parsed = parse::<PipelineFile>(&origin, &text, env)?;
    let pipeline = Pipeline { name: found.stem(), origin, file: parsed.file };
    if found.in_folder && pipeline.file.generate.is_some() {
        loaded.skipped.push(pipeline);
        return Ok(());
    }
    if let Some(earlier) = &earlier {
        return twice(pipeline.origin, earlier);
    }
    loaded.outputs.push((pipeline.origin.clone(), parsed.outputs));
    loaded.pipelines.push(pipeline);
    loaded.warnings.extend(parsed.warnings);
    Ok(())
}

/// The text of a file.
fn read(path: &Path) -> Result<String, ConfigError> {
    let wrong = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ConfigError::of_file(shown(path), "there is no such file", None),
        io::ErrorKind::IsADirectory => {
            ConfigError::of_file(shown(path), "this is a folder, and a file is needed", None)
        }
        _ => ConfigError::of_file(
            shown(path),
            format!("cannot read this file: {}", reason(&error)),
            None,
        ),
    };
    // A FIFO without a writer would block for ever; standard input may be anything.
    let kind = fs::metadata(path).map_err(wrong)?.file_type();
    if !kind.is_file() && !kind.is_dir() && path != Path::new("/dev/stdin") {
        let help = "name a file, or /dev/stdin";
        return Err(ConfigError::of_file(shown(path), "this is not a regular file", Some(help)));
    }
    let mut bytes = Vec::new();
    let file = match path == Path::new("/dev/stdin") {
        true => fs::File::open(path),
        false => open_trusted(path),
    };
    let file = file.map_err(|error| match Untrusted::of(&error) {
        Some(untrusted) => changeable(path, untrusted),
        None => wrong(error),
    })?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > MAX_BYTES {
        let help = "a pipeline file has a few dozen lines; is this the right one?";
        return Err(ConfigError::of_file(
            shown(path),
            "this file is larger than 1 MiB",
            Some(help),
        ));
    }
    String::from_utf8(bytes).map_err(|error| not_text(path, error.as_bytes(), error.utf8_error()))
}

/// The error for a file that another user can change, and which decides what runs as the agent's user.
pub(super) fn changeable(
    path: &Path,
    Untrusted { path: at, why, remedy, .. }: &Untrusted,
) -> ConfigError {
    let message = match at == path {
        true => format!("this file {why}"),
        false => format!("this file is not taken: {} {why}", shown(at)),
    };
    ConfigError::of_file(shown(path), message, Some(&format!("mend it with `{}`", clean(remedy))))
}

/// What is wrong with the file of the secret, by the check that a start makes: an error; or a warning where it is not there,
/// since it may be made before the agent starts.
pub(crate) fn secret_fault(loaded: &Loaded) -> Option<ConfigError> {
    let Commands { origin, file } = loaded.commands.as_ref()?;
    let error = file.verify.secret.as_ref()?.judge().err()?;
    let of_file = |help: Option<&str>| ConfigError::of_file(origin, error.to_string(), help);
    match &error {
        SecretError::Untrusted { untrusted: Untrusted { path, why, remedy, .. }, .. } => {
            let message = format!("the secret is not taken from its file: {} {why}", shown(path));
            Some(ConfigError::of_file(
                origin,
                message,
                Some(&format!("mend it with `{}`", clean(remedy))),
            ))
        }
        SecretError::Unreadable { error, .. } if error.kind() == io::ErrorKind::NotFound => {
            let help = "write the secret there, with mode 0600, before the agent starts";
            Some(ConfigError { severity: Severity::Warning, ..of_file(Some(help)) })
        }
        // Another user than the agent's may ask.
        SecretError::Unreadable { .. } => None,
        _ => Some(of_file(Some("name the file that holds it"))),
    }
}

fn not_text(path: &Path, bytes: &[u8], error: Utf8Error) -> ConfigError {
    let at = error.valid_up_to();
    let lossy = String::from_utf8_lossy(bytes);
    // Everything before the invalid byte is the same in both, so the place is, too.
    let place = Place::new(&lossy, at..at + '\u{fffd}'.len_utf8());
    let byte = bytes.get(at).copied().unwrap_or_default();
    let message = format!("this is not UTF-8: byte 0x{byte:02x} at offset {at}");
    let error = ConfigError::of_file(shown(path), message, Some("save the file as UTF-8"));
    ConfigError { place: Some(Box::new(place)), ..error }
}

/// The system's message, without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_any_path_the_built_in_files_are_taken_where_there_is_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (loaded, errors) = inspect_in(&[], &[], &|_| None, &folder.path().join("none"));
        assert_eq!(errors, []);
        assert_eq!(loaded.pipelines.len(), 1);
        assert_eq!(loaded.pipelines[0].origin, "built-in:metrics.toml");
        assert_eq!(loaded.skipped[0].origin, "built-in:bench.toml");
        assert_eq!(loaded.agent_origin.as_deref(), Some("built-in:agent.toml"));
        assert_eq!(loaded.commands.unwrap().origin, "built-in:commands.toml");
    }

    #[test]
    fn without_any_path_the_folder_is_taken_where_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let (_, errors) = inspect_in(&[], &[], &|_| None, folder.path());
        assert_eq!(errors[0].message, "this folder has no *.toml file");

        fs::copy("pipelines/metrics.toml", folder.path().join("mine.toml")).unwrap();
        let (loaded, errors) = inspect_in(&[], &[], &|_| None, folder.path());
        assert_eq!(errors, []);
        assert_eq!(loaded.pipelines[0].name, "mine");
        assert_eq!(loaded.agent_origin, None);
    }

    /// The first error of `path`.
    fn first_error(path: &Path) -> Option<String> {
        inspect(&[path.to_owned()], &|_| None).1.first().map(ToString::to_string)
    }

    #[test]
    fn a_file_that_another_user_can_change_is_refused_with_the_remedy() {
        use std::os::unix::fs::{PermissionsExt, chown, symlink};

        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        fs::create_dir(at("d")).unwrap();
        for name in ["commands.toml", "metrics.toml", "agent.toml"] {
            fs::copy(Path::new("pipelines").join(name), at("d").join(name)).unwrap();
            let file = at("d").join(name);
            for (open, is_taken) in [(0o602, false), (0o666, false), (0o644, true), (0o400, true)] {
                mode(&file, open);
                for path in [&file, &at("d")] {
                    let said = first_error(path);
                    assert_eq!(said.is_none(), is_taken, "{open:o} {said:?}");
                    let mend = format!("help: mend it with `chmod go-w {}`", file.display());
                    assert!(said.is_none_or(|said| said.ends_with(&mend)));
                }
            }
        }
        // acl(5), as struct posix_acl_xattr_entry has it: user 12345 may read and write.
        if rustix::process::geteuid().is_root() {
            let entries = [(1, 6, !0), (2, 6, 12_345), (4, 4, !0), (0x10, 6, !0), (0x20, 4, !0)];
            let mut list = 2_u32.to_le_bytes().to_vec();
            for (tag, may, id) in entries {
                list.extend(u16::to_le_bytes(tag).into_iter().chain(u16::to_le_bytes(may)));
                list.extend(u32::to_le_bytes(id));
            }
            let (file, flags) = (at("d/metrics.toml"), rustix::fs::XattrFlags::empty());
            mode(&file, 0o664);
            assert_eq!(first_error(&file), None, "the group is root's");
            let set = rustix::fs::setxattr(&file, "system.posix_acl_access", &list, flags);
            if set != Err(rustix::io::Errno::NOTSUP) {
                set.unwrap();
                let said = first_error(&file).unwrap();
                assert!(said.contains("has mode 0664 and an access control list, so"), "{said}");
            }
            mode(&file, 0o644);
            assert_eq!(first_error(&file), None, "the mode takes from the list what it allows");
        }
        mode(&at("d"), 0o777);
        assert!(first_error(&at("d")).unwrap().contains("has mode 0777"));
        mode(&at("d"), 0o1777);
        assert_eq!(first_error(&at("d")), None, "nobody can put another in its place");
        mode(&at("d"), 0o755);

        // As Kubernetes mounts them; each real folder on the way counts, and not the link's own mode.
        symlink("d", at("..data")).unwrap();
        symlink("..data/metrics.toml", at("m.toml")).unwrap();
        assert_eq!(first_error(&at("m.toml")), None);
        mode(&at("d"), 0o757);
        assert!(first_error(&at("m.toml")).unwrap().contains("has mode 0757"));
        mode(&at("d"), 0o755);
        if rustix::process::geteuid().is_root() {
            mode(&at("d"), 0o770);
            assert_eq!(first_error(&at("m.toml")), None, "the group is root's");
            chown(at("d"), None, Some(12_345)).unwrap();
            mode(&at("d"), 0o770);
            assert!(first_error(&at("m.toml")).unwrap().contains("has mode 0770"));
            mode(&at("d"), 0o700);
            for theirs in [at("d/metrics.toml"), at("d")] {
                chown(&theirs, Some(12_345), None).unwrap();
                let said = first_error(&at("m.toml")).unwrap();
                assert!(said.contains("belongs to user 12345, not to root"), "{said}");
                let mend = format!("help: mend it with `chown root: {}`", theirs.display());
                assert!(said.ends_with(&mend), "{said}");
                chown(&theirs, Some(0), None).unwrap();
            }
        }
    }
}
