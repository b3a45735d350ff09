//! The driver and the compiler, on machines that have them and on machines that have not.

mod compiler;
mod device;
mod driver;
#[path = "../support/mod.rs"]
mod support;
