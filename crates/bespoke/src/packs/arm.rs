//! Before something serves: the runtimes that the hardware of this machine calls for are installed, so that what is ready is fully
//! ready. Whatever goes wrong, the program starts, and runs on the processor.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bespoke_plugin_api::CancelToken;
use bespoke_runtimes::{Hardware, Wanted};

use super::{detect, shown, usable, with_bar};
use crate::{
    cli::Packing,
    exit::{Failure, Result},
    output::bytes,
    setup::Setup,
};

/// Installs what was found to be of use, unless the configuration or `offline` says otherwise, until `stop` or the end of the time.
pub(crate) async fn arm(setup: &Setup, offline: bool, stop: &CancelToken) {
    let Ok(defaults) = setup.config.plugin_defaults() else { return };
    // Asking the driver takes a moment, and is of no use when nothing could come of it.
    if offline || !defaults.auto_install || !usable(&setup.host).iter().any(|spec| spec.needs_nvidia() || spec.needs_tpu()) {
        return;
    }
    with(setup, &detect(), Duration::from_millis(defaults.auto_install_timeout_ms), stop).await;
}

async fn with(setup: &Setup, hardware: &Hardware, limit: Duration, stop: &CancelToken) {
    let wanted = hardware.wanted(usable(&setup.host));
    if wanted.is_empty() {
        return;
    }
    let (flag, late) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let watch = tokio::spawn({
        let (flag, late, stop) = (flag.clone(), late.clone(), stop.clone());
        async move {
            if tokio::time::timeout(limit, stop.cancelled()).await.is_err() {
                late.store(true, Ordering::SeqCst);
            }
            flag.store(true, Ordering::SeqCst);
        }
    });
    for wanted in wanted {
        let spec = wanted.spec;
        let Err(failure) = bring(setup, wanted, &flag) else { continue };
        if stop.is_cancelled() {
            break;
        }
        let is_late = late.load(Ordering::SeqCst);
        let why = if is_late { format!("it takes longer than {} s", limit.as_secs()) } else { failure.message };
        let warning = format!("{spec} is not installed: {why}; it goes on without. Try: bespoke plugin install {spec}");
        // Whoever read the announcement reads this too, and the log keeps it.
        setup.out.note(&warning);
        tracing::warn!("{warning}");
        if is_late {
            break;
        }
    }
    watch.abort();
}

fn bring(setup: &Setup, Wanted { spec, set, .. }: Wanted, cancel: &AtomicBool) -> Result<()> {
    let packs = setup.packs.from(&Packing { dry_run: false, from: None, offline: false, index_url: None, cuda: None })?;
    let plan = packs.plan(spec, set)?;
    // An older version that somebody stays with, or went back to, is of use, if the driver runs it: a new one comes by `update`.
    if plan.installed || packs.find(spec).is_ok_and(|found| found.set <= set) {
        return Ok(());
    }
    let free = plan.free.map_or(String::new(), |free| format!("; {} are free", bytes(free)));
    setup.out.note(format!("this machine has hardware for {}{free}; plugins.auto_install = false keeps it from coming", shown(&plan)));
    with_bar(spec, |report| packs.install(spec, set, report, cancel)).map(drop).map_err(Failure::from)
}
