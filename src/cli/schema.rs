//! `schema`: the JSON Schema of a kind of file.

use std::process::ExitCode;

use clap::Args;

use super::{refuse, say};
use crate::config::schema::KINDS;

#[derive(Debug, Args)]
pub(super) struct Schema {
    /// The kind of file: pipeline (of metrics or records), commands or agent
    #[arg(value_name = "KIND", value_parser = KINDS.map(|(name, _)| name), default_value = KINDS[0].0)]
    kind: String,
}

impl Schema {
    pub(super) fn main(self) -> ExitCode {
        match KINDS.iter().find(|(name, _)| *name == self.kind) {
            Some((_, schema)) => say(&text(schema())),
            None => refuse("no file is of this kind"),
        }
    }
}

/// As a file.
pub(super) fn text(schema: serde_json::Value) -> String {
    format!("{schema:#}\n")
}
