//! The arguments of `runtime`. What each verb does is in `cmd`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeVerb {
    /// Compile a program in StableHLO, run it, and print what it returns
    ///
    /// The runtime is the pack that is installed or came with this program, else the library that PJRT_PLUGIN_LIBRARY_PATH names. With
    /// --log-level info, stderr tells which library ran on which device, and how long it took.
    #[command(
        after_help = "Examples:\n  bespoke runtime run xla:cpu add.mlir\n  bespoke runtime run xla:cpu affine.mlir --input \"[[1, 2], [3, 4]]\" --input \"[5, 6]\" --input 0.5\n  bespoke runtime run xla:cuda add.mlir --json --log-level info"
    )]
    Run(RunProgram),
    /// The devices that programs can run on
    #[command(after_help = "Examples:\n  bespoke runtime devices xla:cpu\n  bespoke runtime devices xla:cuda --json")]
    Devices {
        /// Runtime and device, such as xla:cpu
        #[arg(value_name = "RUNTIME:DEVICE")]
        spec: String,
        /// A PJRT plugin to use instead of the pack. It is loaded into this program: name only what you trust
        #[arg(long, value_name = "FILE")]
        library: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunProgram {
    /// Runtime and device, such as xla:cpu
    #[arg(value_name = "RUNTIME:DEVICE")]
    pub(crate) spec: String,
    /// The program: MLIR with a function main, as text or as bytecode
    pub(crate) file: PathBuf,
    /// An input, in the order of the program: numbers in lists in lists, as its type has dimensions
    #[arg(long, value_name = "JSON", allow_negative_numbers = true)]
    pub(crate) input: Vec<String>,
    /// Which of the devices that runtime devices lists
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) device: usize,
    /// A PJRT plugin to use instead of the pack. It is loaded into this program: name only what you trust
    #[arg(long, value_name = "FILE")]
    pub(crate) library: Option<PathBuf>,
}
