//! The pipeline files that agents of tests and benches run with, and the host's secret. A caller says what is
//! its own; nothing here is shipped.

/// What host and agent share in `INFINISERVICE_SHARED_SECRET`.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Commands from the port, every one of them allowed, raw ones too. It ends within `[enforce]`: what follows it
/// is a rule more.
pub const COMMANDS: &str = r#"[receive]
port = "org.infinibay.agent"
[verify]
secret = "env:INFINISERVICE_SHARED_SECRET"
[enforce]
allow = ["*"]
raw_shell = true
"#;

/// The groups of a whole line for today's host.
pub const WHOLE: &str = r#""cpu", "memory", "load", "disk", "network""#;

/// Readings of `groups` to the port, so often, each a line of its own. It ends within `[write]`, as
/// [`COMMANDS`] does within its last section.
pub fn metrics(every: &str, groups: &str) -> String {
    format!(
        r#"[[collect]]
every = "{every}"
from = [{groups}]
[batch]
max_items = 1
[serialize]
format = "infinibay"
[write]
port = "org.infinibay.agent"
"#
    )
}
