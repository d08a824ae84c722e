//! What an action is: its names, its arguments, what it would do, and what it does. One type for each; the
//! [registry](super::registry) lists them.

use std::any::Any;
use std::fmt::{self, Debug};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::page::Name;
use super::plan::{Argument, Effect, Plan};
use super::root::Root;
use super::{ActionError, ActionOutcome, Context};
use crate::commands::argument::ArgumentError;
use crate::commands::outcome::Outcome;
use crate::wire::inbound::Arguments;

/// An action of the host. Its value is its arguments, checked, so that each is safe to hand to a program.
///
/// Decode, policy, audit, `explain`, the host's help and `docs/actions.md` are made from this alone.
pub trait Action: Debug + PartialEq + Send + Sync + Sized + 'static {
    /// Its name, then its aliases. Rules on the first are about all of them, one on an alias about that alone.
    const NAMES: &'static [Name];

    /// The arguments that a rule can look at.
    const RULES: &'static [Argument] = &[];

    /// Whether it runs within the agent also where each command has a unit of its own: it starts no program, and writes
    /// nothing that the sandbox of the agent's unit forbids.
    const IN_AGENT: bool = false;

    /// The arguments as the host writes them: a struct of optional fields.
    type Arguments: DeserializeOwned;

    /// Checks the arguments of the action that was asked for as `asked`, one of [`NAMES`](Self::NAMES).
    ///
    /// # Errors
    /// They are wrong, or something is missing.
    fn new(asked: &'static str, arguments: Self::Arguments) -> Result<Self, Unfit>;

    /// The name that this one stands for: the first, unless an action has names of equal standing.
    fn name(&self) -> &'static str {
        Self::NAMES[0].name
    }

    /// What it would do. Looks at nothing but the arguments.
    fn plan(&self) -> Plan;

    /// The programs that it would start in the tree `place`, each with its arguments, in order, without starting one;
    /// `None` where that is not known before it runs. Reads files, so it blocks.
    fn programs(&self, _place: &Root) -> Option<Vec<Vec<String>>> {
        None
    }

    /// What it would do that only the machine knows: aliases and dependencies of a unit, packages that others need. Looked
    /// up before it starts where rules limit anything; changes nothing but the lists of packages.
    ///
    /// # Why
    /// A request could walk around a rule against removing `systemd` by removing a package that it needs, and around one
    /// about `ssh` by the alias `sshd`.
    ///
    /// # Errors
    /// The look-up failed, so the policy cannot decide.
    fn side_effects<'a>(&'a self, _cx: &'a Context) -> SideEffects<'a> {
        future::ready(Ok(Vec::new())).boxed()
    }

    /// Does it, by the deadline of `cx`. Its answer may be of any length: `perform` shortens it.
    fn run(&self, cx: &Context) -> impl Future<Output = ActionOutcome> + Send;
}

/// What [`Action::side_effects`] finds.
pub(crate) type SideEffects<'a> = BoxFuture<'a, Result<Vec<Effect<'static>>, ActionError>>;

/// Why an action is not made from its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// An argument is wrong. No rule is asked.
    Wrong(ArgumentError),
    /// Something is missing, or the action is not built: rules judge it like any, then it is refused.
    Refused(Refused),
}

impl From<ArgumentError> for Unfit {
    fn from(why: ArgumentError) -> Self {
        Self::Wrong(why)
    }
}

/// Why an action that the host knows is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// An argument is missing that it cannot be done without.
    Incomplete(&'static str),
    /// It is not built.
    NotBuilt(&'static str),
}

/// The arguments of an action that takes none.
#[derive(Deserialize)]
pub struct NoArguments {}

/// An action that was asked for, and the name in the request. An action may have aliases: `CleanTemporaryFiles` is
/// `DiskCleanup`. The reply and the audit use the name in the request.
#[derive(Clone)]
pub struct ActionRequest {
    asked: Box<str>,
    action: Arc<dyn Requested>,
    message: Option<Arc<Zeroizing<String>>>,
}

impl ActionRequest {
    /// An action that was requested by the name `asked`.
    pub fn new(asked: &str, action: impl Action) -> Self {
        Self { asked: asked.into(), action: Arc::new(action), message: None }
    }

    /// The name in the request.
    pub fn name(&self) -> &str {
        &self.asked
    }

    /// The action's own name, if the request used an alias.
    pub fn alias_of(&self) -> Option<&str> {
        Some(self.action.name()).filter(|name| *name != &*self.asked)
    }

    /// The action, where it is an `A`.
    pub fn get<A: Action>(&self) -> Option<&A> {
        (&*self.action as &dyn Any).downcast_ref()
    }

    /// The message that another process can read it from, unless it runs within the agent ([`Action::IN_AGENT`]).
    pub fn message(&self) -> Option<&str> {
        self.message.as_ref().filter(|_| !self.action.in_agent()).map(|message| message.as_str())
    }

    /// Why it is not done, where that is known from its name or its arguments.
    pub fn refused(&self) -> Option<Refused> {
        (&*self.action as &dyn Any).downcast_ref::<Declined>().map(|declined| declined.why)
    }

    /// See [`Action::plan`].
    pub fn plan(&self) -> Plan {
        self.action.plan()
    }

    /// See [`Action::programs`].
    pub fn programs(&self, place: &Root) -> Option<Vec<Vec<String>>> {
        self.action.programs(place)
    }

    /// See [`Action::side_effects`].
    pub fn side_effects<'a>(&'a self, cx: &'a Context) -> SideEffects<'a> {
        self.action.side_effects(cx)
    }

    /// See [`Action::run`].
    pub(super) fn run<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, ActionOutcome> {
        self.action.run(cx)
    }
}

/// Requested by its own name.
impl<A: Action> From<A> for ActionRequest {
    fn from(action: A) -> Self {
        Self::new(action.name(), action)
    }
}

impl PartialEq for ActionRequest {
    fn eq(&self, other: &Self) -> bool {
        self.asked == other.asked && self.action.is_same(&*other.action)
    }
}

/// `CleanTemporaryFiles = DiskCleanup { … }`, or the action alone.
impl Debug for ActionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.alias_of().is_some() {
            write!(f, "{} = ", self.asked)?;
        }
        self.action.fmt(f)
    }
}

