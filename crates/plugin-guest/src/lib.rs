//! The poll-driven core that serves one plugin over frames. No I/O, no threads, no clock: a driver has those.
//!
//! A driver (a pipe loop, a C function, a wasm export, the loopback of the test kit) owns a [`Core`] and moves bytes:
//!
//! ```text
//! core.deliver(bytes)  →  core.poll()  →  core.drain(&mut out)        or all three: core.step(bytes, &mut out)
//! ```
//!
//! Bytes may be cut anywhere. Work that finishes on another thread calls [`Platform::wake`], upon which the driver polls
//! again. What a driver's machine can do at once (time, randomness, working threads) is its [`Platform`]; every other wish of
//! the plugin (http, sleep, secrets, calls, events) is a message to the host and a reply, so that one instance can serve
//! many calls at a time and no host function is ever re-entered.
//!
//! What drivers share stands beside it: [`Lines`] makes lines of the log of what a plugin says with `tracing`, [`panicked`] of its panics, and
//! `on_a_thread` is work that blocks where there are threads.
//!
//! **Invariant:** nothing that the host sends and nothing that the plugin does, short of abort or an endless loop, panics out
//! of a [`Core`]. A panic of the plugin is the error `PLUGIN_EXCEPTION` of the call or stream it happened in.

mod client;
mod core;
mod dispatch;
mod lines;
mod outbox;
mod panics;
mod platform;
mod shared;
mod source;
#[cfg(not(target_family = "wasm"))]
mod threads;

#[cfg(not(target_family = "wasm"))]
pub use crate::threads::on_a_thread;
pub use crate::{
    core::{Core, Logger},
    lines::Lines,
    panics::panicked,
    platform::Platform,
};
