//! The pipeline files the guest runs beside the shipped ones.

/// A reading five times a second, each sent by itself, eight kept while nobody reads.
pub const FAST: (&str, &str) = (
    "fast.toml",
    r#"
about = "Five readings a second, so that a test need not wait."

[[collect]]
every = "200ms"
from  = ["cpu", "memory", "load", "disk", "network"]

[batch]
max_items = 1

[serialize]
format = "infinibay"

[write]
port = "org.infinibay.agent"
keep = 8
"#,
);

/// Fifty short readings a second: a host that leaves, leaves in the middle of something.
pub const BRISK: (&str, &str) = (
    "brisk.toml",
    r#"
about = "Fifty short readings a second."

[[collect]]
every = "20ms"
from  = ["cpu", "memory", "load", "disk", "network"]

[batch]
max_items = 1

[serialize]
format = "infinibay"

[write]
port = "org.infinibay.agent"
keep = 8
"#,
);

/// Every process in each reading, so that one line is longer than a write to the port can be.
pub const LONG: (&str, &str) = (
    "long.toml",
    r#"
about = "Five long readings a second."

[[collect]]
every = "200ms"
from  = ["cpu", "memory", "load", "disk", "network", { processes = { keep = 500, by = "memory" } }]

[batch]
max_items = 1

[serialize]
format = "infinibay"

[write]
port = "org.infinibay.agent"
keep = 8
"#,
);

/// Readings that are held for a minute unless something makes them leave.
pub const HOARD: (&str, &str) = (
    "hoard.toml",
    r#"
about = "Readings are held for a minute, or until the agent ends."

[[collect]]
every = "200ms"
from  = ["cpu", "memory", "load", "disk", "network"]

[batch]
max_items = 1000
max_delay = "60s"

[serialize]
format = "infinibay"

[write]
port = "org.infinibay.agent"
keep = 8
"#,
);
