//! flite: an English voice inside the binary. Nothing to download, 3 ms for a sentence; plain, but understood.
//!
//! Text goes through `clauses` (fragments to sentences), `spoken` (what flite can read) and [`speaker`] (samples), on a
//! working thread of the host.

mod clauses;
mod plugin;
pub mod speaker;
mod spoken;
mod stream;

pub use plugin::{BESPOKE_PLUGIN, Config, Flite};
pub use stream::MAX_TEXT;
