//! What a policy lets through and what it does not, from the text of a file to the rule that decided.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "policy/effects.rs"]
mod effects;
#[path = "policy/names.rs"]
mod names;

use std::time::Duration;

use infiniservice::internals::commands::actions::ActionRequest;
use infiniservice::internals::commands::actions::applications::{
    CheckApplicationUpdates, GetInstalledApplicationsWMI,
};
use infiniservice::internals::commands::actions::checks::disk::CheckDiskSpace;
use infiniservice::internals::commands::actions::checks::{RunAllHealthChecks, RunHealthCheck};
use infiniservice::internals::commands::actions::cleanup::DiskCleanup;
use infiniservice::internals::commands::actions::packages::{
    PackageInstall, PackageList, PackageRemove, PackageSearch, PackageUpdate,
};
use infiniservice::internals::commands::actions::power::RebootSystem;
use infiniservice::internals::commands::actions::processes::{
    ProcessKill, ProcessList, ProcessTop,
};
use infiniservice::internals::commands::actions::registry::{self, rules};
use infiniservice::internals::commands::actions::resources::CheckResourceOptimization;
use infiniservice::internals::commands::actions::services::{
    ServiceControl, ServiceList, ServiceOperation,
};
use infiniservice::internals::commands::actions::system::{OsInfo, SystemInfo};
use infiniservice::internals::commands::actions::unsupported::OtherSystem;
use infiniservice::internals::commands::actions::updates::{
    CheckLinuxUpdates, GetUpdateHistory, UpdateSystemSoftware,
};
use infiniservice::internals::commands::actions::users::UserList;
use infiniservice::internals::commands::argument::{Account, PackageName, Query, ServiceName};
use infiniservice::internals::commands::authorize::policy::{Decision, Policy};
use infiniservice::internals::commands::authorize::{Authorization, Authorize, AuthorizedMessage};
use infiniservice::internals::commands::request::{HostMessage, Refusal};
use infiniservice::internals::commands::request::{
    RawCommand, Request, RequestKind, Script, Shell,
};
use infiniservice::internals::config::load;
use infiniservice::model::Rank;
use infiniservice::pipeline::{Output, Transform};
use infiniservice::wire::inbound::{Arguments, KeepAliveAnswer};
use proptest::prelude::*;
use tokio::time::Instant;

/// The policy of a file with this text below `[enforce]`, which is line 2.
fn policy(text: &str) -> Policy {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("commands.toml");
    std::fs::write(&path, format!("[receive]\n[enforce]\n{text}\n")).unwrap();
    let mut commands = load(&[path], &|_| None).unwrap().commands.unwrap();
    commands.origin = "commands.toml".to_owned();
    commands.policy()
}

fn request(what: RequestKind) -> Request {
    let (id, timeout) = ("1".to_owned(), Duration::from_secs(60));
    Request::new(id, what, timeout, Instant::now())
}

fn action(action: impl Into<ActionRequest>) -> Request {
    request(RequestKind::Action(action.into()))
}

fn package(name: &str) -> PackageName {
    PackageName::new(name).unwrap()
}

fn remove(name: &str) -> Request {
    action(PackageRemove(package(name)))
}

fn service(name: &str, operation: ServiceOperation) -> Request {
    action(ServiceControl { service: ServiceName::new(name).unwrap(), operation })
}

fn raw(path: Option<&str>, user: Option<&str>) -> Request {
    request(RequestKind::Raw(RawCommand {
        command: "true".to_owned(),
        shell: Shell::Sh,
        working_dir: path.map(Into::into),
        environment: Default::default(),
        run_as: user.map(|user| Account::new(user).unwrap()),
    }))
}

fn leaving(value: &str) -> [Request; 2] {
    let mut both = [raw(None, None), script("x")];
    for request in &mut both {
        let variables = match &mut request.kind {
            RequestKind::Raw(raw) => &mut raw.environment,
            RequestKind::Script(script) => &mut script.inputs,
            RequestKind::Action(_) => continue,
        };
        variables.insert("INFINISERVICE_DETACH".to_owned(), value.to_owned());
    }
    both
}

