//! Plugins as dynamic libraries: trusted code, behind a C ABI that is checked before anything of it is called. It loads and steps them;
//! when they are started, and whether they may be, is the host's.
//!
//! ```text
//!   callers ── frames ──► mailbox ──► step() of the library, on the caller's own thread ──► frames ──► proxy
//!   wake(), answers of the host ────► the thread of the instance: steps it, and closes it in the end
//! ```
//!
//! * **Nothing holds a library.** It is code inside the program: it is loaded only where `allow_native` says so, its permissions are advice,
//!   and `abort`, a wild pointer, a stack overflow and `exit` end the program. What the interface itself can promise, it does: a descriptor
//!   that does not fit is refused before a function of it is called, bytes that are no frames end the instance and nothing else, and a
//!   panic that reaches the border is an error.
//! * **A library is never closed.** What it has started runs on in its code. It is opened from a private copy, so that overwriting the file
//!   harms nobody; another content is another copy, which is how a reload gets the new code, and so is one of which an instance died. The
//!   copies stay until the program ends: [`MOST_COPIES`] of one plugin, and then a restart.
//! * **A step runs on the thread that has something to say**, so that a call costs no hop between threads. Answers of the host to the plugin's
//!   own calls are the exception: they come on threads of the runtime, which code without a limit must not block, and are taken by the
//!   thread of the instance. What blocks, blocks its own instance: its callers are let go at their deadlines, and everybody else goes on.

#[cfg(unix)]
mod artifact;
#[cfg(unix)]
mod calls;
#[cfg(unix)]
mod copies;
#[cfg(unix)]
mod descriptor;
#[cfg(unix)]
mod driver;
#[cfg(unix)]
mod instance;
#[cfg(unix)]
mod life;
#[cfg(unix)]
mod parting;
#[cfg(unix)]
mod thread;

#[cfg(unix)]
pub use crate::{artifact::DylibPlugin, copies::MOST_COPIES};
