//! What a graph looks like: recorded while it is built, so what is drawn is what runs.
//! [`Display`](fmt::Display) draws it as text; Mermaid is the work of `infiniservice graph`.

use std::fmt;

/// How items get from one stage to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edge {
    /// A plain call in the same task.
    Fused,
    /// A bounded mpsc channel: every item arrives, a full one makes the sender wait.
    Queue(usize),
    /// A broadcast ring: the newest items are kept, the oldest are overwritten and counted.
    Ring(usize),
}

/// One stage of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its name in the statistics, without the pipeline's.
    pub name: String,
    /// Its most important settings; may be empty.
    pub detail: String,
}

/// One pipeline as it was built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// The pipeline's name.
    pub name: String,
    /// Its stages in the order of the flow.
    pub stages: Vec<Stage>,
    /// From stage to stage, by index.
    pub edges: Vec<(usize, Edge, usize)>,
}

impl Topology {
    /// Adds a stage fed by `from` over `edge`; returns its index.
    pub(super) fn stage(
        &mut self,
        name: String,
        detail: String,
        from: &[usize],
        edge: &Edge,
    ) -> usize {
        let index = self.stages.len();
        self.stages.push(Stage { name, detail });
        self.edges.extend(from.iter().map(|from| (*from, edge.clone(), index)));
        index
    }
}

/// The flow from top to bottom as lines of text: stages of one task are joined by a line, and every channel
/// between tasks is named with its bound.
impl fmt::Display for Topology {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.name)?;
        let width = self.stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
        let mut above: Option<(Vec<usize>, &Edge)> = None;
        for (index, stage) in self.stages.iter().enumerate() {
            let incoming = self.incoming(index);
            let fused_in = matches!(incoming, Some((_, Edge::Fused)));
            let fused_out =
                self.edges.iter().any(|(from, edge, _)| *from == index && *edge == Edge::Fused);
            if let Some((from, edge)) = incoming
                && *edge != Edge::Fused
            {
                // Subscribers of one ring stand below each other, each behind a channel of its own.
                if above.as_ref().is_none_or(|above| above.0 != from)
                    || matches!(edge, Edge::Ring(_))
                {
                    writeln!(out, "    │ {edge}")?;
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
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Topology {
    /// The stages that feed stage `to`, and over what.
    fn incoming(&self, to: usize) -> Option<(Vec<usize>, &Edge)> {
        let from: Vec<usize> =
            self.edges.iter().filter(|edge| edge.2 == to).map(|edge| edge.0).collect();
        let edge = self.edges.iter().find(|edge| edge.2 == to).map(|edge| &edge.1)?;
        Some((from, edge))
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fused => Ok(()),
            Self::Queue(items) => write!(
                out,
                "mpsc, at most {items}: every one arrives, a full channel makes the sender wait"
            ),
            Self::Ring(keep) => {
                write!(out, "broadcast, newest {keep} kept: the oldest are overwritten and counted")
            }
        }
    }
}

#[cfg(test)]
impl Topology {
    /// Two sources, a fused segment and two outputs.
    pub(crate) fn sample() -> Self {
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(Topology::sample().to_string(), expected);
    }
}
