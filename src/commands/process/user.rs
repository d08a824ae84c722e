//! Who a program runs as. Nothing is switched here.

use std::ffi::OsString;

use super::ProcessError;
use crate::commands::argument::Account;
use crate::files::accounts::{Identity, PASSWD, account as account_of, home_of};

/// What tells a program of this account who it is; one of the agent's own user, where none is named, gets
/// `HOME` alone. Reads files: not for an async worker.
///
/// # Errors
/// See [`identity`].
pub(in crate::commands) fn variables(
    account: Option<&Account>,
) -> Result<Vec<(&'static str, OsString)>, ProcessError> {
    match account {
        Some(account) => Ok(identity(account)?.variables().into()),
        None => {
            let own = rustix::process::geteuid().as_raw();
            let home = home_of(own).unwrap_or_else(|| "/".into());
            Ok(vec![("HOME", home.into())])
        }
    }
}

/// Looks up an account. Reads files: not for an async worker.
///
/// # Errors
/// The account is unknown here, or the file cannot be read.
pub(in crate::commands) fn identity(account: &Account) -> Result<Identity, ProcessError> {
    account_of(account.as_str())
        .map_err(|error| ProcessError::Accounts { path: PASSWD, error })?
        .ok_or_else(|| ProcessError::UnknownAccount(account.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_account_is_refused_with_its_name() {
        let error = identity(&Account::new("LAB\\ann").unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("account \"LAB\\ann\" is not in /etc/passwd"), "{error}");
        assert_eq!(identity(&Account::new("root").unwrap()).unwrap().uid, 0);
    }
}
