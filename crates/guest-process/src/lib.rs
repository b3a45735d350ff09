//! Serves a plugin over the standard input and output of its process. The driver only: what is said is the guest core's.
//!
//! A plugin in a process of its own is a crate with a `main` of one line:
//!
//! ```no_run
//! # use bespoke_plugin_api::Descriptor;
//! # static BESPOKE_PLUGIN: Option<&'static Descriptor> = None;
//! fn main() -> std::process::ExitCode {
//! #   let Some(descriptor) = BESPOKE_PLUGIN else { return std::process::ExitCode::FAILURE };
//! #   /*
//!     bespoke_guest_process::serve(&my_plugin::BESPOKE_PLUGIN)
//! #   */
//! #   bespoke_guest_process::serve(descriptor)
//! }
//! ```
//!
//! One thread reads, polls and writes, so that a message costs no hop between threads; work that blocks gets threads of its own.
//! The plugin never sees the pipes: whatever it prints is a line of its log, and what it reads is the end of a file.

#[cfg(unix)]
mod drive;
#[cfg(unix)]
mod logs;
#[cfg(unix)]
mod platform;

#[cfg(unix)]
pub use drive::serve;
