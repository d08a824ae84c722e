//! Packages by the real tools, in trees of their own beside the machine: `apt-get` and `dpkg` with a
//! local archive, `dnf`, `zypper` and `rpm` with a local repository, `pacman` with another. What needs
//! root or a tool that is not there is skipped and says so; a tool that `.ci/run` installs must be there
//! where `CI` is `true`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "packages/apt.rs"]
mod apt;
#[path = "packages/arguments.rs"]
mod arguments;
#[path = "packages/cleanup.rs"]
mod cleanup;
#[path = "packages/dnf.rs"]
mod dnf;
#[path = "packages/pacman.rs"]
mod pacman;
#[path = "packages/zypper.rs"]
mod zypper;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use infiniservice::internals::commands::actions::{Context, applications, packages};
use infiniservice::internals::commands::argument::PackageName;
use infiniservice::internals::commands::outcome::Outcome;
use infiniservice::internals::commands::process::Runner;
use infiniservice::metrics::collect::CommandLine;
use infiniservice::metrics::latest::Latest;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What an action gets, with so much time.
fn within(limit: Duration) -> Context {
    let runner = Runner::new(CancellationToken::new());
    Context {
        runner,
        deadline: Instant::now() + limit,
        latest: Latest::default(),
        command_line: CommandLine::default(),
        state: None,
        agent: None,
    }
}

fn minutes() -> Context {
    within(Duration::from_secs(180))
}

fn name(name: &str) -> PackageName {
    PackageName::new(name).unwrap()
}

/// Whether a test that needs root and these tools can run here; says why where not. Where `.ci/run` could
/// have installed them for CI, a missing one fails.
fn can(tools: &[&str]) -> bool {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return false;
    }
    let there = |tool: &&str| Path::new("/usr/bin").join(tool).exists();
    match tools.iter().find(|tool| !there(tool)) {
        Some(tool) => {
            let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true") && there(&"apt-get");
            assert!(!ci, "there is no {tool}, though CI is true");
            println!("skipped: there is no {tool}");
        }
        None => return true,
    }
    false
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Runs a tool that builds what a test needs.
fn tool(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The result of what must have been done.
fn done(outcome: Outcome) -> Value {
    assert!(outcome.success, "{outcome:#?}");
    assert_eq!(outcome.error, None);
    outcome.data.unwrap_or_default()
}

/// Why it was not done.
fn refused(outcome: Outcome) -> String {
    assert!(!outcome.success, "{outcome:#?}");
    outcome.error.unwrap()
}

/// The item of this name in a list.
fn item<'a>(data: &'a Value, list: &str, key: &str, name: &str) -> Option<&'a Value> {
    data[list].as_array().unwrap().iter().find(|item| item[key] == name)
}

#[tokio::test]
async fn this_machines_packages_are_those_that_dpkg_itself_tells() {
    let Ok(told) = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status} ${Package} ${Version}\n"])
        .output()
    else {
        println!("skipped: there is no dpkg-query");
        return;
    };
    let told = String::from_utf8(told.stdout).unwrap();
    let mut told: Vec<&str> =
        told.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
    let started = std::time::Instant::now();
    let data = done(packages::list_in(&packages::Root::machine(), &minutes()).await);
    println!("listed in {:?}", started.elapsed());
    let text = |item: &Value| {
        format!("{} {}", item["name"].as_str().unwrap(), item["version"].as_str().unwrap())
    };
    let mut listed: Vec<String> = data["packages"].as_array().unwrap().iter().map(text).collect();
    told.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, told);
    assert!(data.to_string().len() < 500 * 1024);

    let started = std::time::Instant::now();
    let data = done(applications::installed_in(&packages::Root::machine(), &minutes()).await);
    println!("inventory in {:?}, {} bytes", started.elapsed(), data.to_string().len());
    let applications = data["applications"].as_array().unwrap();
    assert_eq!(applications.len(), told.len());
    assert!(
        applications
            .iter()
            .all(|one| one["install_date"].is_string() && one["size_mb"].is_number())
    );
    assert!(data.to_string().len() < 500 * 1024);
}
