//! The app: which plugins ship, the command line, and output. No logic of its own.
//!
//! A program that adds plugins of its own is ten lines:
//!
//! ```no_run
//! // use my_plugin as _;
//! fn main() -> std::process::ExitCode {
//!     bespoke::App::new(bespoke::app_info!()).run()
//! }
//! ```
//!
//! What is compiled in is chosen by Cargo features alone; `docs/features.md` lists them.

mod app;
#[cfg(feature = "demo")]
mod assets;
#[cfg(not(feature = "demo"))]
#[path = "assets_disabled.rs"]
mod assets;
mod catalog;
mod cli;
mod cmd;
mod conversation;
mod exit;
mod files;
#[cfg(feature = "gateway")]
mod gate;
#[cfg(not(feature = "gateway"))]
#[path = "gate_disabled.rs"]
mod gate;
#[cfg(feature = "http")]
mod http;
#[cfg(not(feature = "http"))]
#[path = "http_disabled.rs"]
mod http;
#[cfg(feature = "keyring")]
mod keyring;
mod logs;
mod models;
mod output;
#[cfg(feature = "runtimes")]
mod packs;
#[cfg(not(feature = "runtimes"))]
#[path = "packs_disabled.rs"]
mod packs;
mod paths;
mod plugins;
#[cfg(feature = "models")]
mod progress;
#[cfg(feature = "serve")]
mod running;
#[cfg(not(feature = "serve"))]
#[path = "running_disabled.rs"]
mod running;
mod schema;
mod secrets;
mod sections;
#[cfg(feature = "serve")]
mod served;
#[cfg(not(feature = "serve"))]
#[path = "served_disabled.rs"]
mod served;
mod setup;
mod shelf;
#[cfg(feature = "state")]
mod state;
#[cfg(not(feature = "state"))]
#[path = "state_disabled.rs"]
mod state;
mod tiers;
mod time;
#[cfg(any(feature = "process", feature = "serve"))]
mod watching;

pub use app::{App, AppInfo};

/// Who the program is: name and version of the binary that calls it, so that a fork speaks of itself. What is no binary, such as
/// an example in documentation, has the name of its package.
#[macro_export]
macro_rules! app_info {
    () => {
        $crate::AppInfo {
            name: match option_env!("CARGO_BIN_NAME") {
                Some(name) => name,
                None => env!("CARGO_PKG_NAME"),
            },
            version: env!("CARGO_PKG_VERSION"),
        }
    };
}
