//! The pipeline files the guest runs beside the shipped ones: in `/pipelines`, all of them in every
//! machine.

/// Every file, by its name.
pub fn files() -> [(&'static str, String); 5] {
    let short = r#""cpu", "memory", "load", "disk", "network""#;
    let long = format!("{short}, {{ processes = {{ keep = 1000, by = \"memory\" }} }}");
    let at_once = "max_items = 1";
    [
        ("fast.toml", text("Five readings a second.", "200ms", short, at_once, 8)),
        ("brisk.toml", text("Fifty readings a second.", "20ms", short, at_once, 8)),
        ("long.toml", text("Lines longer than a write can be.", "200ms", &long, at_once, 8)),
        ("stall.toml", text("Long lines, fewer of them.", "500ms", &long, at_once, 8)),
        (
            "hoard.toml",
            text(
                "Readings are held for a minute, or until the agent ends.",
                "200ms",
                short,
                "max_items = 1000\nmax_delay = \"60s\"",
                8,
            ),
        ),
    ]
}

fn text(about: &str, every: &str, from: &str, batch: &str, keep: u32) -> String {
    format!(
        r#"about = "{about}"

[[collect]]
every = "{every}"
from = [{from}]

[batch]
{batch}

[serialize]
format = "infinibay"

[write]
port = "org.infinibay.agent"
keep = {keep}
"#
    )
}
