//! ONNX Runtime as a library found at run time: where to look, one environment per process, sessions
//! on one thread. The only crate that names `ort`; it knows nothing of plugins or of any model.
//!
//! The shared library is opened once and stays for the life of the process: a second, different one
//! needs a restart and is refused with [`OnnxError::AlreadyLoaded`].
//!
//! **Telemetry.** From 1.29 on, builds of ONNX Runtime may write a device id to the user's cache
//! folder and report to their maker; the switch in its API does not stop that, only the environment
//! variable [`NO_TELEMETRY`] does, and only when it is set before the library is loaded. A program
//! sets it first thing in `main` with [`disable_telemetry`]; [`Runtime::may_report_home`] says
//! whether a loaded library still could.

mod runtime;
mod search;
mod session;
mod telemetry;

pub use runtime::{OnnxError, Runtime};
pub use search::{LIBRARY_VAR, NotFound, Origin, Search, find};
pub use session::{Outputs, Session, Tensor};
pub use telemetry::{NO_TELEMETRY, disable_telemetry, telemetry_disabled};
