//! What people are told of an action: a line of `docs/actions.md`, and what `infiniservice-host` sends for it.

/// A name of an action, and what it means to people.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    /// The host's name for it.
    pub name: &'static str,
    /// What it does.
    pub does: &'static str,
    /// What `data` of the answer holds.
    pub gives: &'static str,
    /// Its arguments, a `?` behind those that may be missing.
    pub takes: &'static str,
    /// Why it is not built, where it is not.
    pub not_built: Option<&'static str>,
    /// What today's host sends.
    pub host: Sent,
}

impl Name {
    /// A name that today's host does not send, of an action that takes nothing.
    pub const fn new(name: &'static str, does: &'static str, gives: &'static str) -> Self {
        Self { name, does, gives, takes: "", not_built: None, host: Sent::Never }
    }

    /// A name that the host knows, and that is refused with this reason.
    pub const fn not_built(name: &'static str, why: &'static str) -> Self {
        Self { not_built: Some(why), ..Self::new(name, "", "") }
    }

    /// It takes these arguments.
    pub const fn takes(self, takes: &'static str) -> Self {
        Self { takes, ..self }
    }

    /// Today's host sends it with these parameters.
    pub const fn sent(self, parameters: &'static [Parameter]) -> Self {
        Self { host: Sent::With { parameters, nested: false }, ..self }
    }

    /// Today's host sends it with these parameters in an object `params` of their own.
    pub const fn sent_nested(self, parameters: &'static [Parameter]) -> Self {
        Self { host: Sent::With { parameters, nested: true }, ..self }
    }

    /// Today's host does not send it; `infiniservice-host` does, with these parameters.
    pub const fn offered(self, parameters: &'static [Parameter]) -> Self {
        Self { host: Sent::Offered { parameters }, ..self }
    }

    /// Today's host sends it and loses its parameters; a host that is no such host sends them as given.
    pub const fn sent_bare(self) -> Self {
        Self { host: Sent::Bare, ..self }
    }
}

/// What today's host sends of an action (`CommandDispatcher.ts`, v0.26.7).
#[derive(Debug, Clone, Copy)]
pub enum Sent {
    /// It does not send it.
    Never,
    /// It does not send it, and `infiniservice-host` does.
    Offered {
        /// With which parameters.
        parameters: &'static [Parameter],
    },
    /// The name alone: it loses the parameters.
    Bare,
    /// The name and parameters.
    With {
        /// Which.
        parameters: &'static [Parameter],
        /// Whether they stand in an object `params` of their own.
        nested: bool,
    },
}

/// A parameter as today's host writes it.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Whether it is a text whatever it looks like; else JSON.
    pub is_text: bool,
    /// Its value where none is given.
    pub missing: Missing,
}

/// A text.
pub(crate) const fn text(name: &'static str, missing: Missing) -> Parameter {
    Parameter { name, is_text: true, missing }
}

/// A number, `true`, `false`, a list or an object.
pub(crate) const fn json(name: &'static str, missing: Missing) -> Parameter {
    Parameter { name, is_text: false, missing }
}

/// A parameter's value where none is given.
#[derive(Debug, Clone, Copy)]
pub enum Missing {
    /// An error: today's host would leave the parameter out, and no guest can do without it.
    Refused,
    /// The parameter is left out.
    Absent,
    /// `null`.
    Null,
    /// An empty text.
    Empty,
    /// This text.
    Text(&'static str),
    /// This flag.
    Is(bool),
}
