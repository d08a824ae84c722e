//! The effects of a request that follow from its text, in the words of rules. Pure: effects that only the machine knows
//! (aliases of a unit, dependent packages) are an action's
//! [`side_effects`](crate::commands::actions::Action::side_effects).

use std::borrow::Cow;

use crate::commands::actions::plan::{Effect, Part};
use crate::commands::request::RequestKind;

/// The effects that follow from the text of `request`; the requested one is first.
pub(crate) fn effects(request: &RequestKind) -> Vec<Effect<'_>> {
    let names = [Some(request.name()), request.alias_of()];
    let names = names.into_iter().flatten().map(Cow::from).collect();
    let (arguments, also) = match request {
        RequestKind::Action(action) => {
            let plan = action.plan();
            (plan.arguments, plan.effects)
        }
        _ => (request.arguments(), Vec::new()),
    };
    let requested = Effect { names, arguments, part: Part::Requested };
    std::iter::once(requested).chain(also).collect()
}