fn script(name: &str) -> Request {
    request(RequestKind::Script(Script {
        name: name.to_owned(),
        content: "true".to_owned(),
        shell: Shell::Bash,
        inputs: Default::default(),
        run_as: None,
    }))
}

/// The rule that decided, with a `+` where it allowed.
fn decided(policy: &Policy, request: &Request) -> String {
    match policy.decide(request) {
        Decision::Allowed { rule } => format!("+{rule}"),
        Decision::Denied { why, .. } => why,
    }
}

/// The name at this place of all that a rule may use.
fn named(at: usize) -> &'static str {
    rules().nth(at).unwrap().0
}

/// One of each kind that can be asked.
fn everything() -> Vec<Request> {
    let all: [ActionRequest; 25] = [
        SystemInfo.into(),
        OsInfo.into(),
        UserList.into(),
        ServiceList.into(),
        PackageList.into(),
        PackageSearch(Query::new("x").unwrap()).into(),
        PackageInstall(package("x")).into(),
        PackageRemove(package("x")).into(),
        PackageUpdate(package("x")).into(),
        UpdateSystemSoftware(None).into(),
        ProcessList { limit: None }.into(),
        ProcessTop { limit: None, by: Rank::Cpu }.into(),
        ProcessKill { pid: 7, force: false }.into(),
        CheckDiskSpace { warning_percent: 80.0, critical_percent: 90.0 }.into(),
        CheckResourceOptimization.into(),
        RunHealthCheck(None).into(),
        RunAllHealthChecks.into(),
        DiskCleanup { targets: Vec::new() }.into(),
        CheckLinuxUpdates.into(),
        GetInstalledApplicationsWMI.into(),
        CheckApplicationUpdates.into(),
        GetUpdateHistory.into(),
        RebootSystem { force: false }.into(),
        OtherSystem("CheckWindowsUpdates").into(),
        registry::request("RunMaintenanceTask", Arguments::default()).unwrap(),
    ];
    let mut requests: Vec<Request> = all.map(action).into();
    requests.extend([service("x", ServiceOperation::Stop), raw(None, None), script("x")]);
    requests
}

#[test]
fn a_denial_names_the_rule_that_decided_and_wins_over_what_allows() {
    let policy = policy(
        "allow = [\"*\"]\n\
         deny = [\n\
             \"RebootSystem\",\n\
             { action = \"PackageRemove\",  package = \"systemd*\" },\n\
         ]",
    );
    assert_eq!(decided(&policy, &remove("nginx")), "+commands.toml:3");
    assert_eq!(
        decided(&policy, &remove("systemd-resolved")),
        "denied by commands.toml:6: { action = \"PackageRemove\", package = \"systemd*\" }"
    );
    assert_eq!(
        decided(&policy, &action(RebootSystem { force: true })),
        "denied by commands.toml:5: \"RebootSystem\""
    );
    // The rule is about removing, and about names that begin so.
    assert_eq!(decided(&policy, &action(PackageInstall(package("systemd")))), "+commands.toml:3");
    assert_eq!(decided(&policy, &remove("libsystemd0")), "+commands.toml:3");
    assert_eq!(policy.quote("commands.toml:5"), Some("\"RebootSystem\""));
}

#[test]
fn what_nothing_allows_is_denied() {
    let nothing = policy("");
    for request in everything() {
        let told = decided(&nothing, &request);
        assert!(told.starts_with("denied: ") && told.contains("commands.toml"), "{told}");
    }
    let some = policy("allow = [\"Package*\"]");
    assert_eq!(decided(&some, &remove("x")), "+commands.toml:3");
    assert_eq!(
        decided(&some, &action(SystemInfo)),
        "denied: no rule of commands.toml allows this SystemInfo"
    );
}

