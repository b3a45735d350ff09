//! How a long download is shown and ended: a bar on a terminal, a flag that Ctrl-C sets.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar while the end is known, a spinner while it is not. Hidden by itself when stderr is no terminal.
pub(crate) struct Bar {
    bar: ProgressBar,
    shown: RefCell<String>,
    known: Cell<bool>,
}

impl Bar {
    pub(crate) fn new(what: &str) -> Self {
        let bar = ProgressBar::no_length().with_style(style(false)).with_message(what.to_owned());
        Bar { bar, shown: RefCell::default(), known: Cell::new(false) }
    }

    /// So far: what is being done, and the bytes of it.
    pub(crate) fn step(&self, message: &str, done: u64, total: Option<u64>) {
        if *self.shown.borrow() != message {
            self.bar.set_message(message.to_owned());
            self.shown.replace(message.to_owned());
        }
        if self.known.replace(total.is_some()) != total.is_some() {
            self.bar.set_style(style(total.is_some()));
        }
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    pub(crate) fn end(self) {
        self.bar.finish_and_clear();
    }
}

fn style(known: bool) -> ProgressStyle {
    let template = if known {
        "{msg}  [{bar:24}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}"
    } else {
        "{msg}  {spinner} {elapsed}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A flag that Ctrl-C sets. The listener ends with the program.
pub(crate) fn cancel_on_interrupt() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let set = flag.clone();
        runtime.spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                set.store(true, Ordering::Relaxed);
            }
        });
    }
    flag
}
