//! Decoding, by behaviour; every shape in exact bytes is in `tests/golden`.

use super::*;
use crate::commands::actions::action::Refused;
use crate::commands::actions::applications::GetApplicationDetails;
use crate::commands::actions::checks::RunHealthCheck;
use crate::commands::actions::checks::disk::CheckDiskSpace;
use crate::commands::actions::cleanup::DiskCleanup;
use crate::commands::actions::domain::JoinDomain;
use crate::commands::actions::golden::PrepareGoldenImage;
use crate::commands::actions::power::RebootSystem;
use crate::commands::actions::processes::{ProcessKill, ProcessTop};
use crate::commands::actions::services::{ServiceControl, ServiceOperation};
use crate::commands::actions::unsupported::OtherSystem;
use crate::commands::actions::updates::UpdateSystemSoftware;
use crate::commands::actions::{Action, ActionRequest};
use crate::commands::request::Shell;
use serde_json::{Value, json};

fn decode(payload: &str, age: Duration) -> Result<HostMessage, &'static str> {
    let now = Instant::now();
    let payload = payload.to_owned();
    let message = Verified { payload, sent_ms: 0, age, received: now };
    let mut out = Output::default();
    Decode::default().apply(now, &message, &mut out);
    let lost = out.dropped().first().map(|(reason, _)| *reason);
    out.drain().next().ok_or_else(|| lost.unwrap())
}

fn asked(payload: Value) -> HostMessage {
    decode(&payload.to_string(), Duration::ZERO).unwrap()
}

