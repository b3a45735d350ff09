//! What the tiers outside the program share: asking a plugin what it contributes, keeping its answer, how long a start may take, and how
//! much of something is let through. How a plugin is run is each tier's own.

mod asker;
pub mod declared;
mod rate;
pub mod start;

pub use crate::{
    asker::Asker,
    rate::{Pass, Rate},
};