/// An [`Action`] as an object.
trait Requested: Any + Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn in_agent(&self) -> bool;
    fn plan(&self) -> Plan;
    fn programs(&self, place: &Root) -> Option<Vec<Vec<String>>>;
    fn side_effects<'a>(&'a self, cx: &'a Context) -> SideEffects<'a>;
    fn run<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, ActionOutcome>;
    fn is_same(&self, other: &dyn Requested) -> bool;
}

impl<A: Action> Requested for A {
    fn name(&self) -> &'static str {
        Action::name(self)
    }

    fn in_agent(&self) -> bool {
        A::IN_AGENT
    }

    fn plan(&self) -> Plan {
        Action::plan(self)
    }

    fn programs(&self, place: &Root) -> Option<Vec<Vec<String>>> {
        Action::programs(self, place)
    }

    fn side_effects<'a>(&'a self, cx: &'a Context) -> SideEffects<'a> {
        Action::side_effects(self, cx)
    }

    fn run<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, ActionOutcome> {
        Action::run(self, cx).boxed()
    }

    fn is_same(&self, other: &dyn Requested) -> bool {
        (other as &dyn Any).downcast_ref::<A>().is_some_and(|other| self == other)
    }
}

/// An action that is refused, by the name that was asked for.
#[derive(PartialEq)]
struct Declined {
    name: &'static str,
    why: Refused,
}

/// `NotBuilt { name: …, why: … }`.
impl Debug for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, why) = match self.why {
            Refused::Incomplete(why) => ("Incomplete", why),
            Refused::NotBuilt(why) => ("NotBuilt", why),
        };
        f.debug_struct(kind).field("name", &self.name).field("why", &why).finish()
    }
}

impl Requested for Declined {
    fn name(&self) -> &'static str {
        self.name
    }

    fn in_agent(&self) -> bool {
        true
    }

    fn plan(&self) -> Plan {
        let (Refused::Incomplete(why) | Refused::NotBuilt(why)) = self.why;
        Plan::reads(format!("is refused: {why}"))
    }

    fn programs(&self, _: &Root) -> Option<Vec<Vec<String>>> {
        None
    }

    fn side_effects<'a>(&'a self, _: &'a Context) -> SideEffects<'a> {
        future::ready(Ok(Vec::new())).boxed()
    }

    fn run<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, ActionOutcome> {
        let name = self.name;
        let outcome = match self.why {
            Refused::Incomplete(why) => Outcome::refused(format!("{name}: {why}")),
            Refused::NotBuilt(why) => {
                Outcome::failed(format!("{name} is not built into this agent: {why}"))
            }
        };
        future::ready(outcome.into()).boxed()
    }

    fn is_same(&self, other: &dyn Requested) -> bool {
        (other as &dyn Any).downcast_ref::<Self>().is_some_and(|other| self == other)
    }
}

/// Makes an action from its arguments.
type Decode = fn(&'static str, Arguments<'_>) -> Result<Arc<dyn Requested>, Unfit>;

/// An [`Action`] in the [registry](super::registry): all that is needed of it before it is asked for.
pub(crate) struct Entry {
    /// Its names.
    pub names: &'static [Name],
    /// The arguments that a rule can look at.
    pub rules: &'static [Argument],
    decode: Decode,
}

impl Entry {
    /// The entry of `A`.
    pub(crate) const fn of<A: Action>() -> Self {
        Self { names: A::NAMES, rules: A::RULES, decode: decode::<A> }
    }

    /// Reads and checks the arguments of the action that was asked for as `asked`, one of [`names`](Self::names).
    ///
    /// # Errors
    /// An argument is wrong.
    pub(super) fn request(
        &self,
        asked: &Name,
        arguments: Arguments<'_>,
    ) -> Result<ActionRequest, ArgumentError> {
        let name = asked.name;
        let decoded = match asked.not_built {
            Some(why) => Err(Unfit::Refused(Refused::NotBuilt(why))),
            None => (self.decode)(name, arguments),
        };
        let action = match decoded {
            Ok(action) => action,
            Err(Unfit::Refused(why)) => Arc::new(Declined { name, why }),
            Err(Unfit::Wrong(why)) => return Err(why),
        };
        let message = arguments.message().map(Arc::new);
        Ok(ActionRequest { asked: name.into(), action, message })
    }
}

fn decode<A: Action>(
    asked: &'static str,
    arguments: Arguments<'_>,
) -> Result<Arc<dyn Requested>, Unfit> {
    let arguments = arguments.read().map_err(ArgumentError::Message)?;
    Ok(Arc::new(A::new(asked, arguments)?))
}
