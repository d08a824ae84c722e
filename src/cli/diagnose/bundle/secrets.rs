//! Secrets that may not be in a bundle: those that are known by their place, and what looks like one.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use zeroize::Zeroizing;

use super::super::machine::below;
use super::super::{Diagnose, ENVIRONMENT, Findings};
use crate::commands::secret::{SECRET_VARIABLE, SecretSource, is_no_secret};
use crate::config::texts;
use crate::redact::{REDACTED, redact, redact_arguments, redact_lines};
use crate::sort;

/// The most bytes of a file that holds a secret, or variables.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// A shorter value of a variable that is not known to be a secret is too common a word to be removed wherever it is.
const VALUE_BYTES_MIN: usize = 8;
/// What is shorter is no secret.
const SECRET_BYTES_MIN: usize = 4;
/// Where systemd has the credentials of the unit; see systemd.exec(5).
const CREDENTIALS: &str = "/run/credentials/infiniservice.service";

/// The values of all secrets that this machine has for the agent. Never shown.
pub(super) struct Secrets(Vec<Zeroizing<String>>);

impl Secrets {
    /// Those of the secret's place; of the unit's variables, the agent's and this process's; of the unit's credentials; and what
    /// stands in the agent's files where it should not.
    pub(super) fn of(diagnose: &Diagnose, findings: &Findings) -> Self {
        let root = &diagnose.root;
        let source =
            findings.loaded.commands.as_ref().and_then(|one| one.file.verify.secret.clone());
        let mut secrets = Self(Vec::new());
        let named = match &source {
            Some(SecretSource::Env(name)) => name.as_str(),
            _ => SECRET_VARIABLE,
        };
        let mut files = vec![below(root, ENVIRONMENT)];
        files.extend(findings.pid.map(|pid| below(root, format!("/proc/{pid}/environ"))));
        for text in files.iter().filter_map(|path| read(path)) {
            for (name, value) in variables(&text) {
                secrets.variable(named, name, value);
            }
        }
        for (name, value) in std::env::vars() {
            if name == named || is_secret_name(&name) {
                secrets.add(&value);
            }
        }
        let credentials = std::fs::read_dir(below(root, CREDENTIALS)).into_iter().flatten();
        let mut files: Vec<PathBuf> = credentials.flatten().map(|entry| entry.path()).collect();
        if let Some(SecretSource::File(path)) = source {
            files.push(path);
        }
        files.iter().filter_map(|path| read(path)).for_each(|text| secrets.add(&text));
        for (_, text) in texts(&diagnose.pipelines).into_iter().flatten() {
            match toml::from_str(&text) {
                Ok(settings) => secrets.settings(&settings),
                Err(_) => secrets.lines(&text),
            }
        }
        secrets
    }

    fn variable(&mut self, secret: &str, name: &str, value: &str) {
        let is_long = value.len() >= VALUE_BYTES_MIN && !is_no_secret(name);
        if name == secret || is_secret_name(name) || is_long {
            self.add(value);
        }
    }

    /// The values of keys that are named as a secret is.
    fn settings(&mut self, settings: &Value) {
        match settings {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value.as_str() {
                        Some(text) if is_secret_name(key) && !is_source(value) => self.add(text),
                        _ => self.settings(value),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.settings(item)),
            _ => {}
        }
    }

    /// The same of a file that does not parse, as far as a key and its value stand in a line.
    fn lines(&mut self, text: &str) {
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let value = value.trim_matches([' ', '\t', '"', '\'']);
            if is_secret_name(key.trim()) && !is_source(&value.into()) {
                self.add(value);
            }
        }
    }

    fn add(&mut self, value: &str) {
        let value = value.trim_matches(['\n', '\r', '"', '\'', ' ']);
        let quoted = Value::from(value).to_string();
        for form in [value, &quoted[1..quoted.len() - 1]] {
            if form.len() >= SECRET_BYTES_MIN && !self.0.iter().any(|known| known.as_str() == form)
            {
                self.0.push(Zeroizing::new(form.to_owned()));
            }
        }
        // One may hold another.
        sort::by_key(&mut self.0, |secret| std::cmp::Reverse(secret.len()));
    }

    /// A text without the values of secrets, as they are and as JSON writes them.
    pub(super) fn remove(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| match text.contains(secret.as_str()) {
            true => text.replace(secret.as_str(), REDACTED),
            false => text,
        })
    }
}

/// Lines of a log without what looks like a secret.
pub(super) fn log(text: &str) -> String {
    redact_lines(text).into_owned()
}

