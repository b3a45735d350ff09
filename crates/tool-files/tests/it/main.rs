//! The tools over real folders: what they answer, and what they refuse.

mod answers;
mod configuration;
#[cfg(unix)]
mod escapes;
#[cfg(target_os = "linux")]
mod races;
mod tiers;
mod world;
