//! Accounts of people. Does not list those of services, nor what a directory server would add.

use serde_json::{Value, json};

use super::ActionError;
use super::action::{Action, NoArguments, Unfit};
use super::page::Name;
use super::plan::Plan;
use super::{ActionOutcome, Context, blocking};
use crate::commands::outcome::Outcome;

/// `{users: [{name, uid, gid, full_name, home, shell, can_log_in}], count}`: root, and every account with an id
/// from `UID_MIN` to `UID_MAX` (login.defs(5)).
#[derive(Debug, Clone, PartialEq)]
pub struct UserList;

impl Action for UserList {
    const NAMES: &'static [Name] = &[Name::new(
        "UserList",
        "lists root and the accounts of people",
        "`{users: [{name, uid, …}], count, truncated}`",
    )
    .sent(&[])];
    const IN_AGENT: bool = true;
    type Arguments = NoArguments;

    fn new(_: &'static str, _: NoArguments) -> Result<Self, Unfit> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::reads("reads /etc/passwd and /etc/login.defs; runs no program")
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        let read = blocking(cx.deadline, "reading /etc/passwd", || {
            let passwd = std::fs::read("/etc/passwd").map_err(|error| ActionError::File {
                verb: "read",
                path: "/etc/passwd".into(),
                error,
            })?;
            // Where it is missing, the defaults of shadow-utils stand.
            let range = Range::parse(&std::fs::read("/etc/login.defs").unwrap_or_default());
            Ok(people(&accounts(&passwd), &range))
        });
        let outcome = match read.await.and_then(|read: Result<_, ActionError>| read) {
            Ok(users) => {
                let count = users.len();
                Outcome::data(json!({ "users": users, "count": count, "truncated": 0 }))
            }
            Err(error) => Outcome::failed(error),
        };
        outcome.into()
    }
}

/// One line of `/etc/passwd` (passwd(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// The first part of the comment.
    pub full_name: String,
    pub home: String,
    pub shell: String,
}

/// The accounts of a passwd(5) text, without lines that are none. An account that is there twice
/// counts once, the first time, as for the C library.
pub(super) fn accounts(passwd: &[u8]) -> Vec<Entry> {
    let mut accounts: Vec<Entry> = Vec::new();
    for line in String::from_utf8_lossy(passwd).lines() {
        let mut fields = line.split(':');
        let mut next = || fields.next();
        let (Some(name), Some(_), Some(uid), Some(gid), Some(comment), Some(home), Some(shell)) =
            (next(), next(), next(), next(), next(), next(), next())
        else {
            continue;
        };
        let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else { continue };
        // Lines that begin with + or - ask a directory server (nsswitch.conf(5), mode "compat").
        let is_name = !name.is_empty() && !name.starts_with(['+', '-', '#']);
        if is_name && accounts.iter().all(|other| other.name != name) {
            let text = |text: &str| text.replace('\0', "");
            accounts.push(Entry {
                name: text(name),
                uid,
                gid,
                full_name: text(comment.split(',').next().unwrap_or_default()),
                home: text(home),
                shell: text(shell),
            });
        }
    }
    accounts
}

/// The ids that people have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    first: u32,
    last: u32,
}

impl Range {
    /// From the text of login.defs(5); the last line counts.
    pub(super) fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let value = |name: &str| {
            let words = text.lines().map(str::split_whitespace);
            words
                .filter_map(|mut words| (words.next() == Some(name)).then(|| words.next())?)
                .filter_map(|value| value.parse().ok())
                .next_back()
        };
        // The defaults of shadow-utils.
        Self { first: value("UID_MIN").unwrap_or(1_000), last: value("UID_MAX").unwrap_or(60_000) }
    }

    pub(super) fn holds(&self, uid: u32) -> bool {
        uid == 0 || (self.first..=self.last).contains(&uid)
    }
}

fn people(accounts: &[Entry], range: &Range) -> Vec<Value> {
    let people = accounts.iter().filter(|account| range.holds(account.uid));
    people
        .map(|account| {
            let shell = account.shell.rsplit('/').next().unwrap_or_default();
            json!({
                "name": account.name,
                "uid": account.uid,
                "gid": account.gid,
                "full_name": account.full_name,
                "home": account.home,
                "shell": account.shell,
                "can_log_in": !["nologin", "false"].contains(&shell),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::test_context;
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    #[tokio::test]
    async fn the_people_are_those_that_getent_knows() {
        let data = UserList.run(&test_context()).await.outcome.data.unwrap();
        let output = Command::new("getent").arg("passwd").output().unwrap();
        let expected: Vec<String> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>())
            .filter(|fields| {
                let uid: u32 = fields[2].parse().unwrap();
                uid == 0 || (1_000..=60_000).contains(&uid)
            })
            .map(|fields| fields[0].clone())
            .collect();
        let names: Vec<&str> =
            data["users"].as_array().unwrap().iter().map(|u| u["name"].as_str().unwrap()).collect();
        assert_eq!(names, expected);
        assert_eq!(data["count"], expected.len());
    }

    #[test]
    fn services_nobody_and_broken_lines_are_left_out() {
        let passwd = b"root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/usr/sbin/nologin\n\
            ann:x:1000:1000:Ann B,,,:/home/ann:/bin/zsh\nann:x:1001:1::/:/bin/sh\n+::::::\n\
            cut:x:1002\nnobody:x:65534:65534::/:/bin/false\nbot:x:1003:1::/:/bin/false\nx:x:-5:0::/:\n";
        let accounts = accounts(passwd);
        let users = people(&accounts, &Range::parse(b"# UID_MIN 5\nUID_MAX  2000\n"));
        let names: Vec<_> = users.iter().map(|user| user["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["root", "ann", "bot"]);
        assert_eq!((&users[1]["uid"], &users[1]["full_name"]), (&1_000.into(), &"Ann B".into()));
        assert_eq!(
            (&users[1]["can_log_in"], &users[2]["can_log_in"]),
            (&true.into(), &false.into())
        );
        assert_eq!(
            Range::parse(b"UID_MIN 500\nUID_MIN\t100\n"),
            Range { first: 100, last: 60_000 }
        );
    }

    /// A listed user can be asked for.
    #[test]
    fn every_account_that_is_listed_is_a_name_that_a_command_may_bear() {
        let passwd = "a$:x:1000:1::/:/bin/sh\nsp ace:x:1001:1::/:/bin/sh\nLAB\\ann:x:1002:1::/:/bin/sh\n\
            Ünal:x:1003:1::/:/bin/sh\n1000:x:1004:1::/:/bin/sh\n";
        let own = std::fs::read("/etc/passwd").unwrap_or_default();
        let listed = accounts(passwd.as_bytes());
        assert_eq!(listed.len(), 5);
        for account in listed.into_iter().chain(accounts(&own)) {
            let name = crate::commands::argument::Account::new(&account.name);
            assert!(name.is_ok(), "{:?}", account.name);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>, text in "([a-z0-9:+,]{0,30}\n){0,5}") {
            for accounts in [accounts(&bytes), accounts(text.as_bytes())] {
                let _ = people(&accounts, &Range::parse(text.as_bytes()));
            }
            let _ = Range::parse(&bytes);
        }
    }
}