#[test]
fn to_leave_processes_running_needs_its_own_switch() {
    let on = "allow = [\"*\"]\nraw_shell = true\nscripts = true";
    let (silent, off) = (policy(on), policy(&format!("{on}\ndetach = false")));
    let both = policy(&format!("{on}\ndetach = true"));
    for request in leaving("1").into_iter().chain(leaving("true")) {
        assert_eq!(decided(&silent, &request), "denied: commands.toml does not say detach = true");
        assert_eq!(decided(&off, &request), "denied by commands.toml:6: detach = false");
        assert_eq!(decided(&both, &request), "+commands.toml:3");
    }
    for request in leaving("0").into_iter().chain(leaving("")).chain(leaving("False")) {
        assert_eq!(decided(&off, &request), "+commands.toml:3", "it does not ask for it");
    }
    let only = policy("allow = [\"*\"]\ndetach = true");
    for request in leaving("1") {
        assert!(!only.decide(&request).is_allowed(), "raw_shell and scripts are off");
    }
}

#[test]
fn shell_and_scripts_need_their_switch_and_a_rule() {
    let off = policy("allow = [\"*\"]");
    assert_eq!(
        decided(&off, &raw(None, None)),
        "denied: commands.toml does not say raw_shell = true"
    );
    assert_eq!(decided(&off, &script("x")), "denied: commands.toml does not say scripts = true");

    let said = policy("allow = [\"*\"]\nraw_shell = false\nscripts = false");
    assert_eq!(decided(&said, &raw(None, None)), "denied by commands.toml:4: raw_shell = false");
    assert_eq!(decided(&said, &script("x")), "denied by commands.toml:5: scripts = false");

    let on = policy("allow = [\"Package*\"]\nraw_shell = true\nscripts = true");
    assert!(decided(&on, &raw(None, None)).starts_with("denied: no rule"));
    assert!(decided(&on, &script("x")).starts_with("denied: no rule"));

    let both = policy("allow = [\"UnsafeCommand\"]\nraw_shell = true\nscripts = true");
    assert_eq!(decided(&both, &raw(None, None)), "+commands.toml:3");
    assert!(decided(&both, &script("x")).starts_with("denied: no rule"));
}

#[test]
fn a_detour_or_another_spelling_does_not_get_around_a_rule() {
    let policy = policy(
        "allow = [\"*\"]\nraw_shell = true\ndeny = [\n\
         { action = \"UnsafeCommand\", path = \"/root*\" },\n\
         { action = \"UnsafeCommand\", user = \"root\" },\n\
         { action = \"ServiceControl\", service = \"ssh\" },\n\
         { action = \"Package*\", package = \"systemd\" },\n\
         { action = \"Update*\", package = \"systemd\" },\n\
         { action = \"DiskCleanup\", target = \"system_cache\" },\n\
         { action = \"RunHealthCheck\", name = \"firewall_status\" },\n]",
    );
    let by = |request: &Request| {
        let decision = policy.decide(request);
        (!decision.is_allowed()).then(|| decision.rule().to_owned())
    };
    let line = |number: usize| Some(format!("commands.toml:{number}"));

    assert_eq!(by(&raw(Some("/srv"), Some("ann"))), None);
    for path in ["/root", "/root/", "//root/x", "/srv/../root", "/./root/../root/x/.."] {
        assert_eq!(by(&raw(Some(path), Some("ann"))), line(6), "{path}");
    }
    // Nobody named is root.
    assert_eq!(by(&raw(Some("/srv"), None)), line(7));
    for name in ["ssh", "ssh.service"] {
        assert_eq!(by(&service(name, ServiceOperation::Stop)), line(8), "{name}");
    }
    assert_eq!(by(&service("ssh.socket", ServiceOperation::Stop)), None);
    for name in
        ["systemd", "systemd:amd64", "systemd-", "systemd+", "systemd-:amd64", "systemd.x86_64"]
    {
        assert_eq!(by(&remove(name)), line(9), "{name}");
    }
    assert_eq!(by(&remove("g++")), None);
    // To update everything is to update that too.
    assert_eq!(by(&action(UpdateSystemSoftware(None))), line(10));
    assert_eq!(by(&action(UpdateSystemSoftware(Some(package("vim"))))), None);
    let clean = |targets: &[&str]| {
        action(DiskCleanup { targets: targets.iter().map(ToString::to_string).collect() })
    };
    assert_eq!(by(&clean(&["temp_files", "system_cache"])), line(11));
    assert_eq!(by(&clean(&[])), None);
    assert_eq!(by(&action(RunHealthCheck(None))), line(12));
}

