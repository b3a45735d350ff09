//! `host --stdio`: plugins for another program. What it can ask is in `bespoke-host-stdio`; this is the process around it: where
//! plugins lie, signals, exit codes.
//!
//! **Invariant:** stdout carries the protocol and nothing else.

use std::sync::Arc;

use bespoke_host::{Host, Selection, State};
use bespoke_host_stdio::{Ended, Options, serve};
use bespoke_plugin_api::CancelToken;

use super::LAST_WORDS;
use crate::{
    cli::{Global, HostArgs},
    exit::{Exit, Failure, Result},
    setup::{Also, Setup},
};

pub(super) async fn run(global: &Global, args: HostArgs) -> Result<()> {
    let also = Also { folders: args.plugins_dir.clone(), install_dependencies: args.auto_install_deps, ..Also::default() };
    let setup = Setup::also(global, also)?;
    if let Some(missing) = args.plugins_dir.iter().find(|folder| !folder.is_dir()) {
        return Err(Failure::failed(format!("{} is no folder", missing.display())).help("bespoke host --stdio --plugins-dir DIR"));
    }
    setup.require(&[])?;
    let mut options = Options::new(env!("CARGO_PKG_VERSION"), Arc::new(setup.shelf.clone()));
    let stop = CancelToken::new();
    options.stop = stop.clone();
    let signal = tokio::spawn(signals(stop, setup.host.clone()));
    crate::packs::arm(&setup, args.offline, &options.stop).await;
    if args.auto_load {
        setup.host.start(Selection::All).await;
        for row in setup.host.rows().iter().filter(|row| row.state != State::Ready) {
            let why = row.reason.as_deref().unwrap_or_default();
            setup.out.note(format!("{}: {}: {why}", row.id, row.state.name()));
        }
    }
    let ended = serve(setup.host.clone(), tokio::io::stdin(), tokio::io::stdout(), options).await;
    setup.host.shutdown().await;
    let exit = match ended {
        Ended::Shutdown => Exit::Ok,
        Ended::EndOfInput => Exit::Of(4),
        Ended::Stopped => signal.await.unwrap_or(Exit::Failed),
        Ended::Broken(why) => return Err(Failure::failed(why)),
        _ => Exit::Failed,
    };
    // Not `Ok`, even when it is: a thread may still wait for a line on stdin that nobody will send, and is not waited for.
    Err(Failure::new(exit, ""))
}

/// Stops the session at the first signal, and the program at the second. How the program ends after the first.
async fn signals(stop: CancelToken, host: Host) -> Exit {
    let exit = signal().await;
    stop.cancel();
    tokio::spawn(async move {
        let exit = signal().await;
        host.cut_off(LAST_WORDS).await;
        std::process::exit(i32::from(exit.code()));
    });
    exit
}

#[cfg(unix)]
async fn signal() -> Exit {
    use tokio::signal::unix::{SignalKind, signal};
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    match (interrupt, terminate) {
        (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
            _ = interrupt.recv() => Exit::Of(2),
            _ = terminate.recv() => Exit::Of(3),
        },
        // Without handlers a signal ends the program by itself.
        _ => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn signal() -> Exit {
    match tokio::signal::ctrl_c().await {
        Ok(()) => Exit::Of(2),
        Err(_) => std::future::pending().await,
    }
}
