//! The table `[plugins.cuda]`.

use std::path::PathBuf;

use bespoke_plugin_api::serde::{self, Deserialize};

/// The table `[plugins.cuda]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// The numbers of the devices to show, as CUDA counts them; all when absent. The variable CUDA_VISIBLE_DEVICES hides devices
    /// before they are counted.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub devices: Option<Vec<u32>>,
    /// The library of NVRTC, by its absolute path; the pack `cuda:nvrtc` when absent.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub nvrtc: Option<PathBuf>,
}
