//! Checks of single values in commands.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{DIRECTORY_MAX, DecodeError, VARIABLE_NAME_MAX, VARIABLES_MAX};
use crate::commands::argument::{Account, ArgumentError, shown};
use crate::commands::request::Shell;
use crate::wire::raw::Raw;

/// A shell by its name in any case; `sh` where none is named.
pub(super) fn shell(name: Option<&str>) -> Result<Shell, DecodeError> {
    match name.unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "sh" => Ok(Shell::Sh),
        "bash" => Ok(Shell::Bash),
        "cmd" => Ok(Shell::Cmd),
        "powershell" | "pwsh" => Ok(Shell::PowerShell),
        other => Err(DecodeError::Shell(shown(other))),
    }
}

/// What hosts call the account that may do everything, whatever system a guest has.
const ROOT_TOO: [&str; 2] = ["system", "administrator"];

/// An account; none where it is blank.
///
/// `system` and `administrator` are root, in any case, since that is what they mean at the host, and so is
/// `root`. An account of this machine that bears one of these names cannot be named so: rules must know
/// who it will be without a look at the machine.
pub(super) fn account(name: Option<String>) -> Result<Option<Account>, ArgumentError> {
    let name = name.unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        return Ok(None);
    }
    let is = |root: &str| name.eq_ignore_ascii_case(root);
    let is_root = is("root") || ROOT_TOO.into_iter().any(is);
    Account::new(if is_root { "root" } else { name }).map(Some)
}

/// An absolute path; none where it is empty.
pub(super) fn directory(path: Option<String>) -> Result<Option<PathBuf>, DecodeError> {
    let Some(path) = path.filter(|path| !path.is_empty()) else { return Ok(None) };
    let path = PathBuf::from(no_nul(path, "the working directory")?);
    if path.as_os_str().len() > DIRECTORY_MAX {
        return Err(DecodeError::DirectoryTooLong);
    }
    if !path.is_absolute() {
        return Err(DecodeError::RelativeDirectory);
    }
    Ok(Some(path))
}

/// Variables of an environment. A value that is not a text is kept as JSON, an absent one is empty.
/// They are counted before one is read. An error never contains the values.
pub(super) fn variables(values: Option<Raw<'_>>) -> Result<BTreeMap<String, String>, DecodeError> {
    let members = || values.and_then(Raw::members).into_iter().flatten();
    if members().count() > VARIABLES_MAX {
        return Err(DecodeError::TooManyVariables);
    }
    members().map(|(name, value)| variable(name, value)).collect()
}

fn variable(name: Raw<'_>, value: Raw<'_>) -> Result<(String, String), DecodeError> {
    // The longest spelling of a byte takes six.
    let is_short = name.as_str().len() <= 6 * VARIABLE_NAME_MAX + 2;
    let is_name = |name: &String| {
        !name.is_empty() && name.len() <= VARIABLE_NAME_MAX && !name.contains(['=', '\0'])
    };
    let name = if is_short { name.text().filter(is_name) } else { None };
    let name = name.ok_or(DecodeError::VariableName)?;
    let value = match value.as_str() {
        "null" => String::new(),
        text if text.starts_with('"') => {
            let text = value.text().ok_or(DecodeError::VariableValue)?;
            no_nul(text, "the value of a variable")?
        }
        other => other.to_owned(),
    };
    Ok((name, value))
}

/// A text that can be handed to a program.
pub(super) fn no_nul(text: String, what: &'static str) -> Result<String, DecodeError> {
    if text.contains('\0') { Err(DecodeError::Nul(what)) } else { Ok(text) }
}