/// A unit without the values of its variables and credentials.
pub(super) fn unit(text: &str) -> String {
    let (mut shown, mut goes_on) = (String::new(), false);
    for line in text.lines() {
        let key = line.split_once('=').map_or("", |(key, _)| key.trim());
        let is_secret = ["Environment", "SetCredential", "SetCredentialEncrypted"].contains(&key);
        match (goes_on, is_secret) {
            (true, _) => {} // the rest of a value that was left out
            (false, true) => shown += &format!("{key}={REDACTED}\n"),
            (false, false) => shown += &format!("{}\n", redact(line)),
        }
        // A comment within a value does not end it.
        let is_comment = goes_on && line.trim_start().starts_with(['#', ';']);
        goes_on = (goes_on || is_secret) && (line.ends_with('\\') || is_comment);
    }
    shown
}

/// What a file or the agent says, without what looks like a secret: the values of keys that are named so, unless they say where the
/// secret is, and secrets in texts and command lines.
pub(super) fn data(value: Value) -> Value {
    match value {
        Value::String(text) => redact(&text).into(),
        Value::Array(items) => {
            let words: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            let line = words.map(redact_arguments).filter(|line| line.contains(REDACTED));
            line.map_or_else(
                || Value::Array(items.into_iter().map(data).collect()),
                |line| vec![line].into(),
            )
        }
        Value::Object(fields) => {
            let field =
                |(key, value): (String, Value)| match is_secret_name(&key) && !is_source(&value) {
                    true => (key, REDACTED.into()),
                    false if is_source(&value) => (key, value),
                    false => (key, data(value)),
                };
            Value::Object(fields.into_iter().map(field).collect())
        }
        other => other,
    }
}

/// Whether what has this name is a secret.
fn is_secret_name(name: &str) -> bool {
    redact(&format!("{name}=x")).contains(REDACTED)
}

/// Whether it says where a secret is.
fn is_source(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.parse::<SecretSource>().is_ok())
}

/// `NAME=VALUE`, one a line or with a NUL behind each; also those that are commented out.
fn variables(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = text.split(['\n', '\0']).filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim_start_matches(['#', ' ']).trim(), value))
}

/// A regular file, as far as it may be read.
fn read(path: &Path) -> Option<Zeroizing<String>> {
    let is_file = std::fs::metadata(path).is_ok_and(|about| about.is_file()); // a FIFO would block
    let file = is_file.then(|| File::open(path).ok()).flatten()?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_texts_and_command_lines_lose_what_looks_like_a_secret_and_places_stay() {
        let data_in = json!({
            "verify": { "secret": "env:INFINISERVICE_SHARED_SECRET", "window": "5m" },
            "api_key": ["a canary", 7],
            "run": ["mysql", "-u", "ann", "-pcanary", "db"],
            "from": ["cpu", "memory"],
            "url": "https://ann:canary@lab/x",
            "deep": [{ "note": "token=canary" }],
        });
        let expected = json!({
            "verify": { "secret": "env:INFINISERVICE_SHARED_SECRET", "window": "5m" },
            "api_key": REDACTED,
            "run": ["mysql -u ann -p[redacted] db"],
            "from": ["cpu", "memory"],
            "url": "https://[redacted]@lab/x",
            "deep": [{ "note": "token=[redacted]" }],
        });
        assert_eq!(data(data_in), expected);
        assert_eq!(data(json!({ "secret": "canary" })), json!({ "secret": REDACTED }));
    }

    #[test]
    fn a_unit_loses_the_values_of_variables_over_all_their_lines() {
        let text = "[Service]\nEnvironment=A=1 \\\n# note\n B=canary\nExecStart=/x --token canary\n\
                    SetCredential = c:canary\nEnvironment=C=canary\\\n\nUser=a\n";
        let shown = "[Service]\nEnvironment=[redacted]\nExecStart=/x --token [redacted]\n\
                     SetCredential=[redacted]\nEnvironment=[redacted]\nUser=a\n";
        assert_eq!(unit(text), shown);
    }

    #[test]
    fn known_secrets_are_removed_as_they_are_and_as_json_writes_them() {
        let mut secrets = Secrets(Vec::new());
        secrets.variable("KEY", "KEY", "sh\"ort");
        secrets.variable("KEY", "SHORT", "info");
        secrets.variable("KEY", "HOME", "/var/lib/x-and-more");
        secrets.variable("KEY", "LONG", "'a longer value'\n");
        let text = json!({ "a": "x sh\"ort y", "b": "a longer value, info" }).to_string();
        let shown = secrets.remove(text + " sh\"ort /var/lib/x-and-more");
        assert_eq!(
            shown,
            r#"{"a":"x [redacted] y","b":"[redacted], info"} [redacted] /var/lib/x-and-more"#
        );
        let all: Vec<_> = variables("A=1\n# B = 2\n\0C=3\0#nothing").collect();
        assert_eq!(all, [("A", "1"), ("B", " 2"), ("C", "3")]);
    }
}
