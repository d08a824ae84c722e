//! Writes what a package has beside the executable: man pages, completions and schemas, made of the program's own arguments.
//! `cargo run --example manual -- DIR`. A tool of `.ci/packages`; the agent has nothing of it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a tool that fails is a package that is not built

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use infiniservice::internals::cli;
use infiniservice::internals::config::schema::KINDS;

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("name a folder"));
    program(cli::Arguments::command, "infiniservice", &folder);
    program(cli::host::arguments, "infiniservice-host", &folder.join("host"));
    let schemas = folder.join("schema");
    fs::create_dir_all(&schemas).unwrap();
    for (name, schema) in KINDS {
        fs::write(schemas.join(format!("{name}.json")), format!("{:#}\n", schema())).unwrap();
    }
}

/// The man pages and completions of a program.
fn program(arguments: fn() -> clap::Command, name: &str, folder: &Path) {
    let mut command = arguments();
    command.build();
    man(&command, &folder.join("man"), name);
    let completions = folder.join("completions");
    fs::create_dir_all(&completions).unwrap();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut arguments(), name, &completions).unwrap();
    }
}

/// A page for the command, and one for each of its own: `infiniservice-spool-check.8`.
fn man(command: &clap::Command, folder: &Path, name: &str) {
    fs::create_dir_all(folder).unwrap();
    let name_of = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    let page = clap_mangen::Man::new(command.clone().name(name_of(name))).section("8");
    let mut text = Vec::new();
    page.render(&mut text).unwrap();
    fs::write(folder.join(format!("{name}.8")), text).unwrap();
    for inner in
        command.get_subcommands().filter(|inner| inner.get_name() != "help" && !inner.is_hide_set())
    {
        man(inner, folder, &format!("{name}-{}", inner.get_name()));
    }
}
