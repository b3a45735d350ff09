//! What the tiers outside the program share: asking a plugin what it contributes, keeping its answer, how long a start may take, what of its
//! words may stand in a log, and how much of something is let through. How a plugin is run is each tier's own.

mod asker;
pub mod declared;
pub mod log;
mod rate;
pub mod start;

pub use crate::{
    asker::Asker,
    rate::{Pass, Rate},
};
