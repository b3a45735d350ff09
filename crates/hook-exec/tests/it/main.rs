//! Hooks that are programs, through a host: every outcome, and what is left of a program.
#![cfg(unix)]

mod configuration;
mod ends;
mod lacks;
mod outcomes;
mod tiers;
mod world;
