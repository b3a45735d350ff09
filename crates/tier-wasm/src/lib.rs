//! Plugins as wasm components: behind a wall of memory, time and host calls. It loads and steps them; when they are started again, and
//! how often, is the host's.
//!
//! ```text
//!   callers ── frames ──► mailbox ──► step of the component, on the caller's own thread, as long as it takes no tick ──► proxy
//!                            ▲             │ a tick of the engine has passed
//!                            └── pull ─────┴──► the task of the instance goes on with it, and lets others have a go at each tick
//! ```
//!
//! * **One engine a program, one store an instance.** Streams and calls share the instance, as they do in the other tiers. The future of a
//!   step owns the store, and is never dropped before it: a call that is given up is a message to the guest, and what does not heed it
//!   is ended with its store.
//! * **A guest has no other way out than the functions and frames of its world**, and each frame that asks for something is answered by the
//!   host that was given to this instance, which checks what was granted. A component that imports anything else is refused with its name.
//! * **WASI is for components of others' making** that ask for it in their manifest, and it is little: `wasi.rs` says what.
//! * **Limits**: memory, tables, instances, stack, the time of one step, CPU time, the length of a message, lines of log, the size of a
//!   component and the time that it takes to compile ([`Limits`] has the figures). What runs into one ends with its code; the host and
//!   everybody else go on.
//! * **What was compiled is kept** in the cache, under a seal: see `cache.rs` for what that protects against.

mod artifact;
mod cache;
mod code;
mod driver;
mod ending;
mod engine;
mod guest;
mod hosted;
mod life;
mod limits;
#[cfg(feature = "wasi")]
mod wasi;
#[cfg(not(feature = "wasi"))]
#[path = "wasi_disabled.rs"]
mod wasi;
mod world;

pub use crate::{artifact::WasmPlugin, limits::Limits};
