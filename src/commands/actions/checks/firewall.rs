//! Whether packets are filtered in this machine. Does not judge the rules, nor change them.

use serde_json::json;

use super::super::{Context, blocking, find_program, program};
use super::{Check, Status};
use crate::commands::process::Exit;

const NAME: &str = "firewall_status";

/// `firewall_status`: passed where a rule filters what comes in, a warning where none does. Asks `nft`, which
/// shows the rules of `iptables` too where that is built on it, then `iptables-save`, then
/// `/proc/net/ip_tables_names`.
pub(super) async fn check(cx: &Context) -> Check {
    let mut rules = Rules::default();
    let mut asked = Vec::new();
    for (name, arguments, parse) in [
        ("nft", &["list", "ruleset"][..], parse_nft as fn(&str) -> Rules),
        ("iptables-save", &[][..], parse_iptables),
        ("ip6tables-save", &[][..], parse_iptables),
    ] {
        if find_program(name).is_none() {
            continue;
        }
        match cx.runner.run(program(name, arguments, cx.deadline)).await {
            Ok(finished) if finished.exit == Exit::Code(0) => {
                rules.add(&parse(&finished.stdout.text));
                asked.push(name);
            }
            Ok(finished) => {
                let why = finished.stderr.text.lines().next().unwrap_or_default().to_owned();
                tracing::debug!(program = name, %why, "firewall rules cannot be listed");
            }
            Err(error) => {
                tracing::debug!(program = name, %error, "firewall rules cannot be listed")
            }
        }
    }
    let tables = blocking(cx.deadline, "reading /proc/net", || {
        ["ip_tables_names", "ip6_tables_names"]
            .map(|name| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default())
            .concat()
    });
    let tables = tables.await.unwrap_or_default();
    judged(rules, &asked, &tables)
}

/// What was found in a list of rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rules {
    rules: usize,
    /// Chains that see what comes in and drop it unless a rule accepts it.
    closed: usize,
    /// Rules that drop or reject.
    dropping: usize,
}

impl Rules {
    fn add(&mut self, other: &Self) {
        self.rules += other.rules;
        self.closed += other.closed;
        self.dropping += other.dropping;
    }
}

fn judged(rules: Rules, asked: &[&str], tables: &str) -> Check {
    let legacy: Vec<&str> = tables.lines().collect();
    let details = json!({
        "rules": rules.rules,
        "input_closed_by_default": rules.closed > 0,
        "dropping_rules": rules.dropping,
        "asked": asked,
        "legacy_tables": legacy,
    });
    if rules.closed > 0 || rules.dropping > 0 {
        let closed = if rules.closed > 0 {
            "incoming is closed by default"
        } else {
            "incoming is open by default"
        };
        let message =
            format!("{} rules are loaded, {} of them drop; {closed}", rules.rules, rules.dropping);
        return Check::new(NAME, Status::Passed, message, details);
    }
    let message = if asked.is_empty() && !legacy.is_empty() {
        "filter tables are loaded, but there is no program to list their rules"
    } else if asked.is_empty() {
        "no firewall program is installed and no filter table is loaded: nothing filters packets in this machine"
    } else {
        "no rule filters packets in this machine"
    };
    Check::new(NAME, Status::Warning, message, details)
}

/// The output of `nft list ruleset`: nft(8).
fn parse_nft(text: &str) -> Rules {
    let mut rules = Rules::default();
    let mut in_chain = false;
    for line in text.lines().map(str::trim) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("chain") => in_chain = true,
            Some("}") => in_chain = false,
            Some("type") if in_chain => {
                let incoming = line.contains("hook input")
                    || line.contains("hook prerouting")
                    || line.contains("hook ingress");
                rules.closed += usize::from(incoming && line.contains("policy drop"));
            }
            Some("policy") | None => {}
            Some(_) if in_chain => {
                rules.rules += 1;
                let drops = line.split_whitespace().any(|word| word == "drop" || word == "reject");
                rules.dropping += usize::from(drops);
            }
            Some(_) => {}
        }
    }
    rules
}

/// The output of `iptables-save`: `:CHAIN POLICY […]` and `-A CHAIN …`.
fn parse_iptables(text: &str) -> Rules {
    let mut rules = Rules::default();
    for line in text.lines() {
        rules.closed += usize::from(line.starts_with(":INPUT DROP"));
        if line.starts_with("-A ") {
            rules.rules += 1;
            rules.dropping += usize::from(line.contains("-j DROP") || line.contains("-j REJECT"));
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::super::super::test_context;
    use super::*;
    use proptest::prelude::*;

    const NFT: &str = "table inet filter {\n\tset blocked {\n\t\ttype ipv4_addr\n\t}\n\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\
        \t\tct state established,related accept\n\t\ttcp dport 22 accept\n\t\tip saddr @blocked drop\n\t}\n\n\tchain output {\n\t\ttype filter hook output priority filter; policy accept;\n\t}\n}\n";

    #[test]
    fn rules_are_counted_and_a_set_is_no_rule() {
        assert_eq!(parse_nft(NFT), Rules { rules: 3, closed: 1, dropping: 1 });
        let saved = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n-A INPUT -i lo -j ACCEPT\n-A INPUT -s 10.0.0.9/32 -j DROP\nCOMMIT\n";
        assert_eq!(parse_iptables(saved), Rules { rules: 2, closed: 1, dropping: 1 });
    }

    #[test]
    fn rules_that_only_accept_filter_nothing() {
        let open = parse_iptables(":INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\n");
        assert_eq!(judged(open, &["iptables-save"], "").status, Status::Warning);
        assert_eq!(judged(parse_nft(NFT), &["nft"], "").status, Status::Passed);
        assert!(judged(Rules::default(), &[], "").message.contains("no firewall program"));
        assert!(judged(Rules::default(), &[], "filter\n").message.contains("tables are loaded"));
    }

    #[tokio::test]
    async fn this_machine_is_asked_and_what_was_asked_is_told() {
        let check = check(&test_context()).await;
        for name in check.details["asked"].as_array().unwrap() {
            assert!(find_program(name.as_str().unwrap()).is_some());
        }
        assert_eq!(
            check.status == Status::Passed,
            check.details["dropping_rules"] != 0
                || check.details["input_closed_by_default"] == true
        );
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text: String, lines in "([a-z{}:; -]{0,30}\n){0,6}") {
            for text in [&text, &lines] {
                let _ = (parse_nft(text), parse_iptables(text));
            }
        }
    }
}
