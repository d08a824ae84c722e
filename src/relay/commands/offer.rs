//! What the web page offers to send: the actions that the rules may allow, as JSON. The rules decide all the same.

use serde::Serialize;

use crate::commands::actions::page::{Missing, Name, Sent};
use crate::commands::actions::registry::{self, RAW_COMMAND};
use crate::config::RelayCommands;

#[derive(Serialize)]
struct Offer {
    /// The longest timeout, in seconds.
    timeout: u64,
    actions: Vec<Action>,
}

#[derive(Serialize)]
struct Action {
    /// The type of the message that asks for it.
    r#type: &'static str,
    name: &'static str,
    does: &'static str,
    /// Its arguments, in words.
    takes: &'static str,
    /// The same as fields; `None` where they are known in words only.
    parameters: Option<Vec<Parameter>>,
}

#[derive(Serialize)]
struct Parameter {
    name: &'static str,
    /// Whether it is a text whatever it looks like; else JSON.
    is_text: bool,
    is_needed: bool,
}

/// What `rules` may allow.
pub(crate) fn offer(rules: &RelayCommands) -> Vec<u8> {
    let policy = rules.policy();
    let named = registry::names().filter(|(entry, name)| {
        name.not_built.is_none() && policy.may_allow(&[name.name, entry.names[0].name])
    });
    let raw = policy.may_allow(&[RAW_COMMAND]).then(raw_command);
    let actions = raw.into_iter().chain(named.map(|(_, name)| Action::of(name))).collect();
    let offer = Offer { timeout: rules.timeout.get().as_secs().max(1), actions };
    serde_json::to_vec(&offer).unwrap_or_default() // none of these types can fail to be JSON
}

impl Action {
    fn of(Name { name, does, takes, host, .. }: &'static Name) -> Self {
        let parameters = match host {
            Sent::With { parameters, .. } | Sent::Offered { parameters } => Some(*parameters),
            Sent::Never | Sent::Bare => takes.is_empty().then_some(&[][..]),
        };
        let field = |of: &crate::commands::actions::page::Parameter| Parameter {
            name: of.name,
            is_text: of.is_text,
            is_needed: matches!(of.missing, Missing::Refused),
        };
        let parameters = parameters.map(|all| all.iter().map(field).collect());
        Self { r#type: "SafeCommand", name, does, takes, parameters }
    }
}

fn raw_command() -> Action {
    let line = Parameter { name: "raw_command", is_text: true, is_needed: true };
    Action {
        r#type: RAW_COMMAND,
        name: RAW_COMMAND,
        does: "runs a command line by a shell",
        takes: "raw_command",
        parameters: Some(vec![line]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn offered(rules: &str) -> Value {
        let rules: RelayCommands = toml::from_str(rules).unwrap();
        serde_json::from_slice(&offer(&rules)).unwrap()
    }

    fn names(rules: &str) -> Vec<String> {
        let offered = offered(rules);
        let actions = offered["actions"].as_array().unwrap().iter();
        actions.map(|action| action["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn only_what_the_rules_may_allow_is_offered() {
        assert_eq!(names(""), [""; 0]);
        assert_eq!(names("allow = [\"SystemInfo\", \"UnsafeCommand\"]"), ["SystemInfo"]);
        let raw = "allow = [\"SystemInfo\", \"UnsafeCommand\"]\nraw_shell = true";
        assert_eq!(names(raw), ["UnsafeCommand", "SystemInfo"]);
        let some = "allow = [\"*List\"]\ndeny = [\"User*\", { action = \"ServiceControl\", service = \"ssh\" }]";
        assert_eq!(names(some), ["ServiceList", "PackageList", "ProcessList"]);
        // A rule about an action is about its aliases, too.
        assert_eq!(names("allow = [\"DiskCleanup\"]"), ["DiskCleanup", "CleanTemporaryFiles"]);
    }

    #[test]
    fn an_action_has_its_arguments_as_fields_or_in_words() {
        let rules =
            "allow = [\"ServiceControl\", \"SystemInfo\", \"CheckDiskSpace\"]\ntimeout = \"90s\"";
        let offered = offered(rules);
        assert_eq!(offered["timeout"], 90);
        let of = |name: &str| {
            let mut actions = offered["actions"].as_array().unwrap().iter();
            actions.find(|action| action["name"] == name).unwrap()
        };
        assert_eq!(of("SystemInfo")["parameters"], serde_json::json!([]));
        let service = serde_json::json!({ "name": "service", "is_text": true, "is_needed": true });
        assert_eq!(of("ServiceControl")["parameters"][0], service);
        let in_words = of("CheckDiskSpace");
        assert_eq!(in_words["parameters"], Value::Null);
        assert!(in_words["takes"].as_str().unwrap().starts_with("warning_threshold?"));
    }
}