#[test]
fn a_narrow_rule_allows_no_more_than_it_says() {
    let policy = policy(
        "raw_shell = true\nallow = [\n\
         { action = \"UnsafeCommand\", path = \"/srv/*\", user = \"ann\" },\n\
         { action = \"ServiceControl\", service = \"nginx\", operation = \"re*\" },\n\
         { action = \"UpdateSystemSoftware\", package = \"vim\" },\n\
         { action = \"DiskCleanup\", target = \"temp_files\" },\n]",
    );
    let allowed = |request: &Request| policy.decide(request).is_allowed();
    assert!(allowed(&raw(Some("/srv/www"), Some("ann"))));
    assert!(!allowed(&raw(Some("/srv/../etc"), Some("ann"))));
    assert!(!allowed(&raw(Some("/srv/www"), Some("root"))));
    assert!(!allowed(&raw(Some("/srv/www"), None)));
    assert!(!allowed(&raw(None, Some("ann"))));
    assert!(allowed(&service("nginx.service", ServiceOperation::Restart)));
    assert!(!allowed(&service("nginx", ServiceOperation::Stop)));
    assert!(!allowed(&service("nginx2", ServiceOperation::Restart)));
    assert!(allowed(&action(UpdateSystemSoftware(Some(package("vim"))))));
    assert!(!allowed(&action(UpdateSystemSoftware(None))));
    let clean = |targets: &[&str]| {
        action(DiskCleanup { targets: targets.iter().map(ToString::to_string).collect() })
    };
    assert!(allowed(&clean(&["temp_files"])) && allowed(&clean(&[])));
    assert!(!allowed(&clean(&["temp_files", "system_cache"])));
}

#[test]
fn the_shipped_policy_allows_everything_that_can_be_asked() {
    let commands = load(&["built-in:commands.toml".into()], &|_| None).unwrap().commands.unwrap();
    let policy = commands.policy();
    for request in everything() {
        assert_eq!(decided(&policy, &request), "+built-in:commands.toml:13");
    }
}

#[test]
fn every_request_goes_by_a_name_and_arguments_that_a_rule_can_say() {
    for request in everything() {
        let (_, known) = rules().find(|(known, _)| *known == request.kind.name()).unwrap();
        let mut seen: Vec<_> = request.kind.arguments().into_iter().map(|(name, _)| name).collect();
        seen.dedup();
        seen.sort();
        let mut known = known.to_vec();
        known.sort();
        assert_eq!(seen, known, "{}", request.kind.name());
    }
}

#[test]
fn a_permit_has_no_more_time_than_the_file_grants_and_no_less_than_was_asked() {
    let gate = Authorize::new(policy("allow = [\"*\"]\n[execute]\ntimeout = \"10m\""));
    let with = |seconds| {
        let timeout = Duration::from_secs(seconds);
        let asked = Request { timeout, ..action(SystemInfo) };
        gate.decide(asked).unwrap().request().timeout.as_secs()
    };
    assert_eq!((with(5), with(600), with(601), with(1 << 40)), (5, 600, 600, 600));
}

#[test]
fn a_refusal_tells_the_host_why_in_both_places_it_looks() {
    let gate = Authorize::new(policy("deny = [\"SystemInfo\"]"));
    let refusal = gate.decide(action(SystemInfo)).unwrap_err();
    let outcome = refusal.outcome();
    assert!(!outcome.success);
    assert_eq!(outcome.error.as_deref(), Some("denied by commands.toml:3: \"SystemInfo\""));
    assert_eq!(outcome.stderr, refusal.why);
}

