//! Plugins as child processes: in any language, over a pipe, behind a wall. It starts and ends them; when they are started again, and how
//! often, is the host's.
//!
//! One thread a child, which waits for it in `poll` and nowhere else:
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
//! * A sender writes what the pipe has room for, and what comes back is delivered on the thread that read it, so that a round trip costs
//!   two switches of threads, as a bare pipe does.
//! * Nobody waits for a child that does not read, nor for one that does not stop writing: what waits for it is bounded, and what it says
//!   beside the protocol is slowed down and left out, counted.
//! * Any byte of a child is a sign of life. One that is silent is asked, and one that does not answer is ended ([`Patience`]).
//! * A child that ends by itself tells so once, with how it ended and its last lines: to all that wait for an answer, and through
//!   `Life::ended`.

mod artifact;
mod child;
mod declared;
mod driver;
mod ending;
mod life;
mod log;
mod outbox;
mod program;
mod pump;
mod python;
mod rate;
mod schema;
mod watch;

pub use crate::{artifact::ProcessPlugin, watch::Patience};
