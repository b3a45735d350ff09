//! What the library says beside the contracts: events of `tracing` and panics become lines of the host's log. A library has a subscriber
//! and a panic hook of its own, as it has its own copy of `std`; its instances share them.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use bespoke_plugin_api::Level;
use bespoke_plugin_guest::{Lines, Logger, panicked};

use crate::guest::stepping;

/// The open instances, the newest last.
static LOGGERS: Mutex<Vec<(u64, Logger)>> = Mutex::new(Vec::new());

/// An instance may log from now on. With the first one comes the rest; a plugin that has set a subscriber of its own keeps it.
pub(crate) fn enter(id: &'static str, number: u64, logger: Logger) {
    static INSTALL: Once = Once::new();
    loggers().push((number, logger));
    INSTALL.call_once(|| {
        let _ = tracing::subscriber::set_global_default(Lines::new(log));
        std::panic::set_hook(Box::new(move |info| {
            let line = format!("{id} {}", panicked(info));
            if cfg!(panic = "abort") {
                // The program ends now, and no frame leaves any more.
                use std::io::Write as _;
                let _ = writeln!(std::io::stderr(), "ERROR {line}");
            } else {
                log(Level::Error, &line);
            }
        }));
    });
}

/// An instance is gone.
pub(crate) fn leave(number: u64) {
    let gone: Vec<_> = loggers().extract_if(.., |(other, _)| *other == number).collect();
    drop(gone);
}

/// Of the instance that this thread steps; what a thread of the plugin's says is said by the newest.
fn log(level: Level, line: &str) {
    let logger = {
        let loggers = loggers();
        let own = loggers.iter().find(|(number, _)| *number == stepping());
        own.or(loggers.last()).map(|(_, logger)| logger.clone())
    };
    if let Some(logger) = logger {
        logger.log(level, line);
    }
}

fn loggers() -> MutexGuard<'static, Vec<(u64, Logger)>> {
    LOGGERS.lock().unwrap_or_else(PoisonError::into_inner)
}
