//! Names the tiers of this binary, so that the linker keeps them. One line a tier, nothing else.

#[cfg(feature = "dylib")]
use bespoke_tier_dylib as _;
#[cfg(feature = "process")]
use bespoke_tier_process as _;
#[cfg(feature = "wasm")]
use bespoke_tier_wasm as _;
