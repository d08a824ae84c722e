//! Actions as objects, in exactly the form in which the Infinibay host writes them. It checks the names and kinds of
//! parameters; their meaning is the guest's.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::commands::actions::page::Missing::{Absent, Empty, Is, Null, Refused, Text};
use crate::commands::actions::page::{Parameter, Sent};
use crate::commands::actions::registry;

/// Why [`action`] makes no action of what was given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ActionError {
    /// A parameter that the action needs is missing.
    #[error("{action} needs {parameter}=…; it takes {}", given(takes))]
    MissingParameter {
        /// The action.
        action: String,
        /// The parameter.
        parameter: &'static str,
        /// All parameters of the action.
        takes: Vec<&'static str>,
    },
    /// The action has no parameter of this name.
    #[error("{}", unknown(action, parameter, takes))]
    UnknownParameter {
        /// The action.
        action: String,
        /// The name that was given.
        parameter: String,
        /// All parameters of the action.
        takes: Vec<&'static str>,
    },
}

fn given(names: &[&str]) -> String {
    let all: Vec<String> = names.iter().map(|name| format!("{name}=…")).collect();
    all.join(" ")
}

/// What today's host sends for an action of this name.
struct Shape {
    parameters: &'static [Parameter],
    nested: bool,
}

/// `None` where today's host loses the parameters of `name`, or does not know it.
fn shape(name: &str) -> Option<Shape> {
    let (_, known) = registry::names().find(|(_, known)| known.name == name)?;
    match known.host {
        Sent::With { parameters, nested } => Some(Shape { parameters, nested }),
        Sent::Offered { parameters } => Some(Shape { parameters, nested: false }),
        Sent::Never | Sent::Bare => None,
    }
}

/// The action object of `name` with parameters as they were typed, `(key, value)` each.
///
/// A value is a number, `true`, `false`, `null`, a list or an object where it reads as JSON, else a
/// text; parameters that are known to be text (a service, a package) are always text.
/// An unknown action is sent as it is: the guest answers it.
///
/// # Errors
/// A known action without a required parameter, or with an unknown one.
///
/// ```
/// use infiniservice::host::action;
/// let service = action("ServiceControl", &[("service".into(), "ssh".into()), ("operation".into(), "restart".into())]);
/// let nested = r#"{"action":"ServiceControl","params":{"operation":"restart","service":"ssh"}}"#;
/// assert_eq!(service.unwrap().to_string(), nested);
/// assert!(action("ProcessKill", &[]).unwrap_err().to_string().contains("needs pid="));
/// ```
pub fn action(name: &str, parameters: &[(String, String)]) -> Result<Value, ActionError> {
    let mut object = Map::new();
    object.insert("action".to_owned(), name.into());
    let Some(shape) = shape(name) else {
        for (key, value) in parameters {
            object.insert(key.clone(), typed(value));
        }
        return Ok(object.into());
    };
    let takes: Vec<&str> = shape.parameters.iter().map(|parameter| parameter.name).collect();
    let action = name.to_owned();
    if let Some((wrong, _)) = parameters.iter().find(|(key, _)| !takes.contains(&key.as_str())) {
        return Err(ActionError::UnknownParameter { action, parameter: wrong.clone(), takes });
    }
    let mut own = Map::new();
    for Parameter { name: key, is_text, missing } in shape.parameters {
        let given = parameters.iter().rev().find(|(given, _)| given == key);
        let value = match (given, *missing) {
            (Some((_, text)), _) if *is_text => Value::from(text.as_str()),
            (Some((_, text)), _) => typed(text),
            (None, Refused) => {
                return Err(ActionError::MissingParameter { action, parameter: key, takes });
            }
            (None, Absent) => continue,
            (None, Null) => Value::Null,
            (None, Empty) => "".into(),
            (None, Text(text)) => text.into(),
            (None, Is(flag)) => flag.into(),
        };
        own.insert((*key).to_owned(), value);
    }
    if shape.nested {
        object.insert("params".to_owned(), own.into());
    } else {
        object.extend(own);
    }
    Ok(object.into())
}

