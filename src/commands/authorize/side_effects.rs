//! The side effects of an action on this machine, looked up before it starts: aliases and dependencies of a unit, and
//! the packages that a package manager would change. The lookup changes nothing but the package lists.
//!
//! # Why
//! A request can bypass a rule against removing `systemd` by removing a package that it needs, and a rule about `ssh` by
//! the alias `sshd`. Only the machine knows. If no rule limits anything, nothing is looked up.

use crate::commands::actions::packages::{self, ChangeKind, Planned};
use crate::commands::actions::registry::Argument;
use crate::commands::actions::{Context, services};
use crate::commands::authorize::effects::Effect;
use crate::commands::authorize::policy::Value;
use crate::commands::decode::request::Action;

/// The effects of `action` that its text does not show.
///
/// # Errors
/// The lookup failed, so the policy cannot decide: a sentence for the reply.
pub async fn side_effects(action: &Action, cx: &Context) -> Result<Vec<Effect<'static>>, String> {
    match action {
        Action::ServiceControl { service, operation } => {
            services::side_effects(cx, service, *operation).await
        }
        Action::PackageInstall(_)
        | Action::PackageRemove(_)
        | Action::PackageUpdate(_)
        | Action::UpdateSystemSoftware(_) => {
            let planned = packages::planned_changes(cx, action).await?;
            Ok(planned.into_iter().map(package).collect())
        }
        _ => Ok(Vec::new()),
    }
}

fn package(Planned { kind, name }: Planned) -> Effect<'static> {
    let action = match kind {
        ChangeKind::Install => "PackageInstall",
        ChangeKind::Update => "PackageUpdate",
        ChangeKind::Remove => "PackageRemove",
    };
    Effect::side_effect(action, vec![(Argument::Package, Value::Is(name.into()))])
}
