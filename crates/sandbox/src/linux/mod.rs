//! Linux: the host's end, the supervisor and the wall.
//!
//! | File | What it does |
//! |---|---|
//! | `spawn` | the host's end |
//! | `supervise` | the supervisor: one loop over orders, signals, questions of the filter, and time |
//! | `wall` | what the fork does to itself before it executes the command |
//! | `rule`, `calls`, `filter` | which system calls are refused or asked about; the same table as a program for the kernel |
//! | `listener`, `questions`, `paths`, `memory` | what the supervisor answers, and what it reports |
//! | `family`, `crowd`, `meter`, `disk` | who descends from the supervisor, how many, what they use, what a folder holds |
//! | `programs`, `probe` | what a command needs in order to start; what this machine can enforce |
//! | `host`, `denials` | the supervisor's end of the socket, and what is not said twice |

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod calls;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[path = "calls_disabled.rs"]
mod calls;
mod crowd;
mod denials;
mod disk;
mod family;
mod filter;
mod host;
mod listener;
mod memory;
mod meter;
mod paths;
mod probe;
mod programs;
mod questions;
mod rule;
mod spawn;
mod supervise;
mod wall;

pub(crate) use self::probe::abilities;
pub use self::{
    spawn::{Child, Reports, spawn},
    supervise::supervise,
};
