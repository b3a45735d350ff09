//! Hooks that are servers, through a host and its HTTP client.

mod configuration;
mod outcomes;
mod server;
mod tiers;
