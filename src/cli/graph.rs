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
            Err(what) => return refuse(&what),
        };
        match self.format {
            Format::Mermaid => say(&mermaid(&pictures)),
            Format::Text => {
                let texts: Vec<String> = pictures.iter().map(text).collect();
                say(&texts.join("\n"))
            }
        }
    }
}

/// The picture as lines of text, the flow from top to bottom.
pub fn text(picture: &Topology) -> String {
    let mut out = format!("{}\n", picture.name);
    let width = picture.stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
    let mut above: Option<(Vec<usize>, &Edge)> = None;
    for (index, stage) in picture.stages.iter().enumerate() {
        let incoming = incoming(picture, index);
        let fused_in = matches!(incoming, Some((_, Edge::Fused)));
        let fused_out =
            picture.edges.iter().any(|(from, edge, _)| *from == index && *edge == Edge::Fused);
        if let Some((from, edge)) = incoming
            && *edge != Edge::Fused
        {
            // Subscribers of one ring stand below each other, each behind a channel of its own.
            if above.as_ref().is_none_or(|above| above.0 != from) || matches!(edge, Edge::Ring(_)) {
                let _ = writeln!(out, "    │ {}", channel(edge));
            }
            above = Some((from, edge));
        }
        let mark = match (fused_in, fused_out) {
            (false, true) => '┌',
            (true, true) => '│',
            (true, false) => '└',
            (false, false) => ' ',
        };
        let line = format!("  {mark} {:width$}  {}", stage.name, stage.detail);
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// The picture as a Mermaid flowchart; stages that share a task share a box.
pub fn mermaid(pictures: &[Topology]) -> String {
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

fn incoming(picture: &Topology, to: usize) -> Option<(Vec<usize>, &Edge)> {
    let from: Vec<usize> =
        picture.edges.iter().filter(|edge| edge.2 == to).map(|edge| edge.0).collect();
    let edge = picture.edges.iter().find(|edge| edge.2 == to).map(|edge| &edge.1)?;
    Some((from, edge))
}

fn channel(edge: &Edge) -> String {
    match edge {
        Edge::Fused => String::new(),
        Edge::Queue(items) => format!(
            "mpsc, at most {items}: every one arrives, a full channel makes the sender wait"
        ),
        Edge::Ring(keep) => {
            format!("broadcast, newest {keep} kept: the oldest are overwritten and counted")
        }
    }
}

fn quoted(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::topology::Stage;

    fn picture() -> Topology {
        let stage = |name: &str, detail: &str| Stage { name: name.into(), detail: detail.into() };
        Topology {
            name: "metrics".into(),
            stages: vec![
                stage("collect", "every 1s: cpu"),
                stage("collect", "every 30s: disk"),
                stage("batch", ""),
                stage("serialize", "\"json\""),
                stage("port", "stdio"),
                stage("file", "/tmp/x"),
            ],
            edges: vec![
                (0, Edge::Queue(4), 2),
                (1, Edge::Queue(4), 2),
                (2, Edge::Fused, 3),
                (3, Edge::Ring(64), 4),
                (3, Edge::Ring(64), 5),
            ],
        }
    }

    #[test]
    fn the_text_shows_tasks_and_each_channel_with_its_kind_and_bound() {
        let expected = "\
metrics
    collect    every 1s: cpu
    collect    every 30s: disk
    │ mpsc, at most 4: every one arrives, a full channel makes the sender wait
  ┌ batch
  └ serialize  \"json\"
    │ broadcast, newest 64 kept: the oldest are overwritten and counted
    port       stdio
    │ broadcast, newest 64 kept: the oldest are overwritten and counted
    file       /tmp/x
";
        assert_eq!(text(&picture()), expected);
    }

    #[test]
    fn the_flowchart_has_every_stage_and_edge_and_quotes_mermaid_syntax() {
        let chart = mermaid(&[picture()]);
        assert!(chart.starts_with("flowchart LR\n  subgraph p0[\"metrics\"]\n"));
        assert!(chart.contains("    p0s3[\"serialize<br/>&quot;json&quot;\"]\n"));
        assert!(chart.contains("    p0s1 -->|mpsc 4| p0s2\n"));
        assert!(chart.contains("    p0s2 --- p0s3\n"));
        assert!(chart.contains("    p0s3 -.->|broadcast 64| p0s5\n"));
    }
}
