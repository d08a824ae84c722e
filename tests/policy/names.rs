//! Rules and the names of what is asked: the one that the host wrote, and the one that it becomes.

use std::time::Duration;

use infiniservice::internals::commands::actions::registry::rules;
use infiniservice::internals::commands::decode::Decode;
use infiniservice::internals::commands::request::Request;
use infiniservice::internals::commands::request::{HostMessage, RAW_COMMAND, SCRIPT};
use infiniservice::internals::commands::verify::Verified;
use infiniservice::pipeline::{Output, Transform};
use tokio::time::Instant;

use super::{decided, policy};

/// The action of this name as the host asks for it, with every argument that one of them has.
fn asked_as(action: &str) -> Request {
    let payload = serde_json::json!({
        "type": "SafeCommand", "id": "1", "timeout": 60, "command_type": {
            "action": action, "service": "ssh", "operation": "restart", "package": "nano", "query": "web",
            "pid": 7, "check_name": "firewall_status", "targets": ["temp_files"],
        },
    });
    let (now, mut out) = (Instant::now(), Output::default());
    let age = Duration::ZERO;
    let message = Verified { payload: payload.to_string(), sent_ms: 0, age, received: now };
    Decode::default().apply(now, &message, &mut out);
    match out.drain().next() {
        Some(HostMessage::Request(request)) => request,
        other => panic!("{action}: {other:?}"),
    }
}

#[test]
fn a_rule_on_any_name_that_a_file_may_say_is_about_what_is_asked_by_that_name() {
    for (known, has) in rules().filter(|(known, _)| ![RAW_COMMAND, SCRIPT].contains(known)) {
        let request = asked_as(known);
        assert_eq!(request.kind.name(), known);
        let deny = policy(&format!("allow = [\"*\"]\ndeny = [{{ action = \"{known}\" }}]"));
        let why = format!("denied by commands.toml:4: {{ action = \"{known}\" }}");
        assert_eq!(decided(&deny, &request), why);
        let allow = policy(&format!("allow = [\"{known}\"]"));
        assert_eq!(decided(&allow, &request), "+commands.toml:3");
        for argument in has {
            let any = argument.name();
            let rule =
                format!("allow = [\"*\"]\ndeny = [{{ action = \"{known}\", {any} = \"*\" }}]");
            assert!(!policy(&rule).decide(&request).is_allowed(), "{rule}");
        }
    }
}

#[test]
fn a_rule_on_an_action_is_about_all_its_names_and_one_on_another_name_about_that_alone() {
    for (other, action) in [
        ("CleanTemporaryFiles", "DiskCleanup"),
        ("RestartServices", "ServiceControl"),
        ("ValidateSystemHealth", "RunHealthCheck"),
        ("GetFirewallStatus", "RunHealthCheck"),
        ("CheckFirewallStatus", "RunHealthCheck"),
        ("GetPendingUpdates", "CheckLinuxUpdates"),
        ("GetPendingLinuxUpdates", "CheckLinuxUpdates"),
        ("GetInstalledApplications", "GetInstalledApplicationsWMI"),
        ("GetLinuxUpdateHistory", "GetUpdateHistory"),
    ] {
        let allowed = |text: &str, asked| policy(text).decide(&asked_as(asked)).is_allowed();
        let deny = |name| format!("allow = [\"*\"]\ndeny = [{name:?}]");
        let allow = |name| format!("allow = [{name:?}]");
        assert!(!allowed(&deny(action), other), "{other} is denied with {action}");
        assert!(allowed(&deny(other), action), "{action} is more than {other}");
        assert!(allowed(&allow(action), other), "{other} is allowed with {action}");
        assert!(!allowed(&allow(other), action), "{action} is more than {other}");
    }
    let narrow =
        policy("allow = [\"*\"]\ndeny = [{ action = \"ServiceControl\", service = \"ssh\" }]");
    assert!(!narrow.decide(&asked_as("RestartServices")).is_allowed());
    let narrow = policy("allow = [{ action = \"RestartServices\", service = \"nginx\" }]");
    assert!(!narrow.decide(&asked_as("RestartServices")).is_allowed());
}