fn request(payload: Value) -> Request {
    match asked(payload) {
        HostMessage::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

fn refusal(payload: Value) -> Refusal {
    match asked(payload) {
        HostMessage::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn safe(command_type: Value) -> Value {
    json!({"type": "SafeCommand", "id": "a1", "command_type": command_type, "params": null, "timeout": 30})
}

fn order(command_type: Value) -> ActionRequest {
    match request(safe(command_type)).kind {
        RequestKind::Action(order) => order,
        other => panic!("{other:?}"),
    }
}

/// The action, which is an `A`.
fn action<A: Action + Clone>(command_type: Value) -> A {
    let order = order(command_type);
    order.get::<A>().unwrap_or_else(|| panic!("{order:?}")).clone()
}

fn is_incomplete(command_type: Value) -> bool {
    matches!(order(command_type).refused(), Some(Refused::Incomplete(_)))
}

fn refused(command_type: Value) -> String {
    refusal(safe(command_type)).error
}

#[test]
fn a_service_is_controlled_in_every_shape_the_host_has() {
    for (arguments, expected) in [
        (json!({"params": {"service": "ssh", "operation": "restart"}}), ServiceOperation::Restart),
        (json!({"service": "ssh", "operation": "START"}), ServiceOperation::Start),
        (json!({"service_name": "ssh", "operation": "Stop"}), ServiceOperation::Stop),
        (
            json!({"params": {"service_name": "ssh", "operation": "Enable"}}),
            ServiceOperation::Enable,
        ),
        (json!({"service": "ssh", "params": {"operation": "disable"}}), ServiceOperation::Disable),
    ] {
        let mut command = json!({"action": "ServiceControl"});
        command.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
        let ServiceControl { service, operation } = action(command);
        assert_eq!((service.as_str(), operation), ("ssh", expected));
    }
    let mut outside = safe(json!({"action": "ServiceControl"}));
    outside["params"] = json!({"service": "ssh", "operation": "status"});
    let RequestKind::Action(outside) = request(outside).kind else { panic!() };
    assert!(outside.get::<ServiceControl>().is_some());
    let named = json!({"action": "RestartServices", "service_name": "ssh"});
    assert_eq!(action::<ServiceControl>(named).operation, ServiceOperation::Restart);
    let every = order(json!({"action": "RestartServices"}));
    assert!(matches!(every.refused(), Some(Refused::NotBuilt(_))));
    assert_eq!((every.name(), every.alias_of()), ("RestartServices", None));
}

#[test]
fn what_the_host_leaves_out_has_a_default() {
    assert_eq!(action::<RunHealthCheck>(json!({"action": "RunHealthCheck"})), RunHealthCheck(None));
    let no_targets = DiskCleanup { targets: Vec::new() };
    assert_eq!(action::<DiskCleanup>(json!({"action": "DiskCleanup"})), no_targets);
    assert_eq!(
        action::<DiskCleanup>(json!({"action": "CleanTemporaryFiles", "targets": null})),
        no_targets
    );
    let thresholds = |arguments: Value| {
        let CheckDiskSpace { warning_percent, critical_percent } = action(arguments);
        (warning_percent, critical_percent)
    };
    assert_eq!(thresholds(json!({"action": "CheckDiskSpace"})), (80.0, 90.0));
    assert_eq!(
        thresholds(json!({"action": "CheckDiskSpace", "critical_threshold": 70})),
        (70.0, 70.0)
    );
    assert_eq!(
        thresholds(json!({"action": "CheckDiskSpace", "warning_threshold": 95})),
        (95.0, 95.0)
    );
    let top = json!({"action": "ProcessTop", "limit": null, "sort_by": null});
    assert_eq!(action::<ProcessTop>(top), ProcessTop { limit: None, by: crate::model::Rank::Cpu });
    let kill = json!({"action": "ProcessKill", "pid": 7, "force": null});
    assert_eq!(action::<ProcessKill>(kill), ProcessKill { pid: 7, force: false });
    let update = json!({"action": "UpdateSystemSoftware", "package": ""});
    assert_eq!(action::<UpdateSystemSoftware>(update), UpdateSystemSoftware(None));
    assert_eq!(
        action::<RebootSystem>(json!({"action": "RebootSystem"})),
        RebootSystem { force: false }
    );
}

#[test]
fn a_wrong_argument_is_answered_with_its_reason() {
    for (command, reason) in [
        (json!({"action": "PackageInstall", "package": ""}), "a package is missing; name one"),
        (json!({"action": "PackageInstall", "package": "-y"}), "may not begin with a dash"),
        (json!({"action": "PackageRemove", "package": "a;reboot"}), "may not hold ';'"),
        (json!({"action": "PackageSearch"}), "a query is missing"),
        (json!({"action": "ServiceControl", "service": "ssh"}), "has no operation \"\""),
        (
            json!({"action": "ServiceControl", "service": "a b", "operation": "stop"}),
            "may not hold ' '",
        ),
        (json!({"action": "ServiceControl", "operation": "stop"}), "a service is missing"),
        (json!({"action": "ProcessKill"}), "name its pid"),
        (json!({"action": "ProcessKill", "pid": 0}), "no process has the pid 0"),
        (
            json!({"action": "ProcessKill", "pid": 4294967295_u32}),
            "no process has the pid 4294967295",
        ),
        (json!({"action": "ProcessKill", "pid": -1}), "a field is not of its kind"),
        (json!({"action": "ProcessTop", "sort_by": "age"}), "not sorted by \"age\""),
        (json!({"action": "CheckDiskSpace", "warning_threshold": 101}), "from 0 to 100"),
        (
            json!({"action": "CheckDiskSpace", "warning_threshold": 9, "critical_threshold": 8}),
            "above that",
        ),
        (json!({"action": "RunHealthCheck", "check_name": "../x"}), "the name of a check"),
        (json!({"action": "DiskCleanup", "targets": ["/"]}), "the name of a target"),
        (json!({"action": "DiskCleanup", "targets": vec!["t"; 33]}), "more than 32 targets"),
        (json!({"action": "DiskCleanup", "targets": "all"}), "a field is not of its kind"),
        (json!({}), "names no action"),
        (json!({"action": null}), "names no action"),
        (json!({"action": "systeminfo"}), "the action \"systeminfo\" is not known"),
        (json!({"action": "a\u{1b}[2J"}), "the action \"a?[2J\" is not known"),
        (json!("ServiceList"), "a field is not of its kind"),
        (json!(null), "a field is not of its kind"),
    ] {
        let error = refused(command.clone());
        assert!(error.contains(reason), "{command}: {error}");
    }
}

#[test]
fn an_answer_bears_the_id_even_of_half_a_message() {
    let answered = |payload: &str| match decode(payload, Duration::ZERO) {
        Ok(HostMessage::Refused(refusal)) => refusal.id,
        other => panic!("{payload}: {other:?}"),
    };
    for payload in [
        r#"{"type":"SafeCommand","id":"a1","command_type":{"action":"Ser"#,
        r#"{"type":"SafeCommand","command_type":{"id":"no"},"id":"a1","timeout":"soon"}"#,
        r#"{"id" : "\u0061\u0031","type":"SafeCommand","command_type":{"x":"\ud800"}}"#,
        r#"{"x":"\"id\":\"no\"","y":{"id":"no"},"z":["id","no"],"id":"a1","type":7}"#,
        r#"{"type":"UnsafeCommand","id":"a1"}"#,
        r#"{"type":"SafeCommand","id":"a1","id":"b2","command_type":{"action":"OsInfo"}}"#,
        r#"{"type":"SafeCommand","id":"a1","command_type":{"action":"OsInfo","action":"RebootSystem"}}"#,
        r#"{"type":"SafeCommand","id":"a1","command_type":{"action":"OsInfo"},"timeout":1e999}"#,
        r#"{"type":"Reformat","id":"a1"}"#,
        r#"{"id":"a1"}"#,
        r#"{"type":"SafeCommand","id":"a1""#,
    ] {
        assert_eq!(answered(payload), "a1", "{payload}");
    }
    for payload in [
        r#"{"type":"SafeCommand","id": 22 ,"command_type":{"action":"Ser"#,
        r#"{"type":"UnsafeCommand","x":{"id":7},"id":22}"#,
        r#"{"id":22}"#,
    ] {
        assert_eq!(answered(payload), "22", "{payload}");
    }
    let deep = format!(
        r#"{{"type":"SafeCommand","id":"a1","command_type":{}"#,
        r#"{"params":"#.repeat(50_000)
    );
    assert_eq!(answered(&deep), "a1");
    let deep = format!(r#"{{"type":"SafeCommand","id":"a1","x":{}"#, "[".repeat(500_000));
    assert_eq!(answered(&deep), "a1");
}

#[test]
fn an_id_that_is_a_number_is_taken_for_its_text() {
    let named = |id: Value| {
        let mut command = safe(json!({"action": "OsInfo"}));
        command["id"] = id;
        request(command).id
    };
    assert_eq!(named(json!(22)), "22");
    assert_eq!(named(json!(-1)), "-1");
    assert_eq!(named(json!(u64::MAX)), u64::MAX.to_string());
    assert_eq!(request(json!({"type": "UnsafeCommand", "id": 7, "raw_command": "id"})).id, "7");
    let scripts = json!([{"execution_id": 8, "script_content": "x"}, {"execution_id": 9}]);
    let scripts = asked(json!({"type": "pending_scripts_response", "scripts": scripts}));
    let HostMessage::Scripts(scripts) = scripts else { panic!("{scripts:?}") };
    assert_eq!(scripts[0].as_ref().unwrap().id, "8");
    assert_eq!(scripts[1].as_ref().unwrap_err().id, "9");
}

#[test]
fn an_answer_bears_the_action_as_the_host_wrote_it() {
    let of = |payload: &str| match decode(payload, Duration::from_secs(1)) {
        Ok(HostMessage::Refused(refusal)) => (refusal.action, refusal.is_script),
        other => panic!("{payload}: {other:?}"),
    };
    for (command, action) in [
        (r#"{"action":"ProcessTop","limit":"3"}"#, "ProcessTop"),
        (r#"{"action":"RebootSystem","force":"maybe"}"#, "RebootSystem"),
        (r#"{"limit":{"action":"no"},"action":"ProcessTop","x":"\ud800"}"#, "ProcessTop"),
        (
            r#"{"params":{"action":"no"},"limit":[{"action":"no"}],"action":"Process\u0054op"}"#,
            "ProcessTop",
        ),
        (r#"{"action":"ProcessTop","limit":3},"timeout":"soon""#, "ProcessTop"),
        (r#"{"action":"Script"}"#, "Script"),
        (r#"{"action":"a\u001b[2J","limit":"3"}"#, "SafeCommand"),
        (r#"{"action":""}"#, "SafeCommand"),
        (r#"[{"action":"no"}]"#, "SafeCommand"),
        (r#""ServiceList""#, "SafeCommand"),
    ] {
        let payload = format!(r#"{{"type":"SafeCommand","id":"a1","command_type":{command}}}"#);
        assert_eq!(of(&payload), (action.to_owned(), false), "{payload}");
    }
    let half = r#"{"command_type":{"action":"RebootSystem"},"id":"a1","type":"SafeCommand","x":"#;
    assert_eq!(of(half).0, "RebootSystem");
    let other = r#"{"type":"UnsafeCommand","id":"a1","command_type":{"action":"RebootSystem"}}"#;
    assert_eq!(of(other).0, "UnsafeCommand");
    let mut late = safe(json!({"action": "CleanTemporaryFiles"}));
    late["timeout"] = 0.into();
    let late = decode(&late.to_string(), Duration::from_secs(9));
    assert!(
        matches!(late, Ok(HostMessage::Refused(refusal)) if refusal.action == "CleanTemporaryFiles")
    );
}

#[test]
fn what_bears_no_id_is_counted() {
    for payload in [
        "",
        "null",
        "[]",
        "7",
        "]]]}",
        "{",
        r#"{"type":"SafeCommand"}"#,
        r#"{"type":"SafeCommand","id":true,"command_type":{"action":"OsInfo"}}"#,
        r#"{"type":"SafeCommand","id":[7],"command_type":{"action":"OsInfo"}}"#,
        r#"{"type":"SafeCommand","id":7"#,
        r#"{"type":"SafeCommand","id":"","command_type":{"action":"OsInfo"}}"#,
        r#"{"type":"SafeCommand","id":"a\nb","command_type":{"action":"OsInfo"}}"#,
        r#"{"type":"keep_alive_request","sequence_number":-1}"#,
        r#"{"type":"keep_alive_request","sequence_number":"7"}"#,
        r#"{"type":"keep_alive_request"}"#,
        r#"{"type":"pending_scripts_response","scripts":7}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"ping","id":"#,
        r#"{"type":"ping","x":"id","y":"z"}"#,
    ] {
        assert_eq!(decode(payload, Duration::ZERO), Err("unreadable"), "{payload}");
    }
    let long = json!({"type": "UnsafeCommand", "id": "x".repeat(129), "raw_command": "id"});
    assert_eq!(decode(&long.to_string(), Duration::ZERO), Err("unreadable"));
}

#[test]
fn any_time_is_brought_within_the_bounds() {
    let timeout = |timeout: Value| {
        let mut command = safe(json!({"action": "OsInfo"}));
        command["timeout"] = timeout;
        request(command).timeout
    };
    for (given, expected) in [
        (json!(0), TIMEOUT_MIN),
        (json!(-5), TIMEOUT_MIN),
        (json!(0.2), TIMEOUT_MIN),
        (json!(1.5), Duration::from_millis(1_500)),
        (json!(300), Duration::from_secs(300)),
        (json!(u64::MAX), TIMEOUT_MAX),
        (json!(1e300), TIMEOUT_MAX),
        (json!(null), TIMEOUT_DEFAULT),
    ] {
        assert_eq!(timeout(given.clone()), expected, "{given}");
    }
    let mut without = safe(json!({"action": "OsInfo"}));
    without.as_object_mut().unwrap().remove("timeout");
    assert_eq!(request(without).timeout, TIMEOUT_DEFAULT);
}

#[test]
fn a_command_older_than_its_time_is_answered_and_not_run() {
    let command = safe(json!({"action": "RebootSystem"})).to_string();
    let at = |age| decode(&command, age).unwrap();
    let limit = Duration::from_secs(30);
    assert!(matches!(at(limit - Duration::from_millis(1)), HostMessage::Request(_)));
    let HostMessage::Refused(stale) = at(limit) else { panic!() };
    assert_eq!((&*stale.id, &*stale.action), ("a1", "RebootSystem"));
    assert_eq!(
        stale.error,
        "stale: it came 30 s after it was sent and its time is 30 s, so it was not run"
    );
}

#[test]
fn a_raw_command_keeps_all_it_came_with() {
    let command = json!({
        "type": "UnsafeCommand", "id": "u1", "raw_command": "echo \"$A\" | tr a b", "shell": "BASH",
        "timeout": 60, "working_dir": "/srv", "env_vars": {"A": "1"}, "run_as": "LAB\\ann",
    });
    let RequestKind::Raw(raw) = request(command.clone()).kind else { panic!() };
    assert_eq!((&*raw.command, raw.shell), ("echo \"$A\" | tr a b", Shell::Bash));
    assert_eq!(raw.working_dir.as_deref(), Some(std::path::Path::new("/srv")));
    assert_eq!(raw.environment.get("A").map(String::as_str), Some("1"));
    assert_eq!(raw.run_as.map(|account| account.to_string()).as_deref(), Some("LAB\\ann"));
    for (field, wrong) in [
        ("shell", json!("tcsh")),
        ("working_dir", json!("srv")),
        ("env_vars", json!({"A=": "1"})),
        ("env_vars", json!(["A"])),
        ("run_as", json!("-x")),
        ("run_as", json!("a;b")),
        ("raw_command", json!(" \n")),
        ("raw_command", json!("a\0b")),
        ("raw_command", json!(7)),
    ] {
        let mut wrongly = command.clone();
        wrongly[field] = wrong;
        assert_eq!(refusal(wrongly).action, RAW_COMMAND);
    }
}

#[test]
fn each_script_is_decoded_or_refused_by_itself_and_none_gets_stale() {
    let script = |id: &str, shell: &str| {
        json!({
            "execution_id": id, "script_id": "s", "script_name": "set\u{1b}up", "script_content": "exit 3",
            "shell": shell, "execution_type": "FIRST_BOOT", "input_values": {"N": 3, "X": null},
            "timeout_seconds": 600, "run_as": null,
        })
    };
    let mut no_text = script("e3", "SH");
    no_text.as_object_mut().unwrap().remove("script_content");
    let mut nameless = script("e4", "SH");
    nameless.as_object_mut().unwrap().remove("execution_id");
    let scripts = json!([script("e1", "BASH"), script("e2", "TCSH"), no_text, nameless, 7]);
    let message = json!({"type": "pending_scripts_response", "timestamp": "x", "scripts": scripts});
    let minutes = Duration::from_secs(299);
    let Ok(HostMessage::Scripts(found)) = decode(&message.to_string(), minutes) else { panic!() };
    let [Ok(first), Err(second), Err(third)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&*first.id, first.timeout), ("e1", Duration::from_secs(600)));
    let RequestKind::Script(what) = &first.kind else { panic!() };
    assert_eq!((&*what.name, &*what.content, what.shell), ("set?up", "exit 3", Shell::Bash));
    assert_eq!(what.inputs.get("N").map(String::as_str), Some("3"));
    assert!(second.id == "e2" && second.error.contains("\"tcsh\" is not known"));
    assert!(third.id == "e3" && third.error.contains("missing field `script_content`"));

    let empty = json!({"type": "pending_scripts_response", "timestamp": "x", "scripts": []});
    assert_eq!(asked(empty), HostMessage::Scripts(Vec::new()));
}

#[test]
fn the_password_of_a_domain_goes_nowhere() {
    for password in [json!("canary-4711"), json!(["canary-4711"])] {
        let join = json!({"action": "JoinDomain", "domain": "lab", "username": "ann", "password": password,
            "ou": null, "restart_after": true});
        let request = request(safe(join));
        assert!(
            matches!(&request.kind, RequestKind::Action(order) if order.name() == "JoinDomain")
        );
        assert!(!format!("{request:?}").contains("4711"));
    }
}

#[test]
fn what_cannot_be_taken_back_is_done_only_where_the_host_says_how() {
    let image = json!({"action": "PrepareGoldenImage", "cleanup_level": "DEEP", "sanitize_user_data": false,
        "shutdown_after": true});
    let decoded: PrepareGoldenImage = action(image.clone());
    assert_eq!(
        (decoded.level.name(), decoded.sanitize_user_data, decoded.shutdown_after),
        ("deep", false, true)
    );
    for missing in ["cleanup_level", "sanitize_user_data", "shutdown_after"] {
        let mut image = image.clone();
        image.as_object_mut().unwrap().remove(missing);
        assert!(is_incomplete(image), "{missing}");
    }
    let join = json!({"action": "JoinDomain", "domain": "lab.example", "username": "LAB\\ann", "password": "p w",
        "ou": "OU=X,DC=lab", "computer_name": "WS-1", "restart_after": false});
    let decoded: JoinDomain = action(join.clone());
    assert_eq!((decoded.domain.as_str(), decoded.username.as_str()), ("lab.example", "LAB\\ann"));
    assert_eq!((decoded.password.expose(), decoded.restart_after), (&b"p w"[..], false));
    for missing in ["domain", "username", "password"] {
        let mut join = join.clone();
        join.as_object_mut().unwrap().remove(missing);
        assert!(is_incomplete(join), "{missing}");
    }
    for (argument, wrong) in [
        ("domain", "lab;x"),
        ("domain", "-x"),
        ("username", "a:b"),
        ("password", "a\nb"),
        ("ou", "OU=\u{1b}x"),
        ("computer_name", "sixteen-letters-x"),
    ] {
        let mut join = join.clone();
        join[argument] = wrong.into();
        let error = refused(join);
        assert!(!error.contains("a\nb"), "{error}");
    }
    assert!(is_incomplete(json!({"action": "GetApplicationDetails"})));
    let details = json!({"action": "GetApplicationDetails", "app_id": "libc6:i386"});
    let GetApplicationDetails(name) = action(details);
    assert_eq!(name.as_str(), "libc6:i386");
}

#[test]
fn no_secret_of_a_raw_command_is_shown_or_told() {
    let command = |field: &str, value: Value| {
        let mut command = json!({"type": "UnsafeCommand", "id": "u1", "raw_command": "canary-4711",
            "env_vars": {"A": "canary-4711"}, "timeout": 60});
        command[field] = value;
        asked(command)
    };
    for asked in [
        command("shell", json!("sh")),
        command("env_vars", json!("canary-4711")),
        command("raw_command", json!({"canary-4711": 1})),
        command("timeout", json!("canary-4711")),
        command("working_dir", json!("canary-4711")),
        command("env_vars", json!({"canary-4711=": "x"})),
    ] {
        assert!(!format!("{asked:?}").contains("4711"), "{asked:?}");
    }
}

#[test]
fn what_belongs_to_another_system_is_known_by_its_name() {
    for name in ["CheckWindowsUpdates", "CheckWindowsDefender", "RunDefenderQuickScan"] {
        assert_eq!(action::<OtherSystem>(json!({ "action": name })).0, name);
    }
}

#[test]
fn the_first_place_that_has_an_argument_counts_and_one_that_is_wrong_is_told_by_its_place() {
    let mut kill = safe(
        json!({"action": "ProcessKill", "pid": null, "force": true, "params": {"pid": 7, "force": false}}),
    );
    kill["params"] = json!({"pid": 8, "params": {"pid": 9}});
    let RequestKind::Action(order) = request(kill).kind else { panic!() };
    assert_eq!(order.get(), Some(&ProcessKill { pid: 7, force: true }));
    let command = |members: &str| {
        format!(
            r#"{{"type":"SafeCommand","id":"a1","command_type":{{"action":"ProcessTop",{members}}}}}"#
        )
    };
    for (members, last, why) in [
        (r#""limit":"3""#, r#""3""#, "a field is not of its kind"),
        (r#""limit":-3"#, "-3", "a field is not of its kind"),
        (r#""limit":3,"\u006cimit":4"#, r#""\u006cimit""#, "duplicate field `limit`"),
        (r#""params":7"#, "7", "a field is not of its kind"),
        (r#""params":{"sort_by":[0]}"#, r#""sort_by":"#, "a field is not of its kind"),
    ] {
        let payload = command(members);
        let Ok(HostMessage::Refused(refusal)) = decode(&payload, Duration::ZERO) else { panic!() };
        let end = payload.find(last).unwrap() + last.len();
        let expected = format!("the message was not understood: {why} (at character {end})");
        assert_eq!(refusal.error, expected, "{payload}");
        assert_eq!(refusal.action, "ProcessTop");
    }
}
