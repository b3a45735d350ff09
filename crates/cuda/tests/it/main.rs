//! The driver and the compiler, on machines that have them and on machines that have not.

#![allow(clippy::print_stdout, reason = "a process apart answers on it, and a test says whether a device was there")]

mod compiler;
mod device;
mod driver;
#[path = "../support/mod.rs"]
mod support;
