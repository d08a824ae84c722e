//! Actions that make sense on another system only. Invents no result.

use serde_json::{Value, json};

use super::action::{Action, NoArguments, Unfit};
use super::page::Name;
use super::plan::Plan;
use super::{ActionOutcome, Context};
use crate::commands::outcome::Outcome;

/// Answers with success, `supported: false`, and lists and counts that are empty because nothing was looked at.
///
/// # Why success
/// The host raises an issue for each failed check; a Windows check on Linux is no issue. What would be
/// a claim (that a scanner is on, that updates are automatic) is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct OtherSystem(
    /// The host's name for it; each stands for itself.
    pub &'static str,
);

const OTHER: &str =
    "for Windows: answered with success and `supported: false`; nothing is looked at";

impl Action for OtherSystem {
    const NAMES: &'static [Name] = &[
        Name::new("CheckWindowsUpdates", OTHER, "empty lists").sent_bare(),
        Name::new("CheckWindowsDefender", OTHER, "empty lists").sent_bare(),
        Name::new("GetDefenderStatus", OTHER, "empty lists").sent_bare(),
        Name::new("GetThreatHistory", OTHER, "empty lists").sent_bare(),
        Name::new("RunDefenderQuickScan", OTHER, "zeros").sent_bare(),
        Name::new("AutoFixWindowsUpdates", OTHER, "").sent_bare(),
        Name::new("AutoFixDefender", OTHER, "").sent_bare(),
    ];
    const IN_AGENT: bool = true;
    type Arguments = NoArguments;

    fn new(name: &'static str, _: NoArguments) -> Result<Self, Unfit> {
        Ok(Self(name))
    }

    fn name(&self) -> &'static str {
        self.0
    }

    fn plan(&self) -> Plan {
        Plan::reads("answers that this is not for Linux; runs no program")
    }

    async fn run(&self, _: &Context) -> ActionOutcome {
        unsupported(self.0).into()
    }
}

fn unsupported(name: &str) -> Outcome {
    let mut data = empty(name);
    data["supported"] = false.into();
    data["note"] = format!("{name} is not supported on Linux; nothing was checked").into();
    Outcome::data(data)
}

fn empty(name: &str) -> Value {
    match name {
        "CheckWindowsUpdates" | "GetPendingUpdates" => json!({
            "pending_updates": [], "pending_count": 0, "critical_count": 0, "security_count": 0,
        }),
        "CheckWindowsDefender" | "GetDefenderStatus" => json!({ "recent_threats": [] }),
        "GetThreatHistory" => json!({ "threats": [] }),
        "RunDefenderQuickScan" => {
            json!({ "threats_found": 0, "files_scanned": 0, "scan_duration": 0 })
        }
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_windows_check_lists_nothing_and_claims_nothing() {
        let outcome = unsupported("CheckWindowsUpdates");
        let data = outcome.data.unwrap();
        assert!(outcome.success && outcome.error.is_none());
        assert_eq!(data["supported"], false);
        assert_eq!(data["pending_updates"], json!([]));
        let defender = unsupported("CheckWindowsDefender").data.unwrap();
        assert!(defender.get("enabled").is_none(), "nothing was looked at");
        let scan = unsupported("RunDefenderQuickScan").data.unwrap();
        for count in ["threats_found", "files_scanned", "scan_duration"] {
            assert_eq!(scan[count], 0, "{count}: no file was looked at, in no time");
        }
        assert!(unsupported("RegistryThing").data.unwrap()["note"].is_string());
    }
}
