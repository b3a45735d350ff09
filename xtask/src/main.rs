//! Every chore of the project: `cargo xtask COMMAND`. Dispatch only; one module a command.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program: results go to stdout, the rest to stderr")]

mod app_manifest;
mod ci;
mod codegen;
mod composition;
mod counts;
mod dist;
mod features;
mod new_plugin;
mod node;
mod sdk;
mod setup;
mod shell;
mod test;
mod third_party;
mod tidy;
mod wasm;
mod workspace;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Every chore of the project", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all tests; fetches what they need
    Test {
        /// Folder with further recordings and reference outputs for the voice tests
        #[arg(long, value_name = "DIR")]
        voice_kit: Option<PathBuf>,
        /// Only tests whose name contains one of these
        filters: Vec<String>,
    },
    /// Run all checks, then all tests
    Ci {
        /// Folder with further recordings and reference outputs for the voice tests
        #[arg(long, value_name = "DIR")]
        voice_kit: Option<PathBuf>,
        /// Run the checks only
        #[arg(long)]
        no_test: bool,
    },
    /// Check what the compiler does not: layers, module docs, features, generated files
    Tidy,
    /// Write the generated files: catalog.rs, docs/features.md, config.schema.json
    Codegen,
    /// Write a plugin crate that builds, is listed and answers
    NewPlugin {
        /// What it contributes
        kind: String,
        /// Its id, which is also its feature
        name: String,
        /// Only say what would be written
        #[arg(long)]
        dry_run: bool,
    },
    /// Print the table of features
    Features,
    /// Print the smallest set of features that a configuration needs
    FeaturesFor {
        /// A bespoke.toml
        config: PathBuf,
    },
    /// Print the folder of a Rust for wasm32, for BESPOKE_WASM_TOOLCHAIN; fetches one where the machine has none
    WasmToolchain,
    /// Build a binary and pack it
    Dist(dist::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::here()?;
    match command {
        Command::Test { voice_kit, filters } => return test::run(&workspace, voice_kit.as_deref(), &filters),
        Command::Ci { voice_kit, no_test } => return ci::run(&workspace, voice_kit.as_deref(), no_test),
        Command::Tidy => tidy::run(&workspace)?,
        Command::Codegen => codegen::run(&workspace)?,
        Command::NewPlugin { kind, name, dry_run } => new_plugin::run(&workspace, &kind, &name, dry_run)?,
        Command::Features => print!("{}", features::table(&workspace.plugins()?, &workspace.app()?)),
        Command::FeaturesFor { config } => println!("{}", features::needed_by(&workspace, &config)?.join(",")),
        Command::WasmToolchain => println!("{}", wasm::prepare(&workspace.target()?)?.display()),
        Command::Dist(args) => dist::run(&workspace, &args)?,
    }
    Ok(ExitCode::SUCCESS)
}
