//! Where this tier joins the program: the driver in the host's slice, and what the program can become for it.

use std::{ffi::OsString, process::ExitCode, sync::Arc};

use bespoke_host::{Ability, Artifact, BESPOKE_INNER_VERBS_V1, BESPOKE_TIERS_V1, Grounds, InnerVerb, PluginFolder, Tier, TierDriver};
use bespoke_plugin_api::{Result, compiled_in, linkme};

use crate::{artifact::ProcessPlugin, child::EXEC};

#[allow(unsafe_code, reason = "linkme places the element in a link section")]
#[linkme::distributed_slice(BESPOKE_TIERS_V1)]
#[linkme(crate = bespoke_plugin_api::linkme)]
static PROCESS: Option<TierDriver> = Some(TierDriver { tier: Tier::Process, open, abilities });

#[allow(unsafe_code, reason = "linkme places the element in a link section")]
#[linkme::distributed_slice(BESPOKE_INNER_VERBS_V1)]
#[linkme(crate = bespoke_plugin_api::linkme)]
static SUPERVISE: Option<InnerVerb> = Some(InnerVerb { name: EXEC, run: bespoke_sandbox::supervise });

#[allow(unsafe_code, reason = "linkme places the element in a link section")]
#[linkme::distributed_slice(BESPOKE_INNER_VERBS_V1)]
#[linkme(crate = bespoke_plugin_api::linkme)]
static SERVE: Option<InnerVerb> = Some(InnerVerb { name: "__plugin", run: serve });

fn open(folder: &PluginFolder, grounds: &Grounds) -> Result<Arc<dyn Artifact>> {
    Ok(Arc::new(ProcessPlugin::new(folder, grounds)))
}

fn abilities() -> Vec<Ability> {
    bespoke_sandbox::abilities().into_iter().map(|part| Ability::new(part.part.name(), part.enforced, part.detail)).collect()
}

/// Serves a plugin that is compiled in, in this process.
fn serve(arguments: &[OsString]) -> ExitCode {
    let id = arguments.first().map(|id| id.to_string_lossy()).unwrap_or_default();
    match compiled_in().into_iter().find(|plugin| plugin.id() == id) {
        Some(plugin) => bespoke_guest_process::serve(plugin),
        None => {
            // Standard error is the log of a plugin.
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "ERROR: no plugin `{id}` is compiled into this program");
            ExitCode::from(3)
        }
    }
}
