//! ONNX Runtime as a library found at run time: where to look, one environment per process, sessions
//! on one thread of the processor or on CUDA. The only crate that names `ort`; it knows nothing of
//! plugins or of any model.
//!
//! The shared library is opened once and stays for the life of the process: a second, different one
//! needs a restart, which [`Current::after_restart`] tells, and is refused with
//! [`OnnxError::AlreadyLoaded`] where it was named.
//!
//! **Devices.** [`settle`] decides where a model runs by running it there. ONNX Runtime itself goes on
//! with the processor when CUDA does not come up and only logs it; here that is an error, so that what
//! is reported is what runs. Single operations for which CUDA has no kernel, such as control flow, run
//! on the processor in any case.
//!
//! **Telemetry.** From 1.29 on, builds of ONNX Runtime may write a device id to the user's cache
//! folder and report to their maker; the switch in its API does not stop that, only the environment
//! variable [`NO_TELEMETRY`] does, and only when it is set before the library is loaded. The program
//! sets it first thing in `main`, while no other thread can read the environment; where nobody has, such
//! a library is refused, and so is one whose version cannot be told.

mod provider;
mod runtime;
mod search;
mod session;
mod telemetry;

pub use provider::{Device, NoCuda, Provider, Settled, settle};
pub use runtime::{Current, OnnxError, Runtime};
pub use search::{Found, LIBRARY_VAR, NotFound, Origin, Pack, Places, ROOT_VAR, find};
pub use session::{Session, Tensor};
pub use telemetry::{NO_TELEMETRY, Telemetry};
