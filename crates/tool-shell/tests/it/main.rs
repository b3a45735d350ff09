//! The tool with real programs: what reaches them, what does not, and how they end.
#![cfg(unix)]

mod arguments;
mod configuration;
mod ends;
mod environment;
mod output;
mod tiers;
mod world;