/// Whether today's host sends an action of this name.
pub fn is_known_action(name: &str) -> bool {
    sent().any(|known| known == name)
}

/// What a known action does and answers with, what the guest reads of it, and a line for each parameter that today's host
/// sends, in 80 columns; `None` where `name` is none.
pub fn action_help(name: &str) -> Option<String> {
    if !is_known_action(name) {
        return None;
    }
    let mut help = page(name);
    let Some(shape) = shape(name) else {
        help.push_str(
            "\nToday's host sends it without parameters.\nHere what is given as key=value is sent as it is.\n",
        );
        return Some(help);
    };
    if shape.parameters.is_empty() {
        help.push_str("\nIt takes no parameters.\n");
        return Some(help);
    }
    let width = shape.parameters.iter().map(|parameter| parameter.name.len()).max().unwrap_or(0);
    help.push_str("\nParameters:\n");
    for Parameter { name, is_text, missing } in shape.parameters {
        let kind = if *is_text { "text" } else { "JSON, such as 5, true, [\"a\"]" };
        let missing = match missing {
            Refused => "needed".to_owned(),
            Absent | Null => "may be left out".to_owned(),
            Empty => "needed by the guest, sent empty where left out".to_owned(),
            Text(text) => format!("{text} where left out"),
            Is(flag) => format!("{flag} where left out"),
        };
        help.push_str(&format!(
            "  {:<width$}  {missing}; {kind}\n",
            format!("{name}="),
            width = width + 1
        ));
    }
    let needed = shape.parameters.iter().filter(|one| matches!(one.missing, Refused | Empty));
    let needed: String = needed.map(|one| format!(" {}=…", one.name)).collect();
    help.push_str(&format!("\n  infiniservice-host SOCKET send {name}{needed}\n"));
    Some(help)
}

/// What `docs/actions.md` says of an action, folded at words.
fn page(name: &str) -> String {
    let Some((_, known)) = registry::names().find(|(_, known)| known.name == name) else {
        return String::new();
    };
    let does = known.not_built.map_or(known.does.to_owned(), |why| format!("not built: {why}"));
    let mut text = String::new();
    for (what, said) in [(name, &*does), ("reads", known.takes), ("answers with", known.gives)] {
        let mut width = 0;
        let said = if said.is_empty() { String::new() } else { format!("{what}: {said}") };
        for word in said.split_whitespace() {
            let length = word.chars().count();
            match width {
                0 => width = length,
                _ if width + 1 + length > 80 => {
                    text.push_str("\n  ");
                    width = 2 + length;
                }
                _ => {
                    text.push(' ');
                    width += 1 + length;
                }
            }
            text.push_str(word);
        }
        if width > 0 {
            text.push('\n');
        }
    }
    text
}

/// The known action that `name` is probably a misspelling of; `None` if it is one itself.
pub fn meant_action(name: &str) -> Option<&'static str> {
    if is_known_action(name) { None } else { nearest(name, sent()) }
}

/// The known actions, sorted by name.
pub fn known_actions() -> Vec<&'static str> {
    let mut all: Vec<_> = sent().collect();
    all.sort_unstable();
    all
}

/// The names of the actions that today's host or this program sends.
fn sent() -> impl Iterator<Item = &'static str> {
    let sent = registry::names().filter(|(_, name)| !matches!(name.host, Sent::Never));
    sent.map(|(_, name)| name.name)
}

fn unknown(action: &str, wrong: &str, names: &[&'static str]) -> String {
    if names.is_empty() {
        return format!("{action} takes no parameters, {wrong:?} is one too many");
    }
    let meant = nearest(wrong, names.iter().copied());
    let meant = meant.map_or(String::new(), |name| format!(" (did you mean {name:?}?)"));
    format!("{action} has no parameter {wrong:?}{meant}; it takes {}", names.join(", "))
}

fn nearest(word: &str, of: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let near = |known: &&str| strsim::jaro_winkler(&known.to_lowercase(), &word.to_lowercase());
    of.map(|known| (near(&known), known))
        .filter(|(near, _)| *near > 0.85)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, known)| known)
}

