//! What the tiers outside the program share: asking a plugin what it contributes, keeping its answer, how long a start may take, what of its
//! words may stand in a log, and how much of something is let through. How a plugin is run is each tier's own.

use std::path::Path;

mod asker;
pub mod declared;
pub mod log;
mod rate;
pub mod start;

pub use crate::{
    asker::Asker,
    rate::{Pass, Rate},
};

/// What brings back the file that the manifest of the plugin in `folder` names for a tier, and that is not there. What is built of a source
/// lies elsewhere, and is loaded from there.
pub fn build_again(folder: &Path, tier: &str) -> String {
    let (is_source, folder) = (folder.join("Cargo.toml").is_file(), folder.display());
    if is_source {
        return format!("bespoke plugin load \"$(bespoke plugin build {folder} --tier {tier})\"");
    }
    format!("bespoke plugin build DIR --tier {tier} --out {folder}, where DIR is its source; or ask its author for it")
}
