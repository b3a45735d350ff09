//! The example plugin, built unmodified for each tier by the toolchain that is here, and what is refused.

mod kit;
mod refused;
mod tiers;
