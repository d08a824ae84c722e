//! What a graph looks like: recorded while it is built, so a picture cannot differ from what runs.
//! Drawing it for a terminal or for Mermaid is [`crate::cli`]'s work.

/// The way from one box to the next.
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
    /// Its name in the books, without the pipeline's.
    pub name: String,
    /// What an operator would want to know of it; may be empty.
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
