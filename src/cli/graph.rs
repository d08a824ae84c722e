//! `graph`: a pipeline drawn as text or as Mermaid, from the graph that was really built, without starting it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;

use super::{load_or_report, refuse, say};
use crate::agent::Ports;
use crate::agent::assemble;
use crate::pipeline::StatsRegistry;
use crate::pipeline::topology::{Edge, Topology};

#[derive(Debug, Args)]
pub(super) struct Graph {
    /// Pipeline files, or folders of them [default: as for run]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Lines of text, or a Mermaid flowchart
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Mermaid,
}

impl Graph {
    pub(super) fn main(self) -> ExitCode {
        let loaded = match load_or_report(&self.files) {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        let (health, stop) = (StatsRegistry::default(), CancellationToken::new());
        let mut ports = Ports::new(None, &health, &stop).unchecked();
        let pictures = match assemble(&loaded, &mut ports, &health, &stop) {
            Ok(assembly) => assembly.topologies,
            Err(what) => return refuse(what),
        };
        match self.format {
            Format::Mermaid => say(&mermaid(&pictures)),
            Format::Text => {
                let texts: Vec<String> = pictures.iter().map(Topology::to_string).collect();
                say(&texts.join("\n"))
            }
        }
    }
}

/// The picture as a Mermaid flowchart; stages that share a task share a box.
pub(super) fn mermaid(pictures: &[Topology]) -> String {
    let mut out = "flowchart LR\n".to_owned();
    for (number, picture) in pictures.iter().enumerate() {
        let _ = writeln!(out, "  subgraph p{number}[\"{}\"]", quoted(&picture.name));
        for (index, stage) in picture.stages.iter().enumerate() {
            let detail = match stage.detail.as_str() {
                "" => String::new(),
                detail => format!("<br/>{}", quoted(detail)),
            };
            let _ = writeln!(out, "    p{number}s{index}[\"{}{detail}\"]", quoted(&stage.name));
        }
        for (from, edge, to) in &picture.edges {
            let arrow = match edge {
                Edge::Fused => "---".to_owned(),
                Edge::Queue(items) => format!("-->|mpsc {items}|"),
                Edge::Ring(keep) => format!("-.->|broadcast {keep}|"),
            };
            let _ = writeln!(out, "    p{number}s{from} {arrow} p{number}s{to}");
        }
        out.push_str("  end\n");
    }
    out
}

fn quoted(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flowchart_has_every_stage_and_edge_and_quotes_mermaid_syntax() {
        let chart = mermaid(&[Topology::sample()]);
        assert!(chart.starts_with("flowchart LR\n  subgraph p0[\"metrics\"]\n"));
        assert!(chart.contains("    p0s3[\"serialize<br/>&quot;json&quot;\"]\n"));
        assert!(chart.contains("    p0s1 -->|mpsc 4| p0s2\n"));
        assert!(chart.contains("    p0s2 --- p0s3\n"));
        assert!(chart.contains("    p0s3 -.->|broadcast 64| p0s5\n"));
    }
}
