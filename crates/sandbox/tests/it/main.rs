//! Commands behind walls, as a host starts them.
#![cfg(target_os = "linux")]

mod escapes;
mod kit;
mod life;
mod limits;
