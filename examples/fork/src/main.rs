//! The whole of an app of your own: the plugins that are yours, and one call.

use std::process::ExitCode;

use parrot_echo as _;

fn main() -> ExitCode {
    bespoke::App::new(bespoke::app_info!()).run()
}
