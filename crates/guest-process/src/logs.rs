//! What a process says beside the contracts: `tracing` events become lines of the host's log, a panic one line on standard
//! error.

use std::io::{self, Write as _};

use bespoke_plugin_guest::{Lines, Logger, panicked};

/// Installs both, once for the process; a plugin that has set a subscriber of its own keeps it.
pub(crate) fn install(id: &'static str, logger: &Logger) {
    let logger = logger.clone();
    let _ = tracing::subscriber::set_global_default(Lines::new(move |level, line| logger.log(level, line)));
    std::panic::set_hook(Box::new(move |info| {
        // Standard error and not the link: who aborts next says nothing on it any more.
        let _ = writeln!(io::stderr(), "ERROR {id} {}", panicked(info));
    }));
}
