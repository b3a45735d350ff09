//! What a library may do, and what then becomes of it, of its callers and of everybody else.

mod alike;
mod conformance;
mod copies;
mod defects;
mod dice;
#[allow(dead_code, reason = "of the plugins, each tier has its own builds")]
#[path = "../../../tier/tests/every/mod.rs"]
mod every;
mod fatal;
mod faults;
mod folders;
mod header;
mod kit;
mod panics;
mod trust;
