//! NVIDIA's devices: which there are, how much of their memory is free and how busy they are; and whether NVIDIA's run-time compiler
//! works here. It computes nothing for others: engines bring their own runtime.
//!
//! On a machine without a driver the plugin runs, says so, and looks again when it is asked.

mod config;
mod plugin;
mod seen;

pub use config::Config;
pub use plugin::{BESPOKE_PLUGIN, Cuda};
