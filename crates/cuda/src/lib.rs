//! What this machine has of NVIDIA: its driver with the devices, and NVRTC, the compiler for their kernels. It knows nothing of
//! plugins, of packs or of where a library comes from.
//!
//! Neither has to be there. [`probe`] answers with words when there is no driver, and [`Nvrtc::load`] takes a path; a program that
//! links this crate starts on any machine.
//!
//! **The driver is cudarc's to find and to open, its functions are called through a table of our own** (`api`). The functions of
//! cudarc panic where a library or a symbol is missing, and they give results as an enum of one CUDA version: a code that a newer
//! driver adds would be undefined behaviour. In the table a missing symbol is an error and a code is a number. NVRTC has such a
//! table, too, because cudarc would take the first library of that name that the machine has, not the one that was asked for.
//!
//! **Listing makes no context.** A context costs some hundred MB of a device's memory, so devices are read from the driver, and what
//! is free and busy from NVML, NVIDIA's library for monitoring. Only [`saxpy`] makes one, and releases it.

mod api;
mod check;
mod driver;
mod nvml;
mod nvrtc;

pub use check::{RunError, SAXPY, saxpy};
pub use driver::{Device, Driver, LIMIT, Missing, OLDEST, probe, probe_within};
pub use nvrtc::{Nvrtc, NvrtcError, Ptx};
