//! The plugin against servers: one in memory, scripted ones on loopback behind the real client, and a real one.

mod conformance;
mod docs;
mod loopback;
mod memory;
mod real;
mod speech;
