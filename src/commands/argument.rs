//! Arguments that are safe to hand to a program as one word, checked where they are made. What is taken follows from
//! what the owner of the name allows (systemd, shadow, the package managers): what is listed can be asked for. Knows
//! no command.

use std::fmt;

use thiserror::Error;

use crate::wire::inbound::MessageError;
use crate::wire::steers;

/// The longest argument.
pub(crate) const WORD_MAX: usize = 256;

/// The longest name of a unit with its suffix: `UNIT_NAME_MAX` of systemd (src/basic/unit-name.h), less the NUL.
const UNIT_MAX: usize = 255;

/// Kinds of units: systemd.unit(5).
const UNIT_KINDS: [&str; 11] = [
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
];

/// The longest name of a check or a target.
const NAME_MAX: usize = 64;

/// Why arguments are wrong, as the end of a sentence for the reply. It repeats no text that may be secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// It names no action.
    #[error("the command names no action")]
    NoAction,
    /// There is no such action.
    #[error("the action {0:?} is not known to this agent")]
    UnknownAction(String),
    /// There is such an action, and it is not built.
    #[error("{0} is not built into this agent")]
    NotBuilt(&'static str),
    /// The arguments are not of their types.
    #[error("the message was not understood: {0}")]
    Message(#[from] MessageError),
    /// A required name is missing.
    #[error("{0} is missing; name one")]
    Missing(&'static str),
    /// The name of this is longer than so many bytes.
    #[error("the name of {0} is longer than {1} bytes")]
    TooLong(&'static str, usize),
    /// The name of a computer is too long.
    #[error("the name of a computer is longer than 15 letters")]
    ComputerNameTooLong,
    /// The name of this begins with what it may not begin with.
    #[error("the name of {0} may not begin with {1}")]
    Begins(&'static str, &'static str),
    /// A name has a character that it may not have.
    #[error(
        "the name of {what} may not hold {wrong:?}; letters, digits and {allowed:?} are allowed"
    )]
    Character {
        /// What it is the name of.
        what: &'static str,
        /// The character.
        wrong: char,
        /// What is allowed beside letters and digits.
        allowed: &'static str,
    },
    /// The name of an account has a character that it may not have.
    #[error(
        "the name of an account may not hold {0:?}; letters, digits, spaces, \"._@\\+-\" and a \"$\" at its end are allowed"
    )]
    AccountCharacter(char),
    /// The name of this is not a plain one.
    #[error("the name of {0} is not 1 to {NAME_MAX} letters, digits, \"_\" and \"-\"")]
    NotPlain(&'static str),
    /// A value is none of a few words.
    #[error("{what} {given:?}; name {choices}")]
    Choice {
        /// What is refused, up to the word.
        what: &'static str,
        /// The word, without what a terminal acts upon.
        given: String,
        /// The words that are taken.
        choices: &'static str,
    },
    /// More than so many of this.
    #[error("more than {1} {0} are named")]
    TooMany(&'static str, usize),
    /// A text is too long, or has characters that it may not have.
    #[error("{what} is longer than {most} bytes, or holds {holds}")]
    Text {
        /// What it is.
        what: &'static str,
        /// How long it may be.
        most: usize,
        /// What it may not have.
        holds: &'static str,
    },
    /// The kernel has no such process id.
    #[error("no process has the pid {0}")]
    Pid(u32),
    /// An action's own rule is not met: the rule.
    #[error("{0}")]
    Rule(&'static str),
}

macro_rules! word {
    ($(#[$doc:meta])* $vis:vis $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        $vis struct $name(String);

        impl $name {
            /// Takes `text` where it is as the type's description says, and 1 to [`WORD_MAX`] bytes long.
            ///
            /// # Errors
            /// What is wrong; it does not repeat the text.
            $vis fn new(text: &str) -> Result<Self, ArgumentError> {
                let check: fn(&str) -> Result<(), ArgumentError> = $check;
                check(text).map(|()| Self(text.to_owned()))
            }

            /// The word.
            $vis fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

word! {
    /// A unit of systemd, without its suffix where that is `.service`: letters, digits and `. _ @ : - \\`, as
    /// `unit_name_is_valid` has it. It may begin with a dash (`-.mount`): hand it over behind `--`, or by D-Bus.
    pub ServiceName, unit
}
word! {
    /// A package: letters, digits and `. _ + : @ -`, not beginning with a dash.
    pub PackageName, |text| white(text, "a package", "._+:@-").and_then(|()| no_dash(text, "a package"))
}
word! {
    /// What to search packages for: letters, digits, spaces and `. _ + : -`, not beginning with a dash.
    pub Query, |text| white(text, "a query", "._+:- ").and_then(|()| no_dash(text, "a query"))
}
word! {
    /// An account: letters of any script, digits, spaces and `. _ @ \\ + -`, with a `$` at its end for a machine's
    /// (shadow's own rule, Debian's wider one, and what `--badname` and directories let through), not beginning
    /// with `-` or `+`. It is looked up, and never on a command line but as the value of an option.
    pub Account, account
}
word! {
    /// A domain: letters, digits and `. -`, not beginning with a dash.
    pub(crate) DomainName, |text| white(text, "a domain", ".-").and_then(|()| no_dash(text, "a domain"))
}
word! {
    /// The name of a computer in a domain: 1 to 15 letters, digits and `-` (NetBIOS), not beginning with a dash.
    pub(crate) ComputerName, |text| {
        white(text, "a computer", "-")?;
        no_dash(text, "a computer")?;
        match text.len() > 15 {
            true => Err(ArgumentError::ComputerNameTooLong),
            false => Ok(()),
        }
    }
}

impl ServiceName {
    /// The unit: with `.service` where the name has no suffix that systemd knows.
    pub fn unit(&self) -> String {
        unit_of(&self.0)
    }
}

/// The unit of this name: with `.service` where it has no suffix that systemd knows.
pub(crate) fn unit_of(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((_, suffix)) if UNIT_KINDS.contains(&suffix) => name.to_owned(),
        _ => format!("{name}.service"),
    }
}

fn unit(text: &str) -> Result<(), ArgumentError> {
    white(text, "a service", "._@:-\\")?;
    if text.starts_with('@') {
        return Err(ArgumentError::Begins("a service", "\"@\""));
    }
    match unit_of(text).len() > UNIT_MAX {
        true => Err(ArgumentError::TooLong("a service", UNIT_MAX)),
        false => Ok(()),
    }
}

fn account(text: &str) -> Result<(), ArgumentError> {
    short(text, "an account")?;
    if text.starts_with(['-', '+']) {
        return Err(ArgumentError::Begins("an account", "\"-\" or \"+\""));
    }
    let name = text.strip_suffix('$').unwrap_or(text);
    match name.chars().find(|c| !(c.is_alphanumeric() || "._@\\+- ".contains(*c))) {
        None => Ok(()),
        Some(wrong) => Err(ArgumentError::AccountCharacter(wrong)),
    }
}

fn short(text: &str, what: &'static str) -> Result<(), ArgumentError> {
    if text.trim().is_empty() {
        return Err(ArgumentError::Missing(what));
    }
    match text.len() > WORD_MAX {
        true => Err(ArgumentError::TooLong(what, WORD_MAX)),
        false => Ok(()),
    }
}

fn white(text: &str, what: &'static str, extra: &'static str) -> Result<(), ArgumentError> {
    short(text, what)?;
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || extra.contains(*c))) {
        None => Ok(()),
        Some(wrong) => Err(ArgumentError::Character { what, wrong, allowed: extra }),
    }
}

fn no_dash(text: &str, what: &'static str) -> Result<(), ArgumentError> {
    match text.starts_with('-') {
        true => Err(ArgumentError::Begins(what, "a dash")),
        false => Ok(()),
    }
}

/// The name of a check or target: letters, digits, `_` and `-`.
pub(in crate::commands) fn plain_name(
    text: String,
    what: &'static str,
) -> Result<String, ArgumentError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if text.is_empty()
        || text.len() > NAME_MAX
        || text.starts_with('-')
        || !text.chars().all(is_plain)
    {
        return Err(ArgumentError::NotPlain(what));
    }
    Ok(text)
}

/// A name that is safe in a log line and a reply: short, without control or invisible characters.
pub(in crate::commands) fn shown(name: &str) -> String {
    name.chars().map(|c| if steers(c) { '?' } else { c }).take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_word_is_short_plain_and_no_option() {
        assert!(PackageName::new("libstdc++6:amd64").is_ok());
        for wrong in ["", " ", "-rf", "a;b", "a b", "$(id)", "a\nb", "é", &"x".repeat(257)] {
            assert!(PackageName::new(wrong).is_err(), "{wrong:?}");
            assert!(
                DomainName::new(wrong).is_err() && ComputerName::new(wrong).is_err(),
                "{wrong:?}"
            );
        }
        assert!(Query::new("web server").is_ok());
        assert!(Query::new("-o APT::x=y").is_err());
        assert!(ComputerName::new("WS-0123456789AB").is_ok());
        assert!(ComputerName::new("WS-0123456789ABC").is_err());
    }

    #[test]
    fn what_systemd_and_shadow_allow_is_taken() {
        let long = "u".repeat(240);
        for unit in [
            "getty@tty1.service",
            r"dev-disk-by\x2dlabel-x.swap",
            "-.mount",
            "-dash",
            "a:b_c.d",
            &long,
        ] {
            assert!(ServiceName::new(unit).is_ok(), "{unit}");
        }
        for wrong in ["", "@x", "a b", "a/b", "x*", "é", &"u".repeat(248)] {
            assert!(ServiceName::new(wrong).is_err(), "{wrong}");
        }
        for account in ["ann", "a$", "sp ace", r"LAB\ann", "Ünal", "1000", "_apt"] {
            assert!(Account::new(account).is_ok(), "{account}");
        }
        for wrong in
            ["", " ", "-x", "+x", "a:b", "a/b", "a\nb", "a\u{202e}b", "a\0", "a;b", "$(id)", "a$b"]
        {
            assert!(Account::new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_gets_a_suffix_only_where_it_has_none_that_systemd_knows() {
        for (name, unit) in [
            ("cron", "cron.service"),
            ("ssh.socket", "ssh.socket"),
            ("org.cups.cupsd", "org.cups.cupsd.service"),
            ("getty@tty1", "getty@tty1.service"),
            ("apt-daily.timer", "apt-daily.timer"),
        ] {
            assert_eq!(unit_of(name), unit);
        }
    }

    proptest! {
        #[test]
        fn no_word_holds_what_a_shell_would_read(text in any::<String>()) {
            for word in [
                PackageName::new(&text).map(|word| word.to_string()),
                Query::new(&text).map(|word| word.to_string()),
            ].into_iter().flatten() {
                prop_assert!(!word.starts_with('-'));
                let shell = "$`;|&<>()\\\"'*?[~#!\n\t{}=%\0";
                prop_assert!(!word.contains(|c| shell.contains(c)), "one of them");
            }
        }
    }
}
