//! What an action comes to on this machine, looked up before it is begun: other names of a unit and what it pulls along,
//! and the packages that a package manager would change. Changes nothing but what is known of packages; decides
//! nothing: the rules are in [`policy`](crate::commands::authorize::policy).
//!
//! # Why before, and not only by the words of the request
//! A rule that denies to remove `systemd` is walked around by removing what it needs, and one on `ssh` by its other name
//! `sshd`. Only the machine knows. Where no rule limits anything, nothing is looked up.

use crate::commands::actions::packages::{self, Doing, Planned};
use crate::commands::actions::registry::Argument;
use crate::commands::actions::{Context, services};
use crate::commands::authorize::effects::Effect;
use crate::commands::authorize::policy::Value;
use crate::commands::decode::request::Action;

/// What `action` would do besides what its words say.
///
/// # Errors
/// It could not be told, and so cannot be judged: the sentence of an answer.
pub async fn foresee(action: &Action, cx: &Context) -> Result<Vec<Effect<'static>>, String> {
    match action {
        Action::ServiceControl { service, operation } => {
            services::foresee(cx, service, *operation).await
        }
        Action::PackageInstall(_)
        | Action::PackageRemove(_)
        | Action::PackageUpdate(_)
        | Action::UpdateSystemSoftware(_) => {
            let planned = packages::foresee(cx, action).await?;
            Ok(planned.into_iter().map(package).collect())
        }
        _ => Ok(Vec::new()),
    }
}

fn package(Planned { doing, name }: Planned) -> Effect<'static> {
    let action = match doing {
        Doing::Install => "PackageInstall",
        Doing::Update => "PackageUpdate",
        Doing::Remove => "PackageRemove",
    };
    Effect::along(action, vec![(Argument::Package, Value::Is(name.into()))])
}
