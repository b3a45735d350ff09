//! Signals: the first that asks for the end is told, the second ends the program; one that asks for the configuration is told.

use std::sync::{Arc, OnceLock};

use bespoke_host::Host;
use bespoke_plugin_api::CancelToken;
use tokio::sync::mpsc;

use crate::{
    cmd::LAST_WORDS,
    exit::{Exit, Result},
};

const HANG_UP: &str = "SIGHUP";

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// To stop, and its name.
    Stop(&'static str),
    /// To read the configuration again.
    Reload,
}

impl Signal {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Signal::Stop(name) => name,
            Signal::Reload => HANG_UP,
        }
    }
}

/// Signals of this process from now on.
#[derive(Debug)]
pub(super) struct Signals {
    /// Cancelled by the first that asks for the end.
    pub(super) stop: CancelToken,
    /// Told when the second ends the program.
    host: Arc<OnceLock<Host>>,
    told: mpsc::UnboundedReceiver<Signal>,
}

impl Signals {
    /// Listens: from now on no signal of these ends the program by itself.
    pub(super) fn listen() -> Result<Self> {
        let (tell, told) = mpsc::unbounded_channel();
        let stop = CancelToken::new();
        let host = Arc::new(OnceLock::<Host>::new());
        let cut_off = host.clone();
        let mut source = Source::new()?;
        let token = stop.clone();
        tokio::spawn(async move {
            loop {
                match source.next().await {
                    // A terminal that is closed may say so twice; that is nobody's impatience.
                    Signal::Reload | Signal::Stop(HANG_UP) if token.is_cancelled() => {}
                    // Whatever is under way: somebody has no patience left.
                    Signal::Stop(_) if token.is_cancelled() => {
                        if let Some(host) = cut_off.get() {
                            host.cut_off(LAST_WORDS).await;
                        }
                        std::process::exit(Exit::Interrupted.code().into());
                    }
                    signal => {
                        if signal != Signal::Reload {
                            token.cancel();
                        }
                        // An error: nobody waits any more, and the program is about to end.
                        _ = tell.send(signal);
                    }
                }
            }
        });
        Ok(Signals { stop, host, told })
    }

    /// From now on the second signal tells a host first that the program ends.
    pub(super) fn serves(&self, host: &Host) {
        // There is one in a program.
        let _ = self.host.set(host.clone());
    }

    pub(super) async fn next(&mut self) -> Signal {
        match self.told.recv().await {
            Some(signal) => signal,
            // Its task never ends by itself.
            None => std::future::pending().await,
        }
    }
}

#[cfg(unix)]
struct Source {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    /// It was begun on a terminal.
    on_terminal: bool,
}

#[cfg(unix)]
impl Source {
    fn new() -> Result<Self> {
        use std::io::IsTerminal;

        use tokio::signal::unix::{SignalKind, signal};
        Ok(Source {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            on_terminal: std::io::stdin().is_terminal(),
        })
    }

    async fn next(&mut self) -> Signal {
        use std::io::IsTerminal;
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop("SIGINT"),
            _ = self.terminate.recv() => Signal::Stop("SIGTERM"),
            // Of a terminal that was closed it means something else.
            _ = self.hang_up.recv() => match self.on_terminal && !std::io::stdin().is_terminal() {
                true => Signal::Stop(HANG_UP),
                false => Signal::Reload,
            },
        }
    }
}

#[cfg(not(unix))]
struct Source;

#[cfg(not(unix))]
impl Source {
    fn new() -> Result<Self> {
        Ok(Source)
    }

    async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Stop("Ctrl-C"),
            Err(_) => std::future::pending().await,
        }
    }
}
