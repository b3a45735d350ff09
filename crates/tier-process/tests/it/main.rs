//! What a child may do, and what then becomes of it, of its callers and of everybody else.

#![allow(clippy::print_stdout)] // a test says what it measured

#[allow(dead_code, reason = "what it says beside its frames is not for a pipe")]
#[path = "../../../tier/tests/every/acts.rs"]
mod acts;
mod cycles;
mod deaths;
mod escapes;
#[allow(dead_code, reason = "of the plugins, each tier has its own builds")]
#[path = "../../../tier/tests/every/mod.rs"]
mod every;
mod faults;
mod kit;
mod limits;
mod lives;
mod matrix;
mod messages;
mod others;
mod python;
mod stuck;
mod swaps;
