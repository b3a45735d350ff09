//! Packs of native runtimes: ONNX Runtime, XLA, and what NVIDIA's libraries add; installed, verified, switched and removed.
//!
//! A [`Spec`] such as `onnx:cpu` names a pack. The [`Table`] that is compiled in says of which wheels a pack consists, with their
//! sizes and SHA-256; [`Packs`] keeps the packs of a folder. Nothing here loads a library: that is for the crates which use them.
//!
//! **Invariant:** `<root>/<runtime>/<device>/<version>/` was complete and verified when it was renamed into place. What a run was
//! doing when it died lies in `.installing`, and the next run that writes removes it.
//!
//! **Invariant:** no path leads out of the root. A link on the way to what is written or removed is an error that names it.
//!
//! # Example
//!
//! ```no_run
//! use std::sync::atomic::AtomicBool;
//! use bespoke_runtimes::{Packs, Spec};
//!
//! let mut packs = Packs::new("runtimes");
//! packs.fetcher.index = bespoke_fetch::Index::choose(None, None)?;
//! let plan = packs.plan(Spec::OnnxCpu, None)?;                 // what a prompt shows: bytes to download, bytes on the disk
//! let done = packs.install(Spec::OnnxCpu, None, &mut |_| {}, &AtomicBool::new(false))?;
//! let found = packs.find(Spec::OnnxCpu)?;                      // the library, and what is loaded before it
//! # let _ = (plan, done, found); Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The folder
//!
//! | Path under the root | What it is |
//! |---|---|
//! | `<runtime>/<device>/<version>/` | a pack: `pack.json` (what is in it), `lib/`, `licenses/`, and `nvidia/` where it needs that |
//! | `<runtime>/<device>/active.json` | the version in use, and the one before it |
//! | `nvidia/<project>/<version>/` | the files of one NVIDIA wheel, once; packs have hard links to them (symbolic ones where there are none) |
//! | `.installing/` | what is not complete |
//! | `.locks/packs.lock` | held by the one that installs or removes |
//! | `.partial/`, `.staging/` | of the downloader: a download that can be resumed lies there |
//!
//! The layout inside a pack is not free: the plugins of XLA look for NVIDIA's libraries at `$ORIGIN/../../nvidia/cu13/lib` and the like.

mod error;
mod files;
mod hardware;
mod installing;
mod layout;
mod lock;
mod packs;
mod record;
mod remove;
mod shared;
mod spec;
mod switch;
mod table;
mod verify;
mod version;

pub use error::Error;
pub use hardware::{Hardware, NoTpu, Tpu, Wanted};
pub use installing::{Installed, Outcome, Phase, Progress};
pub use packs::{Features, Found, NeededWheel, Origin, Packs, Plan, Row, State};
pub use remove::Removed;
pub use spec::{Set, Spec, UnknownSpec};
pub use switch::RolledBack;
pub use table::{Pack, Pinned, Platform, Table};
pub use verify::{Problem, Verified, Wrong};
