//! The one instance of a component: the core, stepped by the host's calls.

use std::{cell::RefCell, sync::Arc};

use bespoke_plugin_api::{Descriptor, Level};
use bespoke_plugin_guest::{Core, Lines, panicked};

use crate::{
    bindings::exports::bespoke::plugin::guest::Outbound,
    machine::{Machine, log},
    pulled,
};

thread_local! {
    static CORE: RefCell<Option<Core>> = const { RefCell::new(None) };
}

/// Makes the instance. For [`export!`](crate::export).
///
/// # Errors
/// It was made before.
pub fn start(plugin: &'static Descriptor) -> Result<(), String> {
    CORE.with_borrow_mut(|core| {
        if core.is_some() {
            return Err("the instance was started before".to_owned());
        }
        *core = Some(Core::new(plugin, Arc::new(Machine)));
        Ok(())
    })?;
    // A plugin that sets a subscriber of its own keeps it.
    let _ = tracing::subscriber::set_global_default(Lines::new(log));
    std::panic::set_hook(Box::new(|info| {
        // At once: what is in the outbox goes with the instance.
        log(Level::Error, &panicked(info));
    }));
    #[cfg(target_family = "wasm")]
    bespoke_plugin_api::look_for_cancels(pulled::look);
    Ok(())
}

/// One step of the core. For [`export!`](crate::export).
///
/// # Errors
/// What came are no frames, or `start` was not called.
pub fn step(inbound: &[u8]) -> Result<Outbound, String> {
    CORE.with_borrow_mut(|core| {
        let core = core.as_mut().ok_or("the instance was not started")?;
        let mut frames = Vec::new();
        let mut more = core.step(inbound, &mut frames).map_err(|e| e.message().to_owned())?;
        // What was pulled meanwhile came after what this step began with.
        let pulled = pulled::take();
        if !pulled.is_empty() {
            more = core.step(&pulled, &mut frames).map_err(|e| e.message().to_owned())?;
        }
        Ok(Outbound { frames, more: more || !pulled::is_empty() })
    })
}
