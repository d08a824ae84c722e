//! Actions that the host knows and this agent does not do: rules judge them like any, then they are refused with the
//! reason that stands here.

use super::action::{Action, NoArguments, Unfit};
use super::page::{Missing, Name, json, text};
use super::plan::Plan;
use super::{ActionOutcome, Context};
use crate::commands::argument::ArgumentError;

/// What is not built. There is no value of it: its names say why.
#[derive(Debug, PartialEq)]
pub(crate) enum NotBuilt {}

const UPDATES: &str =
    "this view of updates is not built in this agent yet; CheckLinuxUpdates lists them all";
const SECURITY: &str =
    "this security check is not built in this agent yet; RunAllHealthChecks has what there is";

impl Action for NotBuilt {
    const NAMES: &'static [Name] = &[
        Name::not_built("CheckSpecificAppUpdates", UPDATES),
        Name::not_built("GetAvailableUpdates", UPDATES),
        Name::not_built("GetSecurityUpdates", UPDATES),
        Name::not_built("GetLinuxSecurityUpdates", UPDATES),
        Name::not_built("EstimateUpdateSize", UPDATES),
        Name::not_built(
            "EstimateDiskCleanup",
            "estimating a clean-up is not built in this agent yet",
        ),
        Name::not_built("CheckLinuxSecurity", SECURITY),
        Name::not_built("GetLinuxSecurityStatus", SECURITY),
        Name::not_built("AutoOptimizeDisk", "optimizing disks is not built in this agent yet")
            .sent_bare(),
        Name::not_built(
            "CheckSystemIntegrity",
            "checking installed files is not built in this agent yet",
        )
        .sent(&[]),
        Name::not_built(
            "RunMaintenanceTask",
            "maintenance tasks are not built in this agent yet; send what they do as commands",
        )
        .sent(&[
            text("task_type", Missing::Refused),
            text("task_name", Missing::Refused),
            json("parameters", Missing::Absent),
            json("validate_before", Missing::Is(false)),
            json("validate_after", Missing::Is(false)),
        ]),
        Name::not_built(
            "ExecutePowerShellScript",
            "PowerShell scripts are for Windows guests; send an UnsafeCommand with shell BASH",
        )
        .sent(&[
            text("script", Missing::Refused),
            text("script_type", Missing::Text("inline")),
            json("timeout_seconds", Missing::Absent),
            text("working_directory", Missing::Absent),
            json("environment_vars", Missing::Absent),
            json("run_as_admin", Missing::Is(false)),
        ]),
    ];
    const IN_AGENT: bool = true;
    type Arguments = NoArguments;

    fn new(asked: &'static str, _: NoArguments) -> Result<Self, Unfit> {
        Err(ArgumentError::NotBuilt(asked).into())
    }

    fn plan(&self) -> Plan {
        match *self {}
    }

    async fn run(&self, _: &Context) -> ActionOutcome {
        match *self {}
    }
}