fn typed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(line: &str) -> Result<String, String> {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let pair = |word: &str| {
            let (key, value) = word.split_once('=').unwrap();
            (key.to_owned(), value.to_owned())
        };
        let parameters: Vec<_> = words.map(pair).collect();
        let built = action(name, &parameters).map(|value| value.to_string());
        built.map_err(|error| error.to_string())
    }

    #[test]
    fn every_action_is_built_as_todays_host_builds_it() {
        for (typed, sent) in [
            ("SystemInfo", r#"{"action":"SystemInfo"}"#),
            ("PackageInstall", r#"{"action":"PackageInstall","package":""}"#),
            ("PackageInstall package=7", r#"{"action":"PackageInstall","package":"7"}"#),
            ("PackageSearch query=true", r#"{"action":"PackageSearch","query":"true"}"#),
            ("ProcessList", r#"{"action":"ProcessList","limit":null}"#),
            ("ProcessTop limit=5", r#"{"action":"ProcessTop","limit":5,"sort_by":null}"#),
            ("ProcessKill pid=17", r#"{"action":"ProcessKill","force":null,"pid":17}"#),
            ("ProcessKill pid=17 force=true", r#"{"action":"ProcessKill","force":true,"pid":17}"#),
            ("UpdateSystemSoftware", r#"{"action":"UpdateSystemSoftware"}"#),
            ("RebootSystem", r#"{"action":"RebootSystem","force":false}"#),
            (
                "PrepareGoldenImage",
                r#"{"action":"PrepareGoldenImage","cleanup_level":"standard","sanitize_user_data":true,"shutdown_after":true}"#,
            ),
            (
                "CleanTemporaryFiles targets=[\"a\"]",
                r#"{"action":"CleanTemporaryFiles","targets":["a"]}"#,
            ),
        ] {
            assert_eq!(built(typed).as_deref(), Ok(sent));
        }
    }

    #[test]
    fn values_of_other_actions_are_typed_by_how_they_look() {
        assert_eq!(
            built("RunHealthCheck check_name=disk_space n=-1.5 b=false z=null t=1.2.3 q=\"7\"")
                .unwrap(),
            r#"{"action":"RunHealthCheck","b":false,"check_name":"disk_space","n":-1.5,"q":"7","t":"1.2.3","z":null}"#
        );
    }

    #[test]
    fn a_wrong_parameter_is_reported_with_the_right_one() {
        let wrong = built("ServiceControl servce=ssh operation=stop").unwrap_err();
        assert!(wrong.contains("did you mean \"service\"?"), "{wrong}");
        let wrong = built("ServiceControl operation=stop").unwrap_err();
        assert_eq!(wrong, "ServiceControl needs service=…; it takes service=… operation=…");
        let wrong = built("OsInfo verbose=true").unwrap_err();
        assert_eq!(wrong, "OsInfo takes no parameters, \"verbose\" is one too many");
    }

    #[test]
    fn every_known_action_says_what_it_takes_in_80_columns() {
        for name in known_actions() {
            let help = action_help(name).unwrap();
            assert!(help.starts_with(name), "{help}");
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        }
        let help = action_help("ServiceControl").unwrap();
        assert!(help.contains("operation: start, stop, restart"), "{help}");
        let help = action_help("RunHealthCheck").unwrap();
        assert!(
            help.contains("check_name"),
            "what today's host loses can be sent from here: {help}"
        );
        let help = action_help("ProcessKill").unwrap();
        assert!(help.contains("  pid=    needed; JSON"), "{help}");
        assert!(help.contains("  force=  may be left out"), "{help}");
        assert_eq!(action_help("Dance"), None);
    }

    #[test]
    fn a_misspelled_action_has_a_suggestion_and_a_right_one_none() {
        assert_eq!(meant_action("servicelist"), Some("ServiceList"));
        assert_eq!(meant_action("PackageInstal"), Some("PackageInstall"));
        assert_eq!(meant_action("CheckDiskSpace"), None);
        assert_eq!(meant_action("Zzz"), None);
    }
}