#[test]
fn everything_the_host_can_send_goes_through_the_gate_one_for_one() {
    let mut gate = Authorize::new(policy("allow = [\"SystemInfo\", \"Script\"]\nscripts = true"));
    let refusal = || Refusal {
        id: "9".to_owned(),
        action: "Dance".to_owned(),
        error: "no".to_owned(),
        is_script: false,
        held: <_>::default(),
    };
    let mut ruled = |asked: HostMessage| {
        let mut out = Output::default();
        gate.apply(Instant::now(), &asked, &mut out);
        let all: Vec<AuthorizedMessage> = out.drain().collect();
        assert_eq!(all.len(), 1);
        all.into_iter().next().unwrap()
    };
    let permitted =
        |authorization: &Authorization| matches!(authorization, Authorization::Permitted(_));
    let denied = |authorization: &Authorization| matches!(authorization, Authorization::Denied(_));
    let unclear =
        |authorization: &Authorization| *authorization == Authorization::Malformed(refusal());

    let system = ruled(HostMessage::Request(action(SystemInfo)));
    assert!(
        matches!(&system, AuthorizedMessage::Command(authorization) if permitted(authorization))
    );
    let shell = ruled(HostMessage::Request(raw(None, None)));
    assert!(matches!(&shell, AuthorizedMessage::Command(authorization) if denied(authorization)));
    let unknown = ruled(HostMessage::Refused(refusal()));
    assert!(
        matches!(&unknown, AuthorizedMessage::Command(authorization) if unclear(authorization))
    );
    let scripts =
        ruled(HostMessage::Scripts(vec![Ok(script("a")), Err(refusal()), Ok(remove("x"))]));
    let AuthorizedMessage::Scripts(authorizations) = scripts else { panic!("{scripts:?}") };
    assert!(
        permitted(&authorizations[0]) && unclear(&authorizations[1]) && denied(&authorizations[2])
    );
    assert_eq!(ruled(HostMessage::KeepAlive(u64::MAX)), AuthorizedMessage::KeepAlive(u64::MAX));
    let answer = KeepAliveAnswer { number: 7, connection: None };
    assert_eq!(
        ruled(HostMessage::KeepAliveAnswered(answer)),
        AuthorizedMessage::KeepAliveAnswered(7)
    );
    assert_eq!(ruled(HostMessage::MetricsNow), AuthorizedMessage::MetricsNow);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// One more rule that denies never lets more through; one more that allows never less.
    #[test]
    fn denying_more_never_allows_more(
        allow in proptest::collection::vec(0..rules().count(), 0..6),
        deny in proptest::collection::vec(0..rules().count(), 1..6),
    ) {
        let list = |rules: &[usize]| {
            let names: Vec<String> = rules.iter().map(|at| format!("{:?}", named(*at))).collect();
            format!("[{}]", names.join(", "))
        };
        let with = |deny: &[usize]| policy(&format!("allow = {}\ndeny = {}", list(&allow), list(deny)));
        let (fewer, more) = (with(&deny[1..]), with(&deny));
        for request in everything() {
            let name = request.kind.name();
            let more = more.decide(&request).is_allowed();
            prop_assert!(!more || fewer.decide(&request).is_allowed());
            let is_in = |rules: &[usize]| rules.iter().any(|at| named(*at) == name);
            // What comes along with it is denied by its own name, too.
            let along: &[&str] = match name {
                "UpdateSystemSoftware" => &["PackageUpdate"],
                "RunHealthCheck" => &["RunAllHealthChecks"],
                "RunAllHealthChecks" => &["RunHealthCheck"],
                _ => &[],
            };
            let denied = is_in(&deny) || deny.iter().any(|at| along.contains(&named(*at)));
            let switched_off = !matches!(request.kind, RequestKind::Action(_));
            prop_assert_eq!(more, is_in(&allow) && !denied && !switched_off);
        }
    }
}
