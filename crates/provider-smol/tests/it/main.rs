//! What holds of the whole: the reader against bad files, the network against itself, answers against facts, the plugin
//! against its contract. Tests with the real weights read `BESPOKE_MODEL_PATH`, which `cargo xtask test` sets.

mod answers;
mod choice;
mod damaged;
mod network;
mod provider;
mod questions;
mod schema;
mod tiny;
mod tokens;
mod weights;
