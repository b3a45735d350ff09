//! Where this tier joins the program: the driver in the host's slice.

use std::sync::Arc;

use bespoke_host::{Ability, Artifact, BESPOKE_TIERS_V1, Grounds, PluginFolder, Tier, TierDriver};
use bespoke_plugin_api::{Result, linkme};

use crate::artifact::DylibPlugin;

#[allow(unsafe_code, reason = "linkme places the element in a link section")]
#[linkme::distributed_slice(BESPOKE_TIERS_V1)]
#[linkme(crate = bespoke_plugin_api::linkme)]
static DYLIB: Option<TierDriver> = Some(TierDriver { tier: Tier::Dylib, open, abilities });

fn open(folder: &PluginFolder, grounds: &Grounds) -> Result<Arc<dyn Artifact>> {
    Ok(Arc::new(DylibPlugin::new(folder, grounds)?))
}

fn abilities() -> Vec<Ability> {
    vec![Ability::new(
        "permissions",
        false,
        "not enforceable in this tier: a library is code inside this program, trusted as the program is",
    )]
}
