//! `serve`: the agent behind its channels, until it is told to stop. What serving is, is in `bespoke-serve`; this is the process around it:
//! one of them per home, what starts with it, signals, a configuration that changes, the socket at which others ask.
//!
//! **Invariant:** nothing here waits for the network before it serves, but for a runtime that the hardware calls for.

mod answers;
#[cfg(feature = "gateway")]
mod listener;
#[cfg(not(feature = "gateway"))]
#[path = "listener_disabled.rs"]
mod listener;
mod reload;
mod serving;
mod signals;
mod status;
mod told;

use std::{path::Path, sync::Arc, time::Duration};

use bespoke_control::{BindError, Server as Control};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use self::{
    answers::Answers,
    serving::Serving,
    signals::{Signal, Signals},
    told::Told,
};
use crate::{
    cli::{Global, Serve},
    exit::{Exit, Failure, Result},
    setup::{Also, Setup},
    watching::{Changes, watcher},
};

/// The sections that have to be right.
const SECTIONS: &[&str] = &["agent", "voice", "serve", "gateway"];
/// How often a listener is tried again that could not be opened.
const AGAIN: Duration = Duration::from_secs(10);

pub(super) async fn run(global: &Global, args: Serve) -> Result<()> {
    // Before there is anything that a signal could end.
    let mut signals = Signals::listen()?;
    let setup = Setup::also(global, Also { history: true, ..Also::default() })?;
    setup.require(SECTIONS)?;
    signals.serves(&setup.host);
    // Before anything starts: of two that start, one does nothing.
    let control = Control::bind(&setup.paths.socket()).map_err(|error| not_bound(&error))?;
    let told = Told::new(setup.out);
    let serving = Arc::new(Serving::new(setup, told, control.address()));
    let stop = serving.stop.clone();
    let asked = tokio::spawn(control.serve(Arc::new(Answers::new(serving.clone())), async move { stop.cancelled().await }));
    let result = attended(&serving, &mut signals, &args).await;
    // As long as answers end, it says how it does. Who is gone is told to plugins that still run; and the place is nobody else's before all
    // of them have stopped.
    serving.drain(args.drain.map(Duration::from_secs)).await;
    serving.stop.cancel();
    let held = asked.await;
    serving.end().await;
    drop(held);
    told.say("stopped", "stopped", &json!({}));
    result
}

/// Everything between the start and the first word that it is to stop.
async fn attended(serving: &Arc<Serving>, signals: &mut Signals, args: &Serve) -> Result<()> {
    // Before it says that it serves: whoever reads that may change the file at once.
    let (_watcher, mut changes) = if args.no_watch { None } else { watch(serving) }.unzip();
    let (wanted, reloads) = mpsc::channel(1);
    let offers = serving.setup.host.offers();
    let stop = signals.stop.clone();
    // A signal in the middle of a start ends that, too.
    tokio::select! {
        begun = serving.begin(args.offline, &stop) => begun?,
        signal = stopped(signals, &wanted) => return ended_by(serving, &signal),
    }
    let reloader = tokio::spawn(reload_when_wanted(serving.clone(), reloads));
    let listener = tokio::spawn(listen_when_wanted(serving.clone(), offers));
    let ended = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                // One that waits already reads the newest file, too.
                Signal::Reload => _ = wanted.try_send("SIGHUP"),
                stop => break stop,
            },
            changed = next(&mut changes) => {
                if changed.is_some() { _ = wanted.try_send("the file has changed") } else { changes = None }
            }
        }
    };
    reloader.abort();
    listener.abort();
    ended_by(serving, &ended)
}

/// The first signal that asks for the end. What asks for the configuration meanwhile waits until it serves.
async fn stopped(signals: &mut Signals, wanted: &mpsc::Sender<&'static str>) -> Signal {
    loop {
        match signals.next().await {
            Signal::Reload => _ = wanted.try_send("SIGHUP"),
            stop => return stop,
        }
    }
}

fn ended_by(serving: &Serving, signal: &Signal) -> Result<()> {
    let name = signal.name();
    serving.told.say("draining", &format!("{name}: answers under way may end; once more ends it at once"), &json!({ "signal": name }));
    Ok(())
}

async fn reload_when_wanted(serving: Arc<Serving>, mut wanted: mpsc::Receiver<&'static str>) {
    while let Some(why) = wanted.recv().await {
        // What is wrong is told; what ran before goes on.
        let _ = serving.reload(why).await;
    }
}

/// A plugin that serves over HTTP may have come or gone, and whoever had our address may have left it.
async fn listen_when_wanted(serving: Arc<Serving>, mut offers: watch::Receiver<()>) {
    loop {
        tokio::select! {
            changed = offers.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if serving.listens_badly() => {}
        }
        serving.listen().await;
    }
}

async fn next(changes: &mut Option<Changes>) -> Option<()> {
    match changes {
        Some(changes) => changes.next().await.map(drop),
        None => std::future::pending().await,
    }
}

/// Watches the configuration file. Editors replace a file, so its folder is watched.
fn watch(serving: &Serving) -> Option<(RecommendedWatcher, Changes)> {
    let config = serving.setup.paths.config_to_be();
    let folder = config.parent().unwrap_or(Path::new("/")).to_owned();
    let begun = watcher(move |path| path == config).and_then(|(mut watcher, changes)| {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        Ok((watcher, changes))
    });
    begun
        .map_err(|error| serving.told.warn(&format!("the configuration is not watched: {error}; bespoke reload takes over what is new")))
        .ok()
}

fn not_bound(error: &BindError) -> Failure {
    match error {
        BindError::Taken { .. } => Failure::new(Exit::Conflict, error.to_string()).help("bespoke status"),
        BindError::Unsafe { path, .. } => {
            let folder = path.parent().unwrap_or(path).display().to_string();
            Failure::failed(error.to_string()).help(format!("ls -la {folder}"))
        }
        _ => Failure::failed(format!("the control socket cannot be made: {error}")).help("bespoke doctor"),
    }
}
