//! The binary: whatever features it was built with.

use std::process::ExitCode;

fn main() -> ExitCode {
    bespoke::App::new(bespoke::app_info!()).run()
}
