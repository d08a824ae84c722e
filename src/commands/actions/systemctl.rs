//! systemd through `systemctl`, for where its bus cannot be reached. Does not know the bus.

use super::{Context, program};
use crate::commands::process::{Exit, Finished};
use crate::commands::systemd::{Properties, ServiceOperation, SystemdError, Unit, UnitFile};

/// All units of one kind, as `ListUnits` of the bus reports them.
pub(super) async fn units(cx: &Context, only: &[&str]) -> Result<Vec<Unit>, SystemdError> {
    let mut arguments =
        vec!["list-units", "--all", "--full", "--plain", "--no-legend", "--no-pager"];
    arguments.extend(only);
    Ok(parse_units(&ask(cx, &arguments).await?))
}

/// All unit files of services.
pub(super) async fn unit_files(cx: &Context) -> Result<Vec<UnitFile>, SystemdError> {
    let arguments = ["list-unit-files", "--full", "--no-legend", "--no-pager", "--type=service"];
    Ok(parse_unit_files(&ask(cx, &arguments).await?))
}

/// One operation on one unit; `systemctl` waits until it is done.
pub(super) async fn control(
    cx: &Context,
    unit: &str,
    operation: ServiceOperation,
) -> Result<(), SystemdError> {
    let verb = match operation {
        ServiceOperation::Start => "start",
        ServiceOperation::Stop => "stop",
        ServiceOperation::Restart => "restart",
        ServiceOperation::Enable => "enable",
        ServiceOperation::Disable => "disable",
        ServiceOperation::Status => return Ok(()),
    };
    ask(cx, &["--no-ask-password", verb, "--", unit]).await.map(|_| ())
}

/// What systemd knows of one unit, as properties of the bus.
pub(super) async fn properties(
    cx: &Context,
    name: &str,
    wanted: &[&str],
) -> Result<Properties, SystemdError> {
    let list = wanted.join(",");
    let text = ask(cx, &["show", "--no-pager", "--property", &list, "--", name]).await?;
    let each = text.lines().filter_map(|line| line.split_once('='));
    let words = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect();
    Ok(each.map(|(name, value)| (name.to_owned(), words(value))).collect())
}

async fn ask(cx: &Context, arguments: &[&str]) -> Result<String, SystemdError> {
    let ran = cx.runner.run(program("systemctl", arguments, cx.deadline)).await;
    let Finished { exit, stdout, stderr } =
        ran.map_err(|error| SystemdError::NotRun(error.to_string()))?;
    match exit {
        Exit::Code(0) => Ok(stdout.text),
        Exit::Code(code) => {
            let said = stderr.text.trim();
            Err(match said.is_empty() {
                true => SystemdError::Systemctl(code),
                false => SystemdError::Refused(said.to_owned()),
            })
        }
        Exit::TimedOut => Err(SystemdError::SystemctlLate),
        Exit::Signal(_) | Exit::Cancelled => Err(SystemdError::SystemctlEnded),
    }
}

/// `UNIT LOAD ACTIVE SUB DESCRIPTION…`; some versions put a mark before those in trouble.
fn parse_units(text: &str) -> Vec<Unit> {
    let rows = text.lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches(['●', '*', '×', '○', '↻']).trim_start();
        let (name, rest) = line.split_once(char::is_whitespace)?;
        let (load, rest) = rest.trim_start().split_once(char::is_whitespace)?;
        let (active, rest) = rest.trim_start().split_once(char::is_whitespace)?;
        let rest = rest.trim_start();
        let (sub, description) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        Some(Unit {
            name: name.to_owned(),
            load: load.to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
            description: description.trim().to_owned(),
        })
    });
    rows.collect()
}

/// `FILE STATE PRESET`.
fn parse_unit_files(text: &str) -> Vec<UnitFile> {
    let rows = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some(UnitFile { name: words.next()?.to_owned(), state: words.next()?.to_owned() })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_unit_in_trouble_is_read_like_the_others() {
        let text = "cron.service     loaded    active   running Regular background program processing daemon\n\
            ● logrotate.service loaded    failed   failed  Rotate log files\n\
            ● plymouth.service  not-found inactive dead    plymouth.service\n\n";
        let units = parse_units(text);
        assert_eq!(units.len(), 3);
        assert_eq!(units[0].description, "Regular background program processing daemon");
        assert_eq!(
            (units[1].name.as_str(), units[1].active.as_str()),
            ("logrotate.service", "failed")
        );
        assert_eq!(units[2].load, "not-found");
    }

    #[test]
    fn a_unit_file_may_have_no_preset() {
        let files = parse_unit_files(
            "apt-daily.service static -\ncron.service enabled enabled\nx.service masked\nodd\n",
        );
        assert_eq!(files.len(), 3);
        assert_eq!((files[2].name.as_str(), files[2].state.as_str()), ("x.service", "masked"));
    }

    /// Where systemd does not run, the real program reads the files itself.
    #[tokio::test]
    async fn the_real_systemctl_lists_the_unit_files_that_are_on_the_disk() {
        let unit = std::path::Path::new("/usr/lib/systemd/system/systemd-journald.service");
        if super::super::find_program("systemctl").is_none() || !unit.exists() {
            eprintln!("skipped: there is no systemctl");
            return;
        }
        let files = unit_files(&super::super::test_context()).await.unwrap();
        let journald = files.iter().find(|file| file.name == "systemd-journald.service").unwrap();
        assert_eq!(journald.state, "static");
        assert!(files.iter().all(|file| file.name.ends_with(".service")));
    }

    #[tokio::test]
    async fn what_systemctl_complains_of_is_the_reason() {
        if super::super::find_program("systemctl").is_none()
            || crate::commands::systemd::is_running()
        {
            eprintln!("skipped: there is no systemctl, or systemd runs");
            return;
        }
        let cx = super::super::test_context();
        let error =
            control(&cx, "no-such.service", ServiceOperation::Start).await.unwrap_err().to_string();
        assert!(error.contains("systemd"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text: String, lines in "([a-z.● ]{0,30}\n){0,4}") {
            let _ = (parse_units(&text), parse_unit_files(&text));
            let _ = (parse_units(&lines), parse_unit_files(&lines));
        }
    }
}
