//! Recognition on real recordings, the plugin through its contract, and the round trip with flite. The model comes from
//! `BESPOKE_MODEL_PATH`, which `cargo xtask test` sets.

#![allow(clippy::print_stdout, reason = "error rates are shown, not only checked")]

mod accuracy;
mod models;
mod plugin;
mod round_trip;
mod wer;
