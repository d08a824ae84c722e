//! Arguments that are safe to hand to a program as one word, checked by white list where they are made.
//! Knows no command.

use std::fmt;

/// The longest argument.
pub const WORD_MAX: usize = 256;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $what:literal, $extra:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Checks `text`: 1 to [`WORD_MAX`] letters, digits and the characters told in the type's
            /// description, not beginning with `-`.
            ///
            /// # Errors
            /// The end of a sentence that says what is wrong; it does not repeat the text.
            pub fn new(text: &str) -> Result<Self, String> {
                check(text, $what, $extra).map(Self)
            }

            /// The word.
            pub fn as_str(&self) -> &str {
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
    /// A service: letters, digits and `. _ @ : -`.
    ServiceName, "a service", "._@:-"
}
word! {
    /// A package: letters, digits and `. _ + : -`.
    PackageName, "a package", "._+:-"
}
word! {
    /// What to search packages for: letters, digits, spaces and `. _ + : -`.
    Query, "a query", "._+:- "
}
word! {
    /// An account: letters, digits and `. _ @ \ -`.
    Account, "an account", "._@\\-"
}

fn check(text: &str, what: &str, extra: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err(format!("{what} is missing; name one"));
    }
    if text.len() > WORD_MAX {
        return Err(format!("the name of {what} is longer than {WORD_MAX} bytes"));
    }
    if text.starts_with('-') {
        return Err(format!("the name of {what} may not begin with a dash"));
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || extra.contains(*c))) {
        None => Ok(text.to_owned()),
        Some(wrong) => Err(format!(
            "the name of {what} may not hold {wrong:?}; letters, digits and \"{extra}\" are allowed"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_word_is_short_plain_and_no_option() {
        assert!(PackageName::new("libstdc++6:amd64").is_ok());
        assert!(ServiceName::new("getty@tty1.service").is_ok());
        assert!(Account::new("LAB\\ann").is_ok());
        for wrong in ["", " ", "-rf", "a;b", "a b", "$(id)", "a\nb", "é", &"x".repeat(257)] {
            assert!(PackageName::new(wrong).is_err(), "{wrong:?}");
        }
        assert!(Query::new("web server").is_ok());
        assert!(Query::new("-o APT::x=y").is_err());
    }

    proptest! {
        #[test]
        fn no_word_holds_what_a_shell_would_read(text in any::<String>()) {
            for word in [
                PackageName::new(&text).map(|word| word.to_string()),
                ServiceName::new(&text).map(|word| word.to_string()),
                Query::new(&text).map(|word| word.to_string()),
            ].into_iter().flatten() {
                prop_assert!(!word.starts_with('-'));
                let shell = "$`;|&<>()\\\"'*?[~#!\n\t{}=%\0";
                prop_assert!(!word.contains(|c| shell.contains(c)), "one of them");
            }
        }
    }
}
