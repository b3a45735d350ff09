//! Plugins as child processes: in any language, over a pipe, behind a wall. It starts and ends them; when they are started again, and how
//! often, is the host's.
//!
//! One task a child, on the runtime that starts it, which needs I/O and time:
//!
//! ```text
//!   callers ── Link::send ──► outbox ── written at once where there is room ──► stdin ┐
//!                               │ what there was no room for                          │
//!                               ▼                                                     ▼
//!   proxy ◄── frames ──────── pump ◄──────────────── stdout, stderr ◄────────────── child ── behind its wall
//!   log   ◄── lines ────────────┘ pings, ends, knows how it ended                     ▲
//!                               └─────────── lifeline, limits ────────────────── supervisor
//! ```
//!
//! * A sender writes what the pipe has room for, and what comes back is delivered by the worker that heard of it, which goes on with the
//!   caller, if that is a task too: a round trip costs two switches of threads, as a bare pipe does. A caller on a thread of its own has
//!   to be woken there, which costs as much again. Beside a bare pipe, which waits in one call of the system where this needs two, that is
//!   about 2 times as long for 0 bytes to 64 KiB of the data lane, 2.7 for a caller on a thread of its own, and 2.9 for a short call
//!   (`benches/benches/process.rs`).
//! * Nobody waits for a child that does not read, nor for one that does not stop writing: what waits for it is bounded, and what it says
//!   beside the protocol is slowed down and left out, counted.
//! * Any byte of a child is a sign of life. One that is silent is asked, and one that does not answer is ended ([`Patience`]). A runtime
//!   without a free worker asks late, and ends nobody for it: between two questions it has read what was said.
//! * A child that ends by itself tells so once, with how it ended and its last lines: to all that wait for an answer, and through
//!   `Life::ended`. One whose runtime ends is ended with it.

mod artifact;
mod child;
mod driver;
mod ending;
mod errand;
mod life;
mod log;
mod outbox;
mod program;
mod pump;
mod python;
mod schema;
mod watch;

pub use crate::{artifact::ProcessPlugin, watch::Patience};
