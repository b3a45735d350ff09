//! What a component may do, and what then becomes of it, of its callers and of everybody else.

#![allow(clippy::print_stdout)] // a test says what it measured

mod alike;
mod cache;
mod calls;
mod cycles;
#[allow(dead_code, reason = "of the plugins, each tier has its own builds")]
#[path = "../../../tier/tests/every/mod.rs"]
mod every;
mod faults;
mod foreign;
mod kit;
mod loading;
mod permissions;
mod text;
mod wasi;
