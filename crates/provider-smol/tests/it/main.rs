//! What holds of the whole: the reader against bad files, the network against itself, answers against facts, the plugin
//! against its contract. Tests with the real weights read `BESPOKE_MODEL_PATH`, which `cargo xtask test` sets.

mod answers;
mod damaged;
mod host;
mod network;
mod provider;
mod tiny;
mod tokens;
mod weights;
