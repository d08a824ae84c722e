//! `infiniservice-host … send ACTION key=value…`: one action, one answer.

use clap::Args;

use super::{Failed, Guest, TIMEOUT, answer, print, print_json};
use crate::cli::BadArgument;
use crate::cli::EXIT_CONFIG;
use crate::host::{action, is_known_action, known_actions, meant_action};

#[derive(Debug, Args)]
#[command(after_help = actions())]
pub(super) struct Send {
    /// The name of the action
    #[arg(value_name = "ACTION")]
    action: String,

    /// Arguments of the action. A value that looks like a number, true, false, null, a [list] or an {object}
    /// is one, else it is text; key=@FILE reads the text from a file, key=@@… is a text that begins with @
    #[arg(value_name = "KEY=VALUE")]
    parameters: Vec<String>,

    /// Send the action even if this program does not know it; the guest answers whether it does
    #[arg(long)]
    force: bool,
}

impl Send {
    pub(super) async fn run(&self, guest: &Guest<'_>) -> Result<u8, Failed> {
        let wrong = |what| Failed { code: EXIT_CONFIG, what };
        if self.action.trim().is_empty() {
            return Err(wrong(
                "the action is empty; name one, as in \"send SystemInfo\"".to_owned(),
            ));
        }
        let parameters: Result<Vec<_>, _> = self.parameters.iter().map(|text| pair(text)).collect();
        let parameters = parameters.map_err(|error| wrong(error.to_string()))?;
        let action = action(&self.action, &parameters).map_err(|error| wrong(error.to_string()))?;
        if !self.force && !is_known_action(&self.action) {
            return Err(wrong(unknown(&self.action)));
        }
        let timeout = guest.timeout(TIMEOUT);
        let host = guest.to_ask(timeout).await?;
        guest.asks();
        let response = guest.answer(&host, host.command(&action, timeout)).await?;
        if guest.options.json {
            print_json(response.body.to_string().as_bytes())?;
            return Ok(response.code());
        }
        print(&answer::text(&response))?;
        answer::complain(&self.action, &response)?;
        Ok(response.code())
    }
}

fn pair(text: &str) -> Result<(String, String), BadArgument> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => (key, value),
        _ => {
            let what = format!("{text:?} is no parameter; write it as key=value");
            return Err(BadArgument(what));
        }
    };
    let value = match value.strip_prefix('@') {
        None => value.to_owned(),
        Some(literal) if literal.starts_with('@') => literal.to_owned(),
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| BadArgument(format!("cannot read {file:?} for {key}: {error}")))?;
            text.strip_suffix('\n').unwrap_or(&text).to_owned()
        }
    };
    Ok((key.to_owned(), value))
}

/// Why an action that is not known is not sent.
pub(super) fn unknown(action: &str) -> String {
    let meant =
        meant_action(action).map_or(String::new(), |meant| format!("; did you mean {meant}?"));
    format!(
        "{action:?} is not a known action{meant} (\"infiniservice-host help\" lists them; \
         --force sends it all the same)"
    )
}

/// The actions that are known, for a person.
pub(super) fn actions() -> String {
    let mut text =
        "Known actions (\"infiniservice-host help ACTION\" shows the arguments of an action):"
            .to_owned();
    let mut width = usize::MAX;
    for name in known_actions() {
        if width.saturating_add(name.len() + 2) > 78 {
            text.push_str("\n ");
            width = 1;
        }
        text.push(' ');
        text.push_str(name);
        width += name.len() + 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_anything_and_may_come_from_a_file() {
        assert_eq!(pair("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert_eq!(pair("a=").unwrap(), ("a".into(), String::new()));
        assert_eq!(pair("a=@@b").unwrap(), ("a".into(), "@b".into()));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "p=1\n").unwrap();
        let typed = format!("password=@{}", file.display());
        assert_eq!(pair(&typed).unwrap(), ("password".into(), "p=1".into()));
        let refused = |text| pair(text).unwrap_err().to_string();
        assert!(refused("a=@/no/such").contains("cannot read \"/no/such\" for a"));
        for wrong in ["a", "=b"] {
            assert!(refused(wrong).contains("write it as key=value"));
        }
    }
}
