//! Speech by loudness: the last resort when there is no model.
//!
//! It hears that somebody is loud, not that somebody speaks: a door or a keyboard counts as well. On
//! recordings of meetings a detector of this kind reaches an area under the curve of 0.78 where Silero
//! reaches 0.97, and takes 17 % of noise for speech. It needs nothing and is never silent about what
//! it is. Portable: no clock, no file, no thread.

mod config;
mod detector;
mod plugin;
mod stream;

pub use config::Config;
pub use detector::LoudnessDetector;
pub use plugin::{BESPOKE_PLUGIN, Energy};