/// A text for a shell: UTF-8 that was read as such.
///
/// What was saved as UTF-16 arrives with a NUL in each plain letter, or, where something on the way has
/// replaced bytes, with what is left of its byte order mark in front.
pub(super) fn shell_text(text: String, what: &'static str) -> Result<String, DecodeError> {
    let marks = ["\u{FFFE}", "\u{FFFD}\u{FFFD}", "ÿþ", "þÿ"];
    if marks.iter().any(|mark| text.starts_with(mark)) {
        return Err(DecodeError::NotUtf8(what));
    }
    no_nul(text, what).map_err(|_| DecodeError::NulInText(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_hosts_names_of_who_may_do_everything_are_root_and_a_blank_is_nobody() {
        let account = |name: &str| account(Some(name.to_owned())).unwrap();
        let named = |name: &str| account(name).map(|account| account.to_string());
        for root in ["root", "ROOT", "system", "SYSTEM", "Administrator", " System\n"] {
            assert_eq!(named(root).as_deref(), Some("root"), "{root:?}");
        }
        for other in ["ann", "Ann", "administrators", "system.d", "LAB\\administrator", "0"] {
            assert_eq!(named(other).as_deref(), Some(other));
        }
        for none in ["", " ", "\t\n"] {
            assert_eq!(named(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_text_that_was_saved_as_utf_16_is_refused_with_the_way_out() {
        let utf_16 = String::from_utf16_lossy;
        let little: Vec<u8> =
            "\u{FEFF}set -e\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let latin: String = little.iter().map(|byte| char::from(*byte)).collect();
        for text in [
            latin,
            String::from_utf8_lossy(&little).into_owned(),
            String::from_utf8_lossy(&little[2..]).into_owned(),
            utf_16(&[0xFFFE, 0x7300]),
        ] {
            let error = shell_text(text.clone(), "the script").unwrap_err().to_string();
            assert!(error.contains("save it as UTF-8"), "{text:?}: {error}");
        }
        for fine in ["\u{FEFF}set -e\n", "echo \u{FFFD}", "", "ÿ"] {
            assert!(shell_text(fine.to_owned(), "the script").is_ok(), "{fine:?}");
        }
    }

    #[test]
    fn a_shell_is_known_in_any_case_and_never_guessed() {
        let cases = [
            (None, Shell::Sh),
            (Some(""), Shell::Sh),
            (Some("BASH"), Shell::Bash),
            (Some("Sh"), Shell::Sh),
            (Some("CMD"), Shell::Cmd),
            (Some("POWERSHELL"), Shell::PowerShell),
            (Some("pwsh"), Shell::PowerShell),
        ];
        for (name, expected) in cases {
            assert_eq!(shell(name), Ok(expected));
        }
        assert!(shell(Some("fish\n")).unwrap_err().to_string().contains("\"fish?\""));
    }

    #[test]
    fn variables_of_every_kind_become_text() {
        let values = r#"{"a":"x y","b":1.5,"c":true,"d":null,"e-f":[1, "é"]}"#;
        let values = Raw::parse(values).unwrap();
        let found: Vec<_> = variables(Some(values)).unwrap().into_iter().collect();
        let expected =
            [("a", "x y"), ("b", "1.5"), ("c", "true"), ("d", ""), ("e-f", "[1, \"é\"]")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_variable_that_no_environment_can_hold_is_refused_without_its_value() {
        let refused = |values: serde_json::Value| {
            let text = values.to_string();
            variables(Some(Raw::parse(&text).unwrap())).unwrap_err().to_string()
        };
        for name in ["", "a=b", "a\0", &"x".repeat(257), &"\n".repeat(8 << 20)] {
            assert!(!refused(json!({ name: "canary" })).contains("canary"));
        }
        assert!(!refused(json!({"a": "canary\0"})).contains("canary"));
        let many = (0..257).map(|n| (format!("v{n}"), serde_json::Value::Null));
        assert!(refused(many.collect::<serde_json::Map<_, _>>().into()).contains("more than 256"));
    }

    #[test]
    fn a_directory_is_absolute() {
        assert_eq!(directory(Some(String::new())), Ok(None));
        assert_eq!(directory(Some("/tmp".to_owned())), Ok(Some("/tmp".into())));
        assert!(directory(Some("tmp".to_owned())).is_err());
        assert!(directory(Some("/t\0".to_owned())).is_err());
    }
}
