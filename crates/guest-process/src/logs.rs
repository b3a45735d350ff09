//! What a process says beside the contracts: `tracing` events become lines of the host's log, a panic one line on standard
//! error. No filter but the level: the host has its own.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    sync::atomic::{AtomicU64, Ordering},
};

use bespoke_plugin_api::Level;
use bespoke_plugin_guest::Logger;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

/// Installs both, once for the process; a plugin that has set a subscriber of its own keeps it.
pub(crate) fn install(id: &'static str, logger: &Logger) {
    let _ = tracing::subscriber::set_global_default(Lines { logger: logger.clone(), spans: AtomicU64::new(1) });
    std::panic::set_hook(Box::new(move |info| {
        // Standard error and not the link: who aborts next says nothing on it any more.
        let what = info.payload_as_str().unwrap_or("without a message").replace('\n', " ");
        let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let _ = writeln!(io::stderr(), "ERROR {id} panicked{place}: {what}");
    }));
}

/// Turns events into lines; spans are numbered and otherwise ignored.
struct Lines {
    logger: Logger,
    spans: AtomicU64,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn new_span(&self, _attributes: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed).max(1))
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            _ => Level::Info,
        };
        self.logger.log(level, line.0.trim_end());
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

/// The message first, the fields behind it.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a text does not fail.
        let _ = match field.name() {
            "message" => {
                let rest = std::mem::take(&mut self.0);
                write!(self.0, "{value:?} {rest}")
            }
            name => write!(self.0, "{name}={value:?} "),
        };
    }
}
