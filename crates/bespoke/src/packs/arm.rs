//! Before something serves: the runtimes that the hardware of this machine calls for are installed, so that what is ready is fully
//! ready. Whatever goes wrong, the program starts, and runs on the processor.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bespoke_runtimes::{Hardware, Wanted};

use super::{bring, shown, usable};
use crate::{
    cli::Packing,
    exit::{Exit, Failure, Result},
    output::bytes,
    progress::cancel_on_interrupt,
    setup::Setup,
};

/// Installs what was found to be of use, unless the configuration or `offline` says otherwise.
///
/// # Errors
/// Only when the user interrupts it.
pub(crate) async fn arm(setup: &Setup, offline: bool) -> Result<()> {
    let Ok(defaults) = setup.config.plugin_defaults() else { return Ok(()) };
    let usable = usable(&setup.host);
    // Asking the driver takes a moment, and is of no use when nothing could come of it.
    if offline || !defaults.auto_install || !usable.iter().any(|spec| spec.needs_nvidia() || spec.needs_tpu()) {
        return Ok(());
    }
    let wanted = tokio::task::block_in_place(Hardware::detect).wanted(usable);
    let limit = Duration::from_millis(defaults.auto_install_timeout_ms);
    let stop = until(limit);
    for Wanted { spec, set, .. } in wanted {
        let how = Packing { dry_run: false, from: None, offline, index_url: None, cuda: None };
        let packs = match setup.packs.from(&how) {
            Ok(packs) => packs,
            Err(failure) => return warn(setup, &failure.to_string()),
        };
        let outcome = packs.plan(spec, set).and_then(|plan| {
            // An older version that somebody stays with, or went back to, is of use, if the driver runs it: a new one comes by `update`.
            if plan.installed || packs.find(spec).is_ok_and(|found| found.set <= set) {
                return Ok(());
            }
            let free = plan.free.map_or(String::new(), |free| format!("; {} are free", bytes(free)));
            setup
                .out
                .note(format!("this machine has hardware for {}{free}; plugins.auto_install = false keeps it from coming", shown(&plan)));
            bring(&packs, spec, set, &stop.flag).map(drop)
        });
        let Err(error) = outcome else { continue };
        let interrupted = Failure::from(error);
        if interrupted.exit == Exit::Interrupted && !stop.passed() {
            return Err(interrupted);
        }
        let why = if stop.passed() { format!("it takes longer than {} s", limit.as_secs()) } else { interrupted.message };
        return warn(setup, &format!("{spec} is not installed: {why}; it goes on without. Try: bespoke plugin install {spec}"));
    }
    Ok(())
}

fn warn(setup: &Setup, why: &str) -> Result<()> {
    tracing::warn!("{why}");
    setup.out.note(why);
    Ok(())
}

/// A flag that Ctrl-C sets, or the end of the time.
struct Stop {
    flag: Arc<AtomicBool>,
    late: Arc<AtomicBool>,
}

impl Stop {
    fn passed(&self) -> bool {
        self.late.load(Ordering::SeqCst)
    }
}

fn until(limit: Duration) -> Stop {
    let (flag, late) = (cancel_on_interrupt(), Arc::new(AtomicBool::new(false)));
    let stop = Stop { flag: flag.clone(), late: late.clone() };
    // It ends with the program; nobody waits for it.
    thread::spawn(move || {
        thread::sleep(limit);
        late.store(true, Ordering::SeqCst);
        flag.store(true, Ordering::SeqCst);
    });
    stop
}
